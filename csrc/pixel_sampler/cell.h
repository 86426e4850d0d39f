// Gates and LSTM cells.
#pragma once
#include "common/simd.h"
#include "pixel_sampler/pixel_sampler.h"

namespace genfast::GENFAST_ISA {

constexpr int kCellPart = 4 * kPixelPad;  // outputs that belong together: the gates of kPixelPad units

// tanh(a) sigmoid(b) with one division, as in gated_cpu.cpp: u = e^{-2|a|}, v = e^{-b}.
GENFAST_INLINE Vec gate(Vec a, Vec b) {
  const Vec u1 = minus_one(exp_parts(-2.0f * abs(a)));
  const Vec v = value(exp_parts(-b));
  const Vec denominator = 2.0f + u1;
  return copy_sign((0.0f - u1) / (denominator * v + denominator), a);
}

// c' = sigmoid(f) c + sigmoid(i) tanh(g) and h = sigmoid(o) tanh(c'), for the gates first .. last - 1,
// multiples of kCellPart, that `product` left in z.
static void lstm(const float* z, int first, int last, const float* cell, float* new_cell,
                 float* hidden) {
  for (int part = first; part < last; part += kCellPart) {
    for (int i = 0; i < kPixelPad; i += kLanes) {
      const float* gates = z + part + i;
      const int unit = part / 4 + i;
      const Vec kept = load(cell + unit) / (1.0f + value(exp_parts(-load(gates + kPixelPad))));
      const Vec c = kept + gate(load(gates + 2 * kPixelPad), load(gates));
      store(new_cell + unit, c);
      store(hidden + unit, gate(c, load(gates + 3 * kPixelPad)));
    }
  }
}

}  // namespace genfast::GENFAST_ISA
