// Element types that cross the binding, as small codes. genfast/ops/_native.py holds the same list.
#pragma once
#include <cstdint>

namespace genfast {

enum class DType : int { float32 = 0, float64 = 1, bfloat16 = 2, float16 = 3 };

// 16-bit floats are storage only: kernels widen them to float, compute, and round to nearest even.
struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

inline int64_t element_size(DType dtype) {
  return dtype == DType::float64 ? 8 : dtype == DType::float32 ? 4 : 2;
}

}  // namespace genfast

// Calls `statement` with T bound to the element type of `dtype`. Used inside ISA namespaces, hence a
// macro: an inline function template could be merged across instruction-set levels by the linker.
// clang-format off
#define GENFAST_DISPATCH_DTYPE(dtype, statement)                                          \
  switch (dtype) {                                                                        \
    case ::genfast::DType::float32: { using T = float; statement; break; }                \
    case ::genfast::DType::float64: { using T = double; statement; break; }               \
    case ::genfast::DType::bfloat16: { using T = ::genfast::bfloat16; statement; break; } \
    case ::genfast::DType::float16: { using T = ::genfast::float16; statement; break; }   \
  }
// clang-format on
