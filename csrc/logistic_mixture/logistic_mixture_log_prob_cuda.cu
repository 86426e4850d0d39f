// Log-likelihood and its gradient on CUDA: a thread a pixel, in one pass over memory each way. Where a
// channel's pixels lie side by side, a warp's accesses do too. Where a pixel's channels do
// (channels-last), the threads of a block first copy their pixels' rows to shared memory together, and
// the gradient back likewise.
#include "logistic_mixture/pixel_cuda.h"

namespace genfast {
namespace {

constexpr int64_t kMaxTileBytes = 96 << 10;  // of shared memory: two blocks a multiprocessor everywhere

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

// ---- a component ---------------------------------------------------------------------------------

// The means, the tanh of the coefficients, and the values of the colours.
template <int kColors, class V>
GENFAST_DEVICE void couple(const V* channel, const Bin<V>* bin, V* mean, V* coupling, V* value) {
  V own[kColors];
#pragma unroll
  for (int c = 0; c < kColors; ++c) {
    own[c] = channel[3 * c + 1];
    value[c] = bin[c].value;
    if (kColors == 3) coupling[c] = cuda::tanh_of(channel[3 * c + 3]);
  }
  cuda::move_means<kColors>(own, coupling, value, mean);
}

// A component's joint probability of a pixel as numerator / denominator * 2^exponent, and its prior up
// to the softmax's normaliser. It begins with the prior and what flat bins are to be multiplied with.
template <class V>
struct Joint {
  V prior, exponent, numerator;
};
template <int kColors, class V>
GENFAST_DEVICE Joint<V> begin_component(const V* channel, const Bin<V>* bin, V top_logit) {
  const V infinity = cuda::constant<V>(cuda::Limits<V>::infinity);
  const cuda::Power<V> prior = cuda::power_of(cuda::at_least(channel[0] - top_logit, -infinity));
  Joint<V> joint{cuda::scaled(prior.mantissa, prior.exponent), prior.exponent, prior.mantissa};
#pragma unroll
  for (int c = 0; c < kColors; ++c) {
    const V flat = cuda::flatness_of(bin[c], channel[3 * c + 2]);
    if (!cuda::any_positive(flat)) continue;
    const cuda::Power<V> factor = cuda::power_of(-flat);
    joint.exponent += factor.exponent;
    joint.numerator *= factor.mantissa;
  }
  return joint;
}

template <int kColors, bool kExact, class V>
GENFAST_DEVICE V component_quotient(const V* channel, const Bin<V>* bin, Joint<V>& joint) {
  V mean[kColors], coupling[kColors], value[kColors];
  couple<kColors>(channel, bin, mean, coupling, value);
  V denominator = cuda::constant<V>(1);
#pragma unroll
  for (int c = 0; c < kColors; ++c) {
    const cuda::Term<V> t = cuda::term_of(bin[c], mean[c], cuda::inverse_scale_of(channel[3 * c + 2]));
    const cuda::Quotient<V> q = cuda::quotient_of<kExact>(bin[c], t);
    joint.exponent += q.exponent;
    joint.numerator *= q.numerator;
    denominator *= q.denominator;
  }
  return joint.numerator / denominator;
}

// Puts the gradient of a component's log-probability in the place of its means, log-scales and
// coefficients, all of it times the weight factor * numerator * 2^(exponent - top), and returns the
// weight.
template <int kColors, bool kExact, class V>
GENFAST_DEVICE V component_gradient(V* channel, const Bin<V>* bin, Joint<V> joint, V top, V factor) {
  V mean[kColors], coupling[kColors], value[kColors];
  couple<kColors>(channel, bin, mean, coupling, value);
#pragma unroll
  for (int c = 0; c < kColors; ++c) {
    const V log_scale = channel[3 * c + 2];
    const cuda::Term<V> t = cuda::term_of(bin[c], mean[c], cuda::inverse_scale_of(log_scale));
    const cuda::Slopes<V> s = cuda::slopes_of<kExact>(bin[c], t, log_scale);
    joint.exponent += s.exponent;
    joint.numerator *= s.quotient;
    channel[3 * c + 1] = s.mean;
    channel[3 * c + 2] = s.log_scale;
  }
  const V weight = cuda::scaled(joint.numerator, joint.exponent - top) * factor;
#pragma unroll
  for (int c = 0; c < kColors; ++c) {
    channel[3 * c + 1] = channel[3 * c + 1] * weight;
    channel[3 * c + 2] = channel[3 * c + 2] * weight;
  }
  if constexpr (kColors == 3) {
    const V moved[3] = {channel[1], channel[4], channel[7]};
    V coefficient[3];
    cuda::pull_back_coupling(moved, coupling, value, coefficient);
    for (int c = 0; c < 3; ++c) channel[3 * c + 3] = coefficient[c];
  }
  return weight;
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
    Joint<A> joint = begin_component<kColors>(channel, bin, first);
    total += joint.prior;
    const A quotient = component_quotient<kColors, kExact>(channel, bin, joint);
    cuda::add_scaled(quotient, joint.exponent, top, sum);
  }
  *place<A>(p, offset, 2, 0) = cuda::log_of_scaled(sum / total, top);
  *place<A>(p, offset, 3, 0) = top;
  *place<A>(p, offset, 3, 1) = sum;
  *place<A>(p, offset, 3, 2) = total;
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
  const A prior_factor = grad / *place<const A>(p, offset, 2, 2);
  const A factor = grad / *place<const A>(p, offset, 2, 1);
  for (int64_t k = 0; k < p.mixtures; ++k) {
    A channel[Component<kColors>::channels];
    read_component<kColors>(channels, p.mixtures, k, channel);
    const Joint<A> joint = begin_component<kColors>(channel, bin, first);
    const A posterior = component_gradient<kColors, kExact>(channel, bin, joint, top, factor);
    channel[0] = posterior - prior_factor * joint.prior;
#pragma unroll
    for (int j = 0; j < Component<kColors>::channels; ++j) {
      gradient.set(j * p.mixtures + k, channel[j]);
    }
  }
}

// ---- kernels -------------------------------------------------------------------------------------

// Calls body(offsets, params, gradient of params) for every pixel, one a thread at a time. `tile` is the
// distance of rows in shared memory, or 0 if none is used: then the channels of a block's pixels are
// copied there together, and if there is a gradient (the last of five operands), it comes back the same
// way.
template <class T, int kColors, int K, class Body>
__device__ __forceinline__ void each_pixel(const LogisticMixture<K>& p, int64_t pixels, int tile,
                                           const Body& body) {
  constexpr bool kDifferentiates = K == 5;
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
      int64_t offset[K];
      locate(p.pixels, start + thread, offset);
      const Channels<T> own{shared + thread * tile, 1};
      const auto channels = [&](int k) {
        return tile ? own : Channels<T>{place<T>(p, offset, k, 0), p.channel_stride[k]};
      };
      body(offset, channels(0), channels(kDifferentiates ? K - 1 : 0));
    }
    if (!tile) continue;
    __syncthreads();
    if constexpr (kDifferentiates) {
      copy_rows(shared, tile, static_cast<T*>(p.operand[K - 1]) + start * count, count, here, count);
      __syncthreads();
    }
  }
}

template <class T, int kColors>
__global__ void __launch_bounds__(kThreads)
    logistic_mixture_log_prob_fwd_kernel(LogisticMixture<4> p, int64_t pixels, int tile) {
  each_pixel<T, kColors>(p, pixels, tile,
                         [&](const int64_t (&offset)[4], const Channels<T>& in, const Channels<T>&) {
                           if (p.flag) {
                             log_prob_of_pixel<kColors, true>(p, offset, in);
                           } else {
                             log_prob_of_pixel<kColors, false>(p, offset, in);
                           }
                         });
}

// In doubles, with as many registers as it wants: left to itself, ptxas would spill some.
template <class T, int kColors>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 2 : 0)
    logistic_mixture_log_prob_bwd_kernel(LogisticMixture<5> p, int64_t pixels, int tile) {
  each_pixel<T, kColors>(p, pixels, tile,
                         [&](const int64_t (&offset)[5], const Channels<T>& in, const Channels<T>& out) {
                           if (p.flag) {
                             gradient_of_pixel<kColors, true>(p, offset, in, out);
                           } else {
                             gradient_of_pixel<kColors, false>(p, offset, in, out);
                           }
                         });
}

// ---- launches ------------------------------------------------------------------------------------

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

}  // namespace genfast
