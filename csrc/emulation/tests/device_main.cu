// The workloads on a GPU: `make gpu` builds and runs this. One line of JSON a check; exits with 1 if one
// did not pass, with 2 if the device could not run them.
#include <cstdio>
#include <exception>

#include "emulation/tests/workload_checks.h"

int main() {
  using namespace genfast::emulation_tests;
  int failed = 0;
  try {
    for (const CheckResult& check : check_workloads()) {
      // JSON knows no NaN and no infinity.
      const double error = check.error < 1e300 ? check.error : 1e300;
      printf("{\"check\": \"%s\", \"error\": %.4g, \"tolerance\": %.4g, \"passed\": %s}\n",
             check.name.c_str(), error, check.tolerance, check.passed() ? "true" : "false");
      failed += !check.passed();
    }
  } catch (const std::exception& error) {
    fflush(stdout);
    fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  return failed ? 1 : 0;
}
