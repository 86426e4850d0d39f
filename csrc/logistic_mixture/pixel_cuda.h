// What the kernels on CUDA share: a thread a pixel, where it lies in the operands, its channels.
#pragma once
#include "common/cuda_elements.h"
#include "common/cuda_strided.h"
#include "logistic_mixture/logistic_mixture.h"
#include "logistic_mixture/term_math_cuda.h"

#include "logistic_mixture/logistic_term.h"  // after the functions that it builds on

namespace genfast {
namespace {

using cuda::Arithmetic;
using cuda::Bin;
using cuda::Component;

constexpr int kThreads = 128;
constexpr int64_t kMaxBlocks = 1 << 14;  // beyond that the threads loop

// The channels of one pixel, in global memory or in shared.
template <class T>
struct Channels {
  T* base;
  int64_t step;

  GENFAST_DEVICE Arithmetic<T> get(int64_t channel) const { return cuda::widen(base[channel * step]); }
  GENFAST_DEVICE void set(int64_t channel, Arithmetic<T> x) const {
    cuda::narrow(x, base + channel * step);
  }
};

// The element of operand k for a pixel and a channel.
template <class E, int K>
GENFAST_DEVICE E* place(const LogisticMixture<K>& p, const int64_t* offset, int k, int64_t channel) {
  return static_cast<E*>(p.operand[k]) + offset[k] + channel * p.channel_stride[k];
}

template <class T>
GENFAST_DEVICE Arithmetic<T> top_logit(const Channels<T>& channels, int64_t mixtures) {
  Arithmetic<T> top = channels.get(0);
  for (int64_t k = 1; k < mixtures; ++k) {
    const Arithmetic<T> logit = channels.get(k);
    top = top < logit ? logit : top;
  }
  return top;
}

// Of the softmax over the components.
template <class T>
GENFAST_DEVICE Arithmetic<T> normaliser(const Channels<T>& channels, int64_t mixtures,
                                        Arithmetic<T> top) {
  Arithmetic<T> total = 0;
  for (int64_t k = 0; k < mixtures; ++k) total += cuda::exp_of(channels.get(k) - top);
  return total;
}

// The channels of component k.
template <int kColors, class T>
GENFAST_DEVICE void read_component(const Channels<T>& channels, int64_t mixtures, int64_t k,
                                   Arithmetic<T>* out) {
#pragma unroll
  for (int j = 0; j < Component<kColors>::channels; ++j) out[j] = channels.get(j * mixtures + k);
}

// ---- launches ------------------------------------------------------------------------------------

template <int K>
int64_t pixels_of(const LogisticMixture<K>& p) {
  int64_t pixels = 1;
  for (int d = 0; d < p.pixels.dims; ++d) pixels *= p.pixels.size[d];
  return pixels;
}

unsigned blocks_for(int64_t pixels) {
  const int64_t wanted = (pixels + kThreads - 1) / kThreads;
  return static_cast<unsigned>(wanted < kMaxBlocks ? wanted : kMaxBlocks);
}

}  // namespace
}  // namespace genfast
