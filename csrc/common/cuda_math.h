// Fast approximations by the special function unit. The emulation's results differ in the last bits:
// compare by tolerance. Part of cuda.h.
#pragma once

namespace genfast::cuda {

// 2^x, error 2 ulp; 0 below -126.
GENFAST_DEVICE float exp2_fast(float x) {
#ifdef CUDA_HOST_EMU
  return x < -126.0f ? 0.0f : exp2f(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

GENFAST_DEVICE float exp_fast(float x) { return exp2_fast(x * 1.44269504f); }
GENFAST_DEVICE float log_fast(float x) { return __logf(x); }

// Absolute error about 1e-7 for both; the limits at infinity are exact. The relative error of tanh_fast
// near 0 is large: use tanhf where that matters.
GENFAST_DEVICE float sigmoid_fast(float x) { return __fdividef(1.0f, 1.0f + exp_fast(-x)); }
GENFAST_DEVICE float tanh_fast(float x) { return 1.0f - __fdividef(2.0f, 1.0f + exp_fast(2.0f * x)); }

}  // namespace genfast::cuda
