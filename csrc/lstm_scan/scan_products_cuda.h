// The product of a scan in tiles: weights times the states of neighbouring positions.
//
// sum[part][unit][position] = sum over k of weight[part][unit][k] * rows[position][k]. Forward has four
// parts, the gates, and k = tap * padded + unit; backward has one and k = (tap * 4 + gate) * padded +
// unit. A worker - a thread of Simt, a warp of Mma - computes a tile of kUnits x kPositions, all parts
// of it, and each of its threads gets whole (position, unit) pairs: nothing is exchanged before the
// cell.
//
// Both paths add up in the order of k from zero, so that a state computed again has the same bits.
#pragma once
#include "common/cuda_tiles.h"
#include "lstm_scan/scan_pixels_cuda.h"

namespace genfast::scan {

// Which of a launch's weights a packed number is: zero in the padding.
template <class E, int kParts>
GENFAST_DEVICE E weight_at(const Launch& k, int64_t group, int part, int unit, int index) {
  int at = index / k.padded, out = unit, in = index - at * k.padded;
  if constexpr (kParts == 1) {  // turned over: `at` counts taps and gates, `in` their units
    part = at % 4, at /= 4;
    const int unit_of_h = out;
    out = in, in = unit_of_h;
  }
  E value;
  cuda::narrow(Arithmetic<E>(0), &value);
  if (out < k.units && in < k.units) {
    const ScanWeight& w = k.p.weight;
    value = static_cast<const E*>(
        w.data)[group * w.group + (static_cast<int64_t>(part) * k.units + out) * w.output + in * w.unit +
                at * w.tap];
  }
  return value;
}

template <class E>
struct Simt {
  using Element = E;
  using Operand = Arithmetic<E>;  // of rows in shared memory
  static constexpr int kThreads = 1;
  static constexpr int kMaxWorkers = 512;

  static GENFAST_DEVICE Operand operand(E x) { return cuda::widen(x); }

  // Packed as [k][unit][part].
  template <int kParts>
  static GENFAST_DEVICE void pack(const Launch& k, int64_t group, int64_t index, Operand* packed) {
    const int part = static_cast<int>(index % kParts);
    const int unit = static_cast<int>(index / kParts % k.padded);
    packed[index] = cuda::widen(
        weight_at<E, kParts>(k, group, part, unit, static_cast<int>(index / kParts / k.padded)));
  }

  template <int kParts>
  struct Tile {
    static constexpr int kUnits = 1, kPositions = 4, kEach = kPositions;
    Operand sum[kPositions][kParts] = {};

    // Adds `depth` steps of k from `first`. `rows` holds the tile's first position, `pitch` a position.
    GENFAST_DEVICE void multiply(const Launch& k, const Operand* packed, int tile, int first, int depth,
                                 const Operand* rows, int pitch, int, unsigned) {
      struct alignas(kParts * sizeof(Operand)) Weights {  // of one unit and k, in one access
        Operand part[kParts];
      };
      const Weights* w =
          reinterpret_cast<const Weights*>(packed) + static_cast<int64_t>(first) * k.padded + tile;
#pragma unroll 4
      for (int i = 0; i < depth; ++i, w += k.padded) {
        const Weights weight = *w;
#pragma unroll
        for (int j = 0; j < kPositions; ++j) {
          const Operand x = rows[j * pitch + i];
#pragma unroll
          for (int part = 0; part < kParts; ++part) {
            sum[j][part] = multiply_add(weight.part[part], x, sum[j][part]);
          }
        }
      }
    }

    GENFAST_DEVICE void add(const Tile& other) {
#pragma unroll
      for (int j = 0; j < kPositions; ++j) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) sum[j][part] += other.sum[j][part];
      }
    }

    static GENFAST_DEVICE int position(int i, int) { return i; }
    static GENFAST_DEVICE int unit(int, int) { return 0; }
    GENFAST_DEVICE Operand value(int i, int part) const { return sum[i][part]; }
  };
};

// Format: one of common/cuda_tiles.h, whose mma takes 32 bytes along k.
template <class Format>
struct Mma {
  using Element = typename Format::Element;
  using Operand = Element;
  static constexpr int kThreads = 32;
  static constexpr int kMaxWorkers = 16;
  static constexpr int kStep = cuda::kMmaBytes / static_cast<int>(sizeof(Element));

  static GENFAST_DEVICE Operand operand(Element x) { return x; }

  // Packed in the order of fragments, [tile][step of k][16 rows][lane][register]: a lane's operand is 16
  // bytes. Forward's two times 16 rows are parts i, f and g, o of 8 units; backward's are 16 units.
  template <int kParts>
  static GENFAST_DEVICE void pack(const Launch& k, int64_t group, int64_t index, Operand* packed) {
    constexpr int kPair = 4 / static_cast<int>(sizeof(Element));  // elements of a register
    constexpr int kRows = kParts == 4 ? 2 : 1;
    const int within = static_cast<int>(index % kPair), r = static_cast<int>(index / kPair % 4);
    const int lane = static_cast<int>(index / (4 * kPair) % 32);
    const int64_t fragment = index / (128 * kPair);
    const int rows = static_cast<int>(fragment % kRows),
              steps = k.taps * k.padded * (4 / kParts) / kStep;
    const int step = static_cast<int>(fragment / kRows % steps);
    const int tile = static_cast<int>(fragment / kRows / steps), g = lane / 4, t = lane % 4;
    const int part = kParts == 4 ? 2 * rows + r % 2 : 0;
    const int unit = kParts == 4 ? tile * 8 + g : tile * 16 + g + 8 * (r % 2);
    const int index_k = step * kStep + kPair * t + kStep / 2 * (r / 2) + within;
    packed[index] = weight_at<Element, kParts>(k, group, part, unit, index_k);
  }

  template <int kParts>
  struct Tile {
    static constexpr int kRows = kParts == 4 ? 2 : 1;
    static constexpr int kTiles = kParts == 4 ? 4 : 2;  // of 8 positions
    static constexpr int kUnits = kParts == 4 ? 8 : 16, kPositions = 8 * kTiles;
    static constexpr int kEach = kPositions * kUnits / 32;
    float sum[kTiles][kRows][4] = {};

    // `live`: a bit for every pair of tiles that has a position on the line; the same in the whole warp.
    GENFAST_DEVICE void multiply(const Launch& k, const Operand* packed, int tile, int first, int depth,
                                 const Operand* rows, int pitch, int lane, unsigned live) {
      const int steps = k.taps * k.padded * (4 / kParts) / kStep;
      const uint4* w = reinterpret_cast<const uint4*>(packed) +
                       (static_cast<int64_t>(tile) * steps + first / kStep) * kRows * 32 + lane;
      const int pitch_bytes = pitch * static_cast<int>(sizeof(Element));
      const unsigned char* b =
          reinterpret_cast<const unsigned char*>(rows) + cuda::row_major_b(lane, pitch_bytes);
#pragma unroll 2
      for (int i = 0; i < depth; i += kStep, w += kRows * 32, b += cuda::kMmaBytes) {
        uint32_t a[kRows][4];
#pragma unroll
        for (int m = 0; m < kRows; ++m) {
          const uint4 v = w[m * 32];
          a[m][0] = v.x, a[m][1] = v.y, a[m][2] = v.z, a[m][3] = v.w;
        }
#pragma unroll
        for (int n = 0; n < kTiles / 2; ++n) {
          if (!(live >> n & 1)) continue;
          uint32_t x[4];
          cuda::ldmatrix_x4(x, b + n * 16 * pitch_bytes);
          const uint32_t x0[2] = {x[0], x[1]}, x1[2] = {x[2], x[3]};
#pragma unroll
          for (int m = 0; m < kRows; ++m) {
            Format::mma(sum[2 * n][m], a[m], x0);
            Format::mma(sum[2 * n + 1][m], a[m], x1);
          }
        }
      }
    }

    GENFAST_DEVICE void add(const Tile& other) {
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
#pragma unroll
        for (int m = 0; m < kRows; ++m) {
#pragma unroll
          for (int i = 0; i < 4; ++i) sum[j][m][i] += other.sum[j][m][i];
        }
      }
    }

    // Pair i of a lane: with four parts, unit g at positions 2t and 2t + 1 of each tile; with one, also
    // unit g + 8.
    static GENFAST_DEVICE int position(int i, int lane) {
      return i / (kEach / kTiles) * 8 + cuda::product_column(lane, i);
    }
    static GENFAST_DEVICE int unit(int i, int lane) {
      return kParts == 4 ? lane / 4 : cuda::product_row(lane, i % 4);
    }
    GENFAST_DEVICE float value(int i, int part) const {
      if constexpr (kParts == 4) return sum[i / 2][part / 2][part % 2 * 2 + i % 2];
      return sum[i / 4][0][i % 4];
    }
  };
};

constexpr int kPackThreads = 256;

template <class Path, int kParts>
__global__ void __launch_bounds__(kPackThreads) pack_kernel(Launch k) {
  using O = typename Path::Operand;
  const int64_t elements = k.packed_bytes / static_cast<int64_t>(sizeof(O));
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x;
  if (index >= elements * k.p.groups) return;
  const int64_t group = index / elements;
  O* packed = static_cast<O*>(const_cast<void*>(k.packed)) + group * elements;
  Path::template pack<kParts>(k, group, index - group * elements, packed);
}

template <class Path>
GENFAST_DEVICE const typename Path::Operand* packed_of(const Launch& k, int64_t group) {
  using O = typename Path::Operand;
  return static_cast<const O*>(k.packed) + group * (k.packed_bytes / static_cast<int64_t>(sizeof(O)));
}

}  // namespace genfast::scan
