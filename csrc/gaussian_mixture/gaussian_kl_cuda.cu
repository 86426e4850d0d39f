// The divergence of Gaussians on CUDA and its gradient: one pass over memory each, 16 bytes of every
// operand at a time where layout and alignment allow it. Sums are in a fixed order.
#include "common/cuda_groups.h"
#include "common/cuda_strided.h"
#include "gaussian_mixture/gaussian_kl.h"

namespace genfast {
namespace {

using cuda::Arithmetic;

constexpr int kThreads = cuda::kGroupThreads;
constexpr int kLanes = 32;
constexpr int kWarps = kThreads / kLanes;
constexpr int64_t kGroupsOfWarp = 4 * kLanes;  // rows of more are summed by a block

// e^r - 1 and e^-log_var.
GENFAST_DEVICE float growth_of(float r) { return expm1f(r); }
GENFAST_DEVICE double growth_of(double r) { return expm1(r); }
GENFAST_DEVICE float precision_of(float log_var) { return expf(-log_var); }
GENFAST_DEVICE double precision_of(double log_var) { return exp(-log_var); }

// Twice the divergence of kWidth neighbouring dimensions, of which in[k] points to the first.
template <class T, int kWidth, int K>
GENFAST_DEVICE Arithmetic<T> twice_divergence(const T* const (&in)[K - 1],
                                              const int64_t (&column_stride)[K]) {
  using A = Arithmetic<T>;
  A distance[kWidth], r[kWidth], sum = 0;
  cuda::read_group<T>(in[0], 0, column_stride[0], distance);
  cuda::read_group<T>(in[1], 0, column_stride[1], r);
  if constexpr (K == 5) {
    A prior_mean[kWidth], prior_log_var[kWidth];
    cuda::read_group<T>(in[2], 0, column_stride[2], prior_mean);
    cuda::read_group<T>(in[3], 0, column_stride[3], prior_log_var);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const A moved = distance[e] - prior_mean[e], ratio = r[e] - prior_log_var[e];
      sum += growth_of(ratio) - ratio + moved * moved * precision_of(prior_log_var[e]);
    }
  } else {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sum += growth_of(r[e]) - r[e] + distance[e] * distance[e];
  }
  return sum;
}

// The sum of `value` over the `lanes` neighbouring threads that share a row: a power of two up to a
// warp, or the block. Every thread of the block calls it.
template <class A>
GENFAST_DEVICE A sum_of_row(A value, int lanes) {
  const int in_warp = lanes < kLanes ? lanes : kLanes;
  for (int step = in_warp / 2; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  if (lanes <= kLanes) return value;
  SHARED(A[kWarps], of_warp);
  __syncthreads();  // what the row before left has been read
  if (threadIdx.x % kLanes == 0) of_warp[threadIdx.x / kLanes] = value;
  __syncthreads();
  value = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) value += of_warp[w];
  return value;
}

template <class T, int kWidth, int K>
__global__ void __launch_bounds__(kThreads)
    gaussian_kl_fwd_kernel(GaussianKl<K> p, int64_t rows, int lanes) {
  using A = Arithmetic<T>;
  const int rows_of_block = kThreads / lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t step = static_cast<int64_t>(gridDim.x) * rows_of_block;
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * rows_of_block; first < rows; first += step) {
    const int64_t row = first + threadIdx.x / lanes;
    int64_t offset[K] = {};
    A sum = 0;
    if (row < rows) {
      locate(p.rows, row, offset);
      const T* in[K - 1];
#pragma unroll
      for (int k = 0; k < K - 1; ++k) {
        in[k] = static_cast<const T*>(p.operand[k]) + offset[k] + lane * kWidth * p.column_stride[k];
      }
      for (int64_t d = lane * kWidth; d < p.dim; d += lanes * kWidth) {
        sum += twice_divergence<T, kWidth, K>(in, p.column_stride);
#pragma unroll
        for (int k = 0; k < K - 1; ++k) in[k] += lanes * kWidth * p.column_stride[k];
      }
    }
    sum = sum_of_row(sum, lanes);
    if (lane == 0 && row < rows) {
      cuda::narrow(A(0.5) * sum, static_cast<T*>(p.operand[K - 1]) + offset[K - 1]);
    }
  }
}

template <class T, int kWidth, int K>
__global__ void __launch_bounds__(kThreads)
    gaussian_kl_bwd_kernel(GaussianKlGradient<K> p, int64_t groups) {
  using A = Arithmetic<T>;
  constexpr bool kPrior = K == 8;
  constexpr int kInputs = kPrior ? 5 : 3;
  cuda::for_each_group<kWidth>(p.loop, groups, [&](const int64_t (&offset)[K]) {
    A in[kInputs][kWidth];
#pragma unroll
    for (int k = 0; k < kInputs; ++k) {
      cuda::read_group<T>(p.operand[k], offset[k], p.loop.stride[k][p.loop.dims - 1], in[k]);
    }
    auto &mean = in[0], &log_var = in[1], &grad = in[kInputs - 1];  // gradients take their places
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const A g = grad[e];
      if constexpr (kPrior) {
        const A distance = mean[e] - in[2][e], slope = distance * precision_of(in[3][e]);
        const A half = growth_of(log_var[e] - in[3][e]) * A(0.5);
        mean[e] = g * slope;
        log_var[e] = g * half;
        grad[e] = g * A(-0.5) * (half + half + slope * distance);
      } else {
        mean[e] *= g;
        log_var[e] = g * (growth_of(log_var[e]) * A(0.5));
      }
    }
    cuda::store_elements(mean, static_cast<T*>(p.operand[kInputs]) + offset[kInputs]);
    cuda::store_elements(log_var, static_cast<T*>(p.operand[kInputs + 1]) + offset[kInputs + 1]);
    if constexpr (kPrior) cuda::store_elements(grad, static_cast<T*>(p.operand[7]) + offset[7]);
  });
}

template <int K>
bool vectorisable(const GaussianKl<K>& p) {
  const int64_t width = 16 / element_size(p.dtype);
  if (p.dim % width != 0) return false;
  for (int k = 0; k < K - 1; ++k) {
    if (p.column_stride[k] == 0) continue;
    if (!cuda::aligned_rows(p.operand[k], p.column_stride[k], p.rows.stride[k], p.rows.dims, width)) {
      return false;
    }
  }
  return true;
}

// How many threads share a row of so many groups.
int lanes_for(int64_t groups) {
  if (groups > kGroupsOfWarp) return kThreads;
  int lanes = 1;
  while (lanes < kLanes && lanes < groups) lanes *= 2;
  return lanes;
}

template <int K>
void forward(const GaussianKl<K>& p, cudaStream_t stream) {
  const int64_t rows = cuda::elements_of(p.rows);
  if (rows == 0) return;
  const bool vectors = vectorisable(p);
  const int lanes = lanes_for(vectors ? p.dim * element_size(p.dtype) / 16 : p.dim);
  const unsigned blocks = cuda::blocks_for(rows, kThreads / lanes);
  GENFAST_DISPATCH_DTYPE(p.dtype, {
    using E = cuda::Element<T>;
    constexpr int kWidth = 16 / static_cast<int>(sizeof(E));
    cuda::launch(vectors ? gaussian_kl_fwd_kernel<E, kWidth, K> : gaussian_kl_fwd_kernel<E, 1, K>,
                 blocks, kThreads, 0, stream, p, rows, lanes);
  });
}

template <int K>
void backward(const GaussianKlGradient<K>& p, cudaStream_t stream) {
  const int64_t elements = cuda::elements_of(p.loop);
  if (elements == 0) return;
  const bool vectors = cuda::vectorisable(p.loop, p.operand, p.dtype, K == 8 ? 3 : 2);
  const int64_t groups = vectors ? elements * element_size(p.dtype) / 16 : elements;
  GENFAST_DISPATCH_DTYPE(p.dtype, {
    using E = cuda::Element<T>;
    constexpr int kWidth = 16 / static_cast<int>(sizeof(E));
    cuda::launch(vectors ? gaussian_kl_bwd_kernel<E, kWidth, K> : gaussian_kl_bwd_kernel<E, 1, K>,
                 cuda::blocks_for(groups, kThreads), kThreads, 0, stream, p, groups);
  });
}

}  // namespace

void gaussian_kl_fwd_cuda(const GaussianKl<3>& p, cudaStream_t stream) { forward(p, stream); }
void gaussian_kl_fwd_cuda(const GaussianKl<5>& p, cudaStream_t stream) { forward(p, stream); }
void gaussian_kl_bwd_cuda(const GaussianKlGradient<5>& p, cudaStream_t stream) { backward(p, stream); }
void gaussian_kl_bwd_cuda(const GaussianKlGradient<8>& p, cudaStream_t stream) { backward(p, stream); }

}  // namespace genfast
