// For workload_checks: numbers to compute with, number formats bit by bit, and comparisons. Host code.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace genfast::emulation_tests {

// The same numbers on every machine.
class Numbers {
 public:
  explicit Numbers(uint32_t seed) : state_(seed) {}
  uint32_t word() {
    state_ = state_ * 1664525u + 1013904223u;
    return state_ >> 8;
  }
  float uniform() { return static_cast<float>(word()) / 8388608.0f - 1.0f; }  // in [-1, 1)
  std::vector<float> floats(size_t n, float scale = 1.0f) {
    std::vector<float> made(n);
    for (float& x : made) x = scale * uniform();
    return made;
  }
  std::vector<int> integers(size_t n, int below) {
    std::vector<int> made(n);
    for (int& x : made) x = static_cast<int>(word() % static_cast<uint32_t>(below));
    return made;
  }

 private:
  uint32_t state_;
};

// The largest difference, of each number relative to `scale` (its own if null). 0 for equal infinities.
inline double largest_error(const std::vector<float>& got, const std::vector<double>& exact,
                            const double* scale = nullptr) {
  if (got.size() != exact.size()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (static_cast<double>(got[i]) == exact[i]) continue;
    const double error = std::fabs(got[i] - exact[i]) / (scale ? scale[i] : 1.0);
    if (!(error <= worst)) worst = error;  // a NaN, too
    if (std::isnan(worst)) break;
  }
  return worst;
}

// How many are not the same, for results that must be equal to the bit.
template <class T>
double differing(const std::vector<T>& got, const std::vector<T>& exact) {
  if (got.size() != exact.size()) return INFINITY;
  double count = 0;
  for (size_t i = 0; i < got.size(); ++i) count += got[i] != exact[i];
  return count;
}

inline uint32_t bits_of(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}

inline float float_of(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}

// To nearest, ties to even, by hand.
inline uint16_t bf16_bits(float x) {
  const uint32_t u = bits_of(x);
  return static_cast<uint16_t>((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}
inline float from_bf16(uint16_t h) { return float_of(static_cast<uint32_t>(h) << 16); }

// For |x| below 65504: a multiple of 2^-10 of its power of two, or of 2^-24 below 2^-14.
inline uint16_t fp16_bits(float x) {
  const float magnitude = std::fabs(x);
  const int exponent = magnitude < 0x1p-14f ? -14 : std::ilogb(magnitude);
  // nearbyint rounds ties to even; a carry into the exponent comes out right by itself.
  const int steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
  const int bits = (exponent + 14) * 1024 + steps;
  return static_cast<uint16_t>(bits | (std::signbit(x) ? 0x8000 : 0));
}
inline float from_fp16(uint16_t h) {
  const int exponent = h >> 10 & 31, fraction = h & 1023;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                        : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return h & 0x8000 ? -magnitude : magnitude;
}

inline uint32_t tf32_bits(float x) {
  return (bits_of(x) + 0x1000u) & 0xffffe000u;
}  // ties away from zero

}  // namespace genfast::emulation_tests
