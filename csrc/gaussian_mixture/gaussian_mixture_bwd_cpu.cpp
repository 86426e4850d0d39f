// The gradient of the log-density on the CPU. A tile's posteriors follow from its scores and the kept
// evidence; two products with them give the gradients. Posteriors too small to be seen in any sum are
// left out: a tile of which few others remain is not multiplied as a whole, but pair by pair.
#include "gaussian_mixture/mixture_gradients_cpu.h"
#include "gaussian_mixture/mixture_posteriors_cpu.h"

namespace genfast::GENFAST_ISA {
namespace {

constexpr int64_t kPanelsAtOnce = 60 / kTileRows, kQueriesAtOnce = 60;

// Up to so many pairs of a tile whose posteriors count, each is taken by itself; products of the whole
// tile would take longer.
template <class A>
constexpr int kFewPairs = kTileRows * kBlock<A> / 4;

template <class A>
struct Backward {
  using V = VectorFor<A>;
  Operands<A> o;
  Gradients<A> gradients;
  Evidence<A> evidence;             // (queries)
  ComponentSums<A> component_sums;  // (query splits, components), if several
  Arena scratch;
  int64_t scratch_bytes = 0;
  bool wants_z, wants_components, wants_sums;

  Backward(const GaussianMixture& p, Arena& arena)
      : o(p, arena, true), gradients{o, nullptr, nullptr, nullptr, nullptr}, scratch{0} {
    const Shape<A>& s = o.shape;
    const int64_t queries = s.padded_queries();
    wants_z = p.grad_z != nullptr;
    wants_components = p.grad_means || p.grad_log_var;
    wants_sums = wants_components || p.grad_log_weights;
    evidence = {arena.take<A>(queries), arena.take<A>(queries), arena.take<A>(queries)};
    gradients.z_sums = arena.take<A>(wants_z ? s.component_splits * queries * s.width : 0);
    const int64_t partial = s.query_splits > 1 ? s.query_splits * s.blocks * kBlock<A> : 0;
    component_sums = ComponentSums<A>::take(s, partial, arena);
    gradients.query_masses = arena.take<A>(s.component_splits * queries * kLanesOf<A>);
    gradients.log_var_sums = arena.take<double>(s.splits() * s.padded);
    gradients.pair_masses = arena.take<double>(s.splits());
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
    ComponentSums<A> sums;      // (kBlock)
    A* row;                     // (padded)
    A* query_masses = nullptr;  // of this split

    Worker(Backward& f, Arena& arena) : f(f), components(f.o, arena) {
      const int64_t width = f.o.shape.width;
      rows = f.o.p.own_variances ? arena.take<A>(kBlock<A> * width) : components.centred;
      posterior = arena.take<A>(kQueriesAtOnce * kPitch<A>);
      sums = ComponentSums<A>::take(f.o.shape, kBlock<A>, arena);
      row = arena.take<A>(f.o.shape.padded);
    }

    void run(int64_t split) {
      const Shape<A>& s = f.o.shape;
      const bool by_query = s.query_splits > 1;
      const Range panels = by_query ? part(s.panels, split, s.query_splits) : Range{0, s.panels};
      const Range blocks = by_query ? Range{0, s.blocks} : part(s.blocks, split, s.component_splits);
      const int64_t slot = by_query ? 0 : split * s.padded_queries();
      A* const z_sums = f.gradients.z_sums + slot * s.width;
      query_masses = f.gradients.query_masses + slot * kLanesOf<A>;
      double* const log_var_sums = f.gradients.log_var_sums + split * s.padded;
      double& pair_mass = f.gradients.pair_masses[split];
      clear(log_var_sums, s.padded);
      pair_mass = 0;
      const int64_t first = panels.begin * kTileRows, queries = panels.end * kTileRows - first;
      clear(query_masses + first * kLanesOf<A>, queries * kLanesOf<A>);
      if (f.wants_z) clear(z_sums + first * s.width, queries * s.width);
      for (int64_t block = blocks.begin; block < blocks.end; ++block) {
        begin_block(block);
        for (int64_t at = panels.begin; at < panels.end; at += kPanelsAtOnce) {
          add({at, smaller(at + kPanelsAtOnce, panels.end)}, z_sums);
        }
        if (!f.wants_sums) continue;
        if (by_query) {
          const int64_t at = (split * s.blocks + block) * kBlock<A>;
          sums.copy_to(f.component_sums.from(s, at), s, kBlock<A>);
        } else {
          f.gradients.finish_block(components, sums, row, log_var_sums, &pair_mass);
        }
      }
    }

    void begin_block(int64_t block) {
      components.pack(block);
      const int64_t padded = f.o.shape.padded, width = f.o.shape.width;
      sums.clear_all(f.o.shape, kBlock<A>);
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
      const int64_t count = panels.end - panels.begin;
      bool dense[kPanelsAtOnce], any_dense = false;
      for (int64_t at = 0; at < count; ++at) {
        const int64_t query = first + at * kTileRows;
        Tile<A> tile;
        uint64_t counts[kTileRows];
        scores(components, panels.begin + at, tile, nullptr);
        const int pairs = pairs_that_count(tile, f.evidence.threshold + query, counts);
        dense[at] = pairs > kFewPairs<A>;
        any_dense |= dense[at];
        if (dense[at]) {
          posteriors(tile, f.evidence, query, posterior + at * kTileRows * kPitch<A>, sums.tile_masses,
                     query_masses);
        } else if (pairs) {
          add_pairs(tile, counts, query, z_sums);
        }
      }
      if (!any_dense) return;
      for (int64_t at = 0; at < count; ++at) {
        A* const tile = posterior + at * kTileRows * kPitch<A>;
        if (!dense[at]) {
          clear(tile, kTileRows * kPitch<A>);
        } else if (f.wants_z) {
          multiply_rows<kTileRows>(kBlock<A>, tile, kPitch<A>, 1, rows, width,
                                   z_sums + (first + at * kTileRows) * width);
        }
      }
      for (int64_t j = 0; f.wants_components && j < kBlock<A>; j += kComponentRows) {
        multiply_rows<kComponentRows>(count * kTileRows, posterior + j, 1, kPitch<A>,
                                      f.o.rows + first * width, width, sums.tiles + j * width);
      }
    }

    __attribute__((noinline)) void add_pairs(const Tile<A>& tile, const uint64_t* counts, int64_t first,
                                             A* z_sums) {
      const int64_t width = f.o.shape.width;
      for (int i = 0; i < kTileRows; ++i) {
        if (!counts[i]) continue;
        const int64_t query = first + i;
        const V level = broadcast(f.evidence.level[query]);
        alignas(64) A p[kBlock<A>];
        GENFAST_EACH_VECTOR(kTileVectors) {
          store(p + j * kLanesOf<A>, exp2_of(tile.score[i][j] - level) * f.evidence.scale[query]);
        }
        for (uint64_t left = counts[i]; left; left &= left - 1) {
          const int j = __builtin_ctzll(left);
          add_pair(p[j], j, f.o.rows + query * width, z_sums + query * width);
        }
      }
    }

    GENFAST_INLINE_MEMBER void add_pair(A p, int64_t j, const A* z, A* z_sum) {
      const int64_t padded = f.o.shape.padded, own = f.o.p.own_variances ? padded : 0;
      const A* const mean = components.centred + j * padded;
      const A* const precision = rows + j * f.o.shape.width + own;  // of own variances
      A* const sum = sums.pairs + 2 * j * padded;
      sums.pair_masses[j] += p;
      for (int64_t d = 0; d < padded; d += kLanesOf<A>) {
        const V from_mean = load(z + d) - load(mean + d), part = p * from_mean;
        store(sum + d, load(sum + d) + part);
        store(sum + padded + d, load(sum + padded + d) + part * from_mean);
        if (f.wants_z) store(z_sum + d, load(z_sum + d) - (own ? part * load(precision + d) : part));
      }
    }
  };

  void run() {
    o.prepare();
    over_queries(o.shape.padded_queries(), [&](int64_t b) { prepare_query(b); });
    parallel_for(o.p.threads, o.shape.splits(), 1, [&](int64_t begin, int64_t end) {
      Arena arena = scratch_of(begin);
      Worker worker(*this, arena);
      for (int64_t split = begin; split < end; ++split) worker.run(split);
    });
    if (o.shape.query_splits > 1 && wants_sums) merge_query_splits();
    if (wants_z) {
      GENFAST_DISPATCH_DTYPE(o.p.dtype, {
        if constexpr (sizeof(Arithmetic<T>) == sizeof(A)) {
          over_queries(o.p.queries, [&](int64_t b) { gradients.template finish_query<T>(b); });
        }
      })
    }
    if (o.p.grad_log_var && !o.p.own_variances) gradients.finish_log_var();
  }

  template <class Body>
  void over_queries(int64_t queries, const Body& body) const {
    parallel_for(o.p.threads, queries, 1 + (1 << 12) / (o.shape.width + 1),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t b = begin; b < end; ++b) body(b);
                 });
  }

  Arena scratch_of(int64_t split) const {
    return {scratch.at + static_cast<uintptr_t>(split * scratch_bytes)};
  }

  A grad(int64_t b) const { return static_cast<const A*>(o.p.grad.data)[b * o.p.grad.row]; }

  void prepare_query(int64_t b) {
    const A* const kept = static_cast<const A*>(o.p.evidence);
    const bool counts = b < o.p.queries && kept[o.p.queries + b] != 0;  // some component is left
    const A sum = counts ? kept[o.p.queries + b] : 1,
            level = counts ? kept[b] : -static_cast<A>(kLowest);
    evidence.level[b] = level;
    evidence.scale[b] = counts ? grad(b) / sum : 0;
    evidence.threshold[b] =
        counts ? level + static_cast<A>(log2(sum)) + negligible<A>(o.p.components) : level;
  }

  void merge_query_splits() {
    const Shape<A>& s = o.shape;
    Arena arena = scratch_of(0);
    Worker worker(*this, arena);
    for (int64_t block = 0; block < s.blocks; ++block) {
      worker.components.pack(block);
      const ComponentSums<A> sums = component_sums.from(s, block * kBlock<A>);
      for (int64_t split = 1; split < s.query_splits; ++split) {
        sums.add(component_sums.from(s, (split * s.blocks + block) * kBlock<A>), s, kBlock<A>);
      }
      gradients.finish_block(worker.components, sums, worker.row, gradients.log_var_sums,
                             gradients.pair_masses);
    }
  }
};

}  // namespace

void gaussian_mixture_bwd_bytes(const GaussianMixture& p, int64_t* bytes) {
  *bytes = bytes_of<Backward>(p);
}
void gaussian_mixture_bwd_cpu(const GaussianMixture& p) { run<Backward>(p); }

}  // namespace genfast::GENFAST_ISA
