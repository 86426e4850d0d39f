// Masked (PixelCNN) and gated masked (Gated PixelCNN) convolution on CUDA: stride 1, same padding.
//
//   z[n,o,r,c] = bias[o] + sum over live (i,u,v) of weight[o,i,u,v] x[n, i, r + u - kh/2, c + v - kw/2]
//
// A tap is live if it comes before the centre in raster order, or is the centre and the colours of its
// channels allow it (see genfast/ops/masked_conv.py). Dead taps are never read into a product. On CPU,
// where nothing beats PyTorch's dense convolution, there is no kernel.
//
// All functions are asynchronous on `stream` and allocate nothing: `workspace` has at least the bytes
// the matching *_workspace function asks for and is 16-byte aligned (it may be null where that is 0).
// Results do not depend on how blocks are scheduled: there are no atomics.
#pragma once
#include <cstdint>

#include "common/dtype.h"

#ifdef GENFAST_WITH_CUDA
struct CUstream_st;
typedef CUstream_st* cudaStream_t;  // as the CUDA headers have it, which bindings do without

namespace genfast {

// Which kernels. `automatic` chooses by dtype and shape; the others are for tests and measurements.
//   simt: ordinary arithmetic, any dtype     mma: tensor cores; not fp64
enum class ConvPath : int { automatic = 0, simt = 1, mma = 2 };

struct MaskedConvShape {
  DType dtype;  // of every tensor
  ConvPath path;
  bool allow_tf32;  // fp32 with one TF32 product instead of three (relative error 1e-3 instead of 1e-6)
  bool mask_a;      // mask "A", else "B"
  int64_t batch;
  int height, width, in_channels, out_channels;
  int kernel_height, kernel_width;  // odd
  int colors, out_splits;
};

// A tensor of four dimensions with its strides in elements; null where it is absent. Channels-last maps
// (stride[1] == 1, the others and the address multiples of 16 bytes) are the fast ones.
struct Tensor4 {
  void* data;
  int64_t stride[4];
};

// y = z + cond, or with a gate y = tanh(a + ca) sigmoid(b + cb), where a, b are the halves of z's
// channels and ca, cb those of cond. With a gate out_splits is 2 and y has out_channels / 2 channels.
struct MaskedConv2d {
  MaskedConvShape shape;
  Tensor4 x;         // (N, I, H, W)
  Tensor4 weight;    // (O, I, kh, kw)
  const void* bias;  // (O,), contiguous, or null
  Tensor4 cond;      // (N, O, H, W), stride 0 where broadcast, or absent
  Tensor4 y;
  Tensor4 pre;  // gate only: if there, gets z (without cond), (N, O, H, W)
  void* workspace;
};
int64_t masked_conv2d_fwd_workspace(const MaskedConvShape& shape);  // with or without a gate
void masked_conv2d_fwd_cuda(const MaskedConv2d& p, cudaStream_t stream);
void gated_masked_conv2d_fwd_cuda(const MaskedConv2d& p, cudaStream_t stream);

// grad_x from grad, the gradient of z. (Behind a gate, gated_activation_bwd of z and cond gives it.)
struct MaskedConv2dBwdInput {
  MaskedConvShape shape;
  Tensor4 grad;    // (N, O, H, W)
  Tensor4 weight;  // (O, I, kh, kw)
  Tensor4 grad_x;  // (N, I, H, W)
  void* workspace;
};
int64_t masked_conv2d_bwd_input_workspace(const MaskedConvShape& shape);
void masked_conv2d_bwd_input_cuda(const MaskedConv2dBwdInput& p, cudaStream_t stream);

// grad_weight (dead taps get 0) and grad_bias, each if there.
struct MaskedConv2dBwdWeight {
  MaskedConvShape shape;
  Tensor4 grad;         // (N, O, H, W)
  Tensor4 x;            // (N, I, H, W)
  Tensor4 grad_weight;  // (O, I, kh, kw), or absent
  void* grad_bias;      // (O,), contiguous, or null
  void* workspace;
};
int64_t masked_conv2d_bwd_weight_workspace(const MaskedConvShape& shape);
void masked_conv2d_bwd_weight_cuda(const MaskedConv2dBwdWeight& p, cudaStream_t stream);

}  // namespace genfast
#endif
