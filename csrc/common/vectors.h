// Vectors of float and double alike, and the register-tiled product of matrices.
#pragma once
#include "common/simd.h"

namespace genfast::GENFAST_ISA {

extern "C" double exp(double);
extern "C" double exp2(double);

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

GENFAST_INLINE Vec exp_of(Vec x) { return value(exp_parts(x)); }
GENFAST_INLINE DVec exp_of(DVec x) {
  DVec y;
  for (int i = 0; i < kLanesOf<double>; ++i) y[i] = exp(x[i]);
  return y;
}
GENFAST_INLINE DVec exp2_of(DVec x) {
  DVec y;
  for (int i = 0; i < kLanesOf<double>; ++i) y[i] = exp2(x[i]);
  return y;
}

// A bit for each lane where a <= b does not hold, as with a NaN.
GENFAST_INLINE uint32_t lanes_above(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_NLE_UQ);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps(
      _mm256_cmp_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), _CMP_NLE_UQ)));
#elif defined(__SSE2__)
  return static_cast<uint32_t>(
      _mm_movemask_ps(_mm_cmpnle_ps(reinterpret_cast<__m128>(a), reinterpret_cast<__m128>(b))));
#else
  uint32_t lanes = 0;
  for (int i = 0; i < kLanes; ++i) lanes |= (a[i] <= b[i] ? 0u : 1u) << i;
  return lanes;
#endif
}
GENFAST_INLINE uint32_t lanes_above(DVec a, DVec b) {
  uint32_t lanes = 0;
  for (int i = 0; i < kLanesOf<double>; ++i) lanes |= (a[i] <= b[i] ? 0u : 1u) << i;
  return lanes;
}

// Rows x vectors of sums that stay in registers: as many as the level has, less the operands.
#if defined(__AVX512F__)
constexpr int kTileRows = 6;
#elif defined(__AVX2__)
constexpr int kTileRows = 3;
#else
constexpr int kTileRows = 2;
#endif

#define GENFAST_EACH_ROW(M) _Pragma("GCC unroll 8") for (int i = 0; i < M; ++i)
#define GENFAST_EACH_VECTOR(N) _Pragma("GCC unroll 8") for (int j = 0; j < N; ++j)

// sum[i][j] += sum over k < n of a[i * row + k * step] * (vector j of b + k * pitch). The sums are
// local, so that only constants index them here and they stay in registers whatever the caller does with
// `sum`.
template <int M, int N, class A, class V>
GENFAST_INLINE void multiply_add(int64_t n, const A* a, int64_t row, int64_t step, const A* b,
                                 int64_t pitch, V (&sum)[M][N]) {
  V local[M][N];
  GENFAST_EACH_ROW(M) { GENFAST_EACH_VECTOR(N) local[i][j] = sum[i][j]; }
  for (int64_t k = 0; k < n; ++k, a += step, b += pitch) {
    V x[M];  // fewer than the vectors of b, of which one is held at a time
    GENFAST_EACH_ROW(M) x[i] = broadcast(a[i * row]);
    GENFAST_EACH_VECTOR(N) {
      const V w = load(b + j * kLanesOf<A>);
      GENFAST_EACH_ROW(M) local[i][j] += x[i] * w;
    }
  }
  GENFAST_EACH_ROW(M) { GENFAST_EACH_VECTOR(N) sum[i][j] = local[i][j]; }
}

}  // namespace genfast::GENFAST_ISA
