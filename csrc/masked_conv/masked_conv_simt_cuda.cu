#include "masked_conv/masked_conv_simt.h"

#include "common/gate_math.h"
#include "masked_conv/conv_geometry.h"

namespace genfast::conv {
namespace {

using cuda::Arithmetic;

constexpr int kSimtThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 20;  // beyond that the threads loop

template <class T>
GENFAST_DEVICE Arithmetic<T> value_at(const Tensor4& t, int64_t offset) {
  return cuda::widen(*at<T>(t, offset));
}

GENFAST_DEVICE int64_t weight_offset(const Tensor4& w, int out, int in, int u, int v) {
  return out * w.stride[0] + in * w.stride[1] + u * w.stride[2] + v * w.stride[3];
}

// bias + the live taps' sum, of one output channel and pixel.
template <class T>
GENFAST_DEVICE Arithmetic<T> convolve(const MaskedConv2d& p, const CausalMask& mask, int taps,
                                      const Pixel& pixel, int out) {
  const MaskedConvShape& s = p.shape;
  const int centre_inputs = live_depth(mask, out, out) - mask.centre * mask.inputs;
  Arithmetic<T> sum = p.bias ? cuda::widen(static_cast<const T*>(p.bias)[out]) : Arithmetic<T>(0);
#pragma unroll 1
  for (int tap = 0; tap < taps; ++tap) {
    const int u = tap / s.kernel_width, v = tap % s.kernel_width;
    const Pixel from{pixel.image, pixel.row + u - s.kernel_height / 2,
                     pixel.column + v - s.kernel_width / 2};
    if (!inside(from.row, from.column, s.height, s.width)) continue;
    const int64_t x = offset_of(p.x, from);
    const int live = tap < mask.centre ? s.in_channels : centre_inputs;
    Arithmetic<T> of_tap = 0;  // sums of sums round less than one long sum
#pragma unroll 1
    for (int in = 0; in < live; ++in) {
      of_tap += value_at<T>(p.x, x + in * p.x.stride[1]) *
                value_at<T>(p.weight, weight_offset(p.weight, out, in, u, v));
    }
    sum += of_tap;
  }
  return sum;
}

template <class T, bool kGate>
__global__ void __launch_bounds__(kSimtThreads, 1)
    simt_fwd_kernel(MaskedConv2d p, CausalMask mask, int taps, int64_t elements) {
  const MaskedConvShape& s = p.shape;
  const int outputs = kGate ? s.out_channels / 2 : s.out_channels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kSimtThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kSimtThreads + threadIdx.x; i < elements;
       i += step) {
    const int64_t index = i / outputs;
    const int out = static_cast<int>(i - index * outputs);
    const Pixel pixel = pixel_at(index, s.height, s.width);
    Arithmetic<T> y = 0, a = 0;
#pragma unroll 1
    for (int half = 0; half < (kGate ? 2 : 1); ++half) {
      const int o = half * outputs + out;
      a = y;  // in the second round
      y = convolve<T>(p, mask, taps, pixel, o);
      if (kGate && p.pre.data) {
        cuda::narrow(y, at<T>(p.pre, offset_of(p.pre, pixel) + o * p.pre.stride[1]));
      }
      if (p.cond.data) y += value_at<T>(p.cond, offset_of(p.cond, pixel) + o * p.cond.stride[1]);
    }
    if constexpr (kGate) y = cuda::gate<cuda::GateMath::full>(a, y);
    cuda::narrow(y, at<T>(p.y, offset_of(p.y, pixel) + out * p.y.stride[1]));
  }
}

template <class T>
__global__ void __launch_bounds__(kSimtThreads)
    simt_bwd_input_kernel(MaskedConv2dBwdInput p, CausalMask mask, int taps, int64_t elements) {
  const MaskedConvShape& s = p.shape;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kSimtThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kSimtThreads + threadIdx.x; i < elements;
       i += step) {
    const int64_t index = i / s.in_channels;
    const int in = static_cast<int>(i - index * s.in_channels);
    const Pixel pixel = pixel_at(index, s.height, s.width);
    Arithmetic<T> sum = 0;
    for (int tap = 0; tap < taps; ++tap) {
      const int u = tap / s.kernel_width, v = tap % s.kernel_width;
      const Pixel from{pixel.image, pixel.row - u + s.kernel_height / 2,
                       pixel.column - v + s.kernel_width / 2};
      if (!inside(from.row, from.column, s.height, s.width)) continue;
      const int64_t grad = offset_of(p.grad, from);
      Arithmetic<T> of_tap = 0;
      for (int out = 0; out < s.out_channels; ++out) {
        if (!is_live(mask, out, in, tap)) continue;
        of_tap += value_at<T>(p.grad, grad + out * p.grad.stride[1]) *
                  value_at<T>(p.weight, weight_offset(p.weight, out, in, u, v));
      }
      sum += of_tap;
    }
    cuda::narrow(sum, at<T>(p.grad_x, offset_of(p.grad_x, pixel) + in * p.grad_x.stride[1]));
  }
}

// One block an element of the weight: its threads share the pixels, their sums meet in a fixed order.
template <class T>
__global__ void __launch_bounds__(kSimtThreads)
    simt_bwd_weight_kernel(MaskedConv2dBwdWeight p, CausalMask mask, int64_t pixels) {
  const MaskedConvShape& s = p.shape;
  const int all_taps = s.kernel_height * s.kernel_width;
  const int64_t element = blockIdx.x;
  const int tap = static_cast<int>(element % all_taps);
  const int64_t pair = element / all_taps;
  const int in = static_cast<int>(pair % s.in_channels), out = static_cast<int>(pair / s.in_channels);
  const int u = tap / s.kernel_width, v = tap % s.kernel_width;
  Arithmetic<T> sum = 0;
  if (is_live(mask, out, in, tap)) {
    for (int64_t i = threadIdx.x; i < pixels; i += kSimtThreads) {
      const Pixel pixel = pixel_at(i, s.height, s.width);
      const Pixel from{pixel.image, pixel.row + u - s.kernel_height / 2,
                       pixel.column + v - s.kernel_width / 2};
      if (!inside(from.row, from.column, s.height, s.width)) continue;
      sum += value_at<T>(p.grad, offset_of(p.grad, pixel) + out * p.grad.stride[1]) *
             value_at<T>(p.x, offset_of(p.x, from) + in * p.x.stride[1]);
    }
  }
  Arithmetic<T>* sums = cuda::dyn_smem<Arithmetic<T>>();
  sums[threadIdx.x] = sum;
  for (unsigned half = kSimtThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) {
    cuda::narrow(sums[0], at<T>(p.grad_weight, weight_offset(p.grad_weight, out, in, u, v)));
  }
}

unsigned blocks_for(int64_t elements) {
  const int64_t wanted = ceil_div(elements, kSimtThreads);
  return static_cast<unsigned>(wanted < kMaxBlocks ? wanted : kMaxBlocks);
}

}  // namespace

void simt_fwd(const MaskedConv2d& p, bool gated, cudaStream_t stream) {
  const CausalMask mask = causal_mask(p.shape);
  const int taps = live_taps(mask);
  const int64_t elements =
      pixels_of(p.shape) * (gated ? p.shape.out_channels / 2 : p.shape.out_channels);
  if (elements == 0) return;
  GENFAST_DISPATCH_DTYPE(p.shape.dtype, {
    using E = cuda::Element<T>;
    cuda::launch(gated ? simt_fwd_kernel<E, true> : simt_fwd_kernel<E, false>, blocks_for(elements),
                 kSimtThreads, 0, stream, p, mask, taps, elements);
  });
}

void simt_bwd_input(const MaskedConv2dBwdInput& p, cudaStream_t stream) {
  const CausalMask mask = causal_mask(p.shape);
  const int taps = live_taps(mask);
  const int64_t elements = pixels_of(p.shape) * p.shape.in_channels;
  if (elements == 0) return;
  GENFAST_DISPATCH_DTYPE(p.shape.dtype, {
    cuda::launch(simt_bwd_input_kernel<cuda::Element<T>>, blocks_for(elements), kSimtThreads, 0, stream,
                 p, mask, taps, elements);
  });
}

void simt_bwd_weight(const MaskedConv2dBwdWeight& p, cudaStream_t stream) {
  const MaskedConvShape& s = p.shape;
  const CausalMask mask = causal_mask(s);
  const int64_t elements =
      static_cast<int64_t>(s.out_channels) * s.in_channels * s.kernel_height * s.kernel_width;
  const int64_t pixels = pixels_of(s);
  GENFAST_DISPATCH_DTYPE(s.dtype, {
    cuda::launch(simt_bwd_weight_kernel<cuda::Element<T>>, static_cast<unsigned>(elements), kSimtThreads,
                 kSimtThreads * sizeof(Arithmetic<cuda::Element<T>>), stream, p, mask, pixels);
  });
}

}  // namespace genfast::conv
