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
// A NaN in `a` passes through both.
GENFAST_INLINE Vec at_least(Vec a, float low) { return a < low ? broadcast(low) : a; }
GENFAST_INLINE Vec at_most(Vec a, float high) { return a > high ? broadcast(high) : a; }
GENFAST_INLINE Vec abs(Vec a) { return from_bits(bits(a) & 0x7fffffff); }
GENFAST_INLINE Vec copy_sign(Vec magnitude, Vec sign) {
  return from_bits(bits(magnitude) | (bits(sign) & INT32_MIN));
}

// e^x in two parts, e^x = scale * (1 + fraction): whoever needs e^x - 1 takes it without cancellation.
// x is clamped to [-87, 88]. Cephes' expf: x = k ln2 + r, |r| <= ln2 / 2, a polynomial of degree 5 in r.
struct Exponential {
  Vec scale, fraction;
};
GENFAST_INLINE Exponential exp_parts(Vec x) {
  x = at_most(at_least(x, -87.0f), 88.0f);
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
GENFAST_INLINE Vec value(Exponential e) { return e.scale * e.fraction + e.scale; }
GENFAST_INLINE Vec minus_one(Exponential e) { return e.scale * e.fraction + (e.scale - 1.0f); }

}  // namespace genfast::GENFAST_ISA
