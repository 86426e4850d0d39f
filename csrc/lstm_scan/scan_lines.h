// What both directions share: in which order pixels are computed, from which others, and packed weights.
#pragma once
#include "lstm_scan/scan_images.h"

namespace genfast::GENFAST_ISA {

// Pixels that are computed together: a row, or an anti-diagonal from its top right end down.
struct Line {
  int64_t r, c, count;  // of the first pixel
};

// Number `s` of the lines that cover an image; a row scan has height of them, a diagonal one
// height + width - 1.
GENFAST_INLINE Line line(const LstmScan& p, int64_t s) {
  if (!p.diagonal) return {s, 0, p.width};
  const int64_t first = s < p.width ? 0 : s - p.width + 1, last = s < p.height ? s : p.height - 1;
  return {first, s - first, last - first + 1};
}
GENFAST_INLINE int64_t lines(const LstmScan& p) {
  return p.diagonal ? p.height + p.width - 1 : p.height;
}

// Everything that a kernel needs to find its way.
template <class A>
struct Walk {
  const LstmScan& p;
  ScanLayout l;
  int64_t down, right;       // from a pixel of a line to the next, in rows and columns
  int64_t source[3];         // where a tap reads, in pixels of the workspace
  int64_t before;            // where the cell state comes from
  const A *weight, *turned;  // packed for the gates, and for the gradient of h

  GENFAST_INLINE_MEMBER explicit Walk(const LstmScan& p) : p(p), l(scan_layout(p)) {
    down = p.diagonal ? 1 : 0;
    right = p.diagonal ? -1 : 1;
    before = p.diagonal ? -1 : -l.row;
    if (p.diagonal) {
      source[0] = -l.row, source[1] = -1;
    } else {
      for (int t = 0; t < 3; ++t) source[t] = -l.row + t - 1;
    }
  }
  // From a pixel of a line to the next, in pixels of the workspace.
  GENFAST_INLINE_MEMBER int64_t next() const { return down * l.row + right; }
  // The same in elements of a view; and to the pixel that takes its place in the line after.
  GENFAST_INLINE_MEMBER int64_t along(const View<A>& v) const { return down * v.row + right * v.column; }
  GENFAST_INLINE_MEMBER int64_t across(const View<A>& v) const { return p.diagonal ? v.column : v.row; }
  // The position of a line's first pixel.
  GENFAST_INLINE_MEMBER int64_t position(const Line& line) const { return p.diagonal ? line.r : line.c; }
};

template <class T>
GENFAST_INLINE Arithmetic<T> weight_at(const LstmScan& p, int64_t group, int64_t gate, int64_t out,
                                       int64_t in, int64_t tap) {
  if (out >= p.units || in >= p.units) return 0;
  const ScanWeight& w = p.weight;
  return widen(static_cast<const T*>(
      w.data)[group * w.group + (gate * p.units + out) * w.output + in * w.unit + tap * w.tap]);
}

// For the gates: [vector of units][tap][unit of h][gate][lane].
template <class T>
static void pack_weight(const LstmScan& p, const ScanLayout& l, int64_t group, Arithmetic<T>* packed) {
  constexpr int n = kLanesOf<Arithmetic<T>>;
  for (int64_t first = 0; first < l.padded; first += n) {
    for (int64_t tap = 0; tap < l.taps; ++tap) {
      for (int64_t in = 0; in < l.padded; ++in) {
        for (int64_t gate = 0; gate < 4; ++gate) {
          for (int i = 0; i < n; ++i) *packed++ = weight_at<T>(p, group, gate, first + i, in, tap);
        }
      }
    }
  }
}

// For the gradient of h: [block of units][tap][gate][unit of the gate][unit of h in the block].
template <class T>
static void pack_turned_weight(const LstmScan& p, const ScanLayout& l, int64_t group,
                               Arithmetic<T>* packed) {
  constexpr int n = kLanesOf<Arithmetic<T>>;
  in_unit_blocks<Arithmetic<T>>(l.padded, [&](int64_t first, auto vectors) {
    for (int64_t tap = 0; tap < l.taps; ++tap) {
      for (int64_t gate = 0; gate < 4; ++gate) {
        for (int64_t out = 0; out < l.padded; ++out) {
          for (int i = 0; i < vectors.value * n; ++i) {
            *packed++ = weight_at<T>(p, group, gate, out, first + i, tap);
          }
        }
      }
    }
  });
}

// Where gates or gradients are read in place, a tile's next pixels, `ahead` on, are asked for in time:
// too many rows are walked along at once for the processor to foresee it. Beyond the end it does no
// harm.
template <int M, int N, class A>
GENFAST_INLINE void will_need(const A* first, int64_t next, int64_t gate, int64_t ahead) {
  GENFAST_EACH_ROW(M) {
    GENFAST_EACH_VECTOR(N) __builtin_prefetch(first + i * next + j * gate + ahead, 0, 2);
  }
}

// The pre-activations of M pixels, four gates of one vector of units, from h around the first pixel.
template <int M, class A, class V>
GENFAST_INLINE void pre_activations(const Walk<A>& w, const A* z, int64_t z_next, int64_t gate,
                                    const A* h, int64_t h_next, int64_t unit, V (&a)[M][4]) {
  GENFAST_EACH_ROW(M) { GENFAST_EACH_VECTOR(4) a[i][j] = V{}; }
  const A* weight = w.weight + unit * w.l.taps * w.l.padded * 4;
  for (int64_t tap = 0; tap < w.l.taps; ++tap) {
    V part[M][4] = {};  // sums of their own are shorter, and round less
    multiply_add<M, 4>(w.l.padded, h + w.source[tap] * w.l.padded, h_next, 1, weight, 4 * kLanesOf<A>,
                       part);
    GENFAST_EACH_ROW(M) { GENFAST_EACH_VECTOR(4) a[i][j] += part[i][j]; }
    weight += w.l.padded * 4 * kLanesOf<A>;
  }
  // Last: a sum that begins with a large term rounds at that term's size at every step.
  GENFAST_EACH_ROW(M) { GENFAST_EACH_VECTOR(4) a[i][j] += load(z + i * z_next + j * gate); }
}

template <class V>
struct Gates {
  V i, f, g, o;
};
template <class V>
GENFAST_INLINE Gates<V> gates_of(const V (&a)[4]) {
  return {sigmoid_of(a[0]), sigmoid_of(a[1]), tanh_of(a[2]), sigmoid_of(a[3])};
}
template <class A, class V>
GENFAST_INLINE void store_gates(A* at, int64_t gate, const Gates<V>& g) {
  store(at, g.i), store(at + gate, g.f), store(at + 2 * gate, g.g), store(at + 3 * gate, g.o);
}

// Jobs, each for some of the images: one a thread, or a team of threads where there are fewer jobs.
// Calls body(job, part, team) for each, in a part of the workspace that no one else is at.
template <class Body>
static void over_jobs(const LstmScan& p, int64_t jobs, int64_t most, const Body& body) {
  // More teams than these are of one thread each; the barriers are on the stack.
  constexpr int kTeams = 32;
  SpinBarrier barriers[kTeams];
  const int members = jobs > kTeams ? 1 : static_cast<int>(most);
  in_teams(
      p.threads, static_cast<int>(jobs), members, [&](int job) { return &barriers[job]; },
      [&](int job, int thread, const Team& team) { body(job, team.size > 1 ? job : thread, team); });
}

// A member's share of the units or of the rows of an image.
GENFAST_INLINE Range units_of(const ScanLayout& l, const Team& team) {
  const int64_t pads = l.padded / kUnitPad;
  return {team.first(pads) * kUnitPad, team.last(pads) * kUnitPad};
}
GENFAST_INLINE Range rows_of(const LstmScan& p, const Team& team) {
  return {team.first(p.height), team.last(p.height)};
}

}  // namespace genfast::GENFAST_ISA
