#include "common/parallel.h"
#include "lstm_scan/scan_lines.h"

namespace genfast::GENFAST_ISA {
namespace {

// One image in the workspace: gates are read, h is written; what is kept goes to `kept` and
// `kept_cells`.
template <class A>
struct ForwardImage {
  View<A> gates, kept;
  View<A> kept_cells;
  A *hidden, *cells;
  bool keep;
};

// M pixels of a line from number `first` on, one vector of units.
template <int M, class A>
static __attribute__((noinline)) void forward_tile(const Walk<A>& w, const ForwardImage<A>& x,
                                                   const Line& line, int64_t first, int64_t unit) {
  using V = VectorFor<A>;
  const int64_t r = line.r + first * w.down, c = line.c + first * w.right;
  const int64_t h_next = w.next() * w.l.padded;
  A* h = x.hidden + w.l.at(r, c) * w.l.padded;
  A* cell = x.cells + (w.position(line) + first) * w.l.padded + unit;
  V a[M][4];
  const A* const z = x.gates.at(r, c) + unit;
  will_need<M, 4>(z, w.along(x.gates), x.gates.gate, w.across(x.gates));
  pre_activations<M>(w, z, w.along(x.gates), x.gates.gate, h, h_next, unit, a);
  for (int i = 0; i < M; ++i, cell += w.l.padded) {
    const Gates<V> g = gates_of(a[i]);
    const V c_new = g.f * load(cell) + g.i * g.g;
    store(cell, c_new);
    store(h + i * h_next + unit, rounded(g.o * tanh_of(c_new), w.p.dtype));
    if (x.keep) {
      store_gates(x.kept.at(r + i * w.down, c + i * w.right) + unit, x.kept.gate, g);
      store(x.kept_cells.at(r + i * w.down, c + i * w.right) + unit, c_new);
    }
  }
}

// read(r) makes a member's units of row r of the gates ready: line r is the first that needs it. A team
// shares the units: each member reads its own weights only, and the h that all have computed.
template <class A, class Read>
static void forward_image(const Walk<A>& w, const ForwardImage<A>& x, const Team& team,
                          const Read& read) {
  const Range units = units_of(w.l, team);
  for (int64_t s = 0; s < lines(w.p); ++s) {
    const Line now = line(w.p, s);
    if (s < w.p.height) read(s);
    // All tiles take the same panel of weights, which stays in the cache for them.
    for (int64_t unit = units.first; unit < units.last; unit += kLanesOf<A>) {
      in_tiles(now.count,
               [&](int64_t first, auto m) { forward_tile<decltype(m)::value>(w, x, now, first, unit); });
    }
    team.meet();
  }
}

template <class T>
static void forward(const LstmScan& p) {
  using A = Arithmetic<T>;
  Walk<A> w(p);
  const ScanLayout& l = w.l;
  const ScanScratch places = scan_scratch(l, false);
  A* packed = static_cast<A*>(p.workspace);
  w.weight = packed;
  const bool direct = readable_in_place<T>(p.gates.channel, p.units);
  const bool keep = p.kept_gates != nullptr, keep_direct = readable_in_place<A>(1, p.units);
  for (int64_t group = 0; group < p.groups; ++group) {
    pack_weight<T>(p, l, group, packed);
    const int64_t parts = scan_parts(p);
    over_jobs(p, parts, l.padded / kUnitPad, [&](int64_t job, int64_t part, const Team& team) {
      const bool leads = team.member == 0;
      A* scratch = packed + l.weights + part * places.total;
      A *gates = scratch + places.gates, *hidden = scratch + places.hidden;
      A *state = scratch + places.state, *cells = scratch + places.cells;
      for (int64_t i = 0; leads && i < l.pixels * l.padded; ++i) hidden[i] = 0;  // borders stay
      if (leads && p.h0.data) {
        A* border = hidden + (p.diagonal ? l.at(0, -1) : l.at(-1, 0)) * l.padded;
        read_states<T>(l, p, p.h0, group, border, (p.diagonal ? l.row : 1) * l.padded);
      }
      const int64_t end = p.images * (job + 1) / parts;
      for (int64_t image = p.images * job / parts; image < end; ++image) {
        const Image<T> in(p.gates, group, image);
        const View<A> here = {gates + l.at(0, 0) * l.pitch, l.row * l.pitch, l.pitch, l.padded};
        ForwardImage<A> x = {here, here, {}, hidden, state, keep};
        if (direct) x.gates = view<A>(in, p.units);
        // Rows that are used once, one after the other, take each other's place in the nearest cache.
        if (!direct && !p.diagonal && !keep) x.gates.row = 0;
        if (keep && keep_direct) {
          x.kept = view<A>(kept_gates<A>(p, group, image), p.units);
          x.kept_cells = view<A>(kept_cells<A>(p, group, image), 0);
        } else if (keep) {
          x.kept_cells = {cells + l.at(0, 0) * l.padded, l.row * l.padded, l.padded, 0};
        }
        if (leads) read_states<T>(l, p, p.c0, group, state, l.padded);
        team.meet();
        forward_image(w, x, team, [&](int64_t r) {
          const Range units = units_of(l, team);
          if (!direct) read_image_row(l, p, in, 4, r, units, x.gates.at(r, 0), l.pitch);
        });
        const Range rows = rows_of(p, team);
        write_image(l, p, hidden, l.padded, 1, rows, Image<T>(p.hidden, group, image));
        if (keep && !keep_direct) {
          write_image(l, p, gates, l.pitch, 4, rows, kept_gates<A>(p, group, image));
          write_image(l, p, cells, l.padded, 1, rows, kept_cells<A>(p, group, image));
        }
      }
    });
  }
}

}  // namespace

void lstm_scan_fwd_cpu(const LstmScan& p) { GENFAST_DISPATCH_DTYPE(p.dtype, forward<T>(p)); }

}  // namespace genfast::GENFAST_ISA
