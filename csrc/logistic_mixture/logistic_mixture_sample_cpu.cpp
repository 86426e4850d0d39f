// Draws from the mixture on the CPU.
#include "logistic_mixture/pixel_block_cpu.h"

namespace genfast::GENFAST_ISA {
namespace {

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
        const auto open = below[v] <= threshold[v];
        for (int j = 0; j < Base::kChannels; ++j) {
          if (k == 0) {
            chosen[v][j] = this->channel(j, v);
          } else {
            chosen[v][j] = open ? this->channel(j, v) : chosen[v][j];
          }
        }
        below[v] = below[v] + exp_of(this->channel(0, v) - this->top_logit[v]);
      }
    }
  }
};

}  // namespace

void logistic_mixture_sample_fwd_cpu(const LogisticMixture<3>& p) { run<Sample>(p); }

}  // namespace genfast::GENFAST_ISA
