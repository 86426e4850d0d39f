// Width-generic SIMD on the compiler's vector types: one source for every instruction-set level.
//
// Everything here is static and inside the level's namespace, and no standard-library template is used:
// an inline function shared between levels could be kept by the linker in its AVX-512 form, and an older
// CPU would die on it.
#pragma once
#ifndef GENFAST_ISA
#error "simd.h is for kernel files, which are compiled once per instruction-set level"
#endif
#include <cstdint>
#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace genfast::GENFAST_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t IVec __attribute__((vector_size(4 * kLanes)));

#define GENFAST_INLINE_MEMBER inline __attribute__((always_inline))
#define GENFAST_INLINE static GENFAST_INLINE_MEMBER

// Unaligned accesses, spelt so that the compiler knows that floats are being read.
GENFAST_INLINE Vec load(const float* p) {
  typedef float Unaligned __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
  return *reinterpret_cast<const Unaligned*>(p);
}
GENFAST_INLINE void store(float* p, Vec v) {
  typedef float Unaligned __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
  *reinterpret_cast<Unaligned*>(p) = v;
}

GENFAST_INLINE Vec broadcast(float x) { return x - Vec{}; }
GENFAST_INLINE IVec bits(Vec v) { return reinterpret_cast<IVec>(v); }
GENFAST_INLINE Vec from_bits(IVec v) { return reinterpret_cast<Vec>(v); }
// A NaN in `a` passes through both: these instructions give their second operand where either is NaN.
// Spelt as a comparison, GCC 12 makes two of them where the bound is a constant; without the mask, it
// takes something in its own _mm512_max_ps for uninitialised.
GENFAST_INLINE Vec at_least(Vec a, float low) {
#if defined(__AVX512F__)
  const __m512 bound = _mm512_set1_ps(low);
  return reinterpret_cast<Vec>(_mm512_maskz_max_ps(0xffff, bound, reinterpret_cast<__m512>(a)));
#elif defined(__AVX2__)
  return reinterpret_cast<Vec>(_mm256_max_ps(_mm256_set1_ps(low), reinterpret_cast<__m256>(a)));
#elif defined(__SSE2__)
  return reinterpret_cast<Vec>(_mm_max_ps(_mm_set1_ps(low), reinterpret_cast<__m128>(a)));
#else
  const Vec bound = broadcast(low);
  return a < bound ? bound : a;
#endif
}
GENFAST_INLINE Vec at_most(Vec a, float high) {
#if defined(__AVX512F__)
  const __m512 bound = _mm512_set1_ps(high);
  return reinterpret_cast<Vec>(_mm512_maskz_min_ps(0xffff, bound, reinterpret_cast<__m512>(a)));
#elif defined(__AVX2__)
  return reinterpret_cast<Vec>(_mm256_min_ps(_mm256_set1_ps(high), reinterpret_cast<__m256>(a)));
#elif defined(__SSE2__)
  return reinterpret_cast<Vec>(_mm_min_ps(_mm_set1_ps(high), reinterpret_cast<__m128>(a)));
#else
  const Vec bound = broadcast(high);
  return bound < a ? bound : a;
#endif
}
GENFAST_INLINE Vec abs(Vec a) { return from_bits(bits(a) & 0x7fffffff); }
GENFAST_INLINE Vec copy_sign(Vec magnitude, Vec sign) {
  return from_bits(bits(magnitude) | (bits(sign) & INT32_MIN));
}

// e^x in two parts, e^x = scale * (1 + fraction): whoever needs e^x - 1 takes it without cancellation.
// x must lie in [-87, 88]. Cephes' expf: x = k ln2 + r, |r| <= ln2 / 2, a polynomial of degree 5 in r.
struct Exponential {
  Vec scale, fraction;
};
GENFAST_INLINE Exponential exp_parts_in_range(Vec x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
  const Vec shifted = x * 1.44269504f + magic;
  const IVec k = bits(shifted) - bits(broadcast(magic));
  const Vec n = shifted - magic;
  const Vec r = x - n * 0.693359375f - n * -2.12194440e-4f;  // ln2 in two parts
  Vec p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return {from_bits((k + 127) << 23), p * (r * r) + r};
}
// The same with x clamped to that range.
GENFAST_INLINE Exponential exp_parts(Vec x) {
  return exp_parts_in_range(at_most(at_least(x, -87.0f), 88.0f));
}
GENFAST_INLINE Vec value(Exponential e) { return e.scale * e.fraction + e.scale; }
GENFAST_INLINE Vec minus_one(Exponential e) { return e.scale * e.fraction + (e.scale - 1.0f); }

// 2^x for x up to 126, 0 where it would be no normal number (with AVX-512: no number).
GENFAST_INLINE Vec exp2_of(Vec x) {
#ifdef __AVX512F__
  const __m512 whole =
      _mm512_maskz_roundscale_ps(0xffff, reinterpret_cast<__m512>(x), _MM_FROUND_TO_NEAREST_INT);
  const Vec r = x - reinterpret_cast<Vec>(whole);
#else
  const float magic = 12582912.0f;
  x = at_least(x, -127.0f);
  const Vec shifted = x + magic, r = x - (shifted - magic);
#endif
  Vec p = broadcast(1.535336188e-4f);  // Cephes' exp2f
  p = p * r + 1.339887440e-3f;
  p = p * r + 9.618437357e-3f;
  p = p * r + 5.550332548e-2f;
  p = p * r + 2.402264791e-1f;
  p = p * r + 6.931472028e-1f;
  p = p * r + 1.0f;
#ifdef __AVX512F__
  return reinterpret_cast<Vec>(_mm512_maskz_scalef_ps(0xffff, reinterpret_cast<__m512>(p), whole));
#else
  return p * from_bits((bits(shifted) - bits(broadcast(magic)) + 127) << 23);
#endif
}

// log(x) of normal positive numbers (Cephes' logf): x = 2^n (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)),
// a polynomial of degree 8 in f. A NaN stays one.
GENFAST_INLINE Vec log_normal(Vec x) {
  const IVec n = (bits(x) - 0x3f3504f3) >> 23;
  const Vec f = from_bits(bits(x) - (n << 23)) - 1.0f, square = f * f;
  const Vec exponent = __builtin_convertvector(n, Vec);
  Vec p = broadcast(7.0376836292e-2f);
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const Vec small = f * square * p + exponent * -2.12194440e-4f - 0.5f * square;
  const Vec result = (f + small) + exponent * 0.693359375f;  // ln2 in two parts
  return x != x ? x : result;
}

}  // namespace genfast::GENFAST_ISA
