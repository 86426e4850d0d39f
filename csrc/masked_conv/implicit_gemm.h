// Convolution over the live taps as an implicit GEMM on tensor cores. Forward, and backward for the
// input with channels and offsets exchanged.
//
//   M: pixels, N: output channels, K: pairs (live tap, input channel), flattened, so that nothing is
//   multiplied by a dead tap and few channels waste nothing.
//
// A block computes 128 pixels x 32 kWarpsN columns with 8 warps, each (128 kWarpsN / 8) pixels x 32
// columns. With a gate, a warp's 32 columns are 16 channels of the tanh half and the same 16 of the
// sigmoid half: both halves of a channel sit in one thread, and the gate is applied to the accumulators.
//
// Ring: kStages stages in shared memory, each 64 bytes of K for all rows of A (pixels) and B (weights);
// rows are 80 bytes apart, so that ldmatrix meets no bank conflict. Per step: wait, one barrier, fetch
// the stage after next into the place of the previous one, multiply.
#pragma once
#include "common/cuda_tiles.h"
#include "common/gate_math.h"
#include "masked_conv/conv_geometry.h"

namespace genfast::conv {

constexpr int kThreads = 256;
constexpr int kTilePixels = 128;
constexpr int kStages = 3;
constexpr int kStepBytes = 64;
constexpr int kPitch = kStepBytes + 16;

// The ring of kStages stages in shared memory: fetch(step) begins to copy a step (by cp.async, into
// stage step % kStages), multiply(step) uses one that has landed. One barrier a step.
template <class Fetch, class Multiply>
GENFAST_DEVICE void run_stages(int steps, const Fetch& fetch, const Multiply& multiply) {
  for (int i = 0; i < kStages - 1; ++i) {
    if (i < steps) fetch(i);
    cuda::cp_async_commit();
  }
  for (int step = 0; step < steps; ++step) {
    cuda::cp_async_wait<kStages - 2>();
    __syncthreads();  // this step has landed; the stage of the step before is free
    if (step + kStages - 1 < steps) fetch(step + kStages - 1);
    cuda::cp_async_commit();
    multiply(step);
  }
  cuda::cp_async_wait<0>();
}

struct ImplicitGemm {
  Tensor4 x;  // the map that is read: `channels` channels
  int channels, taps, height, width;
  int64_t pixels;
  int direction;  // 1: tap (u, v) reads pixel (r + u - kh/2, c + v - kw/2); -1: the opposite offsets
  CausalMask mask;
  bool skip_dead;      // whether rows of `packed` are output channels of the mask
  const void* packed;  // [rows][depth] of the element type, zero where dead; see packed_row
  int64_t depth;       // taps * channels rounded up to a step
  int outputs;         // channels of y
  const void* bias;
  Tensor4 cond, y, pre;
};

// Which channel of the weight row `row` of `packed` holds; -1: none. `outputs` is the channels of y.
GENFAST_DEVICE int packed_channel(bool gated, int row, int outputs) {
  if (!gated) return row < outputs ? row : -1;
  const int channel = row / 32 * 16 + row % 16;
  return channel < outputs ? row / 16 % 2 * outputs + channel : -1;
}

// Where a thread's pixel lies, for all taps.
struct Source {
  int64_t offset;
  int row, column;
};

// 16 bytes along K, beginning at pair `k` = tap * channels + channel, of one pixel.
template <class E, bool kVector>
GENFAST_DEVICE void fetch_pixel(const ImplicitGemm& g, const Source& s, int k, unsigned char* target) {
  constexpr int kChunk = 16 / static_cast<int>(sizeof(E));
  int tap = k / g.channels, channel = k - tap * g.channels;
  int u = tap / g.mask.kernel_w, v = tap - u * g.mask.kernel_w;
  const int up = g.mask.kernel_h / 2, left = g.mask.kernel_w / 2;
  if constexpr (kVector) {
    const int dr = g.direction * (u - up), dc = g.direction * (v - left);
    const bool live = tap < g.taps && inside(s.row + dr, s.column + dc, g.height, g.width);
    const int64_t offset = s.offset + dr * g.x.stride[2] + dc * g.x.stride[3] + channel;
    cuda::cp_async<16>(target, at<E>(g.x, live ? offset : 0), live);
  } else {
    E* out = reinterpret_cast<E*>(target);
#pragma unroll 1
    for (int e = 0; e < kChunk; ++e) {
      const int dr = g.direction * (u - up), dc = g.direction * (v - left);
      const bool live = tap < g.taps && inside(s.row + dr, s.column + dc, g.height, g.width);
      E value;
      if (live) {
        value =
            *at<E>(g.x, s.offset + dr * g.x.stride[2] + dc * g.x.stride[3] + channel * g.x.stride[1]);
      } else {
        cuda::narrow(0.0f, &value);
      }
      out[e] = value;
      if (++channel == g.channels) {
        channel = 0, ++tap;
        if (++v == g.mask.kernel_w) v = 0, ++u;
      }
    }
  }
}

// The epilogue for two neighbouring channels, `channel` even, of one pixel: z + bias + cond.
template <class E>
GENFAST_DEVICE void finish_plain(const ImplicitGemm& g, const Pixel& pixel, int channel,
                                 const float (&z)[2]) {
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int o = channel + e;
    if (o >= g.outputs) continue;
    float value = z[e];
    if (g.bias) value += cuda::widen(static_cast<const E*>(g.bias)[o]);
    if (g.cond.data)
      value += cuda::widen(*at<E>(g.cond, offset_of(g.cond, pixel) + o * g.cond.stride[1]));
    cuda::narrow(value, at<E>(g.y, offset_of(g.y, pixel) + o * g.y.stride[1]));
  }
}

// The same with the gate: a and b are the two halves' sums.
template <class E>
GENFAST_DEVICE void finish_gated(const ImplicitGemm& g, const Pixel& pixel, int channel,
                                 const float (&a)[2], const float (&b)[2]) {
  constexpr cuda::GateMath kMath = sizeof(E) == 2 ? cuda::GateMath::fast : cuda::GateMath::full;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int p = channel + e;
    if (p >= g.outputs) continue;
    float sum[2] = {a[e], b[e]};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int o = half * g.outputs + p;
      if (g.bias) sum[half] += cuda::widen(static_cast<const E*>(g.bias)[o]);
      if (g.pre.data) {
        cuda::narrow(sum[half], at<E>(g.pre, offset_of(g.pre, pixel) + o * g.pre.stride[1]));
      }
      if (g.cond.data) {
        sum[half] += cuda::widen(*at<E>(g.cond, offset_of(g.cond, pixel) + o * g.cond.stride[1]));
      }
    }
    cuda::narrow(cuda::gate<kMath>(sum[0], sum[1]),
                 at<E>(g.y, offset_of(g.y, pixel) + p * g.y.stride[1]));
  }
}

// How many blocks share a multiprocessor; more would spill.
template <class Format>
constexpr int kBlocks = 2;
template <>
inline constexpr int kBlocks<cuda::Tf32x3Format> = 1;

template <class Format, bool kVector, bool kGate, int kWarpsN>
__global__ void __launch_bounds__(kThreads, kBlocks<Format>) implicit_gemm_kernel(ImplicitGemm g) {
  using E = typename Format::Element;
  constexpr int kStep = kStepBytes / static_cast<int>(sizeof(E)), kChunk = kStep / 4;
  constexpr int kColumns = 32 * kWarpsN, kStageBytes = (kTilePixels + kColumns) * kPitch;
  constexpr int kWarpsM = 8 / kWarpsN, kWarpPixels = kTilePixels / kWarpsM, kTilesM = kWarpPixels / 16;
  unsigned char* shared = cuda::dyn_smem<unsigned char>();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int warp_pixel = warp % kWarpsM * kWarpPixels, warp_column = warp / kWarpsM * 32;
  const int64_t pixel0 = static_cast<int64_t>(blockIdx.x) * kTilePixels;
  const int row0 = static_cast<int>(blockIdx.y) * kColumns;

  int depth = g.taps * g.channels;
  if (g.skip_dead) {  // no channel of this block sees the last colours of the centre
    const int first = kGate ? row0 / 2 : row0;
    const int last = min(first + (kGate ? kColumns / 2 : kColumns), g.outputs) - 1;
    depth = min(depth, live_depth(g.mask, first, last));
  }
  const int steps = (depth + kStep - 1) / kStep;

  // This thread's copies: 16-byte piece `piece` of rows row, row + 64 of A and row (, row + 64) of B.
  const int piece = thread % 4, row = thread / 4;
  Source source[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int64_t index = pixel0 + row + 64 * i;
    const bool live = index < g.pixels;
    const Pixel p = pixel_at(live ? index : 0, g.height, g.width);
    source[i] = {offset_of(g.x, p), live ? p.row : -(1 << 20), p.column};  // that far out no tap reaches
  }
  const E* weights = static_cast<const E*>(g.packed) + (row0 + row) * g.depth + piece * kChunk;

  auto fetch = [&](int step) {
    unsigned char* target = shared + step % kStages * kStageBytes + row * kPitch + piece * 16;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      fetch_pixel<E, kVector>(g, source[i], step * kStep + piece * kChunk, target + 64 * i * kPitch);
    }
    target += kTilePixels * kPitch;
#pragma unroll
    for (int i = 0; i < kColumns / 64; ++i) {
      cuda::cp_async<16>(target + 64 * i * kPitch, weights + 64 * i * g.depth + step * kStep, true);
    }
  };

  float sum[kTilesM][4][4] = {};
  run_stages(steps, fetch, [&](int step) {
    const unsigned char* stage = shared + step % kStages * kStageBytes;
    const unsigned char* as = stage + warp_pixel * kPitch + cuda::row_major_a(lane, kPitch);
    const unsigned char* bs =
        stage + (kTilePixels + warp_column) * kPitch + cuda::row_major_b(lane, kPitch);
#pragma unroll
    for (int k = 0; k < kStepBytes; k += cuda::kMmaBytes) {
      uint32_t b[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) { cuda::ldmatrix_x4(b[i], bs + 16 * i * kPitch + k); }
#pragma unroll
      for (int m = 0; m < kTilesM; ++m) {
        uint32_t a[4];
        cuda::ldmatrix_x4(a, as + 16 * m * kPitch + k);
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          const uint32_t bn[2] = {b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]};
          Format::mma(sum[m][n], a, bn);
        }
      }
    }
  });

#pragma unroll
  for (int m = 0; m < kTilesM; ++m) {
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      const int64_t index = pixel0 + warp_pixel + 16 * m + cuda::product_row(lane, i);
      if (index >= g.pixels) continue;
      const Pixel pixel = pixel_at(index, g.height, g.width);
#pragma unroll
      for (int n = 0; n < (kGate ? 2 : 4); ++n) {
        const int column = 8 * n + cuda::product_column(lane, i);
        const float z[2] = {sum[m][n][i], sum[m][n][i + 1]};
        if constexpr (kGate) {
          const float zb[2] = {sum[m][n + 2][i], sum[m][n + 2][i + 1]};
          finish_gated<E>(g, pixel, (row0 + warp_column) / 2 + column, z, zb);
        } else {
          finish_plain<E>(g, pixel, row0 + warp_column + column, z);
        }
      }
    }
  }
}

// Rows of `packed`: a multiple of every block's columns.
inline int64_t packed_rows(bool gated, int outputs) {
  return ceil_div(gated ? ceil_div(outputs, 16) * 32 : outputs, 128) * 128;
}
inline int64_t packed_depth(int taps, int channels, int64_t element_bytes) {
  const int64_t step = kStepBytes / element_bytes;
  const int64_t depth = ceil_div(static_cast<int64_t>(taps) * channels, step) * step;
  return depth > 0 ? depth : step;
}

template <class Format, bool kVector, bool kGate, int kWarpsN>
void launch_implicit_gemm_tile(const ImplicitGemm& g, cudaStream_t stream) {
  constexpr int kColumns = 32 * kWarpsN;
  const int64_t columns = kGate ? ceil_div(g.outputs, 16) * 32 : g.outputs;
  const dim3 grid(static_cast<unsigned>(ceil_div(g.pixels, kTilePixels)),
                  static_cast<unsigned>(ceil_div(columns, kColumns)));
  cuda::launch(implicit_gemm_kernel<Format, kVector, kGate, kWarpsN>, grid, kThreads,
               kStages * (kTilePixels + kColumns) * kPitch, stream, g);
}

template <class Format, bool kVector, bool kGate>
void launch_implicit_gemm_gate(const ImplicitGemm& g, cudaStream_t stream) {
  if (g.outputs * (kGate ? 2 : 1) > 64) {
    launch_implicit_gemm_tile<Format, kVector, kGate, 4>(g, stream);
  } else {
    launch_implicit_gemm_tile<Format, kVector, kGate, 2>(g, stream);
  }
}

template <class Format>
void launch_implicit_gemm(const ImplicitGemm& g, bool vector, bool gate, cudaStream_t stream) {
  if (vector && gate) return launch_implicit_gemm_gate<Format, true, true>(g, stream);
  if (vector) return launch_implicit_gemm_gate<Format, true, false>(g, stream);
  if (gate) return launch_implicit_gemm_gate<Format, false, true>(g, stream);
  launch_implicit_gemm_gate<Format, false, false>(g, stream);
}

}  // namespace genfast::conv
