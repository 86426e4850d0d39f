// Entry points of the masked convolutions: which kernels, and what they need of the workspace.
#include "masked_conv/masked_conv.h"

#include <stdexcept>

#include "masked_conv/masked_conv_simt.h"
#include "masked_conv/packing.h"
#include "masked_conv/partial_sums.h"

namespace genfast {
namespace conv {

// Compiled in masked_conv_{bf16,fp16,tf32,fp32}_cuda.cu.
#define GENFAST_COMPILED_ELSEWHERE(Format)                                                          \
  extern template void launch_implicit_gemm<Format>(const ImplicitGemm&, bool, bool, cudaStream_t); \
  extern template void launch_weight_gradient<Format>(const WeightGradient&, bool, cudaStream_t);
GENFAST_COMPILED_ELSEWHERE(cuda::Bf16Format)
GENFAST_COMPILED_ELSEWHERE(cuda::Fp16Format)
GENFAST_COMPILED_ELSEWHERE(cuda::Tf32Format)
GENFAST_COMPILED_ELSEWHERE(cuda::Tf32x3Format)
#undef GENFAST_COMPILED_ELSEWHERE

namespace {

using cuda::Arithmetic;

// Not measured yet: tensor cores wherever they know the dtype, unless a dot product is tiny.
bool use_mma(const MaskedConvShape& s) {
  if (s.path != ConvPath::automatic) return s.path == ConvPath::mma;
  const int64_t pairs = static_cast<int64_t>(live_taps(causal_mask(s))) * s.in_channels;
  return s.dtype != DType::float64 && pairs * s.out_channels >= 256;
}

void check_sizes(const MaskedConvShape& s) {
  if (s.path == ConvPath::mma && s.dtype == DType::float64) {
    throw std::invalid_argument("tensor cores of this path have no fp64; use path simt or automatic");
  }
  const int64_t channels = s.in_channels > s.out_channels ? s.in_channels : s.out_channels;
  const int64_t taps = static_cast<int64_t>(s.kernel_height) * s.kernel_width;
  if (channels * taps >= int64_t{1} << 30 || channels * s.colors >= int64_t{1} << 30) {
    throw std::invalid_argument("a masked convolution of more than 2^30 channels x taps or colours");
  }
}

// Calls f with the format for dtype and precision.
template <class F>
void with_format(const MaskedConvShape& s, const F& f) {
  if (s.dtype == DType::bfloat16) return f(cuda::Bf16Format{});
  if (s.dtype == DType::float16) return f(cuda::Fp16Format{});
  if (s.allow_tf32) return f(cuda::Tf32Format{});
  f(cuda::Tf32x3Format{});
}

// Packs the weight and convolves; g comes with its maps, bias and channels of y.
template <class Format>
void run_gemm(const MaskedConvShape& s, const Packing& packing, ImplicitGemm g, void* workspace,
              cudaStream_t stream) {
  using E = typename Format::Element;
  const unsigned blocks = static_cast<unsigned>(ceil_div(packing.rows * packing.depth, kPackThreads));
  cuda::launch(pack_weight_kernel<E>, blocks, kPackThreads, 0, stream, packing,
               static_cast<E*>(workspace));
  g.channels = packing.depth_channels;
  g.taps = packing.taps;
  g.height = s.height;
  g.width = s.width;
  g.pixels = pixels_of(s);
  g.direction = packing.transposed ? -1 : 1;
  g.mask = packing.mask;
  g.skip_dead = !packing.transposed;
  g.packed = workspace;
  g.depth = packing.depth;
  g.outputs = packing.rows_channels;
  launch_implicit_gemm<Format>(g, vector_channels(g.x, s.dtype, g.channels), packing.gated, stream);
}

void forward(const MaskedConv2d& p, bool gated, cudaStream_t stream) {
  check_sizes(p.shape);
  if (pixels_of(p.shape) == 0) return;
  if (!use_mma(p.shape)) return simt_fwd(p, gated, stream);
  ImplicitGemm g{};
  g.x = p.x;
  g.bias = p.bias;
  g.cond = p.cond;
  g.y = p.y;
  g.pre = p.pre;
  with_format(p.shape, [&](auto format) {
    run_gemm<decltype(format)>(p.shape, packing(p.shape, p.weight, gated, false), g, p.workspace,
                               stream);
  });
}

template <class Format>
void weight_gradient(const MaskedConv2dBwdWeight& p, cudaStream_t stream) {
  const MaskedConvShape& s = p.shape;
  const Splits splits = weight_splits(s);
  WeightGradient g{};
  g.grad = p.grad;
  g.x = p.x;
  g.mask = causal_mask(s);
  g.outputs = s.out_channels;
  g.taps = live_taps(g.mask);
  g.height = s.height;
  g.width = s.width;
  g.pixels = pixels_of(s);
  g.pixels_per_split = splits.pixels;
  g.partial = static_cast<float*>(p.workspace);
  g.pairs = static_cast<int64_t>(g.taps) * s.in_channels;
  if (splits.count > 0) {
    const bool vector =
        vector_channels(p.grad, s.dtype, s.out_channels) && vector_channels(p.x, s.dtype, s.in_channels);
    launch_weight_gradient<Format>(g, vector, stream);
  }
  const int64_t elements =
      static_cast<int64_t>(s.out_channels) * s.in_channels * s.kernel_height * s.kernel_width;
  cuda::launch(reduce_weight_kernel<typename Format::Element>,
               static_cast<unsigned>(ceil_div(elements, kReduceThreads)), kReduceThreads, 0, stream, g,
               p.grad_weight, splits.count, elements);
}

template <class E>
void bias_gradient(const MaskedConv2dBwdWeight& p, void* partial, cudaStream_t stream) {
  const MaskedConvShape& s = p.shape;
  const Splits splits = bias_splits(s);
  Arithmetic<E>* sums = static_cast<Arithmetic<E>*>(partial);
  if (splits.count > 0) {
    const dim3 grid(static_cast<unsigned>(ceil_div(s.out_channels, kBiasChannels)),
                    static_cast<unsigned>(splits.count));
    cuda::launch(bias_partial_kernel<E>, grid, kBiasChannels * kBiasRows,
                 kBiasChannels * kBiasRows * sizeof(Arithmetic<E>), stream, p.grad, s.out_channels,
                 s.height, s.width, pixels_of(s), splits.pixels, sums);
  }
  cuda::launch(reduce_bias_kernel<E>, static_cast<unsigned>(ceil_div(s.out_channels, kReduceThreads)),
               kReduceThreads, 0, stream, sums, s.out_channels, splits.count,
               static_cast<E*>(p.grad_bias));
}

}  // namespace
}  // namespace conv

int64_t masked_conv2d_fwd_workspace(const MaskedConvShape& s) {
  if (!conv::use_mma(s)) return 0;
  const conv::Packing plain = conv::packing(s, {}, false, false),
                      gated = conv::packing(s, {}, true, false);
  return (plain.rows > gated.rows ? plain.rows : gated.rows) * plain.depth * element_size(s.dtype);
}

void masked_conv2d_fwd_cuda(const MaskedConv2d& p, cudaStream_t stream) {
  conv::forward(p, false, stream);
}

void gated_masked_conv2d_fwd_cuda(const MaskedConv2d& p, cudaStream_t stream) {
  if (p.shape.out_splits != 2) throw std::invalid_argument("a gated convolution has out_splits 2");
  conv::forward(p, true, stream);
}

int64_t masked_conv2d_bwd_input_workspace(const MaskedConvShape& s) {
  if (!conv::use_mma(s)) return 0;
  const conv::Packing p = conv::packing(s, {}, false, true);
  return p.rows * p.depth * element_size(s.dtype);
}

void masked_conv2d_bwd_input_cuda(const MaskedConv2dBwdInput& p, cudaStream_t stream) {
  conv::check_sizes(p.shape);
  if (conv::pixels_of(p.shape) == 0) return;
  if (!conv::use_mma(p.shape)) return conv::simt_bwd_input(p, stream);
  conv::ImplicitGemm g{};
  g.x = p.grad;
  g.y = p.grad_x;
  conv::with_format(p.shape, [&](auto format) {
    conv::run_gemm<decltype(format)>(p.shape, conv::packing(p.shape, p.weight, false, true), g,
                                     p.workspace, stream);
  });
}

int64_t masked_conv2d_bwd_weight_workspace(const MaskedConvShape& s) {
  return (conv::use_mma(s) ? conv::weight_partial_bytes(s) : 0) + conv::bias_partial_bytes(s);
}

void masked_conv2d_bwd_weight_cuda(const MaskedConv2dBwdWeight& p, cudaStream_t stream) {
  const MaskedConvShape& s = p.shape;
  conv::check_sizes(s);
  const bool mma = conv::use_mma(s);
  if (p.grad_weight.data && mma) {
    conv::with_format(s, [&](auto format) { conv::weight_gradient<decltype(format)>(p, stream); });
  } else if (p.grad_weight.data) {
    conv::simt_bwd_weight(p, stream);
  }
  if (!p.grad_bias) return;
  void* partial = static_cast<unsigned char*>(p.workspace) + (mma ? conv::weight_partial_bytes(s) : 0);
  GENFAST_DISPATCH_DTYPE(s.dtype, (conv::bias_gradient<cuda::Element<T>>(p, partial, stream)));
}

}  // namespace genfast
