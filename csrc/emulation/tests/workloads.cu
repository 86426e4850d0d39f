#include "emulation/tests/workloads.h"

#include "common/cuda.h"

namespace genfast::emulation_tests {

using namespace genfast::cuda;

namespace {

// ---- tiles in shared memory: 64 x 64 of c to a block of 256 threads, 4 x 4 to a thread ----------
constexpr int kTile = 64, kDepth = 16;

__global__ void __launch_bounds__(256)
    matmul_kernel(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int m,
                  int n, int k) {
  SHARED(float[kDepth][kTile + 4], a_tile);
  SHARED(float[kDepth][kTile + 4], b_tile);
  const int t = threadIdx.x, column = t % 16 * 4, row = t / 16 * 4;
  const int row0 = blockIdx.y * kTile, column0 = blockIdx.x * kTile;
  float sum[4][4] = {};
  for (int k0 = 0; k0 < k; k0 += kDepth) {
    for (int i = t; i < kTile * kDepth; i += 256) {
      const int r = row0 + i / kDepth, ka = k0 + i % kDepth, kb = k0 + i / kTile,
                s = column0 + i % kTile;
      a_tile[i % kDepth][i / kDepth] = r < m && ka < k ? __ldg(&a[r * k + ka]) : 0.0f;
      b_tile[i / kTile][i % kTile] = kb < k && s < n ? __ldg(&b[kb * n + s]) : 0.0f;
    }
    __syncthreads();
    for (int d = 0; d < kDepth; ++d) {
      const float4 av = *reinterpret_cast<const float4*>(&a_tile[d][row]);
      const float4 bv = *reinterpret_cast<const float4*>(&b_tile[d][column]);
      const float ar[4] = {av.x, av.y, av.z, av.w}, br[4] = {bv.x, bv.y, bv.z, bv.w};
      for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) sum[i][j] = fmaf(ar[i], br[j], sum[i][j]);
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      const int r = row0 + row + i, s = column0 + column + j;
      if (r < m && s < n) c[r * n + s] = sum[i][j];
    }
  }
}

// ---- shuffles -----------------------------------------------------------------------------------
GENFAST_DEVICE float warp_max(float v) {
  for (int o = 16; o > 0; o /= 2) v = fmaxf(v, __shfl_xor_sync(~0u, v, o));
  return v;
}
GENFAST_DEVICE float warp_sum(float v) {
  for (int o = 16; o > 0; o /= 2) v += __shfl_xor_sync(~0u, v, o);
  return v;
}

__global__ void logsumexp_kernel(const float* x, float* y, int columns) {
  float* of_warp = dyn_smem<float>();
  const float* row = x + static_cast<size_t>(blockIdx.x) * columns;
  const int t = threadIdx.x, threads = blockDim.x, warp = t / 32, lane = t % 32;
  float largest = -INFINITY;
  for (int i = t; i < columns; i += threads) largest = fmaxf(largest, row[i]);
  largest = warp_max(largest);
  if (lane == 0) of_warp[warp] = largest;
  __syncthreads();
  largest = warp_max(lane < threads / 32 ? of_warp[lane] : -INFINITY);
  __syncthreads();
  float sum = 0;
  for (int i = t; i < columns; i += threads) sum += exp_fast(row[i] - largest);
  sum = warp_sum(sum);
  if (lane == 0) of_warp[warp] = sum;
  __syncthreads();
  sum = warp_sum(lane < threads / 32 ? of_warp[lane] : 0.0f);
  if (t == 0) y[blockIdx.x] = largest + log_fast(sum);
}

// ---- a barrier of the grid: rows of w over all warps, a step between barriers --------------------
__global__ void recurrence_kernel(const float* w, const float* x, float* h, int steps, int dim,
                                  GridBarrier* barrier) {
  const int lane = threadIdx.x % 32, warps = gridDim.x * blockDim.x / 32;
  for (int t = 0; t < steps; ++t) {
    const float* before = h + static_cast<size_t>(t) * dim;
    for (int r = (blockIdx.x * blockDim.x + threadIdx.x) / 32; r < dim; r += warps) {
      float sum = 0;
      for (int i = lane; i < dim; i += 32) sum = fmaf(w[r * dim + i], before[i], sum);
      sum = warp_sum(sum);
      if (lane == 0) h[(t + 1) * dim + r] = tanhf(sum + x[t * dim + r]);
    }
    grid_sync(barrier);
  }
}

// ---- votes, shuffles up, a partial last warp, atomics in shared memory --------------------------
GENFAST_DEVICE int warp_scan(int v, int lane) {
  for (int o = 1; o < 32; o *= 2) {
    const int below = __shfl_up_sync(~0u, v, o);
    if (lane >= o) v += below;
  }
  return v;
}

__global__ void scan_kernel(const int* x, int* sums, int* odd) {
  SHARED(int[32], warp_sums);
  SHARED(int, odd_count);
  const int t = threadIdx.x, threads = blockDim.x, lane = t % 32, warp = t / 32;
  const int value = x[t];
  int sum = warp_scan(value, lane);
  if (lane == 31 || t == threads - 1) warp_sums[warp] = sum;
  if (t == 0) odd_count = 0;
  __syncthreads();
  if (warp == 0) {
    const int mine = warp_scan(lane < (threads + 31) / 32 ? warp_sums[lane] : 0, lane);
    if (lane < (threads + 31) / 32) warp_sums[lane] = mine;
  }
  __syncthreads();
  sums[t] = sum + (warp > 0 ? warp_sums[warp - 1] : 0);
  const unsigned votes = __ballot_sync(~0u, value & 1);
  if (lane == 0) atomicAdd(&odd_count, __popc(votes));
  const bool none = !__any_sync(~0u, value & 1);
  const bool all = __all_sync(~0u, (value & 1) == 0);
  if (none != all) __trap();
  __syncthreads();
  if (t == 0) *odd = odd_count;
}

// ---- blocks that wait for each other ------------------------------------------------------------
__global__ void chained_scan_kernel(const int* x, int* sums, int* state) {
  SHARED(int, before);
  const int block = blockIdx.x, t = threadIdx.x, threads = blockDim.x;
  if (t == 0) {
    int total = 0;
    if (block > 0) {
      while (ld_acquire(&state[2 * block - 2]) == 0) spin_yield();
      total = state[2 * block - 1];
    }
    before = total;
    for (int i = 0; i < threads; ++i) total += x[block * threads + i];
    state[2 * block + 1] = total;
    st_release(&state[2 * block], 1);
  }
  __syncthreads();
  int sum = before;
  for (int i = 0; i <= t; ++i) sum += x[block * threads + i];
  sums[block * threads + t] = sum;
}

// ---- atomics ------------------------------------------------------------------------------------
__global__ void histogram_kernel(const int* x, int* counts, int* largest, int n, int bins) {
  int* local = dyn_smem<int>();
  for (int i = threadIdx.x; i < bins; i += blockDim.x) local[i] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    atomicAdd(&local[x[i] % bins], 1);
    int seen = ld_acquire(largest);
    while (seen < x[i]) {
      const int found = atomicCAS(largest, seen, x[i]);
      if (found == seen) break;
      seen = found;
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < bins; i += blockDim.x) atomicAdd(&counts[i], local[i]);
}

// ---- arithmetic ---------------------------------------------------------------------------------
__global__ void functions_kernel(const float4* x, float* y, int n) {
  const int i = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  if (i >= n) return;
  const float4 v = __ldg(&x[i / 4]);
  const float values[4] = {v.x, v.y, v.z, v.w};
  for (int j = 0; j < 4; ++j) {
    y[i + j] = exp_fast(values[j]);
    y[n + i + j] = log_fast(fabsf(values[j]));
    y[2 * n + i + j] = sigmoid_fast(values[j]);
    y[3 * n + i + j] = tanh_fast(values[j]);
  }
}

__global__ void uniforms_kernel(float* y, uint64_t seed, int64_t first_image, unsigned pixel,
                                int draws) {
  const int image = blockIdx.x, draw = threadIdx.x;
  y[image * draws + draw] = philox_uniform(seed, first_image + image, pixel, draw);
}

// ---- graphs -------------------------------------------------------------------------------------
__global__ void step_kernel(unsigned* x, const int* times, unsigned added) {
  if (*times > 0) *x = 3 * *x + added;
}
__global__ void count_down_kernel(int* times) { --*times; }

}  // namespace

void matmul(const float* a, const float* b, float* c, int m, int n, int k, cudaStream_t stream) {
  const dim3 grid((n + kTile - 1) / kTile, (m + kTile - 1) / kTile);
  launch(matmul_kernel, grid, 256, 0, stream, a, b, c, m, n, k);
}

void logsumexp(const float* x, float* y, int rows, int columns, cudaStream_t stream) {
  launch(logsumexp_kernel, rows, 128, 4 * sizeof(float), stream, x, y, columns);
}

void recurrence(const float* w, const float* x, float* h, unsigned* barrier, int steps, int dim,
                int blocks, cudaStream_t stream) {
  launch_coop(recurrence_kernel, blocks, 64, 0, stream, w, x, h, steps, dim,
              reinterpret_cast<GridBarrier*>(barrier));
}

void scan(const int* x, int* sums, int* odd, int n, cudaStream_t stream) {
  launch(scan_kernel, 1, n, 0, stream, x, sums, odd);
}

void chained_scan(const int* x, int* sums, int* state, int n, cudaStream_t stream) {
  launch_coop(chained_scan_kernel, n / 64, 64, 0, stream, x, sums, state);
}

void histogram(const int* x, int* counts, int* largest, int n, int bins, cudaStream_t stream) {
  launch(histogram_kernel, 7, 96, bins * sizeof(int), stream, x, counts, largest, n, bins);
}

void functions(const float* x, float* y, int n, cudaStream_t stream) {
  launch(functions_kernel, (n / 4 + 63) / 64, 64, 0, stream, reinterpret_cast<const float4*>(x), y, n);
}

void uniforms(float* y, uint64_t seed, int64_t first_image, int images, unsigned pixel, int draws,
              cudaStream_t stream) {
  launch(uniforms_kernel, images, draws, 0, stream, y, seed, first_image, pixel, draws);
}

void replays(unsigned* x, int* times, int launches, cudaStream_t stream) {
  Graph graph;
  const Launcher launcher = {stream, &graph};
  for (unsigned added = 1; added <= 3; ++added) launcher.launch(step_kernel, 1, 1, 0, x, times, added);
  launcher.launch(count_down_kernel, 1, 1, 0, times);
  for (int i = 0; i < launches; ++i) graph.launch(stream);
  try {
    graph.add(count_down_kernel, 1, 1, 0, times);
  } catch (const std::logic_error&) { return; }
  throw std::runtime_error("a graph that had been launched took another launch");
}

}  // namespace genfast::emulation_tests
