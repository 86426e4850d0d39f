// The weight of a masked convolution as its tensor-core kernel reads it.
#pragma once
#include "masked_conv/implicit_gemm.h"

namespace genfast::conv {

constexpr int kPackThreads = 256;

// The weight in the order in which implicit_gemm_kernel reads it, dead taps and padding zero.
//   forward:    packed[row][tap * I + in],  row of the output channel (packed_channel)
//   transposed: packed[in][tap * O + out]
struct Packing {
  Tensor4 weight;
  CausalMask mask;
  bool gated, transposed;
  int rows_channels;  // forward: channels of y; transposed: I
  int depth_channels, taps;
  int64_t rows, depth;
};

template <class E>
__global__ void __launch_bounds__(kPackThreads) pack_weight_kernel(Packing p, E* packed) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x;
  if (index >= p.rows * p.depth) return;
  const int k = static_cast<int>(index % p.depth), row = static_cast<int>(index / p.depth);
  const int tap = k / p.depth_channels, inner = k % p.depth_channels;
  const int outer = packed_channel(p.gated, row, p.rows_channels);
  const int out = p.transposed ? inner : outer, in = p.transposed ? outer : inner;
  E value;
  cuda::narrow(0.0f, &value);
  if (outer >= 0 && tap < p.taps && is_live(p.mask, out, in, tap)) {
    const int u = tap / p.mask.kernel_w, v = tap % p.mask.kernel_w;
    value = *at<E>(p.weight, out * p.weight.stride[0] + in * p.weight.stride[1] +
                                 u * p.weight.stride[2] + v * p.weight.stride[3]);
  }
  packed[index] = value;
}

inline Packing packing(const MaskedConvShape& s, const Tensor4& weight, bool gated, bool transposed) {
  Packing p{};
  p.weight = weight;
  p.mask = causal_mask(s);
  p.gated = gated;
  p.transposed = transposed;
  p.rows_channels = transposed ? s.in_channels : gated ? s.out_channels / 2 : s.out_channels;
  p.depth_channels = transposed ? s.out_channels : s.in_channels;
  p.taps = live_taps(p.mask);
  p.rows = packed_rows(gated, p.rows_channels);
  p.depth = packed_depth(p.taps, p.depth_channels, element_size(s.dtype));
  return p;
}

}  // namespace genfast::conv
