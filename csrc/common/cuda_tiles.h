// The number formats of tensor-core products, and where a warp's fragments lie in shared memory.
// The lane maps are those of cuda_mma.h; this is the one place where they turn into addresses.
#pragma once
#include "common/cuda_elements.h"

namespace genfast::cuda {

// One mma takes 32 bytes along K of each operand: 16 elements of 16 bits, or 8 fp32.
constexpr int kMmaBytes = 32;

struct Bf16Format {
  using Element = __nv_bfloat16;
  static GENFAST_DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_bf16(d, a, b);
  }
};

struct Fp16Format {
  using Element = __half;
  static GENFAST_DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_fp16(d, a, b);
  }
};

// fp32 rounded to TF32: relative error 2^-11 a factor.
struct Tf32Format {
  using Element = float;
  static GENFAST_DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    uint32_t ra[4], rb[2];
#pragma unroll
    for (int r = 0; r < 4; ++r) ra[r] = round_tf32(__uint_as_float(a[r]));
#pragma unroll
    for (int r = 0; r < 2; ++r) rb[r] = round_tf32(__uint_as_float(b[r]));
    mma_tf32(d, ra, rb);
  }
};

// fp32 by three TF32 products: each factor is high + low, and only low * low is left out. An infinite
// factor gives NaN.
struct Tf32x3Format {
  using Element = float;
  static GENFAST_DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    uint32_t ah[4], al[4], bh[2], bl[2];
#pragma unroll
    for (int r = 0; r < 4; ++r) split_tf32(__uint_as_float(a[r]), ah[r], al[r]);
#pragma unroll
    for (int r = 0; r < 2; ++r) split_tf32(__uint_as_float(b[r]), bh[r], bl[r]);
    mma_tf32(d, al, bh);
    mma_tf32(d, ah, bl);
    mma_tf32(d, ah, bh);
  }
};

// Row and column, within a 16 x 8 product, of a lane's accumulator i.
GENFAST_DEVICE int product_row(int lane, int i) { return lane / 4 + 8 * (i / 2); }
GENFAST_DEVICE int product_column(int lane, int i) { return 2 * (lane % 4) + i % 2; }

// Operands stored [row][K] (K contiguous), `pitch` bytes a row. A fragment of A is 16 rows, one of B two
// neighbouring groups of 8. ldmatrix moves 16-byte pieces, so the same addresses serve 16 bits and fp32.
GENFAST_DEVICE int row_major_a(int lane, int pitch) { return lane % 16 * pitch + lane / 16 * 16; }
GENFAST_DEVICE int row_major_b(int lane, int pitch) {
  return (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 16;
}

// Operands stored [K][row] (row contiguous), `pitch` bytes a step of K; `tile` is where the fragment's
// first element lies. A fragment of A is 16 rows; of B, 16 columns: two neighbouring tiles' registers.
template <class E>
GENFAST_DEVICE void load_transposed_a(uint32_t (&a)[4], const unsigned char* tile, int lane, int pitch) {
  if constexpr (sizeof(E) == 2) {
    ldmatrix_x4_trans(a, tile + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 16);
  } else {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int k = lane % 4 + 4 * (r / 2), row = lane / 4 + 8 * (r % 2);
      a[r] = *reinterpret_cast<const uint32_t*>(tile + k * pitch + row * 4);
    }
  }
}
template <class E>
GENFAST_DEVICE void load_transposed_b(uint32_t (&b)[4], const unsigned char* tile, int lane, int pitch) {
  if constexpr (sizeof(E) == 2) {
    ldmatrix_x4_trans(b, tile + lane % 16 * pitch + lane / 16 * 16);
  } else {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int k = lane % 4 + 4 * (r % 2), column = lane / 4 + 8 * (r / 2);
      b[r] = *reinterpret_cast<const uint32_t*>(tile + k * pitch + column * 4);
    }
  }
}

}  // namespace genfast::cuda
