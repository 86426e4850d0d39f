// weight . taps + bias + sum of before, at a block of positions: the register-tiled product.
#pragma once
#include "common/simd.h"
#include "pixel_sampler/pixel_sampler.h"

namespace genfast::GENFAST_ISA {

// Vectors of outputs x positions that stay in registers, for a number of positions: at least 8 sums in
// flight, and the more positions, the fewer vectors.
#ifdef __AVX512F__
constexpr int kPositions = 12;
GENFAST_INLINE int vectors_at_once(int positions) { return positions <= 3 ? 8 : positions <= 6 ? 4 : 2; }
#else
constexpr int kPositions = 6;
GENFAST_INLINE int vectors_at_once(int positions) { return positions == 1 ? 8 : positions == 2 ? 4 : 2; }
#endif

constexpr int kStrip = 64;  // outputs; divides kPixelPanel
GENFAST_INLINE int at_most(int a, int b) { return a < b ? a : b; }

// How many positions to take next: blocks of 6 have the best ratio of sums to loads.
GENFAST_INLINE int next_block(int64_t left) { return left > kPositions ? 6 : static_cast<int>(left); }

// A part of a product: where the column's operands are (`column` columns along), which position comes
// first, the weights of the first output vector, and where that vector goes.
struct Part {
  const PixelWork* work;
  int64_t column, position;
  const float* weight;
  int64_t pitch;  // from the weights of a channel to those of the next
  int output;     // the first vector's, in floats
  float* z;       // of the block's first position
  int64_t z_pitch;
};

// The loops over vectors and positions are unrolled, all of them, or the sums would not stay in
// registers.
#define GENFAST_EACH_VECTOR _Pragma("GCC unroll 8") for (int m = 0; m < kVectors; ++m)
#define GENFAST_EACH_POSITION _Pragma("GCC unroll 12") for (int n = 0; n < kCount; ++n)

template <int kVectors, int kCount>
static __attribute__((noinline)) void product_block(const Part& part) {
  const PixelWork& work = *part.work;
  const PixelInstruction& code = *work.code;
  Vec sum[kCount][kVectors];
  GENFAST_EACH_POSITION { GENFAST_EACH_VECTOR sum[n][m] = Vec{}; }
  const float* weight = part.weight;
  const int64_t pitch = part.pitch;
  for (int i = 0; i < code.taps; ++i) {
    const PixelOperand& o = work.operand[i];
    const float* x = o.base + part.column * o.column + part.position * o.image;
    const int64_t image = o.image;
    for (const float* end = x + code.operand[i].channels; x < end; ++x, weight += pitch) {
      Vec w[kVectors];
      GENFAST_EACH_VECTOR w[m] = load(weight + m * kLanes);
      GENFAST_EACH_POSITION {
        const Vec xs = broadcast(x[n * image]);
        GENFAST_EACH_VECTOR sum[n][m] += w[m] * xs;
      }
    }
  }
  // Last: a sum that begins with a large term rounds at that term's size at every step.
  if (code.bias) {
    GENFAST_EACH_VECTOR {
      const Vec bias = load(code.bias + part.output + m * kLanes);
      GENFAST_EACH_POSITION sum[n][m] += bias;
    }
  }
  for (int i = 0; i < code.before; ++i) {
    const PixelOperand& o = work.operand[code.taps + i];
    const float* x = o.base + part.column * o.column + part.position * o.image + part.output;
    GENFAST_EACH_POSITION { GENFAST_EACH_VECTOR sum[n][m] += load(x + n * o.image + m * kLanes); }
  }
  GENFAST_EACH_POSITION { GENFAST_EACH_VECTOR store(part.z + n * part.z_pitch + m * kLanes, sum[n][m]); }
}

#undef GENFAST_EACH_VECTOR
#undef GENFAST_EACH_POSITION

typedef void (*ProductBlock)(const Part&);

#define GENFAST_COUNTS_3(V) product_block<V, 1>, product_block<V, 2>, product_block<V, 3>
#define GENFAST_COUNTS_6(V) \
  GENFAST_COUNTS_3(V), product_block<V, 4>, product_block<V, 5>, product_block<V, 6>
#ifdef __AVX512F__
#define GENFAST_COUNTS(V)                                                             \
  GENFAST_COUNTS_6(V), product_block<V, 7>, product_block<V, 8>, product_block<V, 9>, \
      product_block<V, 10>, product_block<V, 11>, product_block<V, 12>
static constexpr ProductBlock kByEight[] = {GENFAST_COUNTS_3(8)}, kByFour[] = {GENFAST_COUNTS_6(4)};
#else
#define GENFAST_COUNTS(V) GENFAST_COUNTS_6(V)
static constexpr ProductBlock kByEight[] = {product_block<8, 1>};
static constexpr ProductBlock kByFour[] = {product_block<4, 1>, product_block<4, 2>};
#endif
static constexpr ProductBlock kByTwo[] = {GENFAST_COUNTS(2)}, kByOne[] = {GENFAST_COUNTS(1)};
#undef GENFAST_COUNTS
#undef GENFAST_COUNTS_6
#undef GENFAST_COUNTS_3

GENFAST_INLINE ProductBlock block_of(int vectors, int positions) {
  const ProductBlock* table = vectors == 8   ? kByEight
                              : vectors == 4 ? kByFour
                              : vectors == 2 ? kByTwo
                                             : kByOne;
  return table[positions - 1];
}

// All outputs at `positions` (<= kPixelBlock) positions from `position` on, into z. A strip of outputs
// at a time, so that its weights come from the L2 cache for all but the first few positions.
static void product(const PixelWork& work, int64_t column, int64_t position, int positions, float* z,
                    int64_t z_pitch) {
  const PixelInstruction& code = *work.code;
  const int outputs = (code.outputs + kPixelPad - 1) / kPixelPad * kPixelPad;
  const int strip = positions <= kPositions ? kPixelPanel : kStrip;
  for (int first = 0; first < outputs; first += strip) {
    const int panel = first / kPixelPanel * kPixelPanel, last = at_most(first + strip, outputs);
    const int width = at_most(outputs - panel, kPixelPanel);
    const float* weight = code.weight + static_cast<int64_t>(panel) * code.channels - panel;
    for (int done = 0; done < positions;) {
      const int count = next_block(positions - done);
      int vectors = vectors_at_once(count);
      for (int output = first; output < last; output += vectors * kLanes) {
        while (vectors * kLanes > last - output) vectors /= 2;
        const Part part = {
            &work,  column, position + done, weight + output, width, output, z + done * z_pitch + output,
            z_pitch};
        block_of(vectors, count)(part);
      }
      done += count;
    }
  }
}

}  // namespace genfast::GENFAST_ISA
