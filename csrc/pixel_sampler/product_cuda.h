// One instruction of a pixel program on CUDA: its product in tiles, its function, what is added after
// it.
#pragma once
#include "common/cuda.h"
#include "pixel_sampler/pixel_sampler.h"
#include "pixel_sampler/scan_cuda.h"

namespace genfast {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 32;                        // positions, outputs and channels that a block works on
constexpr int kEach = kTile * kTile / kThreads;  // positions a thread
constexpr int kMaxOperands = 64;

// A launch's own copy of an instruction and of where its operands are.
struct Product {
  PixelFunction function;
  int outputs, channels, taps, before, after, cell_distance;
  int positions, inner;  // inner: positions of a column
  const float *weight, *bias;
  float* target;
  int64_t target_column, target_image;
  PixelOperand operand[kMaxOperands];
  int size[kMaxOperands];  // channels of the taps
};

GENFAST_DEVICE int64_t offset(int64_t column_pitch, int64_t image_pitch, int position, int inner) {
  const int column = position / inner;
  return column * column_pitch + (position - column * inner) * image_pitch;
}

// The packed weight of channel k (of all taps) for an output.
GENFAST_DEVICE const float* weight_of(const Product& p, int k, int output) {
  return first_weight(p.weight, p.channels, output) +
         static_cast<int64_t>(k) * weight_pitch(p.outputs, output);
}

GENFAST_DEVICE float bias_and_before(const Product& p, int position, int output, float sum) {
  if (p.bias) sum += p.bias[output];
  for (int i = p.taps; i < p.taps + p.before; ++i) {
    const PixelOperand& o = p.operand[i];
    sum += o.base[offset(o.column, o.image, position, p.inner) + output];
  }
  return sum;
}

GENFAST_DEVICE void write(const Product& p, int position, int channel, float y) {
  for (int i = p.taps + p.before; i < p.taps + p.before + p.after; ++i) {
    const PixelOperand& o = p.operand[i];
    y += o.base[offset(o.column, o.image, position, p.inner) + channel];
  }
  p.target[offset(p.target_column, p.target_image, position, p.inner) + channel] = y;
}

// The output that is part `part` of what a function with kParts parts takes together.
template <int kParts>
GENFAST_DEVICE int output_of(const Product& p, int part, int channel) {
  return kParts == 4 ? gate_output(part, channel) : part * (p.outputs / kParts) + channel;
}

// A block computes kTile outputs at kTile positions; of a function of two halves or four gates, those of
// all of them.
template <int kParts>
__global__ void __launch_bounds__(kThreads) pixel_compute_kernel(Product p) {
  SHARED(float[kTile][kTile + 1], x);
  SHARED(float[kParts][kTile][kTile], w);
  const int lane = threadIdx.x % kTile, group = threadIdx.x / kTile;
  const int first = blockIdx.x * kTile;
  const int half = p.outputs / kParts, output = blockIdx.y * kTile + lane;
  float sum[kParts][kEach];
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
#pragma unroll
    for (int e = 0; e < kEach; ++e) sum[part][e] = 0.0f;
  }
  int done = 0;  // channels of earlier taps
  for (int i = 0; i < p.taps; ++i) {
    const PixelOperand& o = p.operand[i];
    for (int k0 = 0; k0 < p.size[i]; k0 += kTile) {
      const int left = min(kTile, p.size[i] - k0);
      for (int n = group; n < kTile; n += kThreads / kTile) {
        const bool live = lane < left && first + n < p.positions;
        x[n][lane] = live ? o.base[offset(o.column, o.image, first + n, p.inner) + k0 + lane] : 0.0f;
        for (int part = 0; part < kParts; ++part) {
          const bool there = n < left && output < half;
          w[part][n][lane] =
              there ? *weight_of(p, done + k0 + n, output_of<kParts>(p, part, output)) : 0.0f;
        }
      }
      __syncthreads();
      for (int k = 0; k < left; ++k) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          const float weight = w[part][k][lane];
#pragma unroll
          for (int e = 0; e < kEach; ++e) sum[part][e] += weight * x[group * kEach + e][k];
        }
      }
      __syncthreads();
    }
    done += p.size[i];
  }
  if (output >= half) return;
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const int position = first + group * kEach + e;
    if (position >= p.positions) break;
    const auto part = [&](int n) {
      return bias_and_before(p, position, output_of<kParts>(p, n, output), sum[n][e]);
    };
    const float z = part(0);
    if constexpr (kParts == 4) {
      const PixelOperand& o = p.operand[p.taps + p.before + p.after];
      const float cell = o.base[offset(o.column, o.image, position, p.inner) + output];
      const float next = next_cell(z, part(1), part(2), cell);
      write(p, position, p.cell_distance + output, next);
      write(p, position, output, sigmoid(part(3)) * tanhf(next));
    } else if constexpr (kParts == 2) {
      write(p, position, output, (p.function == PixelFunction::gate ? tanhf(z) : z) * sigmoid(part(1)));
    } else if (p.function == PixelFunction::concat_elu) {
      write(p, position, output, elu(z));
      write(p, position, p.outputs + output, elu(-z));
    } else {
      const float y = p.function == PixelFunction::relu  ? fmaxf(z, 0.0f)
                      : p.function == PixelFunction::elu ? elu(z)
                                                         : z;
      write(p, position, output, y);
    }
  }
}

}  // namespace
}  // namespace genfast
