// Checks of primitive_workloads.cu: every result must have the very bits computed here.
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

CheckResult check_shuffles() {
  Array<int> out(3 * 4 * 32);
  shuffles(out, nullptr);
  std::vector<int> exact;
  for (int width : {32, 8, 2}) {
    for (int kind = 0; kind < 4; ++kind) {
      for (int lane = 0; lane < 32; ++lane) {
        const int first = lane / width * width, last = first + width - 1;
        int from = kind == 0   ? first + (5 * lane + 1) % width
                   : kind == 1 ? lane ^ 5
                   : kind == 2 ? lane - 3
                               : lane + 3;
        if (kind == 2 && from < first) from = lane;
        if ((kind == 1 || kind == 3) && from > last) from = lane;
        exact.push_back(100 + from);
      }
    }
  }
  return {"shuffles", differing(out.read(), exact), 0};
}

CheckResult check_ldmatrix() {
  std::vector<uint16_t> rows(32 * 8);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<uint16_t>(257 * i);
  const Array<uint16_t> in(rows);
  Array<uint32_t> out(2 * 32 * 4);
  ldmatrix(in, out, nullptr);
  std::vector<uint32_t> exact;
  for (int trans = 0; trans < 2; ++trans) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        const auto element = [&](int row, int column) {
          return static_cast<uint32_t>(rows[(8 * matrix + row) * 8 + column]);
        };
        const int g = lane / 4, t = lane % 4 * 2;
        exact.push_back(trans ? element(t, g) | element(t + 1, g) << 16
                              : element(g, t) | element(g, t + 1) << 16);
      }
    }
  }
  return {"ldmatrix", differing(out.read(), exact), 0};
}

// Small integers, whose products and sums every order of adding gives exactly: only the layout counts.
CheckResult check_mma(const std::string& format) {
  const int depth = format == "tf32" ? 8 : 16;
  Numbers numbers(7);
  const auto small = [&](size_t n) {
    std::vector<int> made = numbers.integers(n, 15);
    for (int& x : made) x -= 7;
    return made;
  };
  const std::vector<int> a = small(16 * depth), b = small(depth * 8), c = small(16 * 8);
  const auto packed = [&](int low, int high) {
    const auto bits = [&](int x) -> uint32_t {
      return format == "bf16" ? bf16_bits(static_cast<float>(x)) : fp16_bits(static_cast<float>(x));
    };
    return bits(low) | bits(high) << 16;
  };
  std::vector<uint32_t> ar, br;
  std::vector<float> dr, exact;
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int r = 0; r < 4; ++r) {
      const int row = g + 8 * (r % 2);
      const int k = depth == 8 ? t + 4 * (r / 2) : 2 * t + 8 * (r / 2);
      ar.push_back(depth == 8 ? bits_of(static_cast<float>(a[row * depth + k]))
                              : packed(a[row * depth + k], a[row * depth + k + 1]));
    }
    for (int r = 0; r < 2; ++r) {
      const int k = depth == 8 ? t + 4 * r : 2 * t + 8 * r;
      br.push_back(depth == 8 ? bits_of(static_cast<float>(b[k * 8 + g]))
                              : packed(b[k * 8 + g], b[(k + 1) * 8 + g]));
    }
    for (int r = 0; r < 4; ++r) {
      const int row = g + 8 * (r / 2), column = 2 * t + r % 2;
      int sum = c[row * 8 + column];
      dr.push_back(static_cast<float>(sum));
      for (int k = 0; k < depth; ++k) sum += a[row * depth + k] * b[k * 8 + column];
      exact.push_back(static_cast<float>(sum));
    }
  }
  const Array<uint32_t> ar_there(ar), br_there(br);
  Array<float> d(dr);
  mma(format.c_str(), ar_there, br_there, d, nullptr);
  return {"mma fragments " + format, differing(d.read(), exact), 0};
}

CheckResult check_copies() {
  std::vector<unsigned char> in(896), exact(896);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<unsigned char>(1 + i % 251);
  size_t begin = 0;
  for (int bytes : {4, 8, 16}) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < bytes; ++i) {
        const int from = lane ^ 1;
        exact[begin + lane * bytes + i] = from % 3 ? in[begin + from * bytes + i] : 0;
      }
    }
    begin += 32 * bytes;
  }
  const Array<unsigned char> there(in);
  Array<unsigned char> out(in.size());
  copies(there, out, nullptr);
  return {"cp.async", differing(out.read(), exact), 0};
}

CheckResult check_conversions() {
  Numbers numbers(3);
  std::vector<float> x = numbers.floats(500, 100.0f);
  // Ties of each format, up and down; the largest and smallest normal halves; a denormal half.
  for (float edge : {1.0f + 0x1p-11f, 1.0f + 3 * 0x1p-11f, 1.0f + 0x1p-8f, 1.0f + 3 * 0x1p-8f, 65504.0f,
                     0x1p-14f, 3 * 0x1p-25f, 0.0f, 1e-6f}) {
    x.push_back(edge), x.push_back(-edge);
  }
  const int n = static_cast<int>(x.size());
  const Array<float> there(x);
  Array<uint32_t> out(5 * x.size());
  conversions(there, out, n, nullptr);
  std::vector<uint32_t> got = out.read(), exact(5 * x.size());
  for (int i = 0; i < n; ++i) {
    got[i] &= 0xffffe000u;  // the unit does not look at the rest
    const float other = x[i] * -0.25f;
    exact[i] = tf32_bits(x[i]);
    exact[n + i] = tf32_bits(x[i]);
    exact[2 * n + i] = bits_of(x[i] - float_of(tf32_bits(x[i])));
    exact[3 * n + i] = bf16_bits(x[i]) | static_cast<uint32_t>(bf16_bits(other)) << 16;
    exact[4 * n + i] = fp16_bits(x[i]) | static_cast<uint32_t>(fp16_bits(other)) << 16;
  }
  return {"conversions", differing(got, exact), 0};
}

CheckResult check_atomics() {
  const int n = 1000;
  const std::vector<int> x = Numbers(11).integers(n, 5000);
  const Array<int> there(x);
  Array<int> largest(1, 17), smallest(1, 17), held(1, 40), total(1);
  Array<float> sum(1);
  atomics(there, n, largest, smallest, sum, held, total, nullptr);
  int added = 0;
  for (int value : x) added += value;
  const std::vector<int> exact = {std::max(17, *std::max_element(x.begin(), x.end())),
                                  std::min(17, *std::min_element(x.begin(), x.end())), added,
                                  40 + added};
  const std::vector<int> got = {largest.read()[0], smallest.read()[0], static_cast<int>(sum.read()[0]),
                                held.read()[0] + total.read()[0]};
  return {"atomics", differing(got, exact), 0};
}

}  // namespace

std::vector<CheckResult> check_primitives() {
  return {check_shuffles(),  check_ldmatrix(), check_mma("bf16"),   check_mma("fp16"),
          check_mma("tf32"), check_copies(),   check_conversions(), check_atomics()};
}

}  // namespace genfast::emulation_tests
