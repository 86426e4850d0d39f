// gated_activation on CUDA: one pass over memory each way, one thread for 16 bytes of every operand
// where layout and alignment allow it, for one element otherwise. Bound by memory.
#include "common/cuda_elements.h"
#include "gated/gate_math.h"
#include "gated/gated.h"

namespace genfast {
namespace {

using cuda::Arithmetic;
using cuda::GateMath;

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 14;  // beyond that the threads loop

// Where group `index` of kWidth neighbouring elements lies in each of the K operands.
template <int kWidth, int K>
GENFAST_DEVICE void locate(const StridedLoop<K>& loop, int64_t index, int64_t (&offset)[K]) {
  const int inner = loop.dims - 1;
  int64_t row = index;
  int64_t column = 0;
  if (inner > 0) {
    const int64_t width = loop.size[inner] / kWidth;
    row = index / width;
    column = index - row * width;
  } else {
    row = 0;
    column = index;
  }
  column *= kWidth;
#pragma unroll
  for (int k = 0; k < K; ++k) offset[k] = column * loop.stride[k][inner];
  for (int d = inner - 1; d >= 0; --d) {
    const int64_t above = d > 0 ? row / loop.size[d] : 0;
    const int64_t place = row - above * loop.size[d];
    row = above;
#pragma unroll
    for (int k = 0; k < K; ++k) offset[k] += place * loop.stride[k][d];
  }
}

// Calls body(offset) for the groups of this thread, offset[k] being where the group lies in operand k.
template <int kWidth, int K, class Body>
GENFAST_DEVICE void for_each_group(const StridedLoop<K>& loop, int64_t groups, const Body& body) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < groups; i += step) {
    int64_t offset[K];
    locate<kWidth>(loop, i, offset);
    body(offset);
  }
}

// kWidth elements; of an operand that is broadcast along the innermost dimension, one that many times.
template <class T, int kWidth>
GENFAST_DEVICE void read(const void* operand, int64_t offset, int64_t stride,
                         Arithmetic<T> (&out)[kWidth]) {
  const T* source = static_cast<const T*>(operand) + offset;
  if (kWidth > 1 && stride == 0) {
    const Arithmetic<T> value = cuda::widen(*source);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) out[i] = value;
  } else {
    cuda::load_elements(source, out);
  }
}

// a and b, with ca and cb added where there is a condition.
template <class T, int kWidth, bool kCond, int K>
GENFAST_DEVICE void read_gate(const GatedActivation<K>& p, const int64_t (&offset)[K],
                              Arithmetic<T> (&a)[kWidth], Arithmetic<T> (&b)[kWidth]) {
  const int inner = p.loop.dims - 1;
  read<T>(p.operand[0], offset[0], p.loop.stride[0][inner], a);
  read<T>(p.operand[1], offset[1], p.loop.stride[1][inner], b);
  if constexpr (kCond) {
    Arithmetic<T> ca[kWidth], cb[kWidth];
    read<T>(p.operand[2], offset[2], p.loop.stride[2][inner], ca);
    read<T>(p.operand[3], offset[3], p.loop.stride[3][inner], cb);
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
  for_each_group<kWidth>(p.loop, groups, [&](const int64_t (&offset)[K]) {
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
  for_each_group<kWidth>(p.loop, groups, [&](const int64_t (&offset)[K]) {
    Arithmetic<T> a[kWidth], b[kWidth], g[kWidth];
    read_gate<T, kWidth, kCond>(p, offset, a, b);
    read<T>(p.operand[K - 3], offset[K - 3], p.loop.stride[K - 3][p.loop.dims - 1], g);
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

// Whether every operand can be accessed 16 bytes at a time: contiguous and aligned in every row, or
// (inputs only: the last `outputs` are written) constant along it.
template <int K>
bool vectorisable(const GatedActivation<K>& p, int outputs) {
  const int64_t bytes = element_size(p.dtype), width = 16 / bytes;
  const int inner = p.loop.dims - 1;
  if (p.loop.size[inner] % width != 0) return false;
  for (int k = 0; k < K; ++k) {
    const int64_t stride = p.loop.stride[k][inner];
    if (stride == 0 && k < K - outputs) continue;
    if (stride != 1 || reinterpret_cast<uintptr_t>(p.operand[k]) % 16 != 0) return false;
    for (int d = 0; d < inner; ++d) {
      if (p.loop.stride[k][d] % width != 0) return false;
    }
  }
  return true;
}

template <bool kCond, bool kBackward, int K>
void run(const GatedActivation<K>& p, cudaStream_t stream) {
  int64_t elements = 1;
  for (int d = 0; d < p.loop.dims; ++d) elements *= p.loop.size[d];
  if (elements == 0) return;
  const bool vectors = vectorisable(p, kBackward ? 2 : 1);
  const int64_t groups = vectors ? elements * element_size(p.dtype) / 16 : elements;
  const int64_t wanted = (groups + kThreads - 1) / kThreads;
  const unsigned blocks = static_cast<unsigned>(wanted < kMaxBlocks ? wanted : kMaxBlocks);
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
