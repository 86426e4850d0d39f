// Tiles of rows x columns for the kernels of the mixture: where they come from, and what is done with a
// pair's score, whichever way it was computed.
#pragma once
#include "common/cuda.h"
#include "gaussian_mixture/mixture_products.h"

namespace genfast {
namespace {

constexpr int kThreads = 128;
constexpr int kColumns = 32;  // of a tile
// Finite, so that nothing becomes NaN: below every score, and what a pair that is left out has.
constexpr float kLowest = -1e37f, kLeftOut = -2e37f;
// 2^-50 of the sum is below rounding: such a tile needs no exponentials.
constexpr float kNegligible = 50.0f;

template <class A>
struct Points {
  const A* at;                   // (count, features)
  const A* constant;             // of components, else null
  const A *top, *scale, *least;  // of queries in `posteriors`, else null
  const int64_t* id;
  int64_t count;
};

template <class A>
struct Problem {
  Points<A> rows, columns;
  int64_t features, splits, per_split;  // columns of a split: whole tiles
  A *partial, *mass;
};

// What follows a point into a tile of columns.
template <class A>
struct Tails {
  A constant[kColumns], top[kColumns], scale[kColumns], least[kColumns];
  int64_t id[kColumns];
};

template <class A>
GENFAST_DEVICE A or_zero(const A* values, int64_t i) {
  return values ? values[i] : A(0);
}

template <class A>
GENFAST_DEVICE void read_tails(const Points<A>& columns, int64_t first, int64_t end, Tails<A>& tails) {
  const int c = static_cast<int>(threadIdx.x);
  if (c >= kColumns) return;
  const bool live = first + c < end;
  const int64_t n = live ? first + c : 0;
  tails.constant[c] = live ? or_zero(columns.constant, n) : A(0);
  tails.top[c] = live ? or_zero(columns.top, n) : A(0);
  tails.scale[c] = live ? or_zero(columns.scale, n) : A(0);
  tails.least[c] = live ? or_zero(columns.least, n) : A(0);
  tails.id[c] = live && columns.id ? columns.id[n] : 0;
}

// What follows a row.
template <class A>
struct RowTail {
  A constant, top, scale, least;
  int64_t id;
  bool live;
};
template <class A>
GENFAST_DEVICE RowTail<A> read_row_tail(const Points<A>& rows, int64_t r) {
  const bool live = r < rows.count;
  const int64_t i = live ? r : 0;
  RowTail<A> tail;
  tail.live = live;
  tail.constant = live ? or_zero(rows.constant, i) : A(0);
  tail.top = live ? or_zero(rows.top, i) : A(0);
  tail.scale = live ? or_zero(rows.scale, i) : A(0);
  tail.least = live ? or_zero(rows.least, i) : A(0);
  tail.id = live && rows.id ? rows.id[i] : 0;
  return tail;
}

template <class A>
GENFAST_DEVICE A score_of(A product, const RowTail<A>& row, const Tails<A>& tails, int column,
                          int64_t left, bool ids) {
  const bool counts = column < left && !(ids && row.id == tails.id[column]);
  return counts ? product + row.constant + tails.constant[column] : A(kLeftOut);
}

GENFAST_DEVICE float exp2_of(float x) { return cuda::exp2_fast(x); }
GENFAST_DEVICE double exp2_of(double x) { return exp2(x); }

// A row's largest score and the sum of 2^(score - largest).
template <class A>
struct Running {
  A top = A(kLowest), sum = A(0);
};
template <class A, int N>
GENFAST_DEVICE void add_scores(const A (&score)[N], Running<A>& running) {
  A top = A(kLowest), total = A(0);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    top = score[i] > top ? score[i] : top;
    total += score[i];  // NaN if any is, which a comparison would not show
  }
  if (top <= running.top - A(kNegligible) && total == total) return;
  const A now = top > running.top ? top : running.top;
  running.sum *= exp2_of(running.top - now);
#pragma unroll
  for (int i = 0; i < N; ++i) running.sum += exp2_of(score[i] - now);
  running.top = now;
}
template <class A>
GENFAST_DEVICE void merge(Running<A>& a, A top, A sum) {
  const A now = top > a.top ? top : a.top;
  a.sum = a.sum * exp2_of(a.top - now) + sum * exp2_of(top - now);
  a.top = now;
}

// p of a pair, and whether it counts; the query is the row or the column.
template <bool kByQuery, class A>
GENFAST_DEVICE A posterior_of(A score, const RowTail<A>& row, const Tails<A>& tails, int column,
                              bool& seen) {
  const A top = kByQuery ? row.top : tails.top[column];
  const A scale = kByQuery ? row.scale : tails.scale[column];
  const A least = kByQuery ? row.least : tails.least[column];
  seen = seen || !(score <= least);  // a NaN counts
  return score <= A(kLowest) ? A(0) : scale * exp2_of(score - top);
}

template <class A>
Problem<A> problem_of(const MixtureProducts& p) {
  const Points<A> queries = {static_cast<const A*>(p.x),
                             nullptr,
                             static_cast<const A*>(p.top),
                             static_cast<const A*>(p.scale),
                             static_cast<const A*>(p.least),
                             p.query_ids,
                             p.queries};
  const Points<A> components = {static_cast<const A*>(p.y),
                                static_cast<const A*>(p.c),
                                nullptr,
                                nullptr,
                                nullptr,
                                p.component_ids,
                                p.components};
  Problem<A> problem = {
      p.by_query ? queries : components, p.by_query ? components : queries, p.features, p.splits, 0,
      static_cast<A*>(p.partial),        static_cast<A*>(p.partial_mass)};
  const int64_t tiles = (problem.columns.count + kColumns - 1) / kColumns;
  problem.per_split = (tiles + p.splits - 1) / p.splits * kColumns;
  return problem;
}

}  // namespace
}  // namespace genfast
