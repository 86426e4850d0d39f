// Checks of workloads.cu and tensor_workloads.cu.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/cuda.h"
#include "emulation/tests/device_array.h"
#include "emulation/tests/host_numbers.h"
#include "emulation/tests/workload_checks.h"
#include "emulation/tests/workloads.h"

namespace genfast::emulation_tests {
namespace {

// fp32 products summed in another order: relative to the sum of their absolute values.
CheckResult check_matmul() {
  const int m = 70, n = 66, k = 20;
  Numbers numbers(1);
  const std::vector<float> a = numbers.floats(m * k), b = numbers.floats(k * n);
  std::vector<double> exact(m * n), scale(m * n);
  for (int i = 0; i < m * n; ++i) {
    for (int j = 0; j < k; ++j) {
      const double term = static_cast<double>(a[i / n * k + j]) * b[j * n + i % n];
      exact[i] += term, scale[i] += std::fabs(term);
    }
  }
  const Array<float> a_there(a), b_there(b);
  Array<float> c(m * n, NAN);
  matmul(a_there, b_there, c, m, n, k, nullptr);
  return {"tiled matmul", largest_error(c.read(), exact, scale.data()), k * 0x1p-24};
}

CheckResult check_logsumexp() {
  const int rows = 4, columns = 100;
  const std::vector<float> x = Numbers(2).floats(rows * columns, 10.0f);
  std::vector<double> exact(rows);
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < columns; ++c) exact[r] += std::exp(static_cast<double>(x[r * columns + c]));
    exact[r] = std::log(exact[r]);
  }
  const Array<float> there(x);
  Array<float> y(rows, NAN);
  logsumexp(there, y, rows, columns, nullptr);
  return {"shuffle reduction", largest_error(y.read(), exact), 1e-5};
}

CheckResult check_recurrence() {
  const int steps = 6, dim = 16, blocks = 3;
  Numbers numbers(4);
  const std::vector<float> w = numbers.floats(dim * dim, 0.3f), x = numbers.floats(steps * dim);
  std::vector<double> exact((steps + 1) * dim);
  for (int i = 0; i < steps * dim; ++i) {
    double sum = x[i];
    for (int j = 0; j < dim; ++j) {
      sum += static_cast<double>(w[i % dim * dim + j]) * exact[i / dim * dim + j];
    }
    exact[dim + i] = std::tanh(sum);
  }
  const Array<float> w_there(w), x_there(x);
  Array<float> h((steps + 1) * dim);
  Array<unsigned> barrier(2);
  recurrence(w_there, x_there, h, barrier, steps, dim, blocks, nullptr);
  recurrence(w_there, x_there, h, barrier, steps, dim, blocks, nullptr);  // a barrier is used again
  return {"grid barrier", largest_error(h.read(), exact), 1e-5};
}

// The tensor cores' own way of adding is not documented; they may drop bits below 2^-23 of the largest
// term. Relative to the sum of the products' absolute values; a wrong layout is off by about 0.1.
CheckResult check_tensor_matmul(const std::string& format) {
  const int m = 32, n = 32, k = 48;
  const bool single = format.find("tf32") != std::string::npos, trans = format == "bf16 trans";
  Numbers numbers(5);
  std::vector<float> a = numbers.floats(m * k), b = numbers.floats(k * n);
  const auto rounded = [&](float x) {
    if (format == "3xtf32") return x;
    if (single) return float_of(tf32_bits(x));
    return format == "fp16" ? from_fp16(fp16_bits(x)) : from_bf16(bf16_bits(x));
  };
  std::vector<double> exact(m * n), scale(m * n);
  for (int i = 0; i < m * n; ++i) {
    for (int j = 0; j < k; ++j) {
      const double term = static_cast<double>(rounded(a[i / n * k + j])) * rounded(b[j * n + i % n]);
      exact[i] += term, scale[i] += std::fabs(term);
    }
  }
  std::vector<float> stored(k * n);  // b as the format wants it
  for (int i = 0; i < k * n; ++i) stored[i] = trans ? b[i] : b[i % k * n + i / k];
  Array<float> c(m * n, NAN);
  if (single) {
    const Array<float> a_there(a), b_there(stored);
    tensor_matmul(format.c_str(), a_there, b_there, c, m, n, k, nullptr);
  } else {
    std::vector<uint16_t> a_bits, b_bits;
    for (float x : a) a_bits.push_back(format == "fp16" ? fp16_bits(x) : bf16_bits(x));
    for (float x : stored) b_bits.push_back(format == "fp16" ? fp16_bits(x) : bf16_bits(x));
    const Array<uint16_t> a_there(a_bits), b_there(b_bits);
    tensor_matmul(format.c_str(), a_there, b_there, c, m, n, k, nullptr);
  }
  return {"tensor matmul " + format, largest_error(c.read(), exact, scale.data()), 0x1p-19};
}

CheckResult check_scan() {
  const int n = 200;
  const std::vector<int> x = Numbers(6).integers(n, 100);
  const Array<int> there(x);
  Array<int> sums(n), odd(1);
  scan(there, sums, odd, n, nullptr);
  std::vector<int> exact(x), got = sums.read();
  for (int i = 1; i < n; ++i) exact[i] += exact[i - 1];
  exact.push_back(static_cast<int>(std::count_if(x.begin(), x.end(), [](int v) { return v % 2; })));
  got.push_back(odd.read()[0]);
  return {"votes and scan", differing(got, exact), 0};
}

CheckResult check_chained_scan() {
  const int n = 512;
  const std::vector<int> x = Numbers(8).integers(n, 100);
  const Array<int> there(x);
  Array<int> sums(n), state(2 * n / 64);
  chained_scan(there, sums, state, n, nullptr);
  std::vector<int> exact(x);
  for (int i = 1; i < n; ++i) exact[i] += exact[i - 1];
  return {"acquire and release", differing(sums.read(), exact), 0};
}

CheckResult check_histogram() {
  const int n = 999, bins = 13;
  const std::vector<int> x = Numbers(9).integers(n, 1000);
  const Array<int> there(x);
  Array<int> counts(bins), largest(1);
  histogram(there, counts, largest, n, bins, nullptr);
  std::vector<int> exact(bins), got = counts.read();
  for (int value : x) ++exact[value % bins];
  exact.push_back(*std::max_element(x.begin(), x.end()));
  got.push_back(largest.read()[0]);
  return {"histogram", differing(got, exact), 0};
}

// Relative to 1 + the value's size. exp's argument is rounded once it is multiplied by log2(e).
CheckResult check_functions() {
  std::vector<float> x = Numbers(10).floats(992, 15.0f);
  for (float edge : {100.0f, -100.0f, 1e4f, -1e4f, 1e-6f, -1e-6f, 1.0f, -1.0f}) x.push_back(edge);
  const int n = static_cast<int>(x.size());
  std::vector<double> exact(4 * n), scale(4 * n);
  for (int i = 0; i < n; ++i) {
    const double v = x[i], e = static_cast<float>(std::exp(v));
    exact[i] = e > 3.4e38 ? INFINITY : e;
    exact[n + i] = std::log(std::fabs(v));
    exact[2 * n + i] = 1 / (1 + std::exp(-v));
    exact[3 * n + i] = std::tanh(v);
  }
  for (int i = 0; i < 4 * n; ++i) scale[i] = std::isinf(exact[i]) ? 1 : 1 + std::fabs(exact[i]);
  const Array<float> there(x);
  Array<float> y(4 * n, NAN);
  functions(there, y, n, nullptr);
  return {"fast functions", largest_error(y.read(), exact, scale.data()), 1e-5};
}

CheckResult check_uniforms() {
  const uint64_t seed = 0x123456789abcdef;
  const int64_t first = (int64_t{1} << 32) - 2;  // the images' numbers cross 2^32
  Array<float> y(4 * 9, NAN);
  uniforms(y, seed, first, 4, 77, 9, nullptr);
  std::vector<float> exact;
  for (int i = 0; i < 4 * 9; ++i) {
    exact.push_back(philox_uniform(seed, static_cast<uint64_t>(first + i / 9), 77, i % 9));
  }
  return {"philox", differing(y.read(), exact), 0};
}

// A replay sees what the one before it has left, and each launch the arguments that it was given.
CheckResult check_replays() {
  const int times = 4;
  unsigned exact = 1;
  for (int i = 0; i < 3 * times; ++i) exact = 3 * exact + static_cast<unsigned>(i % 3 + 1);
  const Array<int> left(std::vector<int>{times});
  Array<unsigned> x(std::vector<unsigned>{1});
  replays(x, left, times + 2, nullptr);
  return {"graph", differing(x.read(), std::vector<unsigned>{exact}), 0};
}

}  // namespace

std::vector<CheckResult> check_workloads() {
  std::vector<CheckResult> results = check_primitives();
  for (const CheckResult& result :
       {check_matmul(), check_logsumexp(), check_recurrence(), check_scan(), check_histogram(),
        check_chained_scan(), check_functions(), check_uniforms(), check_replays()}) {
    results.push_back(result);
  }
  for (const CheckResult& result : check_rejection()) results.push_back(result);
  for (const char* format : {"bf16", "bf16 trans", "fp16", "tf32", "3xtf32"}) {
    results.push_back(check_tensor_matmul(format));
  }
  return results;
}

}  // namespace genfast::emulation_tests
