// The LSTM's nonlinearities on vectors, and loops over tiles.
#pragma once
#include "common/convert.h"
#include "common/vectors.h"

namespace genfast::GENFAST_ISA {

extern "C" double tanh(double);

GENFAST_INLINE Vec sigmoid_of(Vec x) { return 1.0f / (1.0f + value(exp_parts(-x))); }
// Where |tanh| is large, 1 - 2u / (1 + u) with u = e^{-2|x|} rounds less than (1 - u) / (1 + u).
GENFAST_INLINE Vec tanh_of(Vec x) {
  const Exponential e = exp_parts_in_range(at_least(-2.0f * abs(x), -87.0f));
  const Vec u = value(e), inverse = 1.0f / (1.0f + u);
  const Vec small = -minus_one(e) * inverse, large = 1.0f - 2.0f * u * inverse;
  return copy_sign(u > 0.3f ? small : large, x);
}
GENFAST_INLINE DVec sigmoid_of(DVec x) {
  DVec y;
  for (int i = 0; i < kLanesOf<double>; ++i) y[i] = 1.0 / (1.0 + exp(-x[i]));
  return y;
}
GENFAST_INLINE DVec tanh_of(DVec x) {
  DVec y;
  for (int i = 0; i < kLanesOf<double>; ++i) y[i] = tanh(x[i]);
  return y;
}

// v as it is after it was stored as a `dtype`.
template <class T>
GENFAST_INLINE Vec stored_as(Vec v) {
  float wide[kLanes];
  T narrow[kLanes];
  store(wide, v);
  narrow_lanes(wide, narrow);
  widen_lanes(narrow, wide);
  return load(wide);
}
GENFAST_INLINE Vec rounded(Vec v, DType dtype) {
  if (dtype == DType::float32) return v;
  return dtype == DType::bfloat16 ? stored_as<bfloat16>(v) : stored_as<float16>(v);
}
GENFAST_INLINE DVec rounded(DVec v, DType) { return v; }

// Calls body with std::integral_constant-like M for a tile of `pixels` (at most kTileRows).
template <int M>
struct Count {
  static constexpr int value = M;
};
template <class Body>
GENFAST_INLINE void with_count(int pixels, const Body& body) {
  switch (pixels) {
    case 1: body(Count<1>()); break;
    case 2: body(Count<2>()); break;
#if defined(__AVX2__)
    case 3: body(Count<3>()); break;
#endif
#if defined(__AVX512F__)
    case 4: body(Count<4>()); break;
    case 5: body(Count<5>()); break;
    case 6: body(Count<6>()); break;
#endif
  }
}

// Calls body(first, Count) on tiles of nearly equal length that cover 0..count.
template <class Body>
GENFAST_INLINE void in_tiles(int64_t count, const Body& body) {
  int64_t tiles = (count + kTileRows - 1) / kTileRows;
  for (int64_t first = 0; first < count; --tiles) {
    const int64_t pixels = (count - first + tiles - 1) / tiles;
    with_count(static_cast<int>(pixels), [&](auto m) { body(first, m); });
    first += pixels;
  }
}

// Calls body(first unit, Count) on blocks of 4, 2 and 1 vectors that cover the padded units.
template <class A, class Body>
GENFAST_INLINE void in_unit_blocks(int64_t padded, const Body& body) {
  constexpr int64_t kVector = kLanesOf<A>;
  int64_t first = 0;
  for (; first + 4 * kVector <= padded; first += 4 * kVector) body(first, Count<4>());
  for (; first + 2 * kVector <= padded; first += 2 * kVector) body(first, Count<2>());
  for (; first + kVector <= padded; first += kVector) body(first, Count<1>());
}

}  // namespace genfast::GENFAST_ISA
