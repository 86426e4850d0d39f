#include "gated/gated.h"

namespace genfast::GENFAST_ISA {
namespace {

extern "C" double exp(double);
extern "C" double tanh(double);

GENFAST_INLINE Vec sum(const float* x, const float* cond, int64_t i) {
  return cond ? load(x + i) + load(cond + i) : load(x + i);
}
GENFAST_INLINE double sum(const double* x, const double* cond, int64_t i) {
  return cond ? x[i] + cond[i] : x[i];
}

// Ask for the memory that the next block will need. The gate is fast enough for the hardware's own
// prefetching to come late: 10 % on tensors larger than the cache.
GENFAST_INLINE void will_read(const float* p) { __builtin_prefetch(p + kBlock, 0); }
GENFAST_INLINE void will_write(float* p) { __builtin_prefetch(p + kBlock, 1); }

// tanh(a) * sigmoid(b) with one division. From u = e^{-2|a|} and v = e^{-b}:
//   |tanh(a)| = -(u - 1) / (2 + (u - 1)),  sigmoid(b) = 1 / (1 + v);
// u - 1 comes without cancellation, so the relative error stays small for small a.
GENFAST_INLINE void forward(const float* a, const float* b, const float* ca, const float* cb, int64_t n,
                            float* y) {
  for (int64_t i = 0; i < n; i += kLanes) {
    will_read(a + i), will_read(b + i), will_write(y + i);
    const Vec at = sum(a, ca, i);
    const Vec u1 = minus_one(exp_parts(-2.0f * abs(at)));
    const Vec v = value(exp_parts(-sum(b, cb, i)));
    const Vec denominator = 2.0f + u1;
    store(y + i, copy_sign((0.0f - u1) / (denominator * v + denominator), at));  // -u1 would make 0 a -0
  }
}

GENFAST_INLINE void forward(const double* a, const double* b, const double* ca, const double* cb,
                            int64_t n, double* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = tanh(sum(a, ca, i)) / (1.0 + exp(-sum(b, cb, i)));
}

// With u = e^{-2|a|} and v = e^{-|b|}:
//   1 - tanh^2(a) = 4u / (1+u)^2,  sigmoid(b) (1 - sigmoid(b)) = v / (1+v)^2.
// Neither can cancel, but the first rounds more often than 1 - tanh^2 itself, which is used where it is
// the more exact of the two.
GENFAST_INLINE void backward(const float* a, const float* b, const float* ca, const float* cb,
                             const float* gy, int64_t n, float* ga, float* gb) {
  for (int64_t i = 0; i < n; i += kLanes) {
    will_read(a + i), will_read(b + i), will_read(gy + i), will_write(ga + i), will_write(gb + i);
    const Vec at = sum(a, ca, i), bt = sum(b, cb, i), g = load(gy + i);
    const Exponential eu = exp_parts(-2.0f * abs(at));
    const Vec u = value(eu), u1 = minus_one(eu), v = value(exp_parts(-abs(bt)));
    const Vec ru = 1.0f / (2.0f + u1), rv = 1.0f / (1.0f + v);
    const Vec tanh_a = (0.0f - u1) * ru;  // of |a|
    const Vec dtanh = tanh_a < 0.75f ? 1.0f - tanh_a * tanh_a : 4.0f * u * (ru * ru);
    const Vec sigmoid_b = bt < 0.0f ? v * rv : rv;
    store(ga + i, g * sigmoid_b * dtanh);
    store(gb + i, g * copy_sign(tanh_a, at) * (v * (rv * rv)));
  }
}

GENFAST_INLINE void backward(const double* a, const double* b, const double* ca, const double* cb,
                             const double* gy, int64_t n, double* ga, double* gb) {
  for (int64_t i = 0; i < n; ++i) {
    const double t = tanh(sum(a, ca, i)), s = 1.0 / (1.0 + exp(-sum(b, cb, i)));
    ga[i] = gy[i] * s * (1.0 - t * t);
    gb[i] = gy[i] * t * s * (1.0 - s);
  }
}

template <bool kCond>
struct ForwardKernel {
  template <class A>
  static void run(int64_t n, const A* const* in, A* const* out) {
    if constexpr (kCond) {
      forward(in[0], in[1], in[2], in[3], n, out[0]);
    } else {
      forward(in[0], in[1], nullptr, nullptr, n, out[0]);
    }
  }
};

template <bool kCond>
struct BackwardKernel {
  template <class A>
  static void run(int64_t n, const A* const* in, A* const* out) {
    if constexpr (kCond) {
      backward(in[0], in[1], in[2], in[3], in[4], n, out[0], out[1]);
    } else {
      backward(in[0], in[1], nullptr, nullptr, in[2], n, out[0], out[1]);
    }
  }
};

template <class Kernel, int Outputs, int K>
void run(const GatedActivation<K>& p) {
  GENFAST_DISPATCH_DTYPE(p.dtype, (map_strided<T, Kernel, Outputs>(p.loop, p.operand, p.threads)));
}

}  // namespace

void gated_activation_fwd_cpu(const GatedActivation<3>& p) { run<ForwardKernel<false>, 1>(p); }
void gated_activation_fwd_cpu(const GatedActivation<5>& p) { run<ForwardKernel<true>, 1>(p); }
void gated_activation_bwd_cpu(const GatedActivation<5>& p) { run<BackwardKernel<false>, 2>(p); }
void gated_activation_bwd_cpu(const GatedActivation<7>& p) { run<BackwardKernel<true>, 2>(p); }

}  // namespace genfast::GENFAST_ISA
