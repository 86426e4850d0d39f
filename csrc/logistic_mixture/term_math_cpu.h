// What logistic_term.h asks for, on vectors of floats and on single doubles.
#pragma once
#include "common/simd.h"

namespace genfast::GENFAST_ISA {

extern "C" double exp(double);
extern "C" double expm1(double);
extern "C" double ldexp(double, int);
extern "C" double log(double);
extern "C" double tanh(double);

// mantissa * 2^exponent, the exponent a whole number of any size: products of many need no care for
// their range.
template <class V>
struct Power {
  V mantissa, exponent;
};
template <class V>
struct Decay {
  V value, rest;  // e^-x, 1 - e^-x
  Power<V> power;
};

template <class V>
GENFAST_INLINE V constant(double x) {
  return broadcast(static_cast<float>(x));
}
template <>
GENFAST_INLINE_MEMBER double constant<double>(double x) {
  return x;
}

GENFAST_INLINE Vec nearest(Vec x) {  // below 2^22
  const float magic = 12582912.0f;
  return (x + magic) - magic;
}
// The same for any x. Without the mask, GCC 12 takes something in _mm512_roundscale_ps for
// uninitialised.
GENFAST_INLINE Vec whole(Vec x) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(_mm512_maskz_roundscale_ps(0xffff, reinterpret_cast<__m512>(x), 8));
#elif defined(__AVX2__)
  return reinterpret_cast<Vec>(_mm256_round_ps(reinterpret_cast<__m256>(x), 8));
#else
  return abs(x) < 4194304.0f ? nearest(x) : x;
#endif
}

// x * 2^exponent for a whole exponent of at most 127; 0 where 2^exponent is not a normal number (or,
// with an instruction for it, where the product is 0).
GENFAST_INLINE Vec scaled(Vec x, Vec exponent) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(
      _mm512_maskz_scalef_ps(0xffff, reinterpret_cast<__m512>(x), reinterpret_cast<__m512>(exponent)));
#else
  const Vec magic = broadcast(12582912.0f + 127.0f);  // leaves the biased exponent in the low bits
  return x * from_bits(bits(at_least(exponent, -127.0f) + magic) << 23);
#endif
}

// x = exponent * ln2 + rest.
struct Reduced {
  Vec exponent, rest;
};
GENFAST_INLINE Reduced reduced(Vec x) {  // |x| below 2^20
  const Vec n = whole(x * 1.44269504f);
#ifdef __FMA__
  return {n, x - n * 0.693147182f};
#else
  return {n, x - n * 0.693359375f - n * -2.12194440e-4f};  // n times the first is exact
#endif
}
// (e^r - 1 - r) / r^2, to within 1.3e-8 of e^r - 1.
GENFAST_INLINE Vec exp_polynomial(Vec r) {
  Vec p = broadcast(1.3882517e-3f);
  p = p * r + 8.3665475e-3f;
  p = p * r + 4.1667201e-2f;
  p = p * r + 1.6666543e-1f;
  return p * r + 0.5f;
}

// ---- vectors of floats ---------------------------------------------------------------------------

GENFAST_INLINE Power<Vec> power_of(const Reduced& x) {
  const Vec p = exp_polynomial(x.rest) * x.rest + 1.0f;
  return {p * x.rest + 1.0f, x.exponent};
}
// e^x of any finite x. What remains of one that is so large has no digits left.
GENFAST_INLINE Power<Vec> power_of(Vec x) {
  const Reduced r = reduced(x);
  return power_of(Reduced{r.exponent, at_most(at_least(r.rest, -0.35f), 0.35f)});
}
// Of x below 88, which it is by construction wherever it is used.
GENFAST_INLINE Vec exp_of(Vec x) {
  const Power<Vec> e = power_of(reduced(at_least(x, -1000.0f)));
  return scaled(e.mantissa, e.exponent);
}
GENFAST_INLINE Decay<Vec> exponential_decay(Vec x) {
  const Reduced r = reduced(-at_most(x, 1048576.0f));
  const Vec fraction = r.rest * r.rest * exp_polynomial(r.rest) + r.rest;
  const Vec scale = scaled(broadcast(1.0f), r.exponent);
  return {scale * fraction + scale, (1.0f - scale) - scale * fraction, {fraction + 1.0f, r.exponent}};
}
GENFAST_INLINE Vec log_of(Vec x) { return log_normal(x); }

// x P(x^2) / Q(x^2), to within 2e-8; beyond 9 it is 1.
GENFAST_INLINE Vec tanh_of(Vec x) {
  x = at_most(at_least(x, -9.0f), 9.0f);
  const Vec square = x * x;
  Vec p = broadcast(1.3354456e-8f), q = broadcast(7.7764730e-7f);
  p = p * square + 2.0608930e-5f, q = q * square + 3.2856193e-4f;
  p = p * square + 3.4955787e-3f, q = q * square + 2.5876945e-2f;
  p = p * square + 1.3381018e-1f, q = q * square + 4.6714333e-1f;
  p = p * square + 1.0f, q = q * square + 1.0f;
  return at_most(at_least(x * p / q, -1.0f), 1.0f);
}
GENFAST_INLINE Vec absolute(Vec x) { return abs(x); }

GENFAST_INLINE bool any_positive(Vec x) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(x), _mm512_setzero_ps(), _CMP_GT_OQ) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(reinterpret_cast<__m256>(x > 0.0f)) != 0;
#else
  const IVec positive = x > 0.0f;
  int any = 0;
  for (int i = 0; i < kLanes; ++i) any |= positive[i];
  return any != 0;
#endif
}

// ---- doubles -------------------------------------------------------------------------------------

GENFAST_INLINE double absolute(double x) { return __builtin_fabs(x); }
GENFAST_INLINE double at_least(double x, double low) { return x < low ? low : x; }
GENFAST_INLINE double at_most(double x, double high) { return x > high ? high : x; }
GENFAST_INLINE double nearest(double x) {  // below 2^51
  const double magic = 6755399441055744.0;
  return (x + magic) - magic;
}
GENFAST_INLINE double scaled(double x, double exponent) {
  return ldexp(x, static_cast<int>(at_least(exponent, -3000.0)));
}
GENFAST_INLINE Power<double> power_of(double x) {
  const double turns = x * 1.4426950408889634;
  const double n = absolute(turns) < 0x1p51 ? nearest(turns) : turns;
  // ln2 in two parts, of which n times the first is exact for n below 2^21
  const double left = x - n * 6.93147180369123816490e-01 - n * 1.90821492927058770002e-10;
  return {exp(at_most(at_least(left, -0.35), 0.35)), n};
}
GENFAST_INLINE double exp_of(double x) { return exp(x); }
GENFAST_INLINE double log_of(double x) { return log(x); }
GENFAST_INLINE Decay<double> exponential_decay(double x) { return {exp(-x), -expm1(-x), power_of(-x)}; }
GENFAST_INLINE double tanh_of(double x) { return tanh(x); }
GENFAST_INLINE bool any_positive(double x) { return x > 0.0; }

GENFAST_INLINE double load(const double* p) { return *p; }
GENFAST_INLINE void store(double* p, double x) { *p = x; }

}  // namespace genfast::GENFAST_ISA
