// What the CUDA kernels of both directions share: where pixels, states and kept values lie, and the
// cell.
//
// Positions: a row scan's position is a column, a diagonal one's is a row. Tap t of position p reads
// position p + t - 1 of the line before, in both scans: in a diagonal one, the pixel above lies there
// as row r - 1, the pixel beside it as row r.
#pragma once
#include "common/cuda_elements.h"
#include "common/gate_math.h"
#include "lstm_scan/lstm_scan.h"

namespace genfast::scan {

using cuda::Arithmetic;

constexpr int kUnitPad = 16;  // units are padded to a tile of tensor cores; padded weights are zero

// A launch: the scan, its sizes as ints, packed weights.
struct Launch {
  LstmScan p;
  bool diagonal;
  int units, padded, height, width, positions, lines, taps;
  const void* packed;    // one group's after the other, packed_bytes each
  int64_t packed_bytes;  // a multiple of 16
};

struct Line {
  int first, last;  // positions
};

GENFAST_HOST_DEVICE Line line_of(const Launch& k, int s) {
  if (!k.diagonal) return {0, k.width - 1};
  return {s < k.width ? 0 : s - k.width + 1, s < k.height ? s : k.height - 1};
}

struct Pixel {
  int64_t group, image;
  int row, column;
};

GENFAST_DEVICE Pixel pixel_of(const Launch& k, int64_t group, int64_t image, int s, int position) {
  return {group, image, k.diagonal ? position : s, k.diagonal ? s - position : position};
}
GENFAST_DEVICE int position_of(const Launch& k, const Pixel& x) { return k.diagonal ? x.row : x.column; }
GENFAST_DEVICE bool inside(const Launch& k, const Pixel& x) {
  return x.row >= 0 && x.row < k.height && x.column >= 0 && x.column < k.width;
}
// The pixel that tap t reads; with direction -1, the one that reads this pixel by it.
GENFAST_DEVICE Pixel source_of(const Launch& k, const Pixel& x, int tap, int direction) {
  const int dr = k.diagonal && tap == 1 ? 0 : -1, dc = k.diagonal ? -tap : tap - 1;
  return {x.group, x.image, x.row + direction * dr, x.column + direction * dc};
}

template <class E>
GENFAST_DEVICE E* element_of(const ScanMap& m, const Pixel& x, int channel) {
  return static_cast<E*>(m.data) + x.group * m.group + x.image * m.image + channel * m.channel +
         x.row * m.row + x.column * m.column;
}

// Where a pixel's kept values begin, `channels` of each.
template <class A>
GENFAST_DEVICE A* kept_of(const Launch& k, void* kept, const Pixel& x, int channels) {
  const int64_t image = x.group * k.p.images + x.image;
  return static_cast<A*>(kept) + ((image * k.height + x.row) * k.width + x.column) * channels;
}

// The place of an image's line of values, `units` of each position.
template <class A>
GENFAST_DEVICE A* line_values(const Launch& k, int64_t group, int64_t image) {
  return static_cast<A*>(k.p.line) + (group * k.p.images + image) * k.positions * k.units;
}

template <class E>
GENFAST_DEVICE E initial_state(const ScanState& s, int64_t group, int position, int unit) {
  E value;
  cuda::narrow(Arithmetic<E>(0), &value);
  if (s.data) {
    value = static_cast<const E*>(s.data)[group * s.group + position * s.position + unit * s.unit];
  }
  return value;
}

// h at a pixel that a tap reads: stored, initial, or zero outside.
template <class E>
GENFAST_DEVICE E hidden_at(const Launch& k, const Pixel& x, int unit) {
  if (inside(k, x)) return *element_of<E>(k.p.hidden, x, unit);
  const bool edge = k.diagonal ? x.row >= 0 && x.column < 0 : x.column >= 0 && x.column < k.width;
  if (edge) return initial_state<E>(k.p.h0, x.group, position_of(k, x), unit);
  return initial_state<E>({}, 0, 0, 0);
}

// The cell state before a pixel's.
template <class E>
GENFAST_DEVICE Arithmetic<E> cell_before(const Launch& k, const Pixel& x, int unit) {
  using A = Arithmetic<E>;
  const Pixel before = {x.group, x.image, x.row - !k.diagonal, x.column - k.diagonal};
  if (inside(k, before)) return kept_of<A>(k, k.p.kept_cells, before, k.units)[unit];
  return cuda::widen(initial_state<E>(k.p.c0, x.group, position_of(k, x), unit));
}

// ---- the cell --------------------------------------------------------------------------------------

GENFAST_DEVICE float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
GENFAST_DEVICE double multiply_add(double a, double b, double c) { return fma(a, b, c); }

// Full precision for fp32 and fp64; for results that are rounded to 16 bits two special-function calls,
// with a relative error below 1e-5.
template <class E>
GENFAST_DEVICE Arithmetic<E> sigmoid_of(Arithmetic<E> x) {
  if constexpr (sizeof(E) == 2) {
    return cuda::sigmoid_fast(x);
  } else if constexpr (sizeof(E) == 4) {
    return 1.0f / (1.0f + expf(-x));
  } else {
    return 1.0 / (1.0 + exp(-x));
  }
}
template <class E>
GENFAST_DEVICE Arithmetic<E> tanh_of(Arithmetic<E> x) {
  if constexpr (sizeof(E) == 2) {
    const float magnitude = fabsf(x), u = cuda::exp_fast(-2.0f * magnitude);
    return copysignf(cuda::fast_abs_tanh(magnitude, u, __fdividef(1.0f, 1.0f + u)), x);
  } else if constexpr (sizeof(E) == 4) {
    return tanhf(x);
  } else {
    return tanh(x);
  }
}

template <class A>
struct Gates {
  A i, f, g, o;
};

template <class E>
GENFAST_DEVICE Gates<Arithmetic<E>> gates_of(const Arithmetic<E> (&a)[4]) {
  return {sigmoid_of<E>(a[0]), sigmoid_of<E>(a[1]), tanh_of<E>(a[2]), sigmoid_of<E>(a[3])};
}
template <class A>
GENFAST_DEVICE A next_cell(const Gates<A>& g, A before) {
  return multiply_add(g.f, before, g.i * g.g);
}

// Stores what forward keeps of a pixel.
template <class A>
GENFAST_DEVICE void keep_gates(const Launch& k, const Pixel& x, int unit, const Gates<A>& g) {
  A* to = kept_of<A>(k, k.p.kept_gates, x, 4 * k.units) + unit;
  to[0] = g.i, to[k.units] = g.f, to[2 * k.units] = g.g, to[3 * k.units] = g.o;
}

// What backward needs of a pixel and unit besides the gradients that come from later pixels.
template <class A>
struct Kept {
  Gates<A> gate;
  A cell, before, grad;
};

template <class E>
GENFAST_DEVICE Kept<Arithmetic<E>> load_kept(const Launch& k, const Pixel& x, int unit) {
  using A = Arithmetic<E>;
  const A* gate = kept_of<A>(k, k.p.kept_gates, x, 4 * k.units) + unit;
  return {{gate[0], gate[k.units], gate[2 * k.units], gate[3 * k.units]},
          kept_of<A>(k, k.p.kept_cells, x, k.units)[unit],
          cell_before<E>(k, x, unit),
          cuda::widen(*element_of<E>(k.p.grad, x, unit))};
}

// Gradients of the four pre-activations from those of h (of later pixels) and C; `dc` becomes the one of
// the cell state before.
template <class E>
GENFAST_DEVICE Gates<Arithmetic<E>> gate_gradients(const Kept<Arithmetic<E>>& x,
                                                   Arithmetic<E> from_later, Arithmetic<E>& dc) {
  using A = Arithmetic<E>;
  const Gates<A>& g = x.gate;
  const A t = tanh_of<E>(x.cell), dh = from_later + x.grad;
  const A d = multiply_add(dh * g.o, 1 - t * t, dc);
  dc = d * g.f;
  return {d * g.g * (g.i * (1 - g.i)), d * x.before * (g.f * (1 - g.f)), d * g.i * (1 - g.g * g.g),
          dh * t * (g.o * (1 - g.o))};
}

}  // namespace genfast::scan
