// What forward and backward share on the CPU: how the work is split, and the operands in the order in
// which they are read.
#pragma once
#include "common/parallel.h"
#include "common/transpose.h"
#include "common/vectors.h"
#include "gaussian_mixture/gaussian_mixture.h"

namespace genfast::GENFAST_ISA {
namespace {

extern "C" double log(double);
extern "C" double log2(double);

constexpr double kLog2e = 1.4426950408889634, kLn2 = 0.6931471805599453;
constexpr double kLogTwoPi = 1.8378770664093453;

// Finite, so that nothing becomes NaN: below every score, and what a component that is left out has.
constexpr float kLowest = -1e37f, kLeftOut = -2e37f;

constexpr int kTileVectors = 4;
template <class A>
constexpr int kBlock = kTileVectors * kLanesOf<A>;  // components in a block

// Calls body(d) for vectors that cover 0..n, of which the last may overlap the one before. n is at least
// the length of one.
template <class A, class Body>
GENFAST_INLINE void over_row(int64_t n, const Body& body) {
  int64_t d = 0;
  for (; d + kLanesOf<A> <= n; d += kLanesOf<A>) body(d);
  if (d < n) body(n - kLanesOf<A>);
}

template <class A>
GENFAST_INLINE void clear(A* values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) values[i] = 0;
}

template <class V>
GENFAST_INLINE V larger(V a, V b) {
  return a < b ? b : a;
}
template <class Mask>
GENFAST_INLINE bool any(Mask mask) {
  uint64_t words[sizeof(Mask) / 8], all = 0;
  __builtin_memcpy(words, &mask, sizeof mask);
#pragma GCC unroll 8
  for (unsigned i = 0; i < sizeof(Mask) / 8; ++i) all |= words[i];
  return all != 0;
}

GENFAST_INLINE int64_t rounded_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
GENFAST_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// ---- how the work is split -----------------------------------------------------------------------
// A split takes all queries and some components or, where there are more queries, the reverse. How many
// there are depends on the shapes alone, so that the bits of the result depend on no number of threads.

struct Range {
  int64_t begin, end;
};
GENFAST_INLINE Range part(int64_t n, int64_t which, int64_t parts) {
  return {n * which / parts, n * (which + 1) / parts};
}

constexpr int64_t kMostSplits = 32, kLeastWork = 1 << 17;  // pairs times dimensions
constexpr int64_t kPartialSums = 1 << 22;                  // elements that all splits may take together

template <class A>
struct Shape {
  int64_t dim, padded, width;  // of a row in vectors; of the rows that posteriors are multiplied with
  int64_t panels, blocks;      // of kTileRows queries, of kBlock components
  int64_t query_splits = 1, component_splits = 1;

  GENFAST_INLINE_MEMBER explicit Shape(const GaussianMixture& p) {
    dim = p.dim;
    padded = rounded_up(dim, kLanesOf<A>);
    width = p.own_variances ? 2 * padded : padded;
    panels = rounded_up(p.queries, kTileRows) / kTileRows;
    blocks = rounded_up(p.components, kBlock<A>) / kBlock<A>;
    const bool by_query = p.queries > p.components;
    const int64_t units = by_query ? panels / 8 : blocks / 2;
    const int64_t others = by_query ? p.components : p.queries;
    const int64_t work = p.queries * p.components * (dim + 8) / kLeastWork;
    int64_t splits = smaller(smaller(kMostSplits, units), work);
    const int64_t row = by_query ? width + 2 * padded : width;  // of ComponentSums, of sums of queries
    const int64_t room = kPartialSums / (others * row + 1);
    splits = smaller(splits, room < 8 ? 8 : room);
    (by_query ? query_splits : component_splits) = splits < 1 ? 1 : splits;
  }
  GENFAST_INLINE_MEMBER int64_t splits() const { return query_splits * component_splits; }
  GENFAST_INLINE_MEMBER int64_t padded_queries() const { return panels * kTileRows; }
};

// Hands out parts of the workspace; from address 0 on it only counts.
struct Arena {
  uintptr_t at;
  template <class T>
  GENFAST_INLINE_MEMBER T* take(int64_t n) {
    T* const taken = reinterpret_cast<T*>(at);
    at += rounded_up(n * static_cast<int64_t>(sizeof(T)), 64);
    return taken;
  }
};

// ---- operands ------------------------------------------------------------------------------------

template <class A>
static const A* read_row(DType dtype, const MixtureMatrix& m, int64_t row, int64_t n, A* buffer) {
  GENFAST_DISPATCH_DTYPE(dtype, {
    if constexpr (sizeof(Arithmetic<T>) == sizeof(A)) {
      return read_block(static_cast<const T*>(m.data) + row * m.row, m.column, n, buffer);
    }
  })
  return buffer;
}
GENFAST_INLINE int64_t id_of(const MixtureMatrix& ids, int64_t i) {
  return static_cast<const int64_t*>(ids.data)[i * ids.row];
}

// What all threads read.
template <class A>
struct Operands {
  const GaussianMixture& p;
  Shape<A> shape;
  A *center, *precision;  // (padded); the latter of a shared variance
  A* panels;              // (panels, dim, kTileRows): centred z, times v log2(e) for a shared variance
  A* rows;       // (queries, pitch): centred z; in backward and for own variances then its square
  double* own;   // (queries): with a shared variance, the term of z_b alone
  int32_t* low;  // (queries): lower halves of the ids
  int64_t pitch;

  GENFAST_INLINE_MEMBER Operands(const GaussianMixture& p, Arena& arena, bool backward)
      : p(p), shape(p), pitch(backward ? shape.width : shape.padded) {
    const int64_t queries = shape.padded_queries();
    center = arena.take<A>(shape.padded);
    precision = arena.take<A>(shape.padded);
    panels = arena.take<A>(queries * shape.dim);
    rows = arena.take<A>(queries * pitch);
    own = arena.take<double>(queries);
    low = arena.take<int32_t>(queries);
  }

  void prepare() {
    find_center();
    for (int64_t d = 0; d < shape.padded; ++d) precision[d] = 0;
    if (!p.own_variances) {
      const A* const log_var = read_row(p.dtype, p.log_var, 0, shape.dim, precision);
      for (int64_t d = 0; d < shape.dim; ++d) {
        precision[d] = static_cast<A>(exp(-static_cast<double>(log_var[d])));
      }
    }
    parallel_for(p.threads, shape.panels, 1 + (1 << 14) / (shape.dim * kTileRows + 1),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t panel = begin; panel < end; ++panel) pack(panel);
                 });
  }

 private:
  // The mean of some components: any point near them will do. `precision` serves as a buffer.
  void find_center() {
    for (int64_t d = 0; d < shape.padded; ++d) center[d] = 0;
    const int64_t step = 1 + p.components / 1024, count = (p.components + step - 1) / step;
    for (int64_t n = 0; n < p.components; n += step) {
      const A* const mean = read_row(p.dtype, p.means, n, shape.dim, precision);
      for (int64_t d = 0; d < shape.dim; ++d) center[d] += mean[d] / static_cast<A>(count);
    }
  }

  void pack(int64_t panel) {
    for (int64_t i = 0; i < kTileRows; ++i) {
      const int64_t b = panel * kTileRows + i;
      A *const row = rows + b * pitch, *const to = panels + panel * shape.dim * kTileRows + i;
      const A* const z = b < p.queries ? read_row(p.dtype, p.z, b, shape.dim, row) : center;
      for (int64_t d = 0; d < shape.dim; ++d) row[d] = z[d] - center[d];
      for (int64_t d = shape.dim; d < shape.padded; ++d) row[d] = 0;
      for (int64_t d = shape.padded; d < pitch; ++d)
        row[d] = row[d - shape.padded] * row[d - shape.padded];
      double sum = 0;
      for (int64_t d = 0; d < shape.dim; ++d) {
        sum += static_cast<double>(row[d]) * row[d] * precision[d];
        to[d * kTileRows] = p.own_variances ? row[d] : row[d] * precision[d] * static_cast<A>(kLog2e);
      }
      own[b] = -0.5 * sum;
      low[b] = b < p.queries && p.query_ids.data ? static_cast<int32_t>(id_of(p.query_ids, b)) : 0;
    }
  }
};

}  // namespace
}  // namespace genfast::GENFAST_ISA
