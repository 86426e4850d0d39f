// Reading and writing blocks of elements of any type and stride as the kernels' arithmetic type.
#pragma once
#include "common/dtype.h"
#include "common/simd.h"
#ifdef __F16C__
#include <immintrin.h>
#endif

namespace genfast::GENFAST_ISA {

template <class T>
struct ArithmeticOf {
  using type = float;
};
template <>
struct ArithmeticOf<double> {
  using type = double;
};
template <class T>
using Arithmetic = typename ArithmeticOf<T>::type;  // double for double, else float

GENFAST_INLINE float as_float(uint32_t u) {
  float f;
  __builtin_memcpy(&f, &u, 4);
  return f;
}
GENFAST_INLINE uint32_t as_bits(float f) {
  uint32_t u;
  __builtin_memcpy(&u, &f, 4);
  return u;
}

GENFAST_INLINE float widen(float x) { return x; }
GENFAST_INLINE double widen(double x) { return x; }
GENFAST_INLINE float widen(bfloat16 x) { return as_float(uint32_t{x.bits} << 16); }
GENFAST_INLINE float widen(float16 x) {
#ifdef __F16C__
  return _cvtsh_ss(x.bits);
#else
  // Shift exponent and mantissa into place, then let one multiplication rebias (denormals included).
  const uint32_t sign = uint32_t{x.bits & 0x8000u} << 16;
  const uint32_t magnitude = uint32_t{x.bits & 0x7fffu} << 13;
  if (magnitude >= 0x0f800000u) return as_float(sign | magnitude | 0x7f800000u);  // infinity, NaN
  return as_float(sign | as_bits(as_float(magnitude) * 0x1p112f));
#endif
}

GENFAST_INLINE void narrow(float x, float* out) { *out = x; }
GENFAST_INLINE void narrow(double x, double* out) { *out = x; }
GENFAST_INLINE void narrow(float x, bfloat16* out) {
  const uint32_t u = as_bits(x);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
  out->bits = static_cast<uint16_t>(x != x ? 0x7fc0u : rounded);
}
GENFAST_INLINE void narrow(float x, float16* out) {
#ifdef __F16C__
  out->bits = static_cast<uint16_t>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT));
#else
  const uint32_t u = as_bits(x), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;  // NaN
  } else if (magnitude >= 0x477ff000u) {
    half = 0x7c00u;  // rounds to infinity
  } else if (magnitude < 0x38800000u) {
    half = as_bits(as_float(magnitude) + 0.5f) - 0x3f000000u;  // denormal: 0.5's last bit is its unit
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1)) >> 13;
  }
  out->bits = static_cast<uint16_t>(sign | half);
#endif
}

// Whether a kernel may work on the caller's memory itself.
template <class T>
GENFAST_INLINE bool in_place(const T*, int64_t stride, int64_t n) {
  return stride == 1 && n % kLanes == 0 && sizeof(T) == sizeof(Arithmetic<T>);
}

// kLanes contiguous elements at once, where the level has an instruction for it (or, for bfloat16, where
// shifts will do).
typedef uint16_t HalfVec __attribute__((vector_size(2 * kLanes)));
typedef uint32_t UVec __attribute__((vector_size(4 * kLanes)));

GENFAST_INLINE void widen_lanes(const bfloat16* source, float* out) {
  HalfVec half;
  __builtin_memcpy(&half, source, sizeof half);
  store(out, reinterpret_cast<Vec>(__builtin_convertvector(half, UVec) << 16));
}
GENFAST_INLINE void narrow_lanes(const float* x, bfloat16* target) {
  const Vec v = load(x);
  const UVec u = reinterpret_cast<UVec>(v);
  const UVec rounded = (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
  const HalfVec half = __builtin_convertvector(v != v ? UVec{} + 0x7fc0u : rounded, HalfVec);
  __builtin_memcpy(target, &half, sizeof half);
}

GENFAST_INLINE void widen_lanes(const float16* source, float* out) {
#ifdef __F16C__
  for (int i = 0; i < kLanes; i += 8) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(half));
  }
#else
  for (int i = 0; i < kLanes; ++i) out[i] = widen(source[i]);
#endif
}
GENFAST_INLINE void narrow_lanes(const float* x, float16* target) {
#ifdef __F16C__
  for (int i = 0; i < kLanes; i += 8) {
    const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + i), half);
  }
#else
  for (int i = 0; i < kLanes; ++i) narrow(x[i], target + i);
#endif
}

// n elements from `source`: the pointer itself if they already are what the kernel wants, else `buffer`,
// filled.
template <class T>
static const Arithmetic<T>* read_block(const T* source, int64_t stride, int64_t n,
                                       Arithmetic<T>* buffer) {
  if (in_place(source, stride, n)) return reinterpret_cast<const Arithmetic<T>*>(source);
  int64_t i = 0;
  if constexpr (sizeof(T) == 2) {
    for (; stride == 1 && i + kLanes <= n; i += kLanes) widen_lanes(source + i, buffer + i);
  }
  if (stride == 0) {
    const Arithmetic<T> value = widen(*source);
    for (; i < n; ++i) buffer[i] = value;
  }
  for (; i < n; ++i) buffer[i] = widen(source[i * stride]);
  return buffer;
}

template <class T>
static void write_block(const Arithmetic<T>* buffer, T* target, int64_t stride, int64_t n) {
  int64_t i = 0;
  if constexpr (sizeof(T) == 2) {
    for (; stride == 1 && i + kLanes <= n; i += kLanes) narrow_lanes(buffer + i, target + i);
  }
  for (; i < n; ++i) narrow(buffer[i], target + i * stride);
}

}  // namespace genfast::GENFAST_ISA
