// Transposes between rows of pixels, whose channels lie side by side, and rows of channels: squares of
// kLanes x kLanes in registers, which element by element would cost more than many a kernel.
#pragma once
#include "common/convert.h"

namespace genfast::GENFAST_ISA {

// Exchanges the blocks of kSize that lie off the diagonal of blocks twice as large, in every such block.
template <int kSize>
GENFAST_INLINE void exchange_blocks(Vec* row) {
  if constexpr (kSize < kLanes) {
    IVec low, high;
    for (int i = 0; i < kLanes; ++i) {
      low[i] = i & kSize ? kLanes + i - kSize : i;
      high[i] = i & kSize ? kLanes + i : i + kSize;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if (i & kSize) continue;
      const Vec first = row[i], second = row[i + kSize];
      row[i] = __builtin_shuffle(first, second, low);
      row[i + kSize] = __builtin_shuffle(first, second, high);
    }
    exchange_blocks<2 * kSize>(row);
  }
}
GENFAST_INLINE void transpose_square(Vec* row) { exchange_blocks<1>(row); }

GENFAST_INLINE Vec load_lanes(const float* source) { return load(source); }
GENFAST_INLINE void store_lanes(Vec v, float* target) { store(target, v); }
template <class T>
GENFAST_INLINE Vec load_lanes(const T* source) {
  alignas(64) float wide[kLanes];
  widen_lanes(source, wide);
  return load(wide);
}
template <class T>
GENFAST_INLINE void store_lanes(Vec v, T* target) {
  alignas(64) float wide[kLanes];
  store(wide, v);
  narrow_lanes(wide, target);
}

// Calls square(pixel, channel) on squares that cover `pixels` x `channels` and pixel(p, c) on what no
// square covers. The last squares overlap those before them.
template <class Square, class Single>
GENFAST_INLINE void for_squares(int64_t pixels, int64_t channels, bool squares, const Square& square,
                                const Single& single) {
  if (!squares || pixels % kLanes || channels < kLanes) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t p = 0; p < pixels; ++p) single(p, c);
    }
    return;
  }
  for (int64_t p = 0; p < pixels; p += kLanes) {
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) square(p, c);
    if (c < channels) square(p, channels - kLanes);
  }
}

// Pixel p's channel c is source[p * stride + c], and becomes planes[c * plane + p].
template <class T>
static void read_planes(const T* source, int64_t stride, int64_t pixels, int64_t channels,
                        Arithmetic<T>* planes, int64_t plane) {
  constexpr bool in_floats = sizeof(Arithmetic<T>) == sizeof(float);
  for_squares(
      pixels, channels, in_floats,
      [&](int64_t p, int64_t c) {
        if constexpr (in_floats) {
          Vec row[kLanes];
#pragma GCC unroll 16
          for (int i = 0; i < kLanes; ++i) row[i] = load_lanes(source + (p + i) * stride + c);
          transpose_square(row);
#pragma GCC unroll 16
          for (int i = 0; i < kLanes; ++i) store(planes + (c + i) * plane + p, row[i]);
        }
      },
      [&](int64_t p, int64_t c) { planes[c * plane + p] = widen(source[p * stride + c]); });
}

// The way back.
template <class T>
static void write_planes(const Arithmetic<T>* planes, int64_t plane, int64_t pixels, int64_t channels,
                         T* target, int64_t stride) {
  constexpr bool in_floats = sizeof(Arithmetic<T>) == sizeof(float);
  for_squares(
      pixels, channels, in_floats,
      [&](int64_t p, int64_t c) {
        if constexpr (in_floats) {
          Vec row[kLanes];
#pragma GCC unroll 16
          for (int i = 0; i < kLanes; ++i) row[i] = load(planes + (c + i) * plane + p);
          transpose_square(row);
#pragma GCC unroll 16
          for (int i = 0; i < kLanes; ++i) store_lanes(row[i], target + (p + i) * stride + c);
        }
      },
      [&](int64_t p, int64_t c) { narrow(planes[c * plane + p], target + p * stride + c); });
}

}  // namespace genfast::GENFAST_ISA
