// A program without Python around the test kernels, for builds with a sanitizer (ThreadSanitizer above
// all, which cannot be loaded into a Python that lacks it).
//
//   right ORDER SEED         runs the right kernels and checks their results; reports nothing
//   faulty NAME ORDER SEED   runs one wrong kernel; the sanitizer reports and exits with its own code
//
// ORDER is forward, reverse or random. Exits with 3 on an EmulatorError, with 4 on a
// wrong result.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "emulation/runtime.h"
#include "emulation/tests/device_array.h"
#include "emulation/tests/faulty.h"
#include "emulation/tests/workload_checks.h"

using namespace genfast;
using namespace genfast::emulation_tests;

namespace {

// Nothing is printed unless a result is wrong.
bool run_right() {
  bool passed = true;
  for (const CheckResult& check : check_workloads()) {
    if (check.passed()) continue;
    fprintf(stderr, "%s: error %g, allowed %g\n", check.name.c_str(), check.error, check.tolerance);
    passed = false;
  }
  return passed;
}

int usage() {
  fprintf(stderr, "usage: (right | faulty NAME) (forward | reverse | random) SEED\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool right = arguments.size() == 3 && arguments[0] == "right";
  if (!right && (arguments.size() != 4 || arguments[0] != "faulty")) return usage();
  const std::string& order = arguments[arguments.size() - 2];
  if (order != "forward" && order != "reverse" && order != "random") return usage();
  using emulation::Order;
  emulation::config.order = order == "forward"   ? Order::forward
                            : order == "reverse" ? Order::reverse
                                                 : Order::random;
  emulation::config.seed = strtoull(arguments.back().c_str(), nullptr, 10);
  try {
    if (right) {
      return run_right() ? 0 : 4;
    } else {
      Array<float> values(kFaultyValues);
      run_faulty(arguments[1], values, nullptr);
    }
  } catch (const emulation::EmulatorError& error) {
    fprintf(stderr, "EmulatorError: %s\n", error.what());
    return 3;
  }
  return 0;
}
