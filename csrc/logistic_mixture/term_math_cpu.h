// What logistic_term.h asks for, on vectors of floats and on single doubles.
#pragma once
#include "common/simd.h"

namespace genfast::GENFAST_ISA {

extern "C" double exp(double);
extern "C" double expm1(double);
extern "C" double log(double);
extern "C" double tanh(double);

template <class V>
struct Decay {
  V value, rest;  // e^-x, 1 - e^-x
};

template <class V>
GENFAST_INLINE V constant(double x) {
  return broadcast(static_cast<float>(x));
}
template <>
GENFAST_INLINE_MEMBER double constant<double>(double x) {
  return x;
}

// All exponents here are below 88 by construction.
GENFAST_INLINE Vec exp_of(Vec x) { return value(exp_parts_in_range(at_least(x, -87.0f))); }
GENFAST_INLINE Vec log_of(Vec x) { return log_normal(x); }
GENFAST_INLINE Decay<Vec> exponential_decay(Vec x) {
  const Exponential e = exp_parts_in_range(-x);
  return {value(e), -minus_one(e)};
}
// tanh(|x|) = (1 - u) / (1 + u) with u = e^-2|x|; where that is large, 1 - 2u / (1 + u) rounds less.
GENFAST_INLINE Vec tanh_of(Vec x) {
  const Exponential e = exp_parts_in_range(at_least(-2.0f * abs(x), -87.0f));
  const Vec u = value(e), inverse = 1.0f / (1.0f + u);
  const Vec small = -minus_one(e) * inverse, large = 1.0f - 2.0f * u * inverse;
  return copy_sign(u > 0.3f ? small : large, x);
}
GENFAST_INLINE Vec absolute(Vec x) { return abs(x); }
GENFAST_INLINE Vec nearest(Vec x) {  // below 2^22
  const float magic = 12582912.0f;
  return (x + magic) - magic;
}

GENFAST_INLINE double exp_of(double x) { return exp(x); }
GENFAST_INLINE double log_of(double x) { return log(x); }
GENFAST_INLINE Decay<double> exponential_decay(double x) { return {exp(-x), -expm1(-x)}; }
GENFAST_INLINE double tanh_of(double x) { return tanh(x); }
GENFAST_INLINE double absolute(double x) { return __builtin_fabs(x); }
GENFAST_INLINE double at_least(double x, double low) { return x < low ? low : x; }
GENFAST_INLINE double at_most(double x, double high) { return x > high ? high : x; }
GENFAST_INLINE double nearest(double x) {  // below 2^51
  const double magic = 6755399441055744.0;
  return (x + magic) - magic;
}

GENFAST_INLINE double load(const double* p) { return *p; }
GENFAST_INLINE void store(double* p, double x) { *p = x; }

}  // namespace genfast::GENFAST_ISA
