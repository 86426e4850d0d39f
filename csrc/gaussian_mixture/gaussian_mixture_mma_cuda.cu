// The sums over pairs on tensor cores: 3xTF32, or TF32 of operands that are rounded already. A warp
// keeps 16 rows in registers and walks over tiles of columns in shared memory, of which the next is
// fetched while one is worked on.
#include "gaussian_mixture/mixture_mma_cuda.h"
#include "gaussian_mixture/mixture_tiles_cuda.h"

namespace genfast {
namespace {

constexpr int kRows = 16 * kThreads / 32, kGroups = kColumns / 8, kStages = 2;

// kSteps products of 8 features each cover a point; kSplit: 3xTF32.
template <int kSteps>
struct Layout {
  static constexpr int pitch = kSteps * 8 + 4;  // an odd multiple of 4: no two lanes meet in a bank
};

template <int kSteps>
struct Stage {
  float at[kColumns][Layout<kSteps>::pitch];
  Tails<float> tails;
};

template <int kSteps, bool kSplit>
struct RowFragment {
  uint32_t high[kSteps][4], low[kSplit ? kSteps : 1][4];
};

template <bool kSplit>
GENFAST_DEVICE void split(float x, uint32_t& high, uint32_t& low) {
  if constexpr (kSplit) {
    cuda::split_tf32(x, high, low);
  } else {
    high = cuda::round_tf32(x);
    low = 0;
  }
}

// d += a b; the small terms first.
template <bool kSplit>
GENFAST_DEVICE void multiply(float (&d)[4], const uint32_t (&high)[4], const uint32_t (&low)[4],
                             const uint32_t (&other_high)[2], const uint32_t (&other_low)[2]) {
  if constexpr (kSplit) {
    cuda::mma_tf32(d, low, other_high);
    cuda::mma_tf32(d, high, other_low);
  }
  cuda::mma_tf32(d, high, other_high);
}

template <int kSteps>
GENFAST_DEVICE void fetch(const Points<float>& columns, int features, int64_t first, int64_t end,
                          Stage<kSteps>& stage) {
  constexpr int kWidth = kSteps * 8;
  if (features % 4 == 0) {
    for (int i = static_cast<int>(threadIdx.x); i < kColumns * kWidth / 4; i += kThreads) {
      const int c = i / (kWidth / 4), k = i % (kWidth / 4) * 4;
      const bool live = first + c < end && k < features;
      cuda::cp_async<16>(&stage.at[c][k], live ? columns.at + (first + c) * features + k : columns.at,
                         live);
    }
  } else {
    for (int i = static_cast<int>(threadIdx.x); i < kColumns * kWidth; i += kThreads) {
      const int c = i / kWidth, k = i % kWidth;
      const bool live = first + c < end && k < features;
      cuda::cp_async<4>(&stage.at[c][k], live ? columns.at + (first + c) * features + k : columns.at,
                        live);
    }
  }
  read_tails(columns, first, end, stage.tails);
}

template <int kSteps, bool kSplit>
GENFAST_DEVICE void read_rows(const Points<float>& rows, int features, int64_t first,
                              RowFragment<kSteps, kSplit>& fragment) {
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t r = first + g + i % 2 * 8;
      const int k = step * 8 + t + i / 2 * 4;
      const float x = r < rows.count && k < features ? rows.at[r * features + k] : 0.0f;
      uint32_t low;
      split<kSplit>(x, fragment.high[step][i], low);
      if constexpr (kSplit) fragment.low[step][i] = low;
    }
  }
}

// The warp's scores in a tile: lane 4 g + t has those of rows g and g + 8, columns 8 j + 2 t + {0, 1}.
template <int kSteps, bool kSplit>
GENFAST_DEVICE void scores_of(const RowFragment<kSteps, kSplit>& a, const Stage<kSteps>& stage,
                              const RowTail<float> (&row)[2], int64_t left, bool ids,
                              float (&score)[kGroups][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int j = 0; j < kGroups; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) score[j][i] = 0.0f;
  }
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      const float* const column = &stage.at[j * 8 + g][step * 8 + t];
      uint32_t high[2], low[2];
      split<kSplit>(column[0], high[0], low[0]);
      split<kSplit>(column[4], high[1], low[1]);
      multiply<kSplit>(score[j], a.high[step], a.low[kSplit ? step : 0], high, low);
    }
  }
#pragma unroll
  for (int j = 0; j < kGroups; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      score[j][i] = score_of(score[j][i], row[i / 2], stage.tails, j * 8 + 2 * t + i % 2, left, ids);
    }
  }
}

// Calls body(stage, first column) on each tile of the block's columns, which every thread may read.
template <int kSteps, class Body>
GENFAST_DEVICE void walk(const Problem<float>& p, const Body& body) {
  Stage<kSteps>* const stages = cuda::dyn_smem<Stage<kSteps>>();
  const int features = static_cast<int>(p.features);
  const int64_t begin = blockIdx.y * p.per_split;
  const int64_t end = min(p.columns.count, begin + p.per_split);
  if (begin < end) fetch(p.columns, features, begin, end, stages[0]);
  cuda::cp_async_commit();
  int at = 0;
  for (int64_t first = begin; first < end; first += kColumns, at ^= 1) {
    if (first + kColumns < end) { fetch(p.columns, features, first + kColumns, end, stages[at ^ 1]); }
    cuda::cp_async_commit();
    cuda::cp_async_wait<1>();
    __syncthreads();  // the tile has landed for every thread
    body(stages[at], first, end - first);
    __syncthreads();  // and may be overwritten
  }
  cuda::cp_async_wait<0>();
}

template <int kSteps, bool kSplit>
__global__ void __launch_bounds__(kThreads, kSteps > 5 ? 3 : 4) mma_densities(Problem<float> p) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRows + threadIdx.x / 32 * 16;
  RowFragment<kSteps, kSplit> a;
  read_rows(p.rows, static_cast<int>(p.features), first_row, a);
  RowTail<float> row[2];
  for (int i = 0; i < 2; ++i) row[i] = read_row_tail(p.rows, first_row + lane / 4 + 8 * i);
  Running<float> running[2];
  walk<kSteps>(p, [&](const Stage<kSteps>& stage, int64_t, int64_t left) {
    float score[kGroups][4];
    scores_of(a, stage, row, left, p.rows.id != nullptr, score);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float own[2 * kGroups];
#pragma unroll
      for (int j = 0; j < 2 * kGroups; ++j) own[j] = score[j / 2][2 * i + j % 2];
      add_scores(own, running[i]);
    }
  });
  for (int i = 0; i < 2; ++i) {
    for (int step = 1; step < 4; step *= 2) {
      const float top = __shfl_xor_sync(~0u, running[i].top, step);
      const float sum = __shfl_xor_sync(~0u, running[i].sum, step);
      merge(running[i], top, sum);
    }
    if (lane % 4 || !row[i].live) continue;
    const int64_t at = blockIdx.y * p.rows.count + first_row + lane / 4 + 8 * i;
    p.partial[at] = running[i].top;
    p.mass[at] = running[i].sum;
  }
}

// The layout of a tile of scores is that of the next product's first operand, once its 8 columns are
// taken in the order 0, 2, 4, 6, 1, 3, 5, 7.
template <int kSteps, bool kSplit, bool kByQuery>
__global__ void __launch_bounds__(kThreads, kSteps > 5 ? 2 : 3) mma_posteriors(Problem<float> p) {
  const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const int features = static_cast<int>(p.features);
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRows + threadIdx.x / 32 * 16;
  RowFragment<kSteps, kSplit> a;
  read_rows(p.rows, features, first_row, a);
  RowTail<float> row[2];
  for (int i = 0; i < 2; ++i) row[i] = read_row_tail(p.rows, first_row + g + 8 * i);
  float sum[kSteps][4] = {}, mass[2] = {};
  walk<kSteps>(p, [&](const Stage<kSteps>& stage, int64_t, int64_t left) {
    float score[kGroups][4];
    scores_of(a, stage, row, left, p.rows.id != nullptr, score);
    bool seen = false;
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = j * 8 + 2 * t + i % 2;
        score[j][i] = posterior_of<kByQuery>(score[j][i], row[i / 2], stage.tails, column, seen);
      }
    }
    if (!__any_sync(~0u, seen)) return;  // all are too small to be seen in a sum
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      uint32_t high[4], low[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        mass[i / 2] += score[j][i];
        const int slot = i % 2 * 2 + i / 2;
        split<kSplit>(score[j][i], high[slot], low[slot]);
      }
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        uint32_t other_high[2], other_low[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          split<kSplit>(stage.at[j * 8 + 2 * t + i][step * 8 + g], other_high[i], other_low[i]);
        }
        multiply<kSplit>(sum[step], high, low, other_high, other_low);
      }
    }
  });
  for (int i = 0; i < 2; ++i) {
    for (int step = 1; step < 4; step *= 2) mass[i] += __shfl_xor_sync(~0u, mass[i], step);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (!row[i / 2].live) continue;
    const int64_t at = blockIdx.y * p.rows.count + first_row + g + 8 * (i / 2);
    if (t == 0 && i % 2 == 0) p.mass[at] = mass[i / 2];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int k = step * 8 + 2 * t + i % 2;
      if (k < features) p.partial[at * features + k] = sum[step][i];
    }
  }
}

template <int kSteps>
void launch_mma(void (*kernel)(Problem<float>), const MixtureProducts& p, cudaStream_t stream) {
  const Problem<float> problem = problem_of<float>(p);
  const dim3 grid(static_cast<unsigned>((problem.rows.count + kRows - 1) / kRows),
                  static_cast<unsigned>(p.splits));
  cuda::launch(kernel, grid, kThreads, kStages * sizeof(Stage<kSteps>), stream, problem);
}

template <int kSteps>
void densities(const MixtureProducts& p, cudaStream_t stream) {
  const bool split = p.arithmetic == MixtureArithmetic::fp32;
  launch_mma<kSteps>(split ? mma_densities<kSteps, true> : mma_densities<kSteps, false>, p, stream);
}

template <int kSteps>
void posteriors(const MixtureProducts& p, cudaStream_t stream) {
  if (p.arithmetic == MixtureArithmetic::fp32) {
    launch_mma<kSteps>(
        p.by_query ? mma_posteriors<kSteps, true, true> : mma_posteriors<kSteps, true, false>, p,
        stream);
  } else {
    launch_mma<kSteps>(
        p.by_query ? mma_posteriors<kSteps, false, true> : mma_posteriors<kSteps, false, false>, p,
        stream);
  }
}

}  // namespace

void gaussian_mixture_mma_densities(const MixtureProducts& p, cudaStream_t stream) {
  p.features <= 16   ? densities<2>(p, stream)
  : p.features <= 40 ? densities<5>(p, stream)
                     : densities<8>(p, stream);
}

void gaussian_mixture_mma_posteriors(const MixtureProducts& p, cudaStream_t stream) {
  p.features <= 16   ? posteriors<2>(p, stream)
  : p.features <= 40 ? posteriors<5>(p, stream)
                     : posteriors<8>(p, stream);
}

}  // namespace genfast
