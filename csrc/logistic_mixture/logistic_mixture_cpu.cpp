// The kernels go over blocks of pixels: every channel of a block is a row, and component by component
// the rows are read once, in place where they already are contiguous floats. Nothing grows with the
// number of components: sums over them are running ones.
#include "logistic_mixture/logistic_mixture.h"

namespace genfast::GENFAST_ISA {

extern "C" double exp(double);
extern "C" double expm1(double);
extern "C" double log(double);
extern "C" double tanh(double);

// ---- what logistic_term.h asks for ---------------------------------------------------------------

template <class V>
struct Decay {
  V value, rest;  // e^-x, 1 - e^-x
};

template <class V>
GENFAST_INLINE V constant(double x) {
  return broadcast(static_cast<float>(x));
}
template <>
GENFAST_INLINE_MEMBER double constant<double>(double x) {
  return x;
}

// All exponents here are below 88 by construction.
GENFAST_INLINE Vec exp_of(Vec x) { return value(exp_parts_in_range(at_least(x, -87.0f))); }
GENFAST_INLINE Vec log_of(Vec x) { return log_normal(x); }
GENFAST_INLINE Decay<Vec> exponential_decay(Vec x) {
  const Exponential e = exp_parts_in_range(-x);
  return {value(e), -minus_one(e)};
}
GENFAST_INLINE Vec tanh_of(Vec x) {
  const Vec u = minus_one(exp_parts_in_range(at_least(-2.0f * abs(x), -87.0f)));
  return copy_sign(-u / (2.0f + u), x);
}
GENFAST_INLINE Vec absolute(Vec x) { return abs(x); }
GENFAST_INLINE Vec nearest(Vec x) {  // below 2^22
  const float magic = 12582912.0f;
  return (x + magic) - magic;
}

GENFAST_INLINE double exp_of(double x) { return exp(x); }
GENFAST_INLINE double log_of(double x) { return log(x); }
GENFAST_INLINE Decay<double> exponential_decay(double x) { return {exp(-x), -expm1(-x)}; }
GENFAST_INLINE double tanh_of(double x) { return tanh(x); }
GENFAST_INLINE double absolute(double x) { return __builtin_fabs(x); }
GENFAST_INLINE double at_least(double x, double low) { return x < low ? low : x; }
GENFAST_INLINE double at_most(double x, double high) { return x > high ? high : x; }
GENFAST_INLINE double nearest(double x) {  // below 2^51
  const double magic = 6755399441055744.0;
  return (x + magic) - magic;
}

GENFAST_INLINE double load(const double* p) { return *p; }
GENFAST_INLINE void store(double* p, double x) { *p = x; }

}  // namespace genfast::GENFAST_ISA

#include "logistic_mixture/logistic_term.h"

namespace genfast::GENFAST_ISA {
namespace {

template <class A>
struct VectorOf {
  using type = Vec;
  static constexpr int lanes = kLanes;
};
template <>
struct VectorOf<double> {
  using type = double;
  static constexpr int lanes = 1;
};

// Pixels in a block: long rows keep the number of memory pages at work small; but where the channels of
// a pixel lie side by side, the block is read again for every component and must stay in the cache.
constexpr int64_t kPixels = 128, kPixelsApart = 32;
constexpr int64_t kPixelGrain = 256;

// ---- arithmetic ----------------------------------------------------------------------------------
// Not inlined: the same for all element types that are computed in float.

#define GENFAST_ARITHMETIC static __attribute__((noinline)) void

// A block of pixels: the rows of the component at hand, and what the pixels' vectors have gathered.
template <class A, int kColors>
struct Rows {
  using V = typename VectorOf<A>::type;
  static constexpr int kStep = VectorOf<A>::lanes;
  static constexpr int64_t kVectors = kPixels / kStep;
  static constexpr int kChannels = Component<kColors>::channels;

  int64_t vectors;
  const A* in[kChannels];
  A* out[kChannels];
  V top_logit[kVectors], total[kVectors];  // of the softmax over the components
  V top[kVectors], sum[kVectors];          // evidence
  Bin<V> bin[kVectors][kColors];

  GENFAST_INLINE_MEMBER void load_channels(int64_t v, V* channel) const {
    for (int j = 0; j < kChannels; ++j) channel[j] = load(in[j] + v * kStep);
  }
};

template <bool kExact, class A, int kColors>
GENFAST_ARITHMETIC add_component(Rows<A, kColors>& r) {
  using V = typename Rows<A, kColors>::V;
  for (int64_t v = 0; v < r.vectors; ++v) {
    V channel[r.kChannels];
    r.load_channels(v, channel);
    V exponent = channel[0] - r.top_logit[v];
    r.total[v] = r.total[v] + exp_of(exponent);
    const V quotient = component_quotient<kColors, kExact>(channel, r.bin[v], exponent);
    add_exponential(quotient, exponent, r.top[v], r.sum[v]);
  }
}

// r.total and r.sum are inverse here.
template <bool kExact, class A, int kColors>
GENFAST_ARITHMETIC differentiate_component(Rows<A, kColors>& r, const A* grad) {
  using V = typename Rows<A, kColors>::V;
  for (int64_t v = 0; v < r.vectors; ++v) {
    V channel[r.kChannels];
    r.load_channels(v, channel);
    const V logit = channel[0] - r.top_logit[v], g = load(grad + v * r.kStep);
    const V prior = exp_of(logit) * r.total[v];
    const V posterior =
        component_gradient<kColors, kExact>(channel, r.bin[v], logit, r.top[v], r.sum[v] * g);
    channel[0] = posterior - g * prior;
    for (int j = 0; j < r.kChannels; ++j) store(r.out[j] + v * r.kStep, channel[j]);
  }
}

// ---- blocks --------------------------------------------------------------------------------------

// A block, its place in the operands, and buffers for the rows that cannot be used where they are.
template <class T, int kColors, int K>
struct Block : Rows<Arithmetic<T>, kColors> {
  using A = Arithmetic<T>;
  using typename Rows<A, kColors>::V;
  using Rows<A, kColors>::kChannels, Rows<A, kColors>::kStep, Rows<A, kColors>::vectors;

  const LogisticMixture<K>& p;
  const Grid<V> grid;
  int64_t stride[K], offset[K], pixels;
  // What pads a ragged tail is computed with, so it must be some number.
  alignas(64) A read[kChannels][kPixels] = {};
  alignas(64) A image[4][kPixels] = {};
  alignas(64) A written[kChannels][kPixels];

  GENFAST_INLINE_MEMBER explicit Block(const LogisticMixture<K>& p)
      : p(p), grid(grid_of<V>(p.levels, p.log_spacing)) {
    for (int k = 0; k < K; ++k) stride[k] = p.pixels.stride[k][p.pixels.dims - 1];
  }

  // Operand k, whose elements are of type E.
  template <class E>
  GENFAST_INLINE_MEMBER E* place(int k, int64_t channel) const {
    return static_cast<E*>(p.operand[k]) + offset[k] + channel * p.channel_stride[k];
  }
  template <class E>
  GENFAST_INLINE_MEMBER const A* input(int k, int64_t channel, A* buffer) const {
    return read_block(place<const E>(k, channel), stride[k], pixels, buffer);
  }
  template <class E>
  GENFAST_INLINE_MEMBER A* output(int k, int64_t channel, A* buffer) const {
    E* there = place<E>(k, channel);
    return in_place(there, stride[k], pixels) ? reinterpret_cast<A*>(there) : buffer;
  }
  template <class E>
  GENFAST_INLINE_MEMBER void finish(int k, int64_t channel, const A* buffer) const {
    E* there = place<E>(k, channel);
    if (!in_place(there, stride[k], pixels)) write_block(buffer, there, stride[k], pixels);
  }
  // Vectors as a row of operand k.
  GENFAST_INLINE_MEMBER void put(int k, int64_t channel, const V* values) {
    A* row = output<A>(k, channel, written[0]);
    for (int64_t v = 0; v < vectors; ++v) store(row + v * kStep, values[v]);
    finish<A>(k, channel, row);
  }
  GENFAST_INLINE_MEMBER void get(int k, int64_t channel, V* values) {
    const A* row = input<A>(k, channel, image[0]);
    for (int64_t v = 0; v < vectors; ++v) values[v] = load(row + v * kStep);
  }

  GENFAST_INLINE_MEMBER void read_component(int64_t k) {
    for (int j = 0; j < kChannels; ++j) this->in[j] = input<T>(0, j * p.mixtures + k, read[j]);
  }

  // The logits' maximum and, if `sum`, the softmax's normaliser.
  GENFAST_INLINE_MEMBER void read_logits(bool sum) {
    for (int64_t k = 0; k < p.mixtures; ++k) {
      const A* logits = input<T>(0, k, read[0]);
      for (int64_t v = 0; v < vectors; ++v) {
        const V logit = load(logits + v * kStep);
        this->top_logit[v] = k == 0 || this->top_logit[v] < logit ? logit : this->top_logit[v];
      }
    }
    for (int64_t v = 0; v < vectors; ++v) this->total[v] = constant<V>(0);
    for (int64_t k = 0; sum && k < p.mixtures; ++k) {
      const A* logits = input<T>(0, k, read[0]);
      for (int64_t v = 0; v < vectors; ++v) {
        this->total[v] = this->total[v] + exp_of(load(logits + v * kStep) - this->top_logit[v]);
      }
    }
  }

  GENFAST_INLINE_MEMBER void read_bins() {
    for (int c = 0; c < kColors; ++c) {
      const A* x = input<A>(1, c, image[0]);
      for (int64_t v = 0; v < vectors; ++v) {
        const V value = load(x + v * kStep);
        this->bin[v][c] = p.flag ? bin_of<true>(value, grid) : bin_of<false>(value, grid);
      }
    }
  }
};

template <class T, int kColors>
struct LogProb : Block<T, kColors, 4> {
  using Block<T, kColors, 4>::Block;

  void run() {
    using V = typename LogProb::V;
    this->read_bins();
    this->read_logits(false);
    for (int64_t v = 0; v < this->vectors; ++v) {
      this->sum[v] = constant<V>(0);
      this->top[v] = constant<V>(-3e38);
    }
    for (int64_t k = 0; k < this->p.mixtures; ++k) {
      this->read_component(k);
      this->p.flag ? add_component<true>(*this) : add_component<false>(*this);
    }
    this->put(3, 0, this->top);
    this->put(3, 1, this->sum);
    for (int64_t v = 0; v < this->vectors; ++v) {
      this->total[v] = this->top[v] + log_of(this->sum[v] / this->total[v]);
    }
    this->put(2, 0, this->total);
  }
};

template <class T, int kColors>
struct Gradient : Block<T, kColors, 5> {
  using Block<T, kColors, 5>::Block;

  void run() {
    using V = typename Gradient::V;
    using A = typename Gradient::A;
    this->read_bins();
    this->read_logits(true);
    this->get(2, 0, this->top);
    this->get(2, 1, this->sum);
    for (int64_t v = 0; v < this->vectors; ++v) {
      this->total[v] = constant<V>(1) / this->total[v];
      this->sum[v] = constant<V>(1) / this->sum[v];
    }
    const A* grad = this->template input<A>(3, 0, this->image[0]);
    for (int64_t k = 0; k < this->p.mixtures; ++k) {
      this->read_component(k);
      for (int j = 0; j < this->kChannels; ++j) {
        this->out[j] = this->template output<T>(4, j * this->p.mixtures + k, this->written[j]);
      }
      this->p.flag ? differentiate_component<true>(*this, grad)
                   : differentiate_component<false>(*this, grad);
      for (int j = 0; j < this->kChannels; ++j) {
        this->template finish<T>(4, j * this->p.mixtures + k, this->out[j]);
      }
    }
  }
};

template <class T, int kColors>
struct Sample : Block<T, kColors, 3> {
  using Base = Block<T, kColors, 3>;
  using typename Base::A;
  using typename Base::V;
  V chosen[Base::kVectors][Base::kChannels];  // the channels of the component that was drawn

  using Base::Base;

  void run() {
    this->read_logits(true);
    choose();
    const A* uniform[kColors];
    for (int c = 0; c < kColors; ++c) {
      uniform[c] = this->template input<A>(1, c + 1, this->image[c]);
      this->out[c] = this->template output<A>(2, c, this->written[c]);
    }
    for (int64_t v = 0; v < this->vectors; ++v) {
      V u[kColors], x[kColors];
      for (int c = 0; c < kColors; ++c) u[c] = load(uniform[c] + v * Base::kStep);
      draw_pixel<kColors>(chosen[v], u, this->grid, this->p.flag, x);
      for (int c = 0; c < kColors; ++c) store(this->out[c] + v * Base::kStep, x[c]);
    }
    for (int c = 0; c < kColors; ++c) this->template finish<A>(2, c, this->out[c]);
  }

  // The first component at which the cumulative probability exceeds the uniform; overwriting for as long
  // as it has not been exceeded before leaves that one.
  GENFAST_INLINE_MEMBER void choose() {
    V* const threshold = this->total;
    V* const below = this->sum;
    const A* uniform = this->template input<A>(1, 0, this->image[0]);
    for (int64_t v = 0; v < this->vectors; ++v) {
      threshold[v] = load(uniform + v * Base::kStep) * this->total[v];
      below[v] = constant<V>(0);
    }
    for (int64_t k = 0; k < this->p.mixtures; ++k) {
      this->read_component(k);
      for (int64_t v = 0; v < this->vectors; ++v) {
        V channel[Base::kChannels];
        this->load_channels(v, channel);
        const auto open = below[v] <= threshold[v];
        for (int j = 0; j < Base::kChannels; ++j) {
          chosen[v][j] = k == 0 ? channel[j] : open ? channel[j] : chosen[v][j];
        }
        below[v] = below[v] + exp_of(channel[0] - this->top_logit[v]);
      }
    }
  }
};

// Runs Worker over all pixels, a block at a time.
template <class Worker, int K>
static void run_blocks(const LogisticMixture<K>& p) {
  const int inner = p.pixels.dims - 1;
  const int64_t width = p.pixels.size[inner];
  const int64_t most = p.pixels.stride[0][inner] == 1 ? kPixels : kPixelsApart;
  int64_t pixels = 1;
  for (int d = 0; d <= inner; ++d) pixels *= p.pixels.size[d];
  parallel_for(p.threads, pixels, kPixelGrain, [&](int64_t begin, int64_t end) {
    Worker worker(p);
    Row<K> row(p.pixels, begin / width);
    int64_t column = begin % width;
    for (int64_t at = begin; at < end;) {
      const int64_t rest = width - column < end - at ? width - column : end - at;
      int64_t n = rest < most ? rest : most;
      if (n > kLanes) n -= n % kLanes;  // a ragged tail goes through the buffers, in a round of its own
      for (int k = 0; k < K; ++k) worker.offset[k] = row.offset[k] + column * worker.stride[k];
      worker.pixels = n;
      worker.vectors = (n + Worker::kStep - 1) / Worker::kStep;
      worker.run();
      at += n;
      column += n;
      if (column == width) {
        column = 0;
        row.next();
      }
    }
  });
}

template <template <class, int> class Worker, int K>
static void run(const LogisticMixture<K>& p) {
  GENFAST_DISPATCH_DTYPE(p.dtype,
                         (p.colors == 1 ? run_blocks<Worker<T, 1>>(p) : run_blocks<Worker<T, 3>>(p)));
}

}  // namespace

void logistic_mixture_log_prob_fwd_cpu(const LogisticMixture<4>& p) { run<LogProb>(p); }
void logistic_mixture_log_prob_bwd_cpu(const LogisticMixture<5>& p) { run<Gradient>(p); }
void logistic_mixture_sample_fwd_cpu(const LogisticMixture<3>& p) { run<Sample>(p); }

}  // namespace genfast::GENFAST_ISA
