// The sums over pairs by ordinary arithmetic: fp64, and fp32 of more features than the tensor cores'
// kernels keep in registers. Four threads share a row, each with every fourth column of a tile.
#include "gaussian_mixture/mixture_mma_cuda.h"
#include "gaussian_mixture/mixture_tiles_cuda.h"

namespace genfast {
namespace {

constexpr int kRows = kThreads / 4, kEach = kColumns / 4;  // of a block; scores of a thread
constexpr int kDepth = 16;                                 // features in shared memory at once
constexpr int kFeatures = 32;                              // of the result, in a block

template <class A>
struct Tile {
  A rows[kRows][kDepth + 1], columns[kColumns][kDepth + 1];
  Tails<A> tails;
};

// Features `from` on of the points `first` on.
template <int kWidth, int kPitch, class A>
GENFAST_DEVICE void read_points(const Points<A>& points, int64_t features, int64_t first, int64_t end,
                                int64_t from, A (*to)[kPitch]) {
  for (int i = static_cast<int>(threadIdx.x); i < kColumns * kWidth; i += kThreads) {
    const int64_t n = first + i / kWidth, k = from + i % kWidth;
    to[i / kWidth][i % kWidth] = n < end && k < features ? points.at[n * features + k] : A(0);
  }
}

// The thread's scores in the tile of columns `first` on; ends with the tails readable.
template <class A>
GENFAST_DEVICE void scores_of(const Problem<A>& p, const RowTail<A>& row, int64_t first_row,
                              int64_t first, int64_t end, Tile<A>& tile, A (&score)[kEach]) {
  const int r = static_cast<int>(threadIdx.x) / 4, q = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int i = 0; i < kEach; ++i) score[i] = A(0);
  for (int64_t from = 0; from < p.features; from += kDepth) {
    __syncthreads();  // no one reads the last ones any more
    read_points<kDepth>(p.rows, p.features, first_row, p.rows.count, from, tile.rows);
    read_points<kDepth>(p.columns, p.features, first, end, from, tile.columns);
    if (from == 0) read_tails(p.columns, first, end, tile.tails);
    __syncthreads();
#pragma unroll 2
    for (int k = 0; k < kDepth; ++k) {
      const A x = tile.rows[r][k];
#pragma unroll
      for (int i = 0; i < kEach; ++i) score[i] += x * tile.columns[q + 4 * i][k];
    }
  }
  const bool ids = p.rows.id != nullptr;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    score[i] = score_of(score[i], row, tile.tails, q + 4 * i, end - first, ids);
  }
}

template <class A>
__global__ void __launch_bounds__(kThreads, 3) simt_densities(Problem<A> p) {
  SHARED(Tile<A>, tile);
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t r = first_row + threadIdx.x / 4;
  const int64_t begin = blockIdx.y * p.per_split;
  const int64_t end = min(p.columns.count, begin + p.per_split);
  const RowTail<A> row = read_row_tail(p.rows, r);
  Running<A> running;
  for (int64_t first = begin; first < end; first += kColumns) {
    A score[kEach];
    scores_of(p, row, first_row, first, end, tile, score);
    add_scores(score, running);
  }
  for (int step = 1; step < 4; step *= 2) {
    const A top = __shfl_xor_sync(~0u, running.top, step);
    const A sum = __shfl_xor_sync(~0u, running.sum, step);
    merge(running, top, sum);
  }
  if (threadIdx.x % 4 || !row.live) return;
  p.partial[blockIdx.y * p.rows.count + r] = running.top;
  p.mass[blockIdx.y * p.rows.count + r] = running.sum;
}

template <bool kByQuery, class A>
__global__ void __launch_bounds__(kThreads, 3) simt_posteriors(Problem<A> p) {
  using Posteriors = A[kRows][kColumns + 1];
  using Values = A[kColumns][kFeatures + 1];
  SHARED(Tile<A>, tile);
  SHARED(Posteriors, posterior);
  SHARED(Values, value);
  const int local = static_cast<int>(threadIdx.x) / 4, q = static_cast<int>(threadIdx.x) % 4;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRows, r = first_row + local;
  const int64_t begin = blockIdx.y * p.per_split, feature = static_cast<int64_t>(blockIdx.z) * kFeatures;
  const int64_t end = min(p.columns.count, begin + p.per_split);
  const RowTail<A> row = read_row_tail(p.rows, r);
  A sum[kFeatures / 4], mass = A(0);
#pragma unroll
  for (int j = 0; j < kFeatures / 4; ++j) sum[j] = A(0);
  for (int64_t first = begin; first < end; first += kColumns) {
    A score[kEach];
    scores_of(p, row, first_row, first, end, tile, score);
    bool seen = false;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const A w = posterior_of<kByQuery>(score[i], row, tile.tails, q + 4 * i, seen);
      mass += w;
      posterior[local][q + 4 * i] = w;
    }
    read_points<kFeatures>(p.columns, p.features, first, end, feature, value);
    __syncthreads();
#pragma unroll 2
    for (int c = 0; c < kColumns; ++c) {
      const A w = posterior[local][c];
#pragma unroll
      for (int j = 0; j < kFeatures / 4; ++j) sum[j] += w * value[c][q + 4 * j];
    }
    __syncthreads();
  }
  for (int step = 1; step < 4; step *= 2) mass += __shfl_xor_sync(~0u, mass, step);
  if (!row.live) return;
  const int64_t at = blockIdx.y * p.rows.count + r;
  if (q == 0 && blockIdx.z == 0) p.mass[at] = mass;
#pragma unroll
  for (int j = 0; j < kFeatures / 4; ++j) {
    const int64_t k = feature + q + 4 * j;
    if (k < p.features) p.partial[at * p.features + k] = sum[j];
  }
}

unsigned blocks_of(int64_t n, int64_t each) { return static_cast<unsigned>((n + each - 1) / each); }

template <class A>
void densities(const MixtureProducts& p, cudaStream_t stream) {
  const Problem<A> problem = problem_of<A>(p);
  const dim3 grid(blocks_of(problem.rows.count, kRows), static_cast<unsigned>(p.splits));
  cuda::launch(simt_densities<A>, grid, kThreads, 0, stream, problem);
}

template <class A>
void posteriors(const MixtureProducts& p, cudaStream_t stream) {
  const Problem<A> problem = problem_of<A>(p);
  const dim3 grid(blocks_of(problem.rows.count, kRows), static_cast<unsigned>(p.splits),
                  blocks_of(p.features, kFeatures));
  p.by_query ? cuda::launch(simt_posteriors<true, A>, grid, kThreads, 0, stream, problem)
             : cuda::launch(simt_posteriors<false, A>, grid, kThreads, 0, stream, problem);
}

bool has_rows(const MixtureProducts& p) { return (p.by_query ? p.queries : p.components) > 0; }
bool on_tensor_cores(const MixtureProducts& p) {
  return p.arithmetic != MixtureArithmetic::fp64 && p.features <= kMostMmaFeatures;
}

}  // namespace

void gaussian_mixture_densities_cuda(const MixtureProducts& p, cudaStream_t stream) {
  if (!has_rows(p)) return;
  if (on_tensor_cores(p)) return gaussian_mixture_mma_densities(p, stream);
  p.arithmetic == MixtureArithmetic::fp64 ? densities<double>(p, stream) : densities<float>(p, stream);
}

void gaussian_mixture_posteriors_cuda(const MixtureProducts& p, cudaStream_t stream) {
  if (!has_rows(p)) return;
  if (on_tensor_cores(p)) return gaussian_mixture_mma_posteriors(p, stream);
  p.arithmetic == MixtureArithmetic::fp64 ? posteriors<double>(p, stream) : posteriors<float>(p, stream);
}

}  // namespace genfast
