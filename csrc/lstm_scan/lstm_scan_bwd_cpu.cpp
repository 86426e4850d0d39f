#include "common/parallel.h"
#include "lstm_scan/scan_recompute.h"

namespace genfast::GENFAST_ISA {
namespace {

// weight^T a of the pixels that read h of these M pixels, a block of kVectors vectors of units.
template <int M, int kVectors, class A, class V>
static __attribute__((noinline)) void gradient_of_h(const Walk<A>& w, const A* da, int64_t next,
                                                    int64_t unit, V (&sum)[M][kVectors]) {
  const int64_t outputs = 4 * w.l.padded, block = kVectors * kLanesOf<A>;
  const A* weight = w.turned + unit * w.l.taps * outputs;
  GENFAST_EACH_PIXEL(M) { GENFAST_EACH_VECTOR(kVectors) sum[i][j] = V{}; }
  for (int64_t tap = 0; tap < w.l.taps; ++tap, weight += outputs * block) {
    multiply_add<M, kVectors>(outputs, da - w.source[tap] * w.l.pitch, next, 1, weight, block, sum);
  }
}

// M pixels of a line, a block of vectors of units. Where x.kept is, gates are read; da is written.
template <int M, int kVectors, class A>
static void backward_tile(const Walk<A>& w, const BackwardImage<A>& x, const View<A>& kept,
                          const Line& line, int64_t first, int64_t unit) {
  using V = VectorFor<A>;
  const int64_t r = line.r + first * w.down, c = line.c + first * w.right;
  A *da = x.da + w.l.at(r, c) * w.l.pitch, *state = x.state + (w.position(line) + first) * w.l.padded;
  const A* cell = x.cells + w.l.at(r, c) * w.l.padded;
  V sum[M][kVectors];
  gradient_of_h<M, kVectors>(w, da, w.next() * w.l.pitch, unit, sum);
  for (int i = 0; i < M; ++i) {
    const A* gates = kept.at(r + i * w.down, c + i * w.right);
    const A* grad = x.grad.at(r + i * w.down, c + i * w.right);
    for (int j = 0; j < kVectors; ++j) {
      const int64_t u = unit + j * kLanesOf<A>;
      const V in = load(gates + u), forget = load(gates + kept.gate + u);
      const V g = load(gates + 2 * kept.gate + u), out = load(gates + 3 * kept.gate + u);
      const V t = tanh_of(load(cell + u)), dh = sum[i][j] + load(grad + u);
      const V dc = dh * out * (1 - t * t) + load(state + u);
      store(state + u, dc * forget);
      const V before = load(cell + w.before * w.l.padded + u);
      store_gates(da + u, w.l.padded,
                  Gates<V>{dc * g * (in * (1 - in)), dc * before * (forget * (1 - forget)),
                           dc * in * (1 - g * g), dh * t * (out * (1 - out))});
    }
    da += w.next() * w.l.pitch, cell += w.next() * w.l.padded, state += w.l.padded;
  }
}

template <class A>
static void backward_image(const Walk<A>& w, const BackwardImage<A>& x, const View<A>& kept) {
  for (int64_t s = lines(w.p) - 1; s >= 0; --s) {
    const Line now = line(w.p, s);
    in_unit_blocks<A>(w.l.padded, [&](int64_t unit, auto vectors) {
      in_tiles(now.count, [&](int64_t first, auto m) {
        backward_tile<decltype(m)::value, decltype(vectors)::value>(w, x, kept, now, first, unit);
      });
    });
  }
}

// M outputs of one tap, a block of vectors of units, over some rows of the image.
template <int M, int kVectors, class A>
static __attribute__((noinline)) void weight_tile(const Walk<A>& w, const BackwardImage<A>& x,
                                                  int64_t first_row, int64_t last_row, int64_t tap,
                                                  int64_t output, int64_t unit, A* to) {
  using V = VectorFor<A>;
  V sum[M][kVectors];
  GENFAST_EACH_PIXEL(M) { GENFAST_EACH_VECTOR(kVectors) sum[i][j] = V{}; }
  for (int64_t r = first_row; r < last_row; ++r) {
    const int64_t here = w.l.at(r, 0);
    multiply_add<M, kVectors>(w.p.width, x.da + here * w.l.pitch + output, 1, w.l.pitch,
                              x.hidden + (here + w.source[tap]) * w.l.padded + unit, w.l.padded, sum);
  }
  GENFAST_EACH_PIXEL(M) {
    GENFAST_EACH_VECTOR(kVectors) {
      A* at = to + i * w.l.padded + j * kLanesOf<A>;
      store(at, load(at) + sum[i][j]);
    }
  }
}

// to (tap, output, unit) += da h^T. A few rows at a time, whose h stays in the nearest cache.
template <class A>
static void add_weight_gradient(const Walk<A>& w, const BackwardImage<A>& x, A* to) {
  constexpr int64_t kRows = 4;
  const int64_t outputs = 4 * w.l.padded;
  for (int64_t r = 0; r < w.p.height; r += kRows) {
    const int64_t last = r + kRows < w.p.height ? r + kRows : w.p.height;
    for (int64_t tap = 0; tap < w.l.taps; ++tap) {
      in_unit_blocks<A>(w.l.padded, [&](int64_t unit, auto vectors) {
        in_tiles(outputs, [&](int64_t output, auto m) {
          weight_tile<decltype(m)::value, decltype(vectors)::value>(
              w, x, r, last, tap, output, unit, to + (tap * outputs + output) * w.l.padded + unit);
        });
      });
    }
  }
}

// The gradient of the initial h: that of the line before the first, column or row -1.
template <class A>
static void add_state_gradient(const Walk<A>& w, const A* da, A* to) {
  const int64_t r = w.p.diagonal ? 0 : -1, c = w.p.diagonal ? -1 : 0;
  const int64_t next = (w.p.diagonal ? w.l.row : 1) * w.l.pitch;
  in_unit_blocks<A>(w.l.padded, [&](int64_t unit, auto vectors) {
    in_tiles(w.l.positions, [&](int64_t first, auto m) {
      VectorFor<A> sum[m.value][vectors.value];
      gradient_of_h<m.value, vectors.value>(w, da + w.l.at(r, c) * w.l.pitch + first * next, next, unit,
                                            sum);
      for (int i = 0; i < m.value; ++i) {
        for (int j = 0; j < vectors.value; ++j) {
          A* at = to + (first + i) * w.l.padded + unit + j * kLanesOf<A>;
          store(at, load(at) + sum[i][j]);
        }
      }
    });
  });
}

template <class A>
GENFAST_INLINE void clear(A* values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) values[i] = 0;
}

// Adds up the parts' sums, in order.
template <class T>
static void write_weight_gradient(const LstmScan& p, const ScanLayout& l, int64_t group,
                                  const Arithmetic<T>* parts, int64_t pitch) {
  const ScanWeight& g = p.grad_weight;
  T* to = static_cast<T*>(g.data) + group * g.group;
  for (int64_t output = 0; output < 4 * p.units; ++output) {
    const int64_t padded = output / p.units * l.padded + output % p.units;
    for (int64_t tap = 0; tap < l.taps; ++tap) {
      for (int64_t unit = 0; unit < p.units; ++unit) {
        const Arithmetic<T>* from = parts + (tap * 4 * l.padded + padded) * l.padded + unit;
        Arithmetic<T> sum = 0;
        for (int64_t part = 0; part < scan_parts(p); ++part) sum += from[part * pitch];
        narrow(sum, to + output * g.output + unit * g.unit + tap * g.tap);
      }
    }
  }
}

template <class T>
static void write_state_gradient(const LstmScan& p, const ScanLayout& l, const ScanState& g,
                                 int64_t group, const Arithmetic<T>* parts, int64_t pitch) {
  T* to = static_cast<T*>(g.data) + group * g.group;
  for (int64_t at = 0; at < l.positions; ++at) {
    for (int64_t unit = 0; unit < p.units; ++unit) {
      Arithmetic<T> sum = 0;
      for (int64_t part = 0; part < scan_parts(p); ++part) {
        sum += parts[part * pitch + at * l.padded + unit];
      }
      narrow(sum, to + at * g.position + unit * g.unit);
    }
  }
}

template <class T>
static void backward(const LstmScan& p) {
  using A = Arithmetic<T>;
  Walk<A> w(p);
  const ScanLayout& l = w.l;
  const ScanScratch places = scan_scratch(l, true);
  A* const packed = static_cast<A*>(p.workspace);
  A* const parts = packed + 2 * l.weights;
  w.weight = packed, w.turned = packed + l.weights;
  const int64_t line_size = l.positions * l.padded;
  const int64_t border = p.diagonal ? l.at(0, -1) : l.at(-1, 0), border_next = p.diagonal ? l.row : 1;
  for (int64_t group = 0; group < p.groups; ++group) {
    if (!p.kept_gates) pack_weight<T>(p, l, group, packed);
    pack_turned_weight<T>(p, l, group, packed + l.weights);
    over_parts(p, [&](int64_t part, int64_t begin, int64_t end) {
      A* const scratch = parts + part * places.total;
      A* const grad = scratch + places.grad;
      BackwardImage<A> x = {};
      x.hidden = scratch + places.hidden, x.cells = scratch + places.cells;
      x.da = scratch + places.gates, x.state = scratch + places.state;
      clear(x.da, l.pixels * l.pitch);
      clear(x.hidden, l.pixels * l.padded);
      clear(x.cells, l.pixels * l.padded);
      if (p.h0.data) {
        read_states<T>(l, p, p.h0, group, x.hidden + border * l.padded, border_next * l.padded);
      }
      if (p.c0.data) {
        read_states<T>(l, p, p.c0, group, x.cells + border * l.padded, border_next * l.padded);
      }
      clear(scratch + places.grad_weight, l.weights);
      clear(scratch + places.grad_h0, line_size);
      clear(scratch + places.grad_c0, line_size);
      const View<A> here = {x.da + l.at(0, 0) * l.pitch, l.row * l.pitch, l.pitch, l.padded};
      for (int64_t image = begin; image < end; ++image) {
        read_image(l, p, Image<T>(p.hidden, group, image), 1, x.hidden, l.padded);
        const Image<T> in(p.gates, group, image), above(p.grad, group, image);
        x.grad = {grad + l.at(0, 0) * l.padded, l.row * l.padded, l.padded, 0};
        if (readable_in_place<T>(above.channel, p.units)) {
          x.grad = view<A>(above, 0);
        } else {
          read_image(l, p, above, 1, grad, l.padded);
        }
        View<A> kept = here;
        if (p.kept_gates) {
          read_image(l, p, kept_cells<A>(p, group, image), 1, x.cells, l.padded);
          if (readable_in_place<A>(1, p.units)) {
            kept = view<A>(kept_gates<A>(p, group, image), p.units);
          } else {
            read_image(l, p, kept_gates<A>(p, group, image), 4, x.da, l.pitch);
          }
        } else {
          x.gates = here;
          if (readable_in_place<T>(in.channel, p.units)) {
            x.gates = view<A>(in, p.units);
          } else {
            read_image(l, p, in, 4, x.da, l.pitch);
          }
          recompute_image(w, x);
        }
        clear(x.state, line_size);
        backward_image(w, x, kept);
        if (p.grad_weight.data) add_weight_gradient(w, x, scratch + places.grad_weight);
        if (p.grad_h0.data) add_state_gradient(w, x.da, scratch + places.grad_h0);
        if (p.grad_c0.data) {
          for (int64_t i = 0; i < line_size; ++i) scratch[places.grad_c0 + i] += x.state[i];
        }
        write_image(l, p, x.da, l.pitch, 4, Image<T>(p.grad_gates, group, image));
      }
    });
    if (p.grad_weight.data) {
      write_weight_gradient<T>(p, l, group, parts + places.grad_weight, places.total);
    }
    if (p.grad_h0.data) {
      write_state_gradient<T>(p, l, p.grad_h0, group, parts + places.grad_h0, places.total);
    }
    if (p.grad_c0.data) {
      write_state_gradient<T>(p, l, p.grad_c0, group, parts + places.grad_c0, places.total);
    }
  }
}

}  // namespace

void lstm_scan_bwd_cpu(const LstmScan& p) { GENFAST_DISPATCH_DTYPE(p.dtype, backward<T>(p)); }

}  // namespace genfast::GENFAST_ISA
