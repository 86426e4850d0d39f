// What logistic_term.h asks for, on single floats and doubles in kernels.
#pragma once
#include "common/cuda.h"

namespace genfast::cuda {

template <class V>
struct Decay {
  V value, rest;  // e^-x, 1 - e^-x
};

template <class V>
GENFAST_DEVICE V constant(double x) {
  return static_cast<V>(x);
}

GENFAST_DEVICE float exp_of(float x) { return expf(x); }
GENFAST_DEVICE float log_of(float x) { return logf(x); }
GENFAST_DEVICE float tanh_of(float x) { return tanhf(x); }
GENFAST_DEVICE float absolute(float x) { return fabsf(x); }
GENFAST_DEVICE float nearest(float x) { return rintf(x); }
GENFAST_DEVICE Decay<float> exponential_decay(float x) { return {expf(-x), -expm1f(-x)}; }

GENFAST_DEVICE double exp_of(double x) { return exp(x); }
GENFAST_DEVICE double log_of(double x) { return log(x); }
GENFAST_DEVICE double tanh_of(double x) { return tanh(x); }
GENFAST_DEVICE double absolute(double x) { return fabs(x); }
GENFAST_DEVICE double nearest(double x) { return rint(x); }
GENFAST_DEVICE Decay<double> exponential_decay(double x) { return {exp(-x), -expm1(-x)}; }

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
