// The log-density on the CPU: tiles of scores, and for every query a running log-sum-exp in each lane.
#include "gaussian_mixture/mixture_scores_cpu.h"

namespace genfast::GENFAST_ISA {
namespace {

constexpr int64_t kPanelsAtOnce =
    504 / kTileRows;  // these and what they have gathered stay in the cache

// A query's largest score and the sum of 2^(score - largest), in each lane of its own.
template <class A>
struct Running {
  VectorFor<A> top, sum;
};

// The sums grow by a tile.
template <class A>
static __attribute__((noinline)) void add_tile(const Tile<A>& tile, Running<A>* running) {
  using V = VectorFor<A>;
  V top[kTileRows];
  decltype(top[0] < top[0]) higher{};
  GENFAST_EACH_ROW(kTileRows) {
    const V* const s = tile.score[i];
    top[i] = larger(larger(s[0], s[1]), larger(s[2], s[3]));
    higher |= top[i] > running[i].top;
  }
  if (__builtin_expect(any(higher), 0)) {
    for (int i = 0; i < kTileRows; ++i) {
      const V now = larger(running[i].top, top[i]);
      running[i].sum *= exp2_of(running[i].top - now);
      running[i].top = now;
    }
  }
  GENFAST_EACH_ROW(kTileRows) {
    const V now = running[i].top;
    V sum[kTileVectors];
    GENFAST_EACH_VECTOR(kTileVectors) sum[j] = exp2_of(tile.score[i][j] - now);
    running[i].sum += (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
}

template <class A>
struct Forward {
  Operands<A> o;
  double *top, *sum;  // (component splits, queries)
  int64_t* left_out;  // (component splits, queries)
  Arena scratch;      // of the splits; a thread uses that of its first
  int64_t scratch_bytes = 0;

  Forward(const GaussianMixture& p, Arena& arena) : o(p, arena, false), scratch{0} {
    const int64_t partial = o.shape.component_splits * o.shape.padded_queries();
    top = arena.take<double>(partial);
    sum = arena.take<double>(partial);
    left_out = arena.take<int64_t>(partial);
    Arena counting{0};
    Worker(*this, counting);
    scratch_bytes = static_cast<int64_t>(counting.at);
    scratch.at = arena.at;
    arena.take<char>(o.shape.splits() * scratch_bytes);
  }

  struct Worker {
    Forward& f;
    Components<A> components;
    Running<A>* running;

    Worker(Forward& f, Arena& arena) : f(f), components(f.o, arena) {
      running = arena.take<Running<A>>(kPanelsAtOnce * kTileRows);
    }

    void run(int64_t split) {
      const Shape<A>& s = f.o.shape;
      const bool by_query = s.query_splits > 1;
      const Range panels = by_query ? part(s.panels, split, s.query_splits) : Range{0, s.panels};
      const Range blocks = by_query ? Range{0, s.blocks} : part(s.blocks, split, s.component_splits);
      const int64_t slot = by_query ? 0 : split * s.padded_queries();
      for (int64_t at = panels.begin; at < panels.end; at += kPanelsAtOnce) {
        const Range some = {at, smaller(at + kPanelsAtOnce, panels.end)};
        gather(some, blocks, slot);
      }
    }

    void gather(Range panels, Range blocks, int64_t slot) {
      using V = VectorFor<A>;
      const int64_t first = panels.begin * kTileRows, queries = panels.end * kTileRows - first;
      for (int64_t i = 0; i < queries; ++i) {
        running[i] = {V{} + static_cast<A>(kLowest), V{}};
        f.left_out[slot + first + i] = 0;
      }
      for (int64_t block = blocks.begin; block < blocks.end; ++block) {
        components.pack(block);
        for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
          Tile<A> tile;
          scores(components, panel, tile, f.left_out + slot + panel * kTileRows);
          add_tile(tile, running + (panel - panels.begin) * kTileRows);
        }
      }
      for (int64_t i = 0; i < queries; ++i) {
        double top = kLowest, sum = 0;
        for (int l = 0; l < kLanesOf<A>; ++l) top = running[i].top[l] > top ? running[i].top[l] : top;
        for (int l = 0; l < kLanesOf<A>; ++l) sum += running[i].sum[l] * exp2(running[i].top[l] - top);
        f.top[slot + first + i] = top;
        f.sum[slot + first + i] = sum;
      }
    }
  };

  void run() {
    o.prepare();
    parallel_for(o.p.threads, o.shape.splits(), 1, [&](int64_t begin, int64_t end) {
      Arena arena{scratch.at + static_cast<uintptr_t>(begin * scratch_bytes)};
      Worker worker(*this, arena);
      for (int64_t split = begin; split < end; ++split) worker.run(split);
    });
    double constant = -0.5 * kLogTwoPi * static_cast<double>(o.p.dim);
    for (int64_t d = 0; !o.p.own_variances && d < o.p.dim; ++d) {
      constant += 0.5 * log(static_cast<double>(o.precision[d]));
    }
    for (int64_t b = 0; b < o.p.queries; ++b) finish(b, constant);
  }

  void finish(int64_t b, double constant) {
    const int64_t pitch = o.shape.padded_queries(), end = o.shape.component_splits * pitch;
    double highest = kLowest, total = 0;
    int64_t left = o.p.components;
    for (int64_t at = b; at < end; at += pitch) highest = top[at] > highest ? top[at] : highest;
    for (int64_t at = b; at < end; at += pitch) {
      total += sum[at] * exp2(top[at] - highest);
      left -= left_out[at];
    }
    A* const evidence = static_cast<A*>(o.p.evidence);
    const bool nothing = highest <= kLowest && total == total;
    evidence[b] = static_cast<A>(highest);
    evidence[o.p.queries + b] = nothing ? 0 : static_cast<A>(total);
    double log_prob = kLn2 * (highest + log2(total)) + o.own[b] + constant;
    if (!o.p.log_weights.data) log_prob -= log(static_cast<double>(left));
    static_cast<A*>(o.p.log_prob)[b] = static_cast<A>(nothing ? -__builtin_inf() : log_prob);
  }
};

}  // namespace

void gaussian_mixture_fwd_bytes(const GaussianMixture& p, int64_t* bytes) {
  *bytes = bytes_of<Forward>(p);
}
void gaussian_mixture_fwd_cpu(const GaussianMixture& p) { run<Forward>(p); }

}  // namespace genfast::GENFAST_ISA
