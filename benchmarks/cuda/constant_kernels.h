// The kernels that constants.cu times.
#pragma once
#include "common/cuda.h"

namespace genfast::constants {

using namespace genfast::cuda;

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) copy_kernel(const uint4* from, uint4* to, int64_t n) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < n; i += step) {
    to[i] = from[i];
  }
}

// Reads the same `n` pieces again and again: from L2 if they fit there.
__global__ void __launch_bounds__(kThreads) read_kernel(const uint4* from, uint4* to, int n, int times) {
  uint4 sum = make_uint4(0, 0, 0, 0);
  const int first = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  for (int t = 0; t < times; ++t) {
    for (int i = first; i < n; i += static_cast<int>(gridDim.x) * kThreads) {
      const uint4 x = __ldcg(&from[i]);  // past L1
      sum.x ^= x.x, sum.y ^= x.y, sum.z ^= x.z, sum.w ^= x.w;
    }
  }
  if (sum.x == 0x12345678u && sum.y == sum.z) to[first] = sum;  // so that nothing is optimised away
}

enum class Product { bf16, fp16, tf32 };
constexpr int kChains = 8;  // independent accumulators a warp

template <Product product>
__global__ void __launch_bounds__(kThreads) mma_kernel(float* out, uint32_t seed, int times) {
  // Small numbers that differ: the unit's power, and with it the clock, depends on the data.
  uint32_t a[4], b[2];
  const uint32_t lane = threadIdx.x % 32, mixed = (lane * 2654435761u + seed) | 1u;
  for (int r = 0; r < 4; ++r) {
    const float x = 1.0f / static_cast<float>(1 + (mixed >> (3 * r)) % 61);
    a[r] = product == Product::tf32   ? round_tf32(x)
           : product == Product::bf16 ? pack_bf16(x, -x)
                                      : pack_fp16(x, -x);
  }
  b[0] = a[1], b[1] = a[2];
  float sum[kChains][4] = {};
  for (int t = 0; t < times; ++t) {
#pragma unroll
    for (int c = 0; c < kChains; ++c) {
      if constexpr (product == Product::bf16) {
        mma_bf16(sum[c], a, b);
      } else if constexpr (product == Product::fp16) {
        mma_fp16(sum[c], a, b);
      } else {
        mma_tf32(sum[c], a, b);
      }
    }
  }
  float total = 0;
  for (int c = 0; c < kChains; ++c) {
    for (int r = 0; r < 4; ++r) total += sum[c][r];
  }
  out[static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x] = total;
}

enum class Function { fma, exp2_fast, exp_fast, expf, tanh_approx, tanh_fast, tanhf, sigmoid_fast };

// The special-function unit's own, whose relative error is about 2^-11: no kernel uses it, which this
// may change.
GENFAST_DEVICE float tanh_approx(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

template <Function function>
GENFAST_DEVICE float apply(float x) {
  if constexpr (function == Function::fma) return fmaf(x, 0.999f, 0.001f);
  if constexpr (function == Function::exp2_fast) return exp2_fast(-x);  // stays in (0, 1)
  if constexpr (function == Function::exp_fast) return exp_fast(-x);
  if constexpr (function == Function::expf) return expf(-x);
  if constexpr (function == Function::tanh_approx) return tanh_approx(x);
  if constexpr (function == Function::tanh_fast) return tanh_fast(x);
  if constexpr (function == Function::tanhf) return tanhf(x);
  return sigmoid_fast(x);
}

template <Function function>
__global__ void __launch_bounds__(kThreads) function_kernel(float* out, float seed, int times) {
  float x[kChains];
  for (int c = 0; c < kChains; ++c) x[c] = seed * static_cast<float>(1 + threadIdx.x % 32 + 32 * c);
  for (int t = 0; t < times; ++t) {
#pragma unroll
    for (int c = 0; c < kChains; ++c) x[c] = apply<function>(x[c]);
  }
  float total = 0;
  for (int c = 0; c < kChains; ++c) total += x[c];
  out[static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x] = total;
}

__global__ void block_barrier_kernel(int times) {
#pragma unroll 1
  for (int t = 0; t < times; ++t) __syncthreads();
}

__global__ void grid_barrier_kernel(GridBarrier* barrier, int times) {
#pragma unroll 1
  for (int t = 0; t < times; ++t) grid_sync(barrier);
}

// Two blocks tell each other numbers by turns; block 0 begins.
__global__ void __launch_bounds__(32) turns_kernel(unsigned* turn, int times) {
  if (threadIdx.x != 0) return;
  for (unsigned t = blockIdx.x; t < 2u * static_cast<unsigned>(times); t += 2) {
    while (ld_acquire(turn) != t) {}
    st_release(turn, t + 1);
  }
}

__global__ void empty_kernel() {}

}  // namespace genfast::constants
