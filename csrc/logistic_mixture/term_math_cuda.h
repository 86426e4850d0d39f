// What logistic_term.h asks for, on single floats and doubles in kernels.
#pragma once
#include "common/cuda.h"

namespace genfast::cuda {

// mantissa * 2^exponent, the exponent a whole number of any size.
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
GENFAST_DEVICE V constant(double x) {
  return static_cast<V>(x);
}
GENFAST_DEVICE bool any_positive(float x) { return x > 0.0f; }
GENFAST_DEVICE bool any_positive(double x) { return x > 0.0; }

GENFAST_DEVICE float exp_of(float x) { return expf(x); }
GENFAST_DEVICE float log_of(float x) { return logf(x); }
GENFAST_DEVICE float tanh_of(float x) { return tanhf(x); }
GENFAST_DEVICE float absolute(float x) { return fabsf(x); }
GENFAST_DEVICE float nearest(float x) { return rintf(x); }
// x * 2^exponent for an exponent of at most 127; 0 where 2^exponent is not a normal number.
GENFAST_DEVICE float scaled(float x, float exponent) { return x * exp2_fast(exponent); }
// e^x of any finite x. What remains of one that is very large has no digits left.
GENFAST_DEVICE Power<float> power_of(float x) {
  const float n = rintf(x * 1.44269504f);
  const float rest = fmaf(n, -0.693147182f, x);
  return {expf(fminf(fmaxf(rest, -0.35f), 0.35f)), n};
}
GENFAST_DEVICE Decay<float> exponential_decay(float x) { return {expf(-x), -expm1f(-x), power_of(-x)}; }

GENFAST_DEVICE double exp_of(double x) { return exp(x); }
GENFAST_DEVICE double log_of(double x) { return log(x); }
GENFAST_DEVICE double tanh_of(double x) { return tanh(x); }
GENFAST_DEVICE double absolute(double x) { return fabs(x); }
GENFAST_DEVICE double nearest(double x) { return rint(x); }
GENFAST_DEVICE double scaled(double x, double exponent) {
  return ldexp(x, static_cast<int>(exponent < -3000.0 ? -3000.0 : exponent));
}
GENFAST_DEVICE Power<double> power_of(double x) {
  const double n = rint(x * 1.4426950408889634);
  const double rest = fma(n, -1.90821492927058770002e-10, fma(n, -6.93147180369123816490e-01, x));
  return {exp(fmin(fmax(rest, -0.35), 0.35)), n};
}
GENFAST_DEVICE Decay<double> exponential_decay(double x) {
  const Power<double> power = power_of(-x);
  return {scaled(power.mantissa, power.exponent), -expm1(-x), power};
}

// A NaN in x passes through both.
template <class V>
GENFAST_DEVICE V at_least(V x, V low) {
  return x < low ? low : x;
}
template <class V>
GENFAST_DEVICE V at_most(V x, V high) {
  return x > high ? high : x;
}

}  // namespace genfast::cuda
