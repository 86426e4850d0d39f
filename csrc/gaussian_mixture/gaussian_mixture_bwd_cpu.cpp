// The gradient of the log-density on the CPU. A tile's posteriors follow from its scores and the kept
// evidence; two products with them give the gradients. A tile whose posteriors are all too small to be
// seen in any sum is skipped.
#include "gaussian_mixture/mixture_scores_cpu.h"

namespace genfast::GENFAST_ISA {
namespace {

constexpr int64_t kPanelsAtOnce = 60 / kTileRows, kQueriesAtOnce = 60;

// log2 of the posterior probability below which a tile is skipped.
template <class A>
constexpr A kNegligible = sizeof(A) == sizeof(double) ? -100 : -40;

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

template <class A>
struct Backward {
  using V = VectorFor<A>;
  static constexpr int64_t kPitch = kBlock<A> + kLanesOf<A>;  // no power of two: lines would collide

  Operands<A> o;
  A *top, *scale,
      *threshold;  // (queries): largest score, gradient / sum, score of a negligible posterior
  A* z_sums;       // (component splits, queries, width): posteriors times rows of components
  A *component_sums, *masses;  // (query splits, components, width), (..., components), if several
  A* query_masses;             // (component splits, queries, lanes): sums of a query's posteriors
  double* log_var_sums;        // (splits, padded), shared variance
  Arena scratch;
  int64_t scratch_bytes = 0;
  bool wants_z, wants_components, wants_sums;

  Backward(const GaussianMixture& p, Arena& arena) : o(p, arena, true), scratch{0} {
    const Shape<A>& s = o.shape;
    const int64_t queries = s.padded_queries();
    wants_z = p.grad_z != nullptr;
    wants_components = p.grad_means || p.grad_log_var;
    wants_sums = wants_components || p.grad_log_weights;
    top = arena.take<A>(queries);
    scale = arena.take<A>(queries);
    threshold = arena.take<A>(queries);
    z_sums = arena.take<A>(wants_z ? s.component_splits * queries * s.width : 0);
    const int64_t partial = s.query_splits > 1 ? s.query_splits * s.blocks * kBlock<A> : 0;
    component_sums = arena.take<A>(partial * s.width);
    masses = arena.take<A>(partial);
    query_masses = arena.take<A>(s.component_splits * queries * kLanesOf<A>);
    log_var_sums = arena.take<double>(s.splits() * s.padded);
    Arena counting{0};
    Worker(*this, counting);
    scratch_bytes = static_cast<int64_t>(counting.at);
    scratch.at = arena.at;
    arena.take<char>(s.splits() * scratch_bytes);
  }

  struct Worker {
    Backward& f;
    Components<A> components;
    A* rows;                    // (kBlock, width): centred means or, for own variances, mean * v and v
    A* posterior;               // (kQueriesAtOnce, kPitch), times the gradient
    A* sums;                    // (kBlock, width): posteriors times rows of queries
    A* mass;                    // (kBlock): sums of posteriors
    A* row;                     // (padded)
    A* query_masses = nullptr;  // of this split

    Worker(Backward& f, Arena& arena) : f(f), components(f.o, arena) {
      const int64_t width = f.o.shape.width;
      rows = f.o.p.own_variances ? arena.take<A>(kBlock<A> * width) : components.centred;
      posterior = arena.take<A>(kQueriesAtOnce * kPitch);
      sums = arena.take<A>(kBlock<A> * width);
      mass = arena.take<A>(kBlock<A>);
      row = arena.take<A>(f.o.shape.padded);
    }

    void run(int64_t split) {
      const Shape<A>& s = f.o.shape;
      const bool by_query = s.query_splits > 1;
      const Range panels = by_query ? part(s.panels, split, s.query_splits) : Range{0, s.panels};
      const Range blocks = by_query ? Range{0, s.blocks} : part(s.blocks, split, s.component_splits);
      const int64_t slot = by_query ? 0 : split * s.padded_queries();
      A* const z_sums = f.z_sums + slot * s.width;
      query_masses = f.query_masses + slot * kLanesOf<A>;
      double* const log_var_sums = f.log_var_sums + split * s.padded;
      for (int64_t d = 0; d < s.padded; ++d) log_var_sums[d] = 0;
      const Range lanes = {panels.begin * kTileRows * kLanesOf<A>, panels.end * kTileRows * kLanesOf<A>};
      for (int64_t i = lanes.begin; i < lanes.end; ++i) query_masses[i] = 0;
      if (f.wants_z) {
        const int64_t end = panels.end * kTileRows * s.width;
        for (int64_t i = panels.begin * kTileRows * s.width; i < end; ++i) z_sums[i] = 0;
      }
      for (int64_t block = blocks.begin; block < blocks.end; ++block) {
        begin_block(block);
        for (int64_t at = panels.begin; at < panels.end; at += kPanelsAtOnce) {
          add({at, smaller(at + kPanelsAtOnce, panels.end)}, z_sums);
        }
        if (!f.wants_sums) continue;
        by_query ? keep_sums(split, block) : f.finish_block(components, sums, mass, row, log_var_sums);
      }
    }

    void begin_block(int64_t block) {
      components.pack(block);
      const int64_t padded = f.o.shape.padded, width = f.o.shape.width;
      for (int64_t i = 0; i < kBlock<A> * width; ++i) sums[i] = 0;
      for (int64_t j = 0; j < kBlock<A>; ++j) mass[j] = 0;
      if (!f.o.p.own_variances) return;
      const A unit = static_cast<A>(2 * kLn2);
      for (int64_t j = 0; j < kBlock<A>; ++j) {
        for (int64_t d = 0; d < padded; ++d) {
          const A scale = components.scales[j * padded + d];
          rows[j * width + d] = components.shifts[j * padded + d] * scale * unit;
          rows[j * width + padded + d] = scale * scale * unit;
        }
      }
    }

    void add(Range panels, A* z_sums) {
      const int64_t width = f.o.shape.width, first = panels.begin * kTileRows;
      const int64_t queries = panels.end * kTileRows - first;
      bool alive[kPanelsAtOnce], any_alive = false;
      for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
        const int64_t at = panel - panels.begin;
        Tile<A> tile;
        scores(components, panel, tile, nullptr);
        alive[at] = posteriors(tile, panel * kTileRows, posterior + at * kTileRows * kPitch);
        any_alive |= alive[at];
      }
      if (!any_alive) return;
      for (int64_t at = 0; f.wants_z && at < panels.end - panels.begin; ++at) {
        if (!alive[at]) continue;
        multiply_rows<kTileRows>(kBlock<A>, posterior + at * kTileRows * kPitch, kPitch, 1, rows, width,
                                 z_sums + (first + at * kTileRows) * width);
      }
      for (int64_t j = 0; f.wants_components && j < kBlock<A>; j += kComponentRows) {
        multiply_rows<kComponentRows>(queries, posterior + j, 1, kPitch, f.o.rows + first * width, width,
                                      sums + j * width);
      }
    }

    // Whether any posterior of the tile counts; if not, they are zeros.
    __attribute__((noinline)) bool posteriors(const Tile<A>& tile, int64_t first, A* to) {
      decltype(V{} < V{}) seen{};
      GENFAST_EACH_ROW(kTileRows) {
        const V threshold = broadcast(f.threshold[first + i]);
        GENFAST_EACH_VECTOR(kTileVectors) seen |= ~(tile.score[i][j] <= threshold);  // a NaN counts
      }
      if (!any(seen)) {
        GENFAST_EACH_ROW(kTileRows) {
          GENFAST_EACH_VECTOR(kTileVectors) store(to + i * kPitch + j * kLanesOf<A>, V{});
        }
        return false;
      }
      V total[kTileVectors];
      GENFAST_EACH_VECTOR(kTileVectors) total[j] = load(mass + j * kLanesOf<A>);
      GENFAST_EACH_ROW(kTileRows) {
        const V top = broadcast(f.top[first + i]), scale = broadcast(f.scale[first + i]);
        V of_query = load(query_masses + (first + i) * kLanesOf<A>);
        GENFAST_EACH_VECTOR(kTileVectors) {
          const V p = exp2_of(tile.score[i][j] - top) * scale;
          total[j] += p;
          of_query += p;
          store(to + i * kPitch + j * kLanesOf<A>, p);
        }
        store(query_masses + (first + i) * kLanesOf<A>, of_query);
      }
      GENFAST_EACH_VECTOR(kTileVectors) store(mass + j * kLanesOf<A>, total[j]);
      return true;
    }

    void keep_sums(int64_t split, int64_t block) {
      const int64_t width = f.o.shape.width, first = (split * f.o.shape.blocks + block) * kBlock<A>;
      for (int64_t i = 0; i < kBlock<A> * width; ++i) f.component_sums[first * width + i] = sums[i];
      for (int64_t j = 0; j < kBlock<A>; ++j) f.masses[first + j] = mass[j];
    }
  };

  void run() {
    o.prepare();
    for (int64_t b = 0; b < o.shape.padded_queries(); ++b) prepare_query(b);
    parallel_for(o.p.threads, o.shape.splits(), 1, [&](int64_t begin, int64_t end) {
      Arena arena = scratch_of(begin);
      Worker worker(*this, arena);
      for (int64_t split = begin; split < end; ++split) worker.run(split);
    });
    if (o.shape.query_splits > 1 && wants_sums) merge_query_splits();
    if (wants_z) {
      parallel_for(o.p.threads, o.p.queries, 1 + (1 << 12) / (o.shape.width + 1),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t b = begin; b < end; ++b) finish_query(b);
                   });
    }
    if (o.p.grad_log_var && !o.p.own_variances) finish_log_var();
  }

  Arena scratch_of(int64_t split) const {
    return {scratch.at + static_cast<uintptr_t>(split * scratch_bytes)};
  }

  A grad(int64_t b) const { return static_cast<const A*>(o.p.grad.data)[b * o.p.grad.row]; }

  void prepare_query(int64_t b) {
    const A* const evidence = static_cast<const A*>(o.p.evidence);
    const bool counts = b < o.p.queries && evidence[o.p.queries + b] != 0;  // some component is left
    const A sum = counts ? evidence[o.p.queries + b] : 1;
    top[b] = counts ? evidence[b] : -static_cast<A>(kLowest);
    scale[b] = counts ? grad(b) / sum : 0;
    threshold[b] = counts ? top[b] + static_cast<A>(log2(sum)) + kNegligible<A> : top[b];
  }

  // Of a block of components, from the sums over queries, all of them.
  void finish_block(const Components<A>& c, const A* sums, const A* mass, A* row, double* log_var_sums) {
    const GaussianMixture& p = o.p;
    const int64_t dim = o.shape.dim, padded = o.shape.padded, width = o.shape.width;
    const A unit = static_cast<A>(2 * kLn2);
    for (int64_t j = 0; j < c.count; ++j) {
      const A *const sum = sums + j * width, *const mean = c.centred + j * padded;
      const A* const scales = c.scales + j * padded;
      const int64_t at = (c.first + j) * dim;
      if (p.grad_means) {
        for (int64_t d = 0; d < dim; ++d) {
          const A precision = p.own_variances ? scales[d] * scales[d] * unit : o.precision[d];
          row[d] = (sum[d] - mass[j] * mean[d]) * precision;
        }
        write_row(p.dtype, row, p.grad_means, at, dim);
      }
      if (p.grad_log_var && p.own_variances) {
        for (int64_t d = 0; d < dim; ++d) {
          const A squares = sum[padded + d] - 2 * mean[d] * sum[d] + mass[j] * mean[d] * mean[d];
          row[d] = (squares * scales[d] * scales[d] * unit - mass[j]) / 2;
        }
        write_row(p.dtype, row, p.grad_log_var, at, dim);
      }
      if (p.grad_log_var && !p.own_variances) {
        for (int64_t d = 0; d < dim; ++d) {
          log_var_sums[d] += static_cast<double>(mean[d]) * (mass[j] * mean[d] - 2 * sum[d]);
        }
      }
      if (p.grad_log_weights) write_row(p.dtype, mass + j, p.grad_log_weights, c.first + j, 1);
    }
  }

  void merge_query_splits() {
    const int64_t width = o.shape.width, pitch = o.shape.blocks * kBlock<A>;
    Arena arena = scratch_of(0);
    Worker worker(*this, arena);
    for (int64_t block = 0; block < o.shape.blocks; ++block) {
      worker.components.pack(block);
      const int64_t first = block * kBlock<A>;
      A *const sums = component_sums + first * width, *const mass = masses + first;
      for (int64_t split = 1; split < o.shape.query_splits; ++split) {
        const A *const more = sums + split * pitch * width, *const more_mass = mass + split * pitch;
        for (int64_t i = 0; i < kBlock<A> * width; ++i) sums[i] += more[i];
        for (int64_t j = 0; j < kBlock<A>; ++j) mass[j] += more_mass[j];
      }
      finish_block(worker.components, sums, mass, worker.row, log_var_sums);
    }
  }

  void finish_query(int64_t b) {
    const int64_t padded = o.shape.padded, width = o.shape.width;
    A *const sum = z_sums + b * width, *const z = o.rows + b * width;
    for (int64_t split = 1; split < o.shape.component_splits; ++split) {
      const A* const more = sum + split * o.shape.padded_queries() * width;
      for (int64_t d = 0; d < width; ++d) sum[d] += more[d];
    }
    const A mass = static_cast<A>(query_mass(b));
    for (int64_t d = 0; d < o.shape.dim; ++d) {
      sum[d] =
          o.p.own_variances ? sum[d] - z[d] * sum[padded + d] : (sum[d] - mass * z[d]) * o.precision[d];
    }
    write_row(o.p.dtype, sum, o.p.grad_z, b * o.shape.dim, o.shape.dim);
  }

  // The posteriors of a query add up to its gradient, but for rounding, of which sums that cancel each
  // other must have the same.
  double query_mass(int64_t b) const {
    double mass = 0;
    for (int64_t split = 0; split < o.shape.component_splits; ++split) {
      const A* const lanes = query_masses + (split * o.shape.padded_queries() + b) * kLanesOf<A>;
      for (int lane = 0; lane < kLanesOf<A>; ++lane) mass += lanes[lane];
    }
    return mass;
  }

  // sum over b, n of posterior ((z - mean)^2 v - 1) / 2.
  void finish_log_var() {
    double* const squares = log_var_sums;
    for (int64_t i = o.shape.padded; i < o.shape.splits() * o.shape.padded; ++i) {
      squares[i % o.shape.padded] += log_var_sums[i];
    }
    double total = 0;
    for (int64_t b = 0; b < o.p.queries; ++b) {
      const double mass = query_mass(b);
      const A* const z = o.rows + b * o.shape.width;
      for (int64_t d = 0; d < o.shape.dim; ++d) squares[d] += mass * z[d] * z[d];
      total += mass;
    }
    for (int64_t d = 0; d < o.shape.dim; ++d) {
      static_cast<A*>(o.p.grad_log_var)[d] = static_cast<A>(0.5 * (squares[d] * o.precision[d] - total));
    }
  }
};

}  // namespace

void gaussian_mixture_bwd_bytes(const GaussianMixture& p, int64_t* bytes) {
  *bytes = bytes_of<Backward>(p);
}
void gaussian_mixture_bwd_cpu(const GaussianMixture& p) { run<Backward>(p); }

}  // namespace genfast::GENFAST_ISA
