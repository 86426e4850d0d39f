// A program without Python around the test kernels, for builds with a sanitizer (ThreadSanitizer above
// all, which cannot be loaded into a Python that lacks it).
//
//   right ORDER SEED         runs the right kernels that synchronise in every way; reports nothing
//   faulty NAME ORDER SEED   runs one wrong kernel; the sanitizer reports and exits with its own code
//
// ORDER is forward, reverse or random. Exits with 3 on an EmulatorError.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "emulation/runtime.h"
#include "emulation/tests/faulty.h"
#include "emulation/tests/workloads.h"

using namespace genfast;
using namespace genfast::emulation_tests;

namespace {

// Aligned as CUDA allocations are, and with nothing behind that a sanitizer would let pass.
template <class T>
struct Array {
  explicit Array(size_t n, T value = T{})
      : memory(static_cast<T*>(aligned_alloc(16, n * sizeof(T))), free) {
    for (size_t i = 0; i < n; ++i) memory.get()[i] = value;
  }
  operator T*() const { return memory.get(); }
  std::unique_ptr<T, void (*)(void*)> memory;
};

void run_right() {
  {
    const int m = 70, n = 66, k = 20;
    Array<float> a(m * k, 1.0f), b(k * n, 1.0f), c(m * n);
    matmul(a, b, c, m, n, k, nullptr);
  }
  {
    Array<float> x(4 * 100, 1.0f), y(4);
    logsumexp(x, y, 4, 100, nullptr);
  }
  {
    const int steps = 6, dim = 16;
    Array<float> w(dim * dim, 0.1f), x(steps * dim, 0.1f), h((steps + 1) * dim);
    Array<unsigned> barrier(4);
    recurrence(w, x, h, barrier, steps, dim, 3, nullptr);
  }
  for (const char* format : {"bf16", "bf16 trans", "fp16", "tf32", "3xtf32"}) {
    Array<float> a(32 * 48, 1.0f), b(32 * 48, 1.0f), c(32 * 32);
    tensor_matmul(format, a, b, c, 32, 32, 48, nullptr);
  }
  {
    Array<int> x(256, 3), sums(256), odd(4), state(8);
    scan(x, sums, odd, 200, nullptr);
    chained_scan(x, sums, state, 256, nullptr);
    histogram(x, sums, odd, 256, 13, nullptr);
  }
  {
    Array<float> x(100, 0.5f), y(400);
    functions(x, y, 100, nullptr);
    uniforms(y, 1, 2, 3, 4, 5, nullptr);
  }
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
      run_right();
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
