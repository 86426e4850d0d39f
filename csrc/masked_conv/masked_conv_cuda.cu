// Entry points of the masked convolutions: which kernels, what they need of the workspace, and the small
// kernels around the large ones (packing weights, adding up partial sums).
#include "masked_conv/masked_conv.h"

#include <stdexcept>

#include "masked_conv/masked_conv_simt.h"
#include "masked_conv/weight_gradient.h"

namespace genfast {
namespace conv {

// Compiled in masked_conv_{bf16,fp16,tf32,fp32}_cuda.cu.
#define GENFAST_COMPILED_ELSEWHERE(Path)                                                          \
  extern template void launch_implicit_gemm<Path>(const ImplicitGemm&, bool, bool, cudaStream_t); \
  extern template void launch_weight_gradient<Path>(const WeightGradient&, bool, cudaStream_t);
GENFAST_COMPILED_ELSEWHERE(Bf16Path)
GENFAST_COMPILED_ELSEWHERE(Fp16Path)
GENFAST_COMPILED_ELSEWHERE(Tf32Path)
GENFAST_COMPILED_ELSEWHERE(Tf32x3Path)
#undef GENFAST_COMPILED_ELSEWHERE

namespace {

using cuda::Arithmetic;

constexpr int kPackThreads = 256;
constexpr int kBiasChannels = 32, kBiasRows = 8;  // a block of bias_partial_kernel
constexpr int64_t kWorkspaceLimit = int64_t{64}
                                    << 20;  // of partial weight gradients, if more would be used

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

// grad_weight = the splits' partial sums, added in order; 0 where dead. One thread an element.
template <class E>
__global__ void __launch_bounds__(kPackThreads)
    reduce_weight_kernel(WeightGradient g, Tensor4 grad_weight, int splits, int64_t elements) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x;
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
                        int64_t pixels_per_split, Arithmetic<E>* partial) {
  const int column = static_cast<int>(threadIdx.x) % kBiasChannels;
  const int row = static_cast<int>(threadIdx.x) / kBiasChannels;
  const int channel = static_cast<int>(blockIdx.x) * kBiasChannels + column;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * pixels_per_split;
  const int64_t end = min(begin + pixels_per_split, pixels);
  Arithmetic<E> sum = 0;
  for (int64_t i = begin + row; i < end; i += kBiasRows) {
    if (channel >= channels) break;
    sum += cuda::widen(
        *at<E>(grad, offset_of(grad, pixel_at(i, height, width)) + channel * grad.stride[1]));
  }
  Arithmetic<E>* sums = cuda::dyn_smem<Arithmetic<E>>();  // [kBiasRows][kBiasChannels]
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (row != 0 || channel >= channels) return;
  for (int r = 1; r < kBiasRows; ++r) sum += sums[r * kBiasChannels + column];
  partial[static_cast<int64_t>(blockIdx.y) * channels + channel] = sum;
}

template <class E>
__global__ void __launch_bounds__(kPackThreads)
    reduce_bias_kernel(const Arithmetic<E>* partial, int channels, int splits, E* grad_bias) {
  const int channel = static_cast<int>(blockIdx.x) * kPackThreads + static_cast<int>(threadIdx.x);
  if (channel >= channels) return;
  Arithmetic<E> sum = 0;
  for (int s = 0; s < splits; ++s) sum += partial[static_cast<int64_t>(s) * channels + channel];
  cuda::narrow(sum, &grad_bias[channel]);
}

// How the pixels are divided for a sum over all of them: by the shape alone, so that the result does not
// depend on the device.
struct Splits {
  int count;
  int64_t pixels;  // of each but the last
};
Splits split_pixels(int64_t pixels, int64_t wanted, int64_t least) {
  if (pixels == 0) return {0, 1};
  int64_t count = ceil_div(pixels, least);
  if (count > wanted) count = wanted;
  if (count < 1) count = 1;
  const int64_t each = ceil_div(ceil_div(pixels, count), 32) * 32;
  return {static_cast<int>(ceil_div(pixels, each)), each};
}

int64_t align16(int64_t bytes) { return ceil_div(bytes, 16) * 16; }

// Enough blocks for four waves of a large GPU, at least 512 pixels each.
Splits weight_splits(const MaskedConvShape& s) {
  const int64_t pairs = static_cast<int64_t>(live_taps(causal_mask(s))) * s.in_channels;
  if (pairs == 0) return {0, 1};
  const int64_t tiles = ceil_div(s.out_channels, kTileOut) * ceil_div(pairs, kTilePairs);
  int64_t wanted = ceil_div(528, tiles);
  const int64_t fitting = kWorkspaceLimit / (4 * pairs * s.out_channels);
  if (wanted > fitting) wanted = fitting;
  return split_pixels(pixels_of(s), wanted, 512);
}
int64_t weight_partial_bytes(const MaskedConvShape& s) {
  const int64_t pairs = static_cast<int64_t>(live_taps(causal_mask(s))) * s.in_channels;
  return align16(weight_splits(s).count * pairs * s.out_channels * 4);
}
Splits bias_splits(const MaskedConvShape& s) { return split_pixels(pixels_of(s), 256, 256); }
int64_t bias_partial_bytes(const MaskedConvShape& s) {
  return align16(bias_splits(s).count * s.out_channels * (s.dtype == DType::float64 ? 8 : 4));
}

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

// Calls f with the path for dtype and precision.
template <class F>
void with_path(const MaskedConvShape& s, const F& f) {
  if (s.dtype == DType::bfloat16) return f(Bf16Path{});
  if (s.dtype == DType::float16) return f(Fp16Path{});
  if (s.allow_tf32) return f(Tf32Path{});
  f(Tf32x3Path{});
}

Packing packing(const MaskedConvShape& s, const Tensor4& weight, bool gated, bool transposed) {
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

// Packs the weight and convolves; g comes with its maps, bias and channels of y.
template <class Path>
void run_gemm(const MaskedConvShape& s, const Packing& packing, ImplicitGemm g, void* workspace,
              cudaStream_t stream) {
  using E = typename Path::Element;
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
  launch_implicit_gemm<Path>(g, vector_channels(g.x, s.dtype, g.channels), packing.gated, stream);
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
  with_path(p.shape, [&](auto path) {
    run_gemm<decltype(path)>(p.shape, packing(p.shape, p.weight, gated, false), g, p.workspace, stream);
  });
}

template <class Path>
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
    launch_weight_gradient<Path>(g, vector, stream);
  }
  const int64_t elements =
      static_cast<int64_t>(s.out_channels) * s.in_channels * s.kernel_height * s.kernel_width;
  cuda::launch(reduce_weight_kernel<typename Path::Element>,
               static_cast<unsigned>(ceil_div(elements, kPackThreads)), kPackThreads, 0, stream, g,
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
  cuda::launch(reduce_bias_kernel<E>, static_cast<unsigned>(ceil_div(s.out_channels, kPackThreads)),
               kPackThreads, 0, stream, sums, s.out_channels, splits.count,
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
  conv::with_path(p.shape, [&](auto path) {
    conv::run_gemm<decltype(path)>(p.shape, conv::packing(p.shape, p.weight, false, true), g,
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
    conv::with_path(s, [&](auto path) { conv::weight_gradient<decltype(path)>(p, stream); });
  } else if (p.grad_weight.data) {
    conv::simt_bwd_weight(p, stream);
  }
  if (!p.grad_bias) return;
  void* partial = static_cast<unsigned char*>(p.workspace) + (mma ? conv::weight_partial_bytes(s) : 0);
  GENFAST_DISPATCH_DTYPE(s.dtype, (conv::bias_gradient<cuda::Element<T>>(p, partial, stream)));
}

}  // namespace genfast
