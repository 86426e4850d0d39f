// Scans of a row on CUDA: one launch for all that are independent of one another, a block for each scan
// and a few images. A block walks through the columns; what it needs of the last one it has written
// itself.
#pragma once
#include <stdexcept>
#include <string>

#include "common/cuda.h"
#include "pixel_sampler/layout.h"
#include "pixel_sampler/pixel_sampler.h"

namespace genfast {
namespace {

GENFAST_DEVICE float elu(float z) { return z > 0.0f ? z : expm1f(z); }
GENFAST_DEVICE float sigmoid(float z) { return 1.0f / (1.0f + expf(-z)); }

// The new cell state from the gates i, f, g.
GENFAST_DEVICE float next_cell(float i, float f, float g, float cell) {
  return sigmoid(f) * cell + sigmoid(i) * tanhf(g);
}

// Where gate 0 .. 3 of a unit is among an lstm's outputs.
GENFAST_DEVICE int gate_output(int gate, int unit) {
  return (unit / kPixelPad * 4 + gate) * kPixelPad + unit % kPixelPad;
}

// From the weights of a channel to those of the next, for an output; and those of channel 0.
GENFAST_DEVICE int weight_pitch(int outputs, int output) {
  const int padded = (outputs + kPixelPad - 1) / kPixelPad * kPixelPad;
  return min(kPixelPanel, padded - output / kPixelPanel * kPixelPanel);
}
GENFAST_DEVICE const float* first_weight(const float* weights, int channels, int output) {
  const int panel = output / kPixelPanel * kPixelPanel;
  return weights + static_cast<int64_t>(panel) * channels + output - panel;
}

constexpr int kScanThreads = 256;
constexpr int kScanImages = 4;    // a block: they share every weight that it reads
constexpr int kScanOperands = 8;  // splitting leaves the recursive ones, a sum and the cell
constexpr int kScansAtOnce = 8;   // a launch's arguments take 4 KiB
constexpr size_t kScanMemory = 48 << 10;

struct Scan {
  PixelFunction function;
  int outputs, channels, given;  // given: channels of the target
  int taps, before, after, cell_distance;
  int columns, way;
  const float *weight, *bias;
  float* target;
  int64_t target_column, target_image;
  PixelOperand operand[kScanOperands];
  int size[kScanOperands];  // channels of the taps
};

struct Scans {
  Scan scan[kScansAtOnce];
};

GENFAST_DEVICE const float* operand_at(const Scan& s, int i, int column, int64_t image) {
  const PixelOperand& o = s.operand[i];
  return o.base + column * o.column + image * o.image;
}

// z: [outputs][kScanImages], of one image.
GENFAST_DEVICE void write_scanned(const Scan& s, const float* z, int column, int64_t image,
                                  int channel) {
  const auto of = [&](int output) { return z[output * kScanImages]; };
  float* y = s.target + column * s.target_column + image * s.target_image + channel;
  const int half = s.outputs / 2;
  float value = 0.0f;
  switch (s.function) {
    case PixelFunction::identity: value = of(channel); break;
    case PixelFunction::relu: value = fmaxf(of(channel), 0.0f); break;
    case PixelFunction::elu: value = elu(of(channel)); break;
    case PixelFunction::concat_elu:
      value = channel < s.outputs ? elu(of(channel)) : elu(-of(channel - s.outputs));
      break;
    case PixelFunction::gate: value = tanhf(of(channel)) * sigmoid(of(half + channel)); break;
    case PixelFunction::glu: value = of(channel) * sigmoid(of(half + channel)); break;
    case PixelFunction::lstm: {
      const float* cell = operand_at(s, s.taps + s.before + s.after, column, image) + channel;
      const float next = next_cell(of(gate_output(0, channel)), of(gate_output(1, channel)),
                                   of(gate_output(2, channel)), *cell);
      y[s.cell_distance] = next;
      value = sigmoid(of(gate_output(3, channel))) * tanhf(next);
    }
  }
  for (int i = s.taps + s.before; i < s.taps + s.before + s.after; ++i) {
    value += operand_at(s, i, column, image)[channel];
  }
  *y = value;
}

__global__ void __launch_bounds__(kScanThreads) pixel_scan_kernel(Scans scans, int64_t images) {
  const Scan& s = scans.scan[blockIdx.y];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kScanImages;
  const int count = static_cast<int>(min(static_cast<int64_t>(kScanImages), images - first));
  float* x = cuda::dyn_smem<float>();       // [channels][kScanImages]
  float* z = x + s.channels * kScanImages;  // [outputs][kScanImages]
  for (int step = 0; step < s.columns; ++step) {
    const int column = s.way > 0 ? step : s.columns - 1 - step;
    int done = 0;  // channels of earlier taps
    for (int i = 0; i < s.taps; ++i) {
      for (int e = threadIdx.x; e < kScanImages * s.size[i]; e += kScanThreads) {
        const int n = e / s.size[i], k = e - n * s.size[i];
        x[(done + k) * kScanImages + n] = n < count ? operand_at(s, i, column, first + n)[k] : 0.0f;
      }
      done += s.size[i];
    }
    __syncthreads();
    for (int output = threadIdx.x; output < s.outputs; output += kScanThreads) {
      float sum[kScanImages] = {};
      const float* weight = first_weight(s.weight, s.channels, output);
      const int pitch = weight_pitch(s.outputs, output);
      for (int k = 0; k < s.channels; ++k, weight += pitch) {
#pragma unroll
        for (int n = 0; n < kScanImages; ++n) sum[n] += *weight * x[k * kScanImages + n];
      }
#pragma unroll
      for (int n = 0; n < kScanImages; ++n) {
        if (n >= count) break;
        if (s.bias) sum[n] += s.bias[output];
        for (int i = s.taps; i < s.taps + s.before; ++i) {
          sum[n] += operand_at(s, i, column, first + n)[output];
        }
        z[output * kScanImages + n] = sum[n];
      }
    }
    __syncthreads();
    for (int e = threadIdx.x; e < count * s.given; e += kScanThreads) {
      const int n = e / s.given;
      write_scanned(s, z + n, column, first + n, e - n * s.given);
    }
    __syncthreads();
  }
}

// ---- the host's side -----------------------------------------------------------------------------

// Bytes of shared memory that a scan takes.
inline size_t scan_memory(const Scan& s) {
  return static_cast<size_t>(s.channels + s.outputs) * kScanImages * sizeof(float);
}

inline Scan scan_of(const PixelWork& work) {
  const PixelInstruction& code = *work.code;
  if (code.operands() > kScanOperands) {
    throw std::invalid_argument("a scan reads more than " + std::to_string(kScanOperands) +
                                " taps, the most that the CUDA kernel takes");
  }
  Scan s{};
  s.function = code.function;
  s.outputs = code.outputs, s.channels = code.channels, s.given = code.target.channels;
  s.taps = code.taps, s.before = code.before, s.after = code.after;
  s.cell_distance = code.cell_distance;
  s.columns = work.columns, s.way = code.scan;
  s.weight = code.weight, s.bias = code.bias;
  s.target = work.target, s.target_column = work.target_column, s.target_image = work.target_image;
  for (int k = 0; k < code.operands(); ++k) {
    s.operand[k] = work.operand[k];
    s.size[k] = code.operand[k].channels;
  }
  if (scan_memory(s) > kScanMemory) {
    throw std::invalid_argument("a scan of " + std::to_string(s.channels) + " channels to " +
                                std::to_string(s.outputs) +
                                " outputs needs more shared memory than the CUDA kernel has");
  }
  return s;
}

}  // namespace
}  // namespace genfast
