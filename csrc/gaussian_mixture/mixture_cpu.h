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
    const int64_t room = kPartialSums / (others * width + 1);
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
template <class A>
static void write_row(DType dtype, const A* row, void* target, int64_t at,
                      int64_t n){GENFAST_DISPATCH_DTYPE(dtype, {
  if constexpr (sizeof(Arithmetic<T>) == sizeof(A)) {
    write_block(row, static_cast<T*>(target) + at, 1, n);
  }
})} GENFAST_INLINE int64_t id_of(const MixtureMatrix& ids, int64_t i) {
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

// A block of components, packed by the thread that is at it.
template <class A>
struct Components {
  using V = VectorFor<A>;
  const Operands<A>& o;
  int64_t first, count;
  A* planes;   // (dim, kBlock): centred means or, for own variances, sqrt(v log2(e) / 2) (dim, kBlock)
               // and the centred means times it (dim, kBlock)
  A* bias;     // (kBlock): what of the score depends on the component alone
  A* centred;  // (kBlock, padded)
  A* scales;   // (kBlock, padded), own variances: sqrt(v log2(e) / 2)
  A* shifts;   // (kBlock, padded), own variances: centred * scale
  A* buffer;   // (padded)
  int32_t* low;

  GENFAST_INLINE_MEMBER Components(const Operands<A>& o, Arena& arena) : o(o) {
    const int64_t padded = o.shape.padded, rows = o.p.own_variances ? kBlock<A> : 0;
    planes = arena.take<A>((o.p.own_variances ? 2 : 1) * padded * kBlock<A>);
    bias = arena.take<A>(kBlock<A>);
    centred = arena.take<A>(kBlock<A> * padded);
    scales = arena.take<A>(rows * padded);
    shifts = arena.take<A>(rows * padded);
    buffer = arena.take<A>(padded);
    low = arena.take<int32_t>(kBlock<A>);
  }

  void pack(int64_t block) {
    const GaussianMixture& p = o.p;
    first = block * kBlock<A>;
    count = smaller(kBlock<A>, p.components - first);
    const int64_t dim = o.shape.dim, padded = o.shape.padded;
    for (int64_t j = 0; j < kBlock<A>; ++j) {
      A* const to = centred + j * padded;
      const A* const from = j < count ? read_row(p.dtype, p.means, first + j, dim, buffer) : o.center;
      for (int64_t d = 0; d < dim; ++d) to[d] = from[d] - o.center[d];
      for (int64_t d = dim; d < padded; ++d) to[d] = 0;
      A weight = 0;
      if (p.log_weights.data && j < count) {
        weight = *read_row(p.dtype, p.log_weights, first + j, 1, &weight);
      }
      bias[j] = j < count ? weight * static_cast<A>(kLog2e) : static_cast<A>(kLeftOut);
      low[j] = p.component_ids.data && j < count
                   ? static_cast<int32_t>(id_of(p.component_ids, first + j))
                   : 0;
    }
    p.own_variances ? own_variances() : shared_variance();
    for (int j = 0; j < kBlock<A>; ++j) bias[j] = bias[j] < kLeftOut ? kLeftOut : bias[j];  // weight 0
  }

 private:
  void shared_variance() {
    read_planes(centred, o.shape.padded, kBlock<A>, o.shape.padded, planes, kBlock<A>);
    V square[kTileVectors] = {};
    for (int64_t d = 0; d < o.shape.dim; ++d) {
      GENFAST_EACH_VECTOR(kTileVectors) {
        const V x = load(planes + d * kBlock<A> + j * kLanesOf<A>);
        square[j] += x * x * o.precision[d];
      }
    }
    GENFAST_EACH_VECTOR(kTileVectors) {
      A* const at = bias + j * kLanesOf<A>;
      store(at, load(at) - square[j] * static_cast<A>(0.5 * kLog2e));
    }
  }

  void own_variances() {
    const GaussianMixture& p = o.p;
    const int64_t dim = o.shape.dim, padded = o.shape.padded;
    const A root = static_cast<A>(0.8493218002880191);  // of log2(e) / 2
    for (int64_t d = 0; d < padded; ++d) buffer[d] = 0;
    for (int64_t j = 0; j < kBlock<A>; ++j) {
      const A* const from = j < count ? read_row(p.dtype, p.log_var, first + j, dim, buffer) : o.center;
      V sum{};
      for (int64_t d = 0; d < padded; d += kLanesOf<A>) {
        const V log_var = load(from + d), scale = exp_of(log_var * A(-0.5)) * root;
        store(scales + j * padded + d, j < count ? scale : V{});
        store(shifts + j * padded + d, j < count ? load(centred + j * padded + d) * scale : V{});
        sum += log_var;
      }
      double total = 0;
      for (int lane = 0; lane < kLanesOf<A>; ++lane) total += sum[lane];
      if (j < count) bias[j] -= static_cast<A>(0.5 * kLog2e * total);
    }
    read_planes(scales, padded, kBlock<A>, padded, planes, kBlock<A>);
    read_planes(shifts, padded, kBlock<A>, padded, planes + padded * kBlock<A>, kBlock<A>);
  }
};

}  // namespace
}  // namespace genfast::GENFAST_ISA
