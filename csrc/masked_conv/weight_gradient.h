// The gradient of the weight as a GEMM on tensor cores whose long dimension is the pixels:
//
//   partial[split][o][k] = sum over the split's pixels of grad[pixel, o] x[pixel moved by tap, channel],
//
// k = tap * I + channel over the live taps. M: output channels, N: pairs k, K: pixels. The splits'
// partial sums are added in order by reduce_weight_kernel: no atomics, the same bits every time.
//
// A block computes 64 output channels x 128 pairs with 8 warps (2 x 4), each 32 x 32. Ring: kStages
// stages of 32 pixels (16 in fp32), channels contiguous as in memory; fragments are transposed while
// they are read (ldmatrix.trans; plain loads in fp32). Rows are padded so that neither meets a bank
// conflict.
#pragma once
#include "masked_conv/implicit_gemm.h"

namespace genfast::conv {

constexpr int kTileOut = 64, kTilePairs = 128;

struct WeightGradient {
  Tensor4 grad, x;
  CausalMask mask;
  int outputs, taps, height, width;
  int64_t pixels, pixels_per_split;
  float* partial;  // [splits][outputs][pairs]
  int64_t pairs;   // taps * I
};

// A pixel that moves on by a fixed number of pixels at a time.
struct Walk {
  Pixel at;
  int64_t index;
};
GENFAST_DEVICE void advance(Walk& w, const Pixel& step, int64_t by, int height, int width) {
  w.index += by;
  w.at.column += step.column;
  w.at.row += step.row;
  w.at.image += step.image;
  if (w.at.column >= width) w.at.column -= width, ++w.at.row;
  if (w.at.row >= height) w.at.row -= height, ++w.at.image;
}

template <class Format, bool kVector>
__global__ void __launch_bounds__(kThreads) weight_gradient_kernel(WeightGradient g) {
  using E = typename Format::Element;
  constexpr int kSize = static_cast<int>(sizeof(E)), kChunk = 16 / kSize, kPixels = 64 / kSize;
  constexpr int kPad = kSize == 2 ? 16 : 32;
  constexpr int kPitchA = kTileOut * kSize + kPad, kPitchB = kTilePairs * kSize + kPad;
  constexpr int kStageBytes = kPixels * (kPitchA + kPitchB), kMmaPixels = cuda::kMmaBytes / kSize;
  constexpr int kPiecesA = kTileOut / kChunk, kPiecesB = kTilePairs / kChunk;
  unsigned char* shared = cuda::dyn_smem<unsigned char>();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int warp_out = warp % 2 * 32, warp_pair = warp / 2 * 32;
  const int out0 = static_cast<int>(blockIdx.y) * kTileOut;
  const int pair0 = static_cast<int>(blockIdx.x) * kTilePairs;
  // Pairs that are dead for all outputs here: nobody reads their partial sums.
  if (pair0 >= live_depth(g.mask, out0, min(out0 + kTileOut, g.outputs) - 1)) return;
  const int64_t begin = static_cast<int64_t>(blockIdx.z) * g.pixels_per_split;
  const int64_t end = min(begin + g.pixels_per_split, g.pixels);
  const int steps = static_cast<int>((end - begin + kPixels - 1) / kPixels);

  // Copies of this thread: one 16-byte piece of A, two of B; only the pixels change from step to step.
  const int piece_a = thread % kPiecesA, piece_b = thread % kPiecesB;
  Walk walk[3];
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    const int row = i == 0 ? thread / kPiecesA : thread / kPiecesB + (i - 1) * (kThreads / kPiecesB);
    walk[i].index = begin + row;
    walk[i].at = pixel_at(walk[i].index, g.height, g.width);
  }
  const Pixel stride = pixel_at(kPixels, g.height, g.width);
  const int out = out0 + piece_a * kChunk, pair = pair0 + piece_b * kChunk;

  auto fetch = [&](int step) {
    unsigned char* stage = shared + step % kStages * kStageBytes;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      const Walk& w = walk[i];
      const bool in_split = w.index < end;
      if (i == 0) {
        unsigned char* target = stage + thread / kPiecesA * kPitchA + piece_a * 16;
        const int64_t from = offset_of(g.grad, w.at) + out * g.grad.stride[1];
        if constexpr (kVector) {
          const bool live = in_split && out < g.outputs;
          cuda::cp_async<16>(target, at<E>(g.grad, live ? from : 0), live);
        } else {
          E* elements = reinterpret_cast<E*>(target);
#pragma unroll 1
          for (int e = 0; e < kChunk; ++e) {
            E value;
            cuda::narrow(0.0f, &value);
            if (in_split && out + e < g.outputs) value = *at<E>(g.grad, from + e * g.grad.stride[1]);
            elements[e] = value;
          }
        }
      } else {
        const int row = thread / kPiecesB + (i - 1) * (kThreads / kPiecesB);
        unsigned char* target = stage + kPixels * kPitchA + row * kPitchB + piece_b * 16;
        int tap = pair / g.mask.inputs, channel = pair - tap * g.mask.inputs;
        int u = tap / g.mask.kernel_w, v = tap - u * g.mask.kernel_w;
        E* elements = reinterpret_cast<E*>(target);
#pragma unroll 1
        for (int e = 0; e < (kVector ? 1 : kChunk); ++e) {
          const int dr = u - g.mask.kernel_h / 2, dc = v - g.mask.kernel_w / 2;
          const bool live =
              in_split && tap < g.taps && inside(w.at.row + dr, w.at.column + dc, g.height, g.width);
          const int64_t from =
              offset_of(g.x, w.at) + dr * g.x.stride[2] + dc * g.x.stride[3] + channel * g.x.stride[1];
          if constexpr (kVector) {
            cuda::cp_async<16>(target, at<E>(g.x, live ? from : 0), live);
          } else {
            E value;
            cuda::narrow(0.0f, &value);
            if (live) value = *at<E>(g.x, from);
            elements[e] = value;
            if (++channel == g.mask.inputs) {
              channel = 0, ++tap;
              if (++v == g.mask.kernel_w) v = 0, ++u;
            }
          }
        }
      }
      advance(walk[i], stride, kPixels, g.height, g.width);
    }
  };

  float sum[2][4][4] = {};
  run_stages(steps, fetch, [&](int step) {
    const unsigned char* as = shared + step % kStages * kStageBytes + warp_out * kSize;
    const unsigned char* bs =
        shared + step % kStages * kStageBytes + kPixels * kPitchA + warp_pair * kSize;
#pragma unroll
    for (int k = 0; k < kPixels; k += kMmaPixels) {
      uint32_t a[2][4];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        cuda::load_transposed_a<E>(a[m], as + k * kPitchA + 16 * m * kSize, lane, kPitchA);
      }
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        uint32_t b[4];
        cuda::load_transposed_b<E>(b, bs + k * kPitchB + 16 * n * kSize, lane, kPitchB);
        const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          Format::mma(sum[m][2 * n], a[m], b0);
          Format::mma(sum[m][2 * n + 1], a[m], b1);
        }
      }
    }
  });

#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int o = out0 + warp_out + 16 * m + cuda::product_row(lane, i);
        const int k = pair0 + warp_pair + 8 * n + cuda::product_column(lane, i);
        if (o < g.outputs && k < g.pairs) {
          g.partial[(static_cast<int64_t>(blockIdx.z) * g.outputs + o) * g.pairs + k] = sum[m][n][i];
        }
      }
    }
  }
}

template <class Format, bool kVector>
void launch_weight_gradient_tile(const WeightGradient& g, cudaStream_t stream) {
  constexpr int kSize = static_cast<int>(sizeof(typename Format::Element));
  constexpr int kStageBytes =
      64 / kSize * ((kTileOut + kTilePairs) * kSize + 2 * (kSize == 2 ? 16 : 32));
  const dim3 grid(static_cast<unsigned>(ceil_div(g.pairs, kTilePairs)),
                  static_cast<unsigned>(ceil_div(g.outputs, kTileOut)),
                  static_cast<unsigned>(ceil_div(g.pixels, g.pixels_per_split)));
  cuda::launch(weight_gradient_kernel<Format, kVector>, grid, kThreads, kStages * kStageBytes, stream,
               g);
}

template <class Format>
void launch_weight_gradient(const WeightGradient& g, bool vector, cudaStream_t stream) {
  if (vector) return launch_weight_gradient_tile<Format, true>(g, stream);
  launch_weight_gradient_tile<Format, false>(g, stream);
}

}  // namespace genfast::conv
