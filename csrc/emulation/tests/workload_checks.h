// What every workload must compute, by plain loops on the host: the same checks for the emulation (in
// the test suite) and for a GPU (`make gpu`), so that what the emulation takes for granted - fragment
// layouts, shuffles, asynchronous copies, memory order, rounding - is held against the device itself.
#pragma once
#include <string>
#include <vector>

namespace genfast::emulation_tests {

// Passed if error <= tolerance; 0 asks for equal bits. Both are relative to what the check's comment
// says.
struct CheckResult {
  std::string name;
  double error, tolerance;
  bool passed() const { return error <= tolerance; }  // a NaN has not
};

// Those of primitive_workloads.cu: equal bits.
std::vector<CheckResult> check_primitives();
// The package's own kernels whose blocks wait for each other: the right answers.
std::vector<CheckResult> check_rejection();
// Runs all workloads, primitives first, on the current device or emulated. Throws what a launch throws.
std::vector<CheckResult> check_workloads();

}  // namespace genfast::emulation_tests
