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
  GENFAST_EACH_ROW(M) { GENFAST_EACH_VECTOR(kVectors) sum[i][j] = V{}; }
  for (int64_t tap = 0; tap < w.l.taps; ++tap, weight += outputs * block) {
    V part[M][kVectors] = {};  // sums of their own are shorter, and round less
    multiply_add<M, kVectors>(outputs, da - w.source[tap] * w.l.pitch, next, 1, weight, block, part);
    GENFAST_EACH_ROW(M) { GENFAST_EACH_VECTOR(kVectors) sum[i][j] += part[i][j]; }
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
  will_need<M, kVectors>(x.grad.at(r, c) + unit, w.along(x.grad), kLanesOf<A>, -w.across(x.grad));
  GENFAST_EACH_VECTOR(kVectors) {
    const A* const gates = kept.at(r, c) + unit + j * kLanesOf<A>;
    will_need<M, 4>(gates, w.along(kept), kept.gate, -w.across(kept));
  }
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

// A team shares the pixels of a line.
template <class A>
static void backward_image(const Walk<A>& w, const BackwardImage<A>& x, const Team& team,
                           const View<A>& kept) {
  for (int64_t s = lines(w.p) - 1; s >= 0; --s) {
    const Line now = line(w.p, s);
    const int64_t own = team.first(now.count), count = team.last(now.count) - own;
    in_unit_blocks<A>(w.l.padded, [&](int64_t unit, auto vectors) {
      in_tiles(count, [&](int64_t first, auto m) {
        backward_tile<decltype(m)::value, decltype(vectors)::value>(w, x, kept, now, own + first, unit);
      });
    });
    team.meet();
  }
}

// M outputs of one tap, a block of vectors of units, over some rows of the image.
template <int M, int kVectors, class A>
static __attribute__((noinline)) void weight_tile(const Walk<A>& w, const BackwardImage<A>& x,
                                                  int64_t first_row, int64_t last_row, int64_t tap,
                                                  int64_t output, int64_t unit, A* to) {
  using V = VectorFor<A>;
  V sum[M][kVectors];
  GENFAST_EACH_ROW(M) { GENFAST_EACH_VECTOR(kVectors) sum[i][j] = V{}; }
  for (int64_t r = first_row; r < last_row; ++r) {
    const int64_t here = w.l.at(r, 0);
    multiply_add<M, kVectors>(w.p.width, x.da + here * w.l.pitch + output, 1, w.l.pitch,
                              x.hidden + (here + w.source[tap]) * w.l.padded + unit, w.l.padded, sum);
  }
  GENFAST_EACH_ROW(M) {
    GENFAST_EACH_VECTOR(kVectors) {
      A* at = to + i * w.l.padded + j * kLanesOf<A>;
      store(at, load(at) + sum[i][j]);
    }
  }
}

// to (tap, output, unit) += da h^T for some outputs. A few rows at a time, whose h stays in the nearest
// cache. Every element is summed in the same order whatever the range.
template <class A>
static void add_weight_gradient(const Walk<A>& w, const BackwardImage<A>& x, int64_t first_output,
                                int64_t last_output, A* to) {
  constexpr int64_t kRows = 4;
  for (int64_t r = 0; r < w.p.height; r += kRows) {
    const int64_t last = r + kRows < w.p.height ? r + kRows : w.p.height;
    for (int64_t tap = 0; tap < w.l.taps; ++tap) {
      in_unit_blocks<A>(w.l.padded, [&](int64_t unit, auto vectors) {
        in_tiles(last_output - first_output, [&](int64_t at, auto m) {
          const int64_t output = first_output + at;
          weight_tile<decltype(m)::value, decltype(vectors)::value>(
              w, x, r, last, tap, output, unit,
              to + (tap * 4 * w.l.padded + output) * w.l.padded + unit);
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

template <class T>
static void write_weight_gradient(const LstmScan& p, const ScanLayout& l, int64_t group,
                                  const Arithmetic<T>* sum) {
  const ScanWeight& g = p.grad_weight;
  T* to = static_cast<T*>(g.data) + group * g.group;
  for (int64_t output = 0; output < 4 * p.units; ++output) {
    const int64_t padded = output / p.units * l.padded + output % p.units;
    for (int64_t tap = 0; tap < l.taps; ++tap) {
      const Arithmetic<T>* from = sum + (tap * 4 * l.padded + padded) * l.padded;
      for (int64_t unit = 0; unit < p.units; ++unit) {
        narrow(from[unit], to + output * g.output + unit * g.unit + tap * g.tap);
      }
    }
  }
}

template <class T>
static void write_state_gradient(const LstmScan& p, const ScanLayout& l, const ScanState& g,
                                 int64_t group, const Arithmetic<T>* sum) {
  T* to = static_cast<T*>(g.data) + group * g.group;
  for (int64_t at = 0; at < l.positions; ++at) {
    for (int64_t unit = 0; unit < p.units; ++unit) {
      narrow(sum[at * l.padded + unit], to + at * g.position + unit * g.unit);
    }
  }
}

// An image at work, in its part of the workspace.
template <class T>
struct BackwardPart {
  using A = Arithmetic<T>;
  const Walk<A>& w;
  BackwardImage<A> x;
  A* grad;
  View<A> da;

  GENFAST_INLINE_MEMBER BackwardPart(const Walk<A>& w, A* scratch) : w(w), x() {
    const ScanLayout& l = w.l;
    const ScanScratch places = scan_scratch(l, true);
    x.hidden = scratch + places.hidden, x.cells = scratch + places.cells;
    x.da = scratch + places.gates, x.state = scratch + places.state;
    grad = scratch + places.grad;
    da = {x.da + l.at(0, 0) * l.pitch, l.row * l.pitch, l.pitch, l.padded};
  }

  // The borders, which stay as they are for all images of a group.
  void set_borders(int64_t group) {
    const ScanLayout& l = w.l;
    clear(x.da, l.pixels * l.pitch);
    clear(x.hidden, l.pixels * l.padded);
    clear(x.cells, l.pixels * l.padded);
    const int64_t first = w.p.diagonal ? l.at(0, -1) : l.at(-1, 0);
    const int64_t next = (w.p.diagonal ? l.row : 1) * l.padded;
    read_states<T>(l, w.p, w.p.h0, group, x.hidden + first * l.padded, next);
    read_states<T>(l, w.p, w.p.c0, group, x.cells + first * l.padded, next);
  }

  // Where the gates stand after their nonlinearities, kept or computed again: a member's rows of what is
  // kept, its units of what is computed.
  View<A> activated_gates(int64_t group, int64_t image, const Team& team) {
    const LstmScan& p = w.p;
    const ScanLayout& l = w.l;
    if (p.kept_gates) {
      const Image<A> kept = kept_gates<A>(p, group, image);
      const Range rows = rows_of(p, team);
      read_image(l, p, kept_cells<A>(p, group, image), 1, rows, x.cells, l.padded);
      if (readable_in_place<A>(1, p.units)) return view<A>(kept, p.units);
      read_image(l, p, kept, 4, rows, x.da, l.pitch);
      return da;
    }
    const Image<T> in(p.gates, group, image);
    const bool direct = readable_in_place<T>(in.channel, p.units);
    x.gates = direct ? view<A>(in, p.units) : da;
    const Range units = units_of(l, team);
    recompute_image(w, x, units, [&](int64_t r) {
      if (!direct) read_image_row(l, p, in, 4, r, units, da.at(r, 0), l.pitch);
    });
    return da;
  }

  void run(int64_t group, int64_t image, const Team& team) {
    const LstmScan& p = w.p;
    const ScanLayout& l = w.l;
    const Range rows = rows_of(p, team);
    read_image(l, p, Image<T>(p.hidden, group, image), 1, rows, x.hidden, l.padded);
    if (team.member == 0) clear(x.state, l.positions * l.padded);
    team.meet();
    const View<A> gates = activated_gates(group, image, team);
    const Image<T> above(p.grad, group, image);
    if (readable_in_place<T>(above.channel, p.units)) {
      x.grad = view<A>(above, 0);
    } else {
      x.grad = {grad + l.at(0, 0) * l.padded, l.row * l.padded, l.padded, 0};
      read_image(l, p, above, 1, rows, grad, l.padded);
    }
    team.meet();
    backward_image(w, x, team, gates);
    write_image(l, p, x.da, l.pitch, 4, rows, Image<T>(p.grad_gates, group, image));
  }

  // What the image adds to the gradients of weight, h0 and c0: a member's outputs of the first.
  void add_to(A* sums, const Team& team) const {
    const ScanLayout& l = w.l;
    if (w.p.grad_weight.data) {
      const int64_t pads = 4 * l.padded / kUnitPad;
      add_weight_gradient(w, x, team.first(pads) * kUnitPad, team.last(pads) * kUnitPad, sums);
    }
    if (team.member > 0) return;
    A *const sum_h0 = sums + l.weights, *const sum_c0 = sum_h0 + l.positions * l.padded;
    if (w.p.grad_h0.data) add_state_gradient(w, x.da, sum_h0);
    for (int64_t k = 0; w.p.grad_c0.data && k < l.positions * l.padded; ++k) sum_c0[k] += x.state[k];
  }
};

// A job scans some images, one after the other, and adds to sums of its own while they are in its
// caches.
template <class T>
static void backward_group(const Walk<Arithmetic<T>>& w, int64_t group, Arithmetic<T>* sums,
                           Arithmetic<T>* scratch) {
  using A = Arithmetic<T>;
  const LstmScan& p = w.p;
  const ScanLayout& l = w.l;
  const int64_t parts = scan_parts(p), jobs = scan_sums(p);
  const int64_t size = scan_sum_size(l), total = scan_scratch(l, true).total;
  parallel_for(p.threads, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) BackwardPart<T>(w, scratch + i * total).set_borders(group);
  });
  over_jobs(p, jobs, p.width < l.positions ? p.width : l.positions,
            [&](int64_t job, int64_t part, const Team& team) {
              BackwardPart<T> at_work(w, scratch + part * total);
              A* const sum = sums + job * size;
              if (team.member == 0) clear(sum, size);
              const int64_t end = p.images * (job + 1) / jobs;
              for (int64_t image = p.images * job / jobs; image < end; ++image) {
                at_work.run(group, image, team);
                at_work.add_to(sum, team);
                team.meet();
              }
            });
  parallel_for(p.threads, size, 1 << 12, [&](int64_t begin, int64_t end) {
    for (int64_t job = 1; job < jobs; ++job) {
      for (int64_t i = begin; i < end; ++i) sums[i] += sums[job * size + i];
    }
  });
  const A *const sum_h0 = sums + l.weights, *const sum_c0 = sum_h0 + l.positions * l.padded;
  if (p.grad_weight.data) write_weight_gradient<T>(p, l, group, sums);
  if (p.grad_h0.data) write_state_gradient<T>(p, l, p.grad_h0, group, sum_h0);
  if (p.grad_c0.data) write_state_gradient<T>(p, l, p.grad_c0, group, sum_c0);
}

template <class T>
static void backward(const LstmScan& p) {
  using A = Arithmetic<T>;
  Walk<A> w(p);
  A *const packed = static_cast<A*>(p.workspace), *const turned = packed + w.l.weights;
  w.weight = packed, w.turned = turned;
  for (int64_t group = 0; group < p.groups; ++group) {
    if (!p.kept_gates) pack_weight<T>(p, w.l, group, packed);
    pack_turned_weight<T>(p, w.l, group, turned);
    backward_group<T>(w, group, turned + w.l.weights, packed + scan_shared(p, w.l, true));
  }
}

}  // namespace

void lstm_scan_bwd_cpu(const LstmScan& p) { GENFAST_DISPATCH_DTYPE(p.dtype, backward<T>(p)); }

}  // namespace genfast::GENFAST_ISA
