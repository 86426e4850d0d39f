// gated_activation on CUDA: one pass over memory each way, one thread for 16 bytes of every operand
// where layout and alignment allow it, for one element otherwise. Bound by memory.
#include "common/cuda_groups.h"
#include "common/gate_math.h"
#include "gated/gated.h"

namespace genfast {
namespace {

using cuda::Arithmetic;
using cuda::GateMath;

constexpr int kThreads = cuda::kGroupThreads;

// a and b, with ca and cb added where there is a condition.
template <class T, int kWidth, bool kCond, int K>
GENFAST_DEVICE void read_gate(const GatedActivation<K>& p, const int64_t (&offset)[K],
                              Arithmetic<T> (&a)[kWidth], Arithmetic<T> (&b)[kWidth]) {
  const int inner = p.loop.dims - 1;
  cuda::read_group<T>(p.operand[0], offset[0], p.loop.stride[0][inner], a);
  cuda::read_group<T>(p.operand[1], offset[1], p.loop.stride[1][inner], b);
  if constexpr (kCond) {
    Arithmetic<T> ca[kWidth], cb[kWidth];
    cuda::read_group<T>(p.operand[2], offset[2], p.loop.stride[2][inner], ca);
    cuda::read_group<T>(p.operand[3], offset[3], p.loop.stride[3][inner], cb);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) a[i] += ca[i], b[i] += cb[i];
  }
}

template <class T>
struct MathOf {
  static constexpr GateMath value = sizeof(T) == 2 ? GateMath::fast : GateMath::full;
};

// y = tanh(a + ca) * sigmoid(b + cb)
template <class T, int kWidth, bool kCond>
__global__ void __launch_bounds__(kThreads)
    gated_activation_fwd_kernel(GatedActivation<kCond ? 5 : 3> p, int64_t groups) {
  constexpr int K = kCond ? 5 : 3;
  cuda::for_each_group<kWidth>(p.loop, groups, [&](const int64_t (&offset)[K]) {
    Arithmetic<T> a[kWidth], b[kWidth], y[kWidth];
    read_gate<T, kWidth, kCond>(p, offset, a, b);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) y[e] = cuda::gate<MathOf<T>::value>(a[e], b[e]);
    cuda::store_elements(y, static_cast<T*>(p.operand[K - 1]) + offset[K - 1]);
  });
}

// grad_a, grad_b; tanh and sigmoid are computed again.
template <class T, int kWidth, bool kCond>
__global__ void __launch_bounds__(kThreads)
    gated_activation_bwd_kernel(GatedActivation<kCond ? 7 : 5> p, int64_t groups) {
  constexpr int K = kCond ? 7 : 5;
  cuda::for_each_group<kWidth>(p.loop, groups, [&](const int64_t (&offset)[K]) {
    Arithmetic<T> a[kWidth], b[kWidth], g[kWidth];
    read_gate<T, kWidth, kCond>(p, offset, a, b);
    cuda::read_group<T>(p.operand[K - 3], offset[K - 3], p.loop.stride[K - 3][p.loop.dims - 1], g);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      Arithmetic<T> grad_a, grad_b;
      cuda::gate_gradients<MathOf<T>::value>(a[e], b[e], g[e], grad_a, grad_b);
      a[e] = grad_a;
      b[e] = grad_b;
    }
    cuda::store_elements(a, static_cast<T*>(p.operand[K - 2]) + offset[K - 2]);
    cuda::store_elements(b, static_cast<T*>(p.operand[K - 1]) + offset[K - 1]);
  });
}

template <bool kCond, bool kBackward, int K>
void run(const GatedActivation<K>& p, cudaStream_t stream) {
  const int64_t elements = cuda::elements_of(p.loop);
  if (elements == 0) return;
  const bool vectors = cuda::vectorisable(p.loop, p.operand, p.dtype, kBackward ? 2 : 1);
  const int64_t groups = vectors ? elements * element_size(p.dtype) / 16 : elements;
  const unsigned blocks = cuda::blocks_for(groups, kThreads);
  GENFAST_DISPATCH_DTYPE(p.dtype, {
    using E = cuda::Element<T>;
    constexpr int kWidth = 16 / static_cast<int>(sizeof(E));
    if constexpr (kBackward) {
      cuda::launch(vectors ? gated_activation_bwd_kernel<E, kWidth, kCond>
                           : gated_activation_bwd_kernel<E, 1, kCond>,
                   blocks, kThreads, 0, stream, p, groups);
    } else {
      cuda::launch(vectors ? gated_activation_fwd_kernel<E, kWidth, kCond>
                           : gated_activation_fwd_kernel<E, 1, kCond>,
                   blocks, kThreads, 0, stream, p, groups);
    }
  });
}

}  // namespace

void gated_activation_fwd_cuda(const GatedActivation<3>& p, cudaStream_t s) { run<false, false>(p, s); }
void gated_activation_fwd_cuda(const GatedActivation<5>& p, cudaStream_t s) { run<true, false>(p, s); }
void gated_activation_bwd_cuda(const GatedActivation<5>& p, cudaStream_t s) { run<false, true>(p, s); }
void gated_activation_bwd_cuda(const GatedActivation<7>& p, cudaStream_t s) { run<true, true>(p, s); }

}  // namespace genfast
