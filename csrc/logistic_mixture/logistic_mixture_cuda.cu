// The logistic mixture on CUDA: a thread a pixel, in one pass over memory each way. Where a channel's
// pixels lie side by side, a warp's accesses do too. Where a pixel's channels do (channels-last), the
// threads of a block first copy their pixels' rows to shared memory together, and the gradient back
// likewise.
#include "common/cuda_elements.h"
#include "logistic_mixture/logistic_mixture.h"

namespace genfast::cuda {

// ---- what logistic_term.h asks for ---------------------------------------------------------------

template <class V>
struct Decay {
  V value, rest;  // e^-x, 1 - e^-x
};

template <class V>
GENFAST_DEVICE V constant(double x) {
  return static_cast<V>(x);
}

GENFAST_DEVICE float exp_of(float x) { return expf(x); }
GENFAST_DEVICE float log_of(float x) { return logf(x); }
GENFAST_DEVICE float tanh_of(float x) { return tanhf(x); }
GENFAST_DEVICE float absolute(float x) { return fabsf(x); }
GENFAST_DEVICE float nearest(float x) { return rintf(x); }
GENFAST_DEVICE Decay<float> exponential_decay(float x) { return {expf(-x), -expm1f(-x)}; }

GENFAST_DEVICE double exp_of(double x) { return exp(x); }
GENFAST_DEVICE double log_of(double x) { return log(x); }
GENFAST_DEVICE double tanh_of(double x) { return tanh(x); }
GENFAST_DEVICE double absolute(double x) { return fabs(x); }
GENFAST_DEVICE double nearest(double x) { return rint(x); }
GENFAST_DEVICE Decay<double> exponential_decay(double x) { return {exp(-x), -expm1(-x)}; }

// A NaN in x passes through both.
template <class V>
GENFAST_DEVICE V at_least(V x, V low) {
  return x < low ? low : x;
}
template <class V>
GENFAST_DEVICE V at_most(V x, V high) {
  return x > high ? high : x;
}

}  // namespace genfast::cuda

#include "logistic_mixture/logistic_term.h"

namespace genfast {
namespace {

using cuda::Arithmetic;
using cuda::Bin;
using cuda::Component;

constexpr int kThreads = 128;
constexpr int64_t kMaxBlocks = 1 << 14;      // beyond that the threads loop
constexpr int64_t kMaxTileBytes = 96 << 10;  // of shared memory: two blocks a multiprocessor everywhere

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

// Where pixel `index` lies in each of the K operands.
template <int K>
GENFAST_DEVICE void locate(const StridedLoop<K>& loop, int64_t index, int64_t* offset) {
#pragma unroll
  for (int k = 0; k < K; ++k) offset[k] = 0;
  for (int d = loop.dims - 1; d >= 0; --d) {
    const int64_t above = d > 0 ? index / loop.size[d] : 0;
    const int64_t place = index - above * loop.size[d];
    index = above;
#pragma unroll
    for (int k = 0; k < K; ++k) offset[k] += place * loop.stride[k][d];
  }
}

// Copies `count` pixels' rows of `channels` elements, each warp a row at a time, between memory where
// rows are `from_step` and `to_step` elements apart.
template <class T>
GENFAST_DEVICE void copy_rows(const T* from, int64_t from_step, T* to, int64_t to_step, int count,
                              int channels) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  for (int row = warp; row < count; row += kThreads / 32) {
    for (int c = lane; c < channels; c += 32) to[row * to_step + c] = from[row * from_step + c];
  }
}

template <int kColors, class A, int K>
GENFAST_DEVICE void read_bins(const LogisticMixture<K>& p, const int64_t* offset, Bin<A>* bin) {
  const cuda::Grid<A> grid = cuda::grid_of<A>(p.levels, p.log_spacing);
#pragma unroll
  for (int c = 0; c < kColors; ++c) {
    const A x = *place<const A>(p, offset, 1, c);
    bin[c] = p.flag ? cuda::bin_of<true>(x, grid) : cuda::bin_of<false>(x, grid);
  }
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

// ---- a pixel -------------------------------------------------------------------------------------

template <int kColors, bool kExact, class T>
GENFAST_DEVICE void log_prob_of_pixel(const LogisticMixture<4>& p, const int64_t* offset,
                                      const Channels<T>& channels) {
  using A = Arithmetic<T>;
  Bin<A> bin[kColors];
  read_bins<kColors>(p, offset, bin);
  const A first = top_logit(channels, p.mixtures);
  A total = 0, sum = 0, top = cuda::constant<A>(-3e38);
  for (int64_t k = 0; k < p.mixtures; ++k) {
    A channel[Component<kColors>::channels];
    read_component<kColors>(channels, p.mixtures, k, channel);
    A exponent = channel[0] - first;
    total += cuda::exp_of(exponent);
    const A quotient = cuda::component_quotient<kColors, kExact>(channel, bin, exponent);
    cuda::add_exponential(quotient, exponent, top, sum);
  }
  *place<A>(p, offset, 2, 0) = top + cuda::log_of(sum / total);
  *place<A>(p, offset, 3, 0) = top;
  *place<A>(p, offset, 3, 1) = sum;
}

// `gradient` may be the place of the channels themselves.
template <int kColors, bool kExact, class T>
GENFAST_DEVICE void gradient_of_pixel(const LogisticMixture<5>& p, const int64_t* offset,
                                      const Channels<T>& channels, const Channels<T>& gradient) {
  using A = Arithmetic<T>;
  Bin<A> bin[kColors];
  read_bins<kColors>(p, offset, bin);
  const A first = top_logit(channels, p.mixtures);
  const A grad = *place<const A>(p, offset, 3, 0), top = *place<const A>(p, offset, 2, 0);
  const A prior_factor = grad / normaliser(channels, p.mixtures, first);
  const A factor = grad / *place<const A>(p, offset, 2, 1);
  for (int64_t k = 0; k < p.mixtures; ++k) {
    A channel[Component<kColors>::channels];
    read_component<kColors>(channels, p.mixtures, k, channel);
    const A logit = channel[0] - first;
    const A posterior = cuda::component_gradient<kColors, kExact>(channel, bin, logit, top, factor);
    channel[0] = posterior - prior_factor * cuda::exp_of(logit);
#pragma unroll
    for (int j = 0; j < Component<kColors>::channels; ++j) {
      gradient.set(j * p.mixtures + k, channel[j]);
    }
  }
}

// ---- kernels -------------------------------------------------------------------------------------
// `tile` is the distance of rows in shared memory, or 0 if none is used.

template <class T, int kColors>
__global__ void __launch_bounds__(kThreads)
    logistic_mixture_log_prob_fwd_kernel(LogisticMixture<4> p, int64_t pixels, int tile) {
  T* shared = cuda::dyn_smem<T>();
  const int thread = static_cast<int>(threadIdx.x);
  const int count = Component<kColors>::channels * static_cast<int>(p.mixtures);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t start = static_cast<int64_t>(blockIdx.x) * kThreads; start < pixels; start += step) {
    const int here = pixels - start < kThreads ? static_cast<int>(pixels - start) : kThreads;
    if (tile) {
      copy_rows(static_cast<const T*>(p.operand[0]) + start * count, count, shared, tile, here, count);
      __syncthreads();
    }
    if (thread < here) {
      int64_t offset[4];
      locate(p.pixels, start + thread, offset);
      const Channels<T> channels = tile ? Channels<T>{shared + thread * tile, 1}
                                        : Channels<T>{place<T>(p, offset, 0, 0), p.channel_stride[0]};
      if (p.flag) {
        log_prob_of_pixel<kColors, true>(p, offset, channels);
      } else {
        log_prob_of_pixel<kColors, false>(p, offset, channels);
      }
    }
    if (tile) __syncthreads();
  }
}

template <class T, int kColors>
__global__ void __launch_bounds__(kThreads)
    logistic_mixture_log_prob_bwd_kernel(LogisticMixture<5> p, int64_t pixels, int tile) {
  T* shared = cuda::dyn_smem<T>();
  const int thread = static_cast<int>(threadIdx.x);
  const int count = Component<kColors>::channels * static_cast<int>(p.mixtures);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t start = static_cast<int64_t>(blockIdx.x) * kThreads; start < pixels; start += step) {
    const int here = pixels - start < kThreads ? static_cast<int>(pixels - start) : kThreads;
    if (tile) {
      copy_rows(static_cast<const T*>(p.operand[0]) + start * count, count, shared, tile, here, count);
      __syncthreads();
    }
    if (thread < here) {
      int64_t offset[5];
      locate(p.pixels, start + thread, offset);
      const Channels<T> own{shared + thread * tile, 1};
      const Channels<T> in = tile ? own : Channels<T>{place<T>(p, offset, 0, 0), p.channel_stride[0]};
      const Channels<T> out = tile ? own : Channels<T>{place<T>(p, offset, 4, 0), p.channel_stride[4]};
      if (p.flag) {
        gradient_of_pixel<kColors, true>(p, offset, in, out);
      } else {
        gradient_of_pixel<kColors, false>(p, offset, in, out);
      }
    }
    if (tile) {
      __syncthreads();
      copy_rows(shared, tile, static_cast<T*>(p.operand[4]) + start * count, count, here, count);
      __syncthreads();
    }
  }
}

template <class T, int kColors>
__global__ void __launch_bounds__(kThreads)
    logistic_mixture_sample_fwd_kernel(LogisticMixture<3> p, int64_t pixels) {
  using A = Arithmetic<T>;
  const cuda::Grid<A> grid = cuda::grid_of<A>(p.levels, p.log_spacing);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < pixels; i += step) {
    int64_t offset[3];
    locate(p.pixels, i, offset);
    const Channels<T> channels{place<T>(p, offset, 0, 0), p.channel_stride[0]};
    const A first = top_logit(channels, p.mixtures);
    const A threshold = *place<const A>(p, offset, 1, 0) * normaliser(channels, p.mixtures, first);
    // The first component at which the cumulative probability exceeds the uniform.
    int64_t k = 0;
    A cumulative = cuda::exp_of(channels.get(0) - first);
    while (k < p.mixtures - 1 && cumulative <= threshold) {
      ++k;
      cumulative += cuda::exp_of(channels.get(k) - first);
    }
    A channel[Component<kColors>::channels], uniform[kColors], x[kColors];
    read_component<kColors>(channels, p.mixtures, k, channel);
#pragma unroll
    for (int c = 0; c < kColors; ++c) uniform[c] = *place<const A>(p, offset, 1, c + 1);
    cuda::draw_pixel<kColors>(channel, uniform, grid, p.flag, x);
#pragma unroll
    for (int c = 0; c < kColors; ++c) *place<A>(p, offset, 2, c) = x[c];
  }
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

// Whether operand k is one array of rows of `channels` elements, in the order of the pixels.
template <int K>
bool is_rows(const LogisticMixture<K>& p, int k, int64_t channels) {
  if (p.channel_stride[k] != 1) return false;
  int64_t step = channels;
  for (int d = p.pixels.dims - 1; d >= 0; --d) {
    if (p.pixels.stride[k][d] != step) return false;
    step *= p.pixels.size[d];
  }
  return true;
}

// The distance of rows in a tile of shared memory, an odd number of 4-byte words, so that threads that
// read the same channel of their rows read from different banks; 0 if no tile is wanted or possible.
template <int K>
int tile_of(const LogisticMixture<K>& p, bool rows, int64_t channels) {
  const int64_t bytes = element_size(p.dtype), word = bytes == 2 ? 2 : 1;
  const int64_t step = ((channels + word - 1) / word | 1) * word;
  return rows && kThreads * step * bytes <= kMaxTileBytes ? static_cast<int>(step) : 0;
}

}  // namespace

void logistic_mixture_log_prob_fwd_cuda(const LogisticMixture<4>& p, cudaStream_t stream) {
  const int64_t pixels = pixels_of(p), channels = p.mixtures * (p.colors == 1 ? 3 : 10);
  if (pixels == 0) return;
  const int tile = tile_of(p, is_rows(p, 0, channels), channels);
  const size_t smem = static_cast<size_t>(kThreads * tile * element_size(p.dtype));
  GENFAST_DISPATCH_DTYPE(p.dtype, {
    using E = cuda::Element<T>;
    cuda::launch(p.colors == 1 ? logistic_mixture_log_prob_fwd_kernel<E, 1>
                               : logistic_mixture_log_prob_fwd_kernel<E, 3>,
                 blocks_for(pixels), kThreads, smem, stream, p, pixels, tile);
  });
}

void logistic_mixture_log_prob_bwd_cuda(const LogisticMixture<5>& p, cudaStream_t stream) {
  const int64_t pixels = pixels_of(p), channels = p.mixtures * (p.colors == 1 ? 3 : 10);
  if (pixels == 0) return;
  const int tile = tile_of(p, is_rows(p, 0, channels) && is_rows(p, 4, channels), channels);
  const size_t smem = static_cast<size_t>(kThreads * tile * element_size(p.dtype));
  GENFAST_DISPATCH_DTYPE(p.dtype, {
    using E = cuda::Element<T>;
    cuda::launch(p.colors == 1 ? logistic_mixture_log_prob_bwd_kernel<E, 1>
                               : logistic_mixture_log_prob_bwd_kernel<E, 3>,
                 blocks_for(pixels), kThreads, smem, stream, p, pixels, tile);
  });
}

void logistic_mixture_sample_fwd_cuda(const LogisticMixture<3>& p, cudaStream_t stream) {
  const int64_t pixels = pixels_of(p);
  if (pixels == 0) return;
  GENFAST_DISPATCH_DTYPE(p.dtype, {
    using E = cuda::Element<T>;
    cuda::launch(p.colors == 1 ? logistic_mixture_sample_fwd_kernel<E, 1>
                               : logistic_mixture_sample_fwd_kernel<E, 3>,
                 blocks_for(pixels), kThreads, 0, stream, p, pixels);
  });
}

}  // namespace genfast
