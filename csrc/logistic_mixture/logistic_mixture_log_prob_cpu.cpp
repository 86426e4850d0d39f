// Log-likelihood and its gradient on the CPU, a component of a block of pixels at a time.
#include "logistic_mixture/pixel_block_cpu.h"

namespace genfast::GENFAST_ISA {
namespace {

// ---- arithmetic ----------------------------------------------------------------------------------
// In passes over the block: what a pass does for a vector is short enough for the processor to work on
// several vectors at once, which one long chain of operations keeps it from.

// Rows that a component goes through.
template <class A, int kColors>
struct Terms : Rows<A, kColors> {
  using Base = Rows<A, kColors>;
  using Base::kStep;
  using typename Base::V;
  V exponent[Base::kVectors], numerator[Base::kVectors], denominator[Base::kVectors];
  V prior[Base::kVectors];  // up to the softmax's normaliser
  V mean[kColors][Base::kVectors], inverse_scale[kColors][Base::kVectors];
  V coupling[kColors][Base::kVectors];

  GENFAST_INLINE_MEMBER void write(int j, int64_t v, V x) const { store(this->out[j] + v * kStep, x); }
  GENFAST_INLINE_MEMBER Term<V> term(int c, int64_t v) const {
    return term_of(this->bin[c][v], mean[c][v], inverse_scale[c][v]);
  }
  // Of row `rows`, one value a colour.
  GENFAST_INLINE_MEMBER void colors_of(const V (*rows)[Base::kVectors], int64_t v, V* values) const {
    for (int c = 0; c < kColors; ++c) values[c] = rows[c][v];
  }
  GENFAST_INLINE_MEMBER void values_of(int64_t v, V* values) const {
    for (int c = 0; c < kColors; ++c) values[c] = this->bin[c][v].value;
  }
};

// A component's joint probability of a pixel is numerator / denominator * 2^exponent. It begins with the
// prior and what flat bins are to be multiplied with.
template <class A, int kColors>
GENFAST_ARITHMETIC begin_component(Terms<A, kColors>& r) {
  using V = typename Terms<A, kColors>::V;
  for (int64_t v = 0; v < r.vectors; ++v) {
    const Power<V> prior = power_of(at_least(r.channel(0, v) - r.top_logit[v], -Limits<V>::infinity));
    r.prior[v] = scaled(prior.mantissa, prior.exponent);
    r.exponent[v] = prior.exponent;
    r.numerator[v] = prior.mantissa;
    r.denominator[v] = constant<V>(1);
    r.fetch(0, v);
  }
  V flattest = constant<V>(0);
  for (int c = 0; c < kColors; ++c) {
    for (int64_t v = 0; v < r.vectors; ++v) {
      const V log_scale = r.channel(3 * c + 2, v), flat = flatness_of(r.bin[c][v], log_scale);
      r.inverse_scale[c][v] = inverse_scale_of(log_scale);
      flattest = flattest < flat ? flat : flattest;
    }
  }
  for (int64_t v = 0; v < r.vectors; ++v) {
    V own[kColors], value[kColors], mean[kColors];
    [[maybe_unused]] V coupling[kColors];
    for (int c = 0; c < kColors; ++c) own[c] = r.channel(3 * c + 1, v);
    for (int c = 0; kColors == 3 && c < kColors; ++c) {
      r.coupling[c][v] = coupling[c] = tanh_of(r.channel(3 * c + 3, v));
    }
    r.values_of(v, value);
    move_means<kColors>(own, coupling, value, mean);
    for (int c = 0; c < kColors; ++c) r.mean[c][v] = mean[c];
  }
  if (!any_positive(flattest)) return;
  for (int c = 0; c < kColors; ++c) {
    for (int64_t v = 0; v < r.vectors; ++v) {
      const V flat = flatness_of(r.bin[c][v], r.channel(3 * c + 2, v));
      const Power<V> factor = power_of(-at_least(flat, 0));
      r.exponent[v] = r.exponent[v] + factor.exponent;
      r.numerator[v] = r.numerator[v] * factor.mantissa;
    }
  }
}

template <bool kExact, class A, int kColors>
GENFAST_ARITHMETIC add_component(Terms<A, kColors>& r) {
  using V = typename Terms<A, kColors>::V;
  begin_component(r);
  for (int c = 0; c < kColors; ++c) {
    for (int64_t v = 0; v < r.vectors; ++v) {
      const Quotient<V> q = quotient_of<kExact>(r.bin[c][v], r.term(c, v));
      r.exponent[v] = r.exponent[v] + q.exponent;
      r.numerator[v] = r.numerator[v] * q.numerator;
      r.denominator[v] = r.denominator[v] * q.denominator;
      for (int j = 1; j <= r.kChannels / kColors; ++j) {
        if (3 * c + j < r.kChannels) r.fetch(3 * c + j, v);
      }
    }
  }
  for (int64_t v = 0; v < r.vectors; ++v) {
    r.total[v] = r.total[v] + r.prior[v];
    add_scaled(r.numerator[v] / r.denominator[v], r.exponent[v], r.top[v], r.sum[v]);
  }
}

// r.total and r.sum are inverse here. A row of the gradient may lie where its row of params does.
template <bool kExact, class A, int kColors>
GENFAST_ARITHMETIC differentiate_component(Terms<A, kColors>& r, const A* grad) {
  using V = typename Terms<A, kColors>::V;
  begin_component(r);
  for (int64_t v = 0; v < r.vectors; ++v) r.fetch_target(0, v);
  for (int c = 0; c < kColors; ++c) {
    for (int64_t v = 0; v < r.vectors; ++v) {
      const Slopes<V> s = slopes_of<kExact>(r.bin[c][v], r.term(c, v), r.channel(3 * c + 2, v));
      r.exponent[v] = r.exponent[v] + s.exponent;
      r.numerator[v] = r.numerator[v] * s.quotient;
      r.mean[c][v] = s.mean;
      r.inverse_scale[c][v] = s.log_scale;
      for (int j = 1; j <= r.kChannels / kColors; ++j) {
        if (3 * c + j >= r.kChannels) continue;
        r.fetch(3 * c + j, v);
        r.fetch_target(3 * c + j, v);
      }
    }
  }
  for (int64_t v = 0; v < r.vectors; ++v) {
    const V g = load(grad + v * r.kStep);
    const V posterior = scaled(r.numerator[v], r.exponent[v] - r.top[v]) * (r.sum[v] * g);
    r.write(0, v, posterior - g * (r.prior[v] * r.total[v]));
    V mean[kColors];
    for (int c = 0; c < kColors; ++c) {
      mean[c] = r.mean[c][v] * posterior;
      r.write(3 * c + 1, v, mean[c]);
      r.write(3 * c + 2, v, r.inverse_scale[c][v] * posterior);
    }
    if constexpr (kColors == 3) {
      V coupling[kColors], value[kColors], coefficient[kColors];
      r.colors_of(r.coupling, v, coupling);
      r.values_of(v, value);
      pull_back_coupling(mean, coupling, value, coefficient);
      for (int c = 0; c < kColors; ++c) r.write(3 * c + 3, v, coefficient[c]);
    }
  }
}

// ---- blocks --------------------------------------------------------------------------------------

template <class T, int kColors>
struct LogProb : Block<T, kColors, 4, Terms> {
  using Block<T, kColors, 4, Terms>::Block;

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
    this->put(3, 2, this->total);
    for (int64_t v = 0; v < this->vectors; ++v) {
      this->total[v] = log_of_scaled(this->sum[v] / this->total[v], this->top[v]);
    }
    this->put(2, 0, this->total);
  }
};

template <class T, int kColors>
struct Gradient : Block<T, kColors, 5, Terms> {
  using Block<T, kColors, 5, Terms>::Block;

  void run() {
    using V = typename Gradient::V;
    using A = typename Gradient::A;
    this->read_bins();
    this->read_logits(false);
    this->get(2, 0, this->top);
    this->get(2, 1, this->sum);
    this->get(2, 2, this->total);
    for (int64_t v = 0; v < this->vectors; ++v) {
      this->total[v] = constant<V>(1) / this->total[v];
      this->sum[v] = constant<V>(1) / this->sum[v];
    }
    const A* grad = this->template input<A>(3, 0, this->image[0]);
    const bool in_planes = this->in_planes(4);
    for (int64_t k = 0; k < this->p.mixtures; ++k) {
      this->read_component(k);
      for (int j = 0; j < this->kChannels; ++j) {
        const int64_t channel = j * this->p.mixtures + k;
        this->out[j] =
            in_planes ? this->plane(channel) : this->template output<T>(4, channel, this->written[j]);
        this->target[j] =
            in_planes ? this->template share<T>(4, 0, k, j) : this->template row_of<T>(4, 0, channel);
      }
      this->p.flag ? differentiate_component<true>(*this, grad)
                   : differentiate_component<false>(*this, grad);
      for (int j = 0; !in_planes && j < this->kChannels; ++j) {
        this->template finish<T>(4, j * this->p.mixtures + k, this->out[j]);
      }
    }
    if (in_planes) {
      write_planes(this->planes.rows, kPixelsApart, this->pixels, this->channels(),
                   this->template place<T>(4, 0), this->stride[4]);
    }
  }
};

}  // namespace

void logistic_mixture_log_prob_fwd_cpu(const LogisticMixture<4>& p) { run<LogProb>(p); }
void logistic_mixture_log_prob_bwd_cpu(const LogisticMixture<5>& p) { run<Gradient>(p); }

}  // namespace genfast::GENFAST_ISA
