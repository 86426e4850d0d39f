// Elements of any storage type in kernels: 16-bit floats are widened to fp32, computed with, and rounded
// once to nearest even; fp64 stays fp64. Include after cuda.h.
#pragma once
#include "common/cuda.h"
#include "common/dtype.h"

namespace genfast::cuda {

// What kernels call an element type of dtype.h, so that GENFAST_DISPATCH_DTYPE can be used.
template <class T>
struct ElementOf {
  using type = T;
};
template <>
struct ElementOf<::genfast::bfloat16> {
  using type = __nv_bfloat16;
};
template <>
struct ElementOf<::genfast::float16> {
  using type = __half;
};
template <class T>
using Element = typename ElementOf<T>::type;

template <class T>
struct ArithmeticOf {
  using type = float;
};
template <>
struct ArithmeticOf<double> {
  using type = double;
};
template <class T>
using Arithmetic = typename ArithmeticOf<T>::type;  // double for double, else float

GENFAST_DEVICE float widen(float x) { return x; }
GENFAST_DEVICE double widen(double x) { return x; }
GENFAST_DEVICE float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
GENFAST_DEVICE float widen(__half x) { return __half2float(x); }

GENFAST_DEVICE void narrow(float x, float* out) { *out = x; }
GENFAST_DEVICE void narrow(double x, double* out) { *out = x; }
GENFAST_DEVICE void narrow(float x, __nv_bfloat16* out) { *out = __float2bfloat16(x); }
GENFAST_DEVICE void narrow(float x, __half* out) { *out = __float2half(x); }

// N elements at `source`: 16 bytes in one access, or a single element.
template <int N, class T>
GENFAST_DEVICE void load_elements(const T* source, Arithmetic<T> (&out)[N]) {
  static_assert(N == 1 || N * sizeof(T) == 16, "one element or 16 bytes");
  if constexpr (N == 1) {
    out[0] = widen(*source);
  } else {
    const uint4 bits = *reinterpret_cast<const uint4*>(source);
    T lane[N];
    memcpy(static_cast<void*>(lane), &bits, 16);
#pragma unroll
    for (int i = 0; i < N; ++i) out[i] = widen(lane[i]);
  }
}

template <int N, class T>
GENFAST_DEVICE void store_elements(const Arithmetic<T> (&x)[N], T* target) {
  static_assert(N == 1 || N * sizeof(T) == 16, "one element or 16 bytes");
  if constexpr (N == 1) {
    narrow(x[0], target);
  } else {
    T lane[N];
#pragma unroll
    for (int i = 0; i < N; ++i) narrow(x[i], &lane[i]);
    uint4 bits;
    memcpy(&bits, lane, 16);
    *reinterpret_cast<uint4*>(target) = bits;
  }
}

}  // namespace genfast::cuda
