// The log-density on the CPU: tiles of scores, and for every query a running log-sum-exp in each lane.
#include "gaussian_mixture/mixture_scores_cpu.h"

namespace genfast::GENFAST_ISA {
namespace {

constexpr int64_t kMostPanels = 600 / kTileRows;  // these and what they have gathered stay in the cache

// A query's sum is relative to a level, the largest score when it was last raised, which is when a score
// exceeds it by more than this: near enough for score - level to round little, and so far that few tiles
// raise it. At every new largest score nearly all would; in fp64, which is for exactness, they do.
template <class A>
constexpr A kHeadroom = sizeof(A) == sizeof(double) ? 0 : 16;

template <class A>
static __attribute__((noinline)) void raise_level(const VectorFor<A>& top, A* level, VectorFor<A>* sum) {
  A now = *level;
  for (int lane = 0; lane < kLanesOf<A>; ++lane) now = larger(now, top[lane]);
  *sum *= exp2_of(broadcast(*level - now));
  *level = now;
}

// The sums grow by a tile.
template <class A>
static __attribute__((noinline)) void add_tile(const Tile<A>& tile, A* level, VectorFor<A>* sum) {
  using V = VectorFor<A>;
  V top[kTileRows];
  decltype(top[0] < top[0]) higher{};
  GENFAST_EACH_ROW(kTileRows) {
    const V* const s = tile.score[i];
    top[i] = larger(larger(s[0], s[1]), larger(s[2], s[3]));
    higher |= top[i] > level[i] + kHeadroom<A>;
  }
  if (__builtin_expect(any(higher), 0)) {
    for (int i = 0; i < kTileRows; ++i) {
      if (any(top[i] > level[i] + kHeadroom<A>)) raise_level(top[i], level + i, sum + i);
    }
  }
  GENFAST_EACH_ROW(kTileRows) {
    const V now = broadcast(level[i]);
    V part[kTileVectors];
    GENFAST_EACH_VECTOR(kTileVectors) part[j] = exp2_of(tile.score[i][j] - now);
    sum[i] += (part[0] + part[1]) + (part[2] + part[3]);
  }
}

template <class A>
struct Forward {
  Operands<A> o;
  double *level, *sum;  // (component splits, queries): the latter of 2^(score - level)
  int64_t* left_out;    // (component splits, queries)
  Arena scratch;        // of the splits; a thread uses that of its first
  int64_t scratch_bytes = 0;

  Forward(const GaussianMixture& p, Arena& arena) : o(p, arena, false), scratch{0} {
    const int64_t partial = o.shape.component_splits * o.shape.padded_queries();
    level = arena.take<double>(partial);
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
    A* level;           // (queries at once): what sums are relative to, near the largest score
    VectorFor<A>* sum;  // (queries at once): of 2^(score - level), in each lane of its own

    Worker(Forward& f, Arena& arena) : f(f), components(f.o, arena) {
      level = arena.take<A>(kMostPanels * kTileRows);
      sum = arena.take<VectorFor<A>>(kMostPanels * kTileRows);
    }

    void run(int64_t split) {
      const Shape<A>& s = f.o.shape;
      const bool by_query = s.query_splits > 1;
      const Range panels = by_query ? part(s.panels, split, s.query_splits) : Range{0, s.panels};
      const Range blocks = by_query ? Range{0, s.blocks} : part(s.blocks, split, s.component_splits);
      const int64_t slot = by_query ? 0 : split * s.padded_queries();
      const int64_t count = panels.end - panels.begin,
                    parts = rounded_up(count, kMostPanels) / kMostPanels;
      for (int64_t i = 0; i < parts; ++i) {
        const Range some = part(count, i, parts);
        gather({panels.begin + some.begin, panels.begin + some.end}, blocks, slot);
      }
    }

    void gather(Range panels, Range blocks, int64_t slot) {
      const int64_t first = panels.begin * kTileRows, queries = panels.end * kTileRows - first;
      for (int64_t i = 0; i < queries; ++i) {
        level[i] = static_cast<A>(kLowest);
        sum[i] = VectorFor<A>{};
        f.left_out[slot + first + i] = 0;
      }
      for (int64_t block = blocks.begin; block < blocks.end; ++block) {
        components.pack(block);
        for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
          const int64_t at = (panel - panels.begin) * kTileRows;
          Tile<A> tile;
          scores(components, panel, tile, f.left_out + slot + panel * kTileRows);
          add_tile(tile, level + at, sum + at);
        }
      }
      for (int64_t i = 0; i < queries; ++i) {
        double total = 0;
        for (int lane = 0; lane < kLanesOf<A>; ++lane) total += sum[i][lane];
        f.level[slot + first + i] = level[i];
        f.sum[slot + first + i] = total;
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
    parallel_for(o.p.threads, o.p.queries, 1 + 512 / o.shape.component_splits,
                 [&](int64_t begin, int64_t end) {
                   for (int64_t b = begin; b < end; ++b) finish(b, constant);
                 });
  }

  void finish(int64_t b, double constant) {
    const int64_t pitch = o.shape.padded_queries(), end = o.shape.component_splits * pitch;
    double highest = kLowest, total = 0;
    int64_t left = o.p.components;
    for (int64_t at = b; at < end; at += pitch) highest = larger(highest, level[at]);
    for (int64_t at = b; at < end; at += pitch) {
      total += sum[at] * exp2(level[at] - highest);
      left -= left_out[at];
    }
    const bool nothing = highest <= kLowest && total == total;
    A* const evidence = static_cast<A*>(o.p.evidence);
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
