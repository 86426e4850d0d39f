// The scores of a tile of queries x components on the CPU.
#pragma once
#include "gaussian_mixture/mixture_components_cpu.h"

namespace genfast::GENFAST_ISA {
namespace {

template <class A>
struct Tile {
  VectorFor<A> score[kTileRows][kTileVectors];
};

template <class A>
static __attribute__((noinline)) void shared_scores(const Components<A>& c, const A* panel,
                                                    Tile<A>& tile) {
  VectorFor<A> sum[kTileRows][kTileVectors];
  GENFAST_EACH_ROW(kTileRows) {
    GENFAST_EACH_VECTOR(kTileVectors) sum[i][j] = load(c.bias + j * kLanesOf<A>);
  }
  multiply_add(c.o.shape.dim, panel, 1, kTileRows, c.planes, kBlock<A>, sum);
  GENFAST_EACH_ROW(kTileRows) { GENFAST_EACH_VECTOR(kTileVectors) tile.score[i][j] = sum[i][j]; }
}

// Half the vectors at a time: the differences need registers too.
template <class A>
static __attribute__((noinline)) void own_scores(const Components<A>& c, const A* panel, Tile<A>& tile) {
  constexpr int kHalf = kTileVectors / 2;
  const int64_t dim = c.o.shape.dim, to_shifts = c.o.shape.padded * kBlock<A>;
  for (int half = 0; half < 2; ++half) {
    const A* scale = c.planes + half * kHalf * kLanesOf<A>;
    VectorFor<A> sum[kTileRows][kHalf];
    GENFAST_EACH_ROW(kTileRows) {
      GENFAST_EACH_VECTOR(kHalf) sum[i][j] = load(c.bias + (half * kHalf + j) * kLanesOf<A>);
    }
    for (int64_t d = 0; d < dim; ++d, scale += kBlock<A>) {
      GENFAST_EACH_VECTOR(kHalf) {
        const auto s = load(scale + j * kLanesOf<A>), shift = load(scale + to_shifts + j * kLanesOf<A>);
        GENFAST_EACH_ROW(kTileRows) {
          const auto difference = panel[d * kTileRows + i] * s - shift;
          sum[i][j] -= difference * difference;
        }
      }
    }
    GENFAST_EACH_ROW(kTileRows) {
      GENFAST_EACH_VECTOR(kHalf) tile.score[i][half * kHalf + j] = sum[i][j];
    }
  }
}

// Whether a query of the panel may have the id of a component: so says a comparison of lower halves.
template <class A>
GENFAST_INLINE bool may_leave_out(const Components<A>& c, int64_t panel) {
  if (!c.o.p.query_ids.data) return false;
  IVec same{};
  for (int i = 0; i < kTileRows; ++i) {
    const int32_t id = c.o.low[panel * kTileRows + i];
    for (int j = 0; j < kBlock<A>; j += kLanes) {
      IVec ids;
      __builtin_memcpy(&ids, c.low + j, sizeof ids);
      same |= ids == id;
    }
  }
  return any(same);
}

// Takes away the components that have the id of a query, and counts them in left_out (kTileRows).
template <class A>
static __attribute__((noinline)) void leave_out(const Components<A>& c, int64_t panel, Tile<A>& tile,
                                                int64_t* left_out) {
  for (int i = 0; i < kTileRows; ++i) {
    const int64_t b = panel * kTileRows + i;
    if (b >= c.o.p.queries) return;
    const int64_t id = id_of(c.o.p.query_ids, b);
    for (int64_t j = 0; j < c.count; ++j) {
      if (id_of(c.o.p.component_ids, c.first + j) != id) continue;
      tile.score[i][j / kLanesOf<A>][j % kLanesOf<A>] = kLeftOut;
      if (left_out) ++left_out[i];
    }
  }
}

template <class A>
GENFAST_INLINE void scores(const Components<A>& c, int64_t panel, Tile<A>& tile, int64_t* left_out) {
  const A* const queries = c.o.panels + panel * c.o.shape.dim * kTileRows;
  c.o.p.own_variances ? own_scores(c, queries, tile) : shared_scores(c, queries, tile);
  if (may_leave_out(c, panel)) leave_out(c, panel, tile, left_out);
}

// ---- passes: Forward or Backward -----------------------------------------------------------------

// Of the workspace.
template <template <class> class Pass, class A>
static int64_t bytes_in(const GaussianMixture& p) {
  Arena arena{0};
  Pass<A> pass(p, arena);
  return static_cast<int64_t>(arena.at);
}
template <template <class> class Pass>
static int64_t bytes_of(const GaussianMixture& p) {
  return p.dtype == DType::float64 ? bytes_in<Pass, double>(p) : bytes_in<Pass, float>(p);
}
template <template <class> class Pass>
static void run(const GaussianMixture& p) {
  Arena arena{reinterpret_cast<uintptr_t>(p.workspace)};
  p.dtype == DType::float64 ? Pass<double>(p, arena).run() : Pass<float>(p, arena).run();
}

}  // namespace
}  // namespace genfast::GENFAST_ISA
