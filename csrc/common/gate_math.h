// The gate's arithmetic on one pair of numbers, for kernels. Include after cuda.h.
#pragma once
#include "common/cuda.h"

namespace genfast::cuda {

// How a gate is computed. Full: fp32 within a few ulp. Fast: two special-function calls a factor and a
// relative error below 1e-5, for results that are then rounded to 16 bits.
enum class GateMath { full, fast };

// |tanh(a)| from u = e^{-2|a|}, for fast gates: (1 - u) / (1 + u) cancels near 0, a polynomial does not
// (its error there is 17/315 a^6).
GENFAST_DEVICE float fast_abs_tanh(float magnitude, float u, float reciprocal) {
  const float square = magnitude * magnitude;
  const float series = magnitude * fmaf(square, fmaf(square, 2.0f / 15.0f, -1.0f / 3.0f), 1.0f);
  return magnitude < 0.2f ? series : (1.0f - u) * reciprocal;
}

// tanh(a) * sigmoid(b) with one division. From u = e^{-2|a|} and v = e^{-b}:
//   |tanh(a)| = -(u - 1) / (2 + (u - 1)),  sigmoid(b) = 1 / (1 + v);
// expm1 gives u - 1 without cancellation, so the relative error stays small for small a.
template <GateMath kMath>
GENFAST_DEVICE float gate(float a, float b) {
  const float magnitude = fabsf(a);
  if constexpr (kMath == GateMath::fast) {
    const float u = __expf(-2.0f * magnitude), v = __expf(-b);
    const float tanh_a = fast_abs_tanh(magnitude, u, __fdividef(1.0f, 1.0f + u));
    // __fdividef gives 0 for a denominator above 2^126, which is right here.
    return copysignf(__fdividef(tanh_a, 1.0f + v), a);
  } else {
    const float u1 = expm1f(-2.0f * magnitude), v = expf(-b), denominator = 2.0f + u1;
    return copysignf((0.0f - u1) / fmaf(denominator, v, denominator), a);
  }
}
template <GateMath>
GENFAST_DEVICE double gate(double a, double b) {
  return tanh(a) / (1.0 + exp(-b));
}

// The gate's derivatives times g. With u = e^{-2|a|} and v = e^{-|b|}:
//   1 - tanh^2(a) = 4u / (1+u)^2,  sigmoid(b) (1 - sigmoid(b)) = v / (1+v)^2.
// Neither can cancel, but the first rounds more often than 1 - tanh^2 itself, which is used where it is
// the more exact of the two.
template <GateMath kMath>
GENFAST_DEVICE void gate_gradients(float a, float b, float g, float& grad_a, float& grad_b) {
  const float magnitude = fabsf(a);
  float u, v, ru, rv, tanh_a, dtanh;
  if constexpr (kMath == GateMath::fast) {
    u = __expf(-2.0f * magnitude), v = __expf(-fabsf(b));
    ru = __fdividef(1.0f, 1.0f + u), rv = __fdividef(1.0f, 1.0f + v);
    tanh_a = fast_abs_tanh(magnitude, u, ru);
    dtanh = 4.0f * u * (ru * ru);
  } else {
    const float u1 = expm1f(-2.0f * magnitude);
    u = expf(-2.0f * magnitude), v = expf(-fabsf(b));
    ru = 1.0f / (2.0f + u1), rv = 1.0f / (1.0f + v);
    tanh_a = (0.0f - u1) * ru;
    dtanh = tanh_a < 0.75f ? fmaf(-tanh_a, tanh_a, 1.0f) : 4.0f * u * (ru * ru);
  }
  const float sigmoid_b = b < 0.0f ? v * rv : rv;
  grad_a = g * sigmoid_b * dtanh;
  grad_b = g * copysignf(tanh_a, a) * (v * (rv * rv));
}
template <GateMath>
GENFAST_DEVICE void gate_gradients(double a, double b, double g, double& grad_a, double& grad_b) {
  const double u = exp(-2.0 * fabs(a)), v = exp(-fabs(b)), ru = 1.0 / (1.0 + u), rv = 1.0 / (1.0 + v);
  grad_a = g * (b < 0.0 ? v * rv : rv) * (4.0 * u * (ru * ru));
  grad_b = g * tanh(a) * (v * (rv * rv));
}

}  // namespace genfast::cuda
