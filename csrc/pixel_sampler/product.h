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

GENFAST_INLINE int at_most(int a, int b) { return a < b ? a : b; }

// How many positions to take next: blocks of 6 have the best ratio of sums to loads.
GENFAST_INLINE int next_block(int64_t left) { return left > kPositions ? 6 : static_cast<int>(left); }

// Outputs first .. last - 1 and, of a function of two halves, as many from `second` on (else -1); all
// are multiples of kPixelPad.
struct Outputs {
  int first, last, second;
};

// Vectors of one panel that follow one another: their weights, the first output, and where it goes.
struct Run {
  const float* weight;
  int64_t pitch;  // from the weights of a channel to those of the next
  int output;
  float* z;  // of the block's first position
};

// A part of a product: where the column's operands are (`column` columns along), which position comes
// first, and two runs, each of half the vectors.
struct Part {
  const PixelWork* work;
  int64_t column, position;
  Run run[2];
  int64_t z_pitch;
};

// The loops over vectors and positions are unrolled, all of them, or the sums would not stay in
// registers.
#define GENFAST_EACH_VECTOR _Pragma("GCC unroll 8") for (int m = 0; m < kVectors; ++m)
#define GENFAST_EACH_POSITION _Pragma("GCC unroll 12") for (int n = 0; n < kCount; ++n)

template <int kVectors, int kCount>
static __attribute__((noinline)) void product_block(const Part& part) {
  constexpr int kHalf = (kVectors + 1) / 2;  // vectors of the first run
  const PixelWork& work = *part.work;
  const PixelInstruction& code = *work.code;
  Vec sum[kCount][kVectors];
  GENFAST_EACH_POSITION { GENFAST_EACH_VECTOR sum[n][m] = Vec{}; }
  const float *weight = part.run[0].weight, *second = part.run[1].weight;
  const int64_t pitch = part.run[0].pitch, second_pitch = part.run[1].pitch;
  for (int i = 0; i < code.taps; ++i) {
    const PixelOperand& o = work.operand[i];
    const float* x = o.base + part.column * o.column + part.position * o.image;
    const int64_t image = o.image;
    for (const float* end = x + code.operand[i].channels; x < end;
         ++x, weight += pitch, second += second_pitch) {
      Vec w[kVectors];
      GENFAST_EACH_VECTOR w[m] = load(m < kHalf ? weight + m * kLanes : second + (m - kHalf) * kLanes);
      GENFAST_EACH_POSITION {
        const Vec xs = broadcast(x[n * image]);
        GENFAST_EACH_VECTOR sum[n][m] += w[m] * xs;
      }
    }
  }
#define GENFAST_OUTPUT \
  (m < kHalf ? part.run[0].output + m * kLanes : part.run[1].output + (m - kHalf) * kLanes)
  // Last: a sum that begins with a large term rounds at that term's size at every step.
  if (code.bias) {
    GENFAST_EACH_VECTOR {
      const Vec bias = load(code.bias + GENFAST_OUTPUT);
      GENFAST_EACH_POSITION sum[n][m] += bias;
    }
  }
  for (int i = 0; i < code.before; ++i) {
    const PixelOperand& o = work.operand[code.taps + i];
    const float* x = o.base + part.column * o.column + part.position * o.image;
    GENFAST_EACH_POSITION { GENFAST_EACH_VECTOR sum[n][m] += load(x + n * o.image + GENFAST_OUTPUT); }
  }
#undef GENFAST_OUTPUT
  GENFAST_EACH_POSITION {
    GENFAST_EACH_VECTOR {
      float* z = m < kHalf ? part.run[0].z + m * kLanes : part.run[1].z + (m - kHalf) * kLanes;
      store(z + n * part.z_pitch, sum[n][m]);
    }
  }
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
static constexpr ProductBlock kAtOnePosition[] = {
    product_block<1, 1>, product_block<2, 1>, product_block<3, 1>, product_block<4, 1>,
    product_block<5, 1>, product_block<6, 1>, product_block<7, 1>, product_block<8, 1>};

GENFAST_INLINE ProductBlock block_of(int vectors, int positions) {
  if (positions == 1) return kAtOnePosition[vectors - 1];
  const ProductBlock* table = vectors == 8   ? kByEight
                              : vectors == 4 ? kByFour
                              : vectors == 2 ? kByTwo
                                             : kByOne;
  return table[positions - 1];
}

// The run of an instruction's outputs from `output` on, and how many follow up to the panel's end.
GENFAST_INLINE Run run_of(const PixelInstruction& code, int output, float* z) {
  const int padded = (code.outputs + kPixelPad - 1) / kPixelPad * kPixelPad;
  const int panel = output / kPixelPanel * kPixelPanel;
  const float* weight = code.weight + static_cast<int64_t>(panel) * code.channels + (output - panel);
  return {weight, at_most(padded - panel, kPixelPanel), output, z + output};
}
GENFAST_INLINE int left_in_panel(int output) { return kPixelPanel - output % kPixelPanel; }

// How many vectors to take next: as registers allow, each run within a panel. At one position any number
// will do, at several a power of two.
GENFAST_INLINE int next_vectors(const Outputs& outputs, int positions) {
  const bool halves = outputs.second >= 0;
  const int left = (outputs.last - outputs.first) / kLanes * (halves ? 2 : 1);
  const auto fits = [&](int vectors) {
    if (vectors > left || (positions > 1 && (vectors & (vectors - 1))) || (halves && vectors % 2)) {
      return false;
    }
    const int own = (vectors + 1) / 2 * kLanes, other = vectors / 2 * kLanes;
    const int second = halves ? outputs.second : outputs.first + own;
    return own <= left_in_panel(outputs.first) && other <= left_in_panel(second);
  };
  int vectors = vectors_at_once(positions);
  while (!fits(vectors)) --vectors;
  return vectors;
}

// Outputs at few positions (`count` <= kPositions).
static void product_strip(const PixelWork& work, int64_t column, int64_t position, int count,
                          Outputs outputs, float* z, int64_t z_pitch) {
  const PixelInstruction& code = *work.code;
  const bool halves = outputs.second >= 0;
  while (outputs.first < outputs.last) {
    const int vectors = next_vectors(outputs, count), own = (vectors + 1) / 2 * kLanes;
    Part part = {&work, column, position, {run_of(code, outputs.first, z), {}}, z_pitch};
    if (vectors > 1) part.run[1] = run_of(code, halves ? outputs.second : outputs.first + own, z);
    block_of(vectors, count)(part);
    outputs.first += halves ? own : vectors * kLanes;
    if (halves) outputs.second += own;
  }
}

// Outputs at `positions` (<= kPixelBlock) positions from `position` on, into z. Where there are many, a
// panel at a time, so that its weights come from the L2 cache for all but the first few.
static void product(const PixelWork& work, int64_t column, int64_t position, int positions,
                    const Outputs& outputs, float* z, int64_t z_pitch) {
  const int strip = positions <= kPositions ? outputs.last : kPixelPanel;
  for (Outputs part = outputs; part.first < outputs.last; part.first = part.last) {
    part.last = at_most(part.first + strip, outputs.last);
    if (outputs.second >= 0) part.second = outputs.second + part.first - outputs.first;
    for (int done = 0; done < positions;) {
      const int count = next_block(positions - done);
      product_strip(work, column, position + done, count, part, z + done * z_pitch, z_pitch);
      done += count;
    }
  }
}

}  // namespace genfast::GENFAST_ISA
