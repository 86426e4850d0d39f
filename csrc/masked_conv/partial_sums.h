// Sums over all pixels, for the gradients of weight and bias: how the pixels are divided, and the
// kernels that add the parts up in order. No atomics: the same bits every time.
#pragma once
#include "masked_conv/weight_gradient.h"

namespace genfast::conv {

constexpr int kReduceThreads = 256;
constexpr int kBiasChannels = 32, kBiasRows = 8;  // a block of bias_partial_kernel
// Of partial weight gradients, if more would be used.
constexpr int64_t kWorkspaceLimit = int64_t{64} << 20;

// grad_weight = the splits' partial sums, added in order; 0 where dead. One thread an element.
template <class E>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_weight_kernel(WeightGradient g, Tensor4 grad_weight, int splits, int64_t elements) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kReduceThreads + threadIdx.x;
  if (index >= elements) return;
  const int in = static_cast<int>(index % g.mask.inputs);
  const int64_t rest = index / g.mask.inputs;
  const int all_taps = g.mask.kernel_h * g.mask.kernel_w;
  const int tap = static_cast<int>(rest % all_taps), out = static_cast<int>(rest / all_taps);
  const int u = tap / g.mask.kernel_w, v = tap % g.mask.kernel_w;
  float sum = 0.0f;
  if (is_live(g.mask, out, in, tap)) {
    for (int s = 0; s < splits; ++s) {
      sum += g.partial[(static_cast<int64_t>(s) * g.outputs + out) * g.pairs + tap * g.mask.inputs + in];
    }
  }
  cuda::narrow(sum, at<E>(grad_weight, out * grad_weight.stride[0] + in * grad_weight.stride[1] +
                                           u * grad_weight.stride[2] + v * grad_weight.stride[3]));
}

// partial[split][channel] = the sum of grad over the split's pixels. A block: 32 channels x 8 rows of
// threads, rows summed in order.
template <class E>
__global__ void __launch_bounds__(kBiasChannels* kBiasRows)
    bias_partial_kernel(Tensor4 grad, int channels, int height, int width, int64_t pixels,
                        int64_t pixels_per_split, cuda::Arithmetic<E>* partial) {
  const int column = static_cast<int>(threadIdx.x) % kBiasChannels;
  const int row = static_cast<int>(threadIdx.x) / kBiasChannels;
  const int channel = static_cast<int>(blockIdx.x) * kBiasChannels + column;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * pixels_per_split;
  const int64_t end = min(begin + pixels_per_split, pixels);
  cuda::Arithmetic<E> sum = 0;
  for (int64_t i = begin + row; i < end; i += kBiasRows) {
    if (channel >= channels) break;
    sum += cuda::widen(
        *at<E>(grad, offset_of(grad, pixel_at(i, height, width)) + channel * grad.stride[1]));
  }
  cuda::Arithmetic<E>* sums = cuda::dyn_smem<cuda::Arithmetic<E>>();  // [kBiasRows][kBiasChannels]
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (row != 0 || channel >= channels) return;
  for (int r = 1; r < kBiasRows; ++r) sum += sums[r * kBiasChannels + column];
  partial[static_cast<int64_t>(blockIdx.y) * channels + channel] = sum;
}

template <class E>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_bias_kernel(const cuda::Arithmetic<E>* partial, int channels, int splits, E* grad_bias) {
  const int channel = static_cast<int>(blockIdx.x) * kReduceThreads + static_cast<int>(threadIdx.x);
  if (channel >= channels) return;
  cuda::Arithmetic<E> sum = 0;
  for (int s = 0; s < splits; ++s) sum += partial[static_cast<int64_t>(s) * channels + channel];
  cuda::narrow(sum, &grad_bias[channel]);
}

// How the pixels are divided for a sum over all of them: by the shape alone, so that the result does not
// depend on the device.
struct Splits {
  int count;
  int64_t pixels;  // of each but the last
};
inline Splits split_pixels(int64_t pixels, int64_t wanted, int64_t least) {
  if (pixels == 0) return {0, 1};
  int64_t count = ceil_div(pixels, least);
  if (count > wanted) count = wanted;
  if (count < 1) count = 1;
  const int64_t each = ceil_div(ceil_div(pixels, count), 32) * 32;
  return {static_cast<int>(ceil_div(pixels, each)), each};
}

inline int64_t align16(int64_t bytes) { return ceil_div(bytes, 16) * 16; }

// Enough blocks for four waves of a large GPU, at least 512 pixels each.
inline Splits weight_splits(const MaskedConvShape& s) {
  const int64_t pairs = static_cast<int64_t>(live_taps(causal_mask(s))) * s.in_channels;
  if (pairs == 0) return {0, 1};
  const int64_t tiles = ceil_div(s.out_channels, kTileOut) * ceil_div(pairs, kTilePairs);
  int64_t wanted = ceil_div(528, tiles);
  const int64_t fitting = kWorkspaceLimit / (4 * pairs * s.out_channels);
  if (wanted > fitting) wanted = fitting;
  return split_pixels(pixels_of(s), wanted, 512);
}
inline int64_t weight_partial_bytes(const MaskedConvShape& s) {
  const int64_t pairs = static_cast<int64_t>(live_taps(causal_mask(s))) * s.in_channels;
  return align16(weight_splits(s).count * pairs * s.out_channels * 4);
}
inline Splits bias_splits(const MaskedConvShape& s) { return split_pixels(pixels_of(s), 256, 256); }
inline int64_t bias_partial_bytes(const MaskedConvShape& s) {
  return align16(bias_splits(s).count * s.out_channels * (s.dtype == DType::float64 ? 8 : 4));
}

}  // namespace genfast::conv
