// Posterior probabilities of a tile on the CPU, and their products with rows of queries or components.
#pragma once
#include "gaussian_mixture/mixture_scores_cpu.h"

namespace genfast::GENFAST_ISA {
namespace {

// log2 of the posterior probability below which a pair is left out: in fp32 2^-40, and so little that
// all pairs left out of a query together have less than 2^-26, which is a quarter of a rounding.
template <class A>
GENFAST_INLINE A negligible(int64_t components) {
  if constexpr (sizeof(A) == sizeof(double)) return -1000;
  return static_cast<A>(-larger(40.0, 26 + log2(static_cast<double>(components))));
}

// to (rows, width) += a (rows, n) b (n, width) for kRows rows at a time; a's strides are `row` and
// `step`.
template <int kRows, int kVectors, class A>
static __attribute__((noinline)) void multiply_columns(int64_t n, const A* a, int64_t row, int64_t step,
                                                       const A* b, int64_t width, A* to) {
  VectorFor<A> sum[kRows][kVectors];
  GENFAST_EACH_ROW(kRows) {
    GENFAST_EACH_VECTOR(kVectors) sum[i][j] = load(to + i * width + j * kLanesOf<A>);
  }
  multiply_add(n, a, row, step, b, width, sum);
  GENFAST_EACH_ROW(kRows) {
    GENFAST_EACH_VECTOR(kVectors) store(to + i * width + j * kLanesOf<A>, sum[i][j]);
  }
}
template <int kRows, class A>
GENFAST_INLINE void multiply_rows(int64_t n, const A* a, int64_t row, int64_t step, const A* b,
                                  int64_t width, A* to) {
  constexpr int64_t kVector = kLanesOf<A>;
  int64_t left = width / kVector;
  while (left > 0) {
    const int64_t now = left == 5 ? 3 : smaller(left, 4);  // 3 + 2 rather than 4 + 1
    switch (now) {
      case 1: multiply_columns<kRows, 1>(n, a, row, step, b, width, to); break;
      case 2: multiply_columns<kRows, 2>(n, a, row, step, b, width, to); break;
      case 3: multiply_columns<kRows, 3>(n, a, row, step, b, width, to); break;
      default: multiply_columns<kRows, 4>(n, a, row, step, b, width, to);
    }
    left -= now, b += now * kVector, to += now * kVector;
  }
}

#ifdef __AVX512F__
constexpr int kComponentRows = 4;  // divides kBlock
#else
constexpr int kComponentRows = 2;
#endif

// What is known of each query: a level near its largest score, the gradient over the sum of
// 2^(score - level), and the score of a negligible posterior.
template <class A>
struct Evidence {
  A *level, *scale, *threshold;
};

// Of each query of the tile, a bit for each component whose posterior counts; returns how many do.
template <class A>
static __attribute__((noinline)) int pairs_that_count(const Tile<A>& tile, const A* threshold,
                                                      uint64_t* counts) {
  int pairs = 0;
  GENFAST_EACH_ROW(kTileRows) {
    uint64_t lanes = 0;
    GENFAST_EACH_VECTOR(kTileVectors) {
      lanes |= uint64_t{lanes_above(tile.score[i][j], broadcast(threshold[i]))} << (j * kLanesOf<A>);
    }
    counts[i] = lanes;
    pairs += __builtin_popcountll(lanes);
  }
  return pairs;
}

// Posteriors times the gradient, to (kTileRows, kPitch), and their sums: by component, and by query in
// each lane.
template <class A>
constexpr int64_t kPitch = kBlock<A> + kLanesOf<A>;  // no power of two: lines would collide
template <class A>
static __attribute__((noinline)) void posteriors(const Tile<A>& tile, const Evidence<A>& of,
                                                 int64_t query, A* to, A* mass, A* query_masses) {
  using V = VectorFor<A>;
  V total[kTileVectors];
  GENFAST_EACH_VECTOR(kTileVectors) total[j] = load(mass + j * kLanesOf<A>);
  GENFAST_EACH_ROW(kTileRows) {
    const V level = broadcast(of.level[query + i]), scale = broadcast(of.scale[query + i]);
    V of_query = load(query_masses + (query + i) * kLanesOf<A>);
    GENFAST_EACH_VECTOR(kTileVectors) {
      const V p = exp2_of(tile.score[i][j] - level) * scale;
      total[j] += p;
      of_query += p;
      store(to + i * kPitch<A> + j * kLanesOf<A>, p);
    }
    store(query_masses + (query + i) * kLanesOf<A>, of_query);
  }
  GENFAST_EACH_VECTOR(kTileVectors) store(mass + j * kLanesOf<A>, total[j]);
}

}  // namespace
}  // namespace genfast::GENFAST_ISA
