// Gates and cell states of an image from its stored hidden states: a dense product, nothing of it
// recurrent.
#pragma once
#include "lstm_scan/scan_lines.h"

namespace genfast::GENFAST_ISA {

// What backward works on, in the workspace unless it can be read where it is. `cells` has a border with
// the initial cell states; `da` (gradients of the pre-activations) has one of zeros.
template <class A>
struct BackwardImage {
  View<A> gates, grad;
  A *hidden, *cells, *da;
  A* state;  // gradient of C from the pixels computed so far
};

// M neighbours in a row, one vector of units: gates from x.gates to x.da (perhaps the same place), and
// C.
template <int M, class A>
static __attribute__((noinline)) void recompute_tile(const Walk<A>& w, const BackwardImage<A>& x,
                                                     int64_t r, int64_t c, int64_t unit) {
  using V = VectorFor<A>;
  const int64_t here = w.l.at(r, c);
  A *to = x.da + here * w.l.pitch + unit, *cell = x.cells + here * w.l.padded + unit;
  V a[M][4];
  const A* const z = x.gates.at(r, c) + unit;
  will_need<M, 4>(z, x.gates.column, x.gates.gate, x.gates.row);
  pre_activations<M>(w, z, x.gates.column, x.gates.gate, x.hidden + here * w.l.padded, w.l.padded, unit,
                     a);
  for (int i = 0; i < M; ++i, to += w.l.pitch, cell += w.l.padded) {
    const Gates<V> g = gates_of(a[i]);
    store_gates(to, w.l.padded, g);
    store(cell, g.f * load(cell + w.before * w.l.padded) + g.i * g.g);
  }
}

// Some units; read(r) makes them ready in row r of the gates.
template <class A, class Read>
static void recompute_image(const Walk<A>& w, const BackwardImage<A>& x, const Range& units,
                            const Read& read) {
  if (units.first == units.last) return;  // there may be more members than vectors of units
  for (int64_t r = 0; r < w.p.height; ++r) {
    read(r);
    for (int64_t unit = units.first; unit < units.last; unit += kLanesOf<A>) {
      in_tiles(w.p.width,
               [&](int64_t c, auto m) { recompute_tile<decltype(m)::value>(w, x, r, c, unit); });
    }
  }
}

}  // namespace genfast::GENFAST_ISA
