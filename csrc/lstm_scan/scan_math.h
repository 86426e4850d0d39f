// Vectors of float and double, the LSTM's nonlinearities on them, and the register-tiled product.
#pragma once
#include "common/convert.h"

namespace genfast::GENFAST_ISA {

extern "C" double exp(double);
extern "C" double tanh(double);

typedef double DVec __attribute__((vector_size(4 * kLanes)));

template <class A>
struct VectorOf {
  using type = Vec;
};
template <>
struct VectorOf<double> {
  using type = DVec;
};
template <class A>
using VectorFor = typename VectorOf<A>::type;
template <class A>
constexpr int kLanesOf = sizeof(Vec) / sizeof(A);

GENFAST_INLINE DVec load(const double* p) {
  typedef double Unaligned __attribute__((vector_size(4 * kLanes), aligned(8), may_alias));
  return *reinterpret_cast<const Unaligned*>(p);
}
GENFAST_INLINE void store(double* p, DVec v) {
  typedef double Unaligned __attribute__((vector_size(4 * kLanes), aligned(8), may_alias));
  *reinterpret_cast<Unaligned*>(p) = v;
}
GENFAST_INLINE DVec broadcast(double x) { return x - DVec{}; }

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

// Pixels x vectors of sums that stay in registers: as many as the level has, less the operands.
#if defined(__AVX512F__)
constexpr int kTilePixels = 6;
#elif defined(__AVX2__)
constexpr int kTilePixels = 3;
#else
constexpr int kTilePixels = 2;
#endif

#define GENFAST_EACH_PIXEL(M) _Pragma("GCC unroll 8") for (int i = 0; i < M; ++i)
#define GENFAST_EACH_VECTOR(N) _Pragma("GCC unroll 8") for (int j = 0; j < N; ++j)

// sum[i][j] += sum over k < n of a[i * row + k * step] * (vector j of b + k * pitch). The sums are
// local, so that only constants index them here and they stay in registers whatever the caller does with
// `sum`.
template <int M, int N, class A, class V>
GENFAST_INLINE void multiply_add(int64_t n, const A* a, int64_t row, int64_t step, const A* b,
                                 int64_t pitch, V (&sum)[M][N]) {
  V local[M][N];
  GENFAST_EACH_PIXEL(M) { GENFAST_EACH_VECTOR(N) local[i][j] = sum[i][j]; }
  for (int64_t k = 0; k < n; ++k, a += step, b += pitch) {
    V x[M];  // fewer than the vectors of b, of which one is held at a time
    GENFAST_EACH_PIXEL(M) x[i] = broadcast(a[i * row]);
    GENFAST_EACH_VECTOR(N) {
      const V w = load(b + j * kLanesOf<A>);
      GENFAST_EACH_PIXEL(M) local[i][j] += x[i] * w;
    }
  }
  GENFAST_EACH_PIXEL(M) { GENFAST_EACH_VECTOR(N) sum[i][j] = local[i][j]; }
}

// Calls body with std::integral_constant-like M for a tile of `pixels` (at most kTilePixels).
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
  int64_t tiles = (count + kTilePixels - 1) / kTilePixels;
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
