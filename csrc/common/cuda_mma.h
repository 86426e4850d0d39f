// Tensor cores: mma.sync and ldmatrix, and the number formats they take. Part of cuda.h.
//
// All 32 lanes of a warp call each together. A 16 x 8 product D += A B is spread over the warp like this
// (PTX ISA, "Matrix Fragments for mma.m16n8k16 / .m16n8k8"), with g = lane / 4, t = lane % 4:
//
//   D, fp32:   d[i] = D[g + 8 * (i / 2)][2 * t + i % 2]
//   16 bits, K = 16; a register holds two neighbours along K, the lower one in the low half:
//              a[r] = A[g + 8 * (r % 2)][2 * t + 8 * (r / 2) + {0, 1}]
//              b[r] = B[2 * t + 8 * r + {0, 1}][g]
//   TF32, K = 8:
//              a[r] = A[g + 8 * (r % 2)][t + 4 * (r / 2)]
//              b[r] = B[t + 4 * r][g]
//
// ldmatrix_x4 loads four 8 x 8 matrices of 16-bit elements; lanes 8 j ... 8 j + 7 pass the addresses
// (16-byte aligned) of the rows of matrix j. r[j] gets M_j[g][2 * t + {0, 1}], and with _trans
// M_j[2 * t + {0, 1}][g]. So A row-major in shared memory (stride ld) comes from rows
// lane % 16, column 8 * (lane / 16), and two neighbouring B tiles of 8 columns, stored [n][k], from row
// lane % 8 + 8 * (lane / 16), column 8 * (lane / 8 % 2): r[0], r[1] are the first tile's b, r[2], r[3]
// the second's.
#pragma once

namespace genfast::cuda {

#ifdef CUDA_HOST_EMU

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], GENFAST_CALLER) {
  ::genfast::emulation::mma(::genfast::emulation::Operand::bf16, d, a, b, GENFAST_SITE("mma_bf16"));
}
inline void mma_fp16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], GENFAST_CALLER) {
  ::genfast::emulation::mma(::genfast::emulation::Operand::fp16, d, a, b, GENFAST_SITE("mma_fp16"));
}
inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], GENFAST_CALLER) {
  ::genfast::emulation::mma(::genfast::emulation::Operand::tf32, d, a, b, GENFAST_SITE("mma_tf32"));
}

// The row is read here, in instrumented code and when this very lane arrives: sanitizers see the access,
// and a missing __syncwarp shows.
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, GENFAST_CALLER) {
  ::genfast::emulation::check_aligned(row, 16, GENFAST_SITE("ldmatrix_x4"));
  const uint4 held = *static_cast<const uint4*>(row);
  ::genfast::emulation::ldmatrix(false, &held, r, GENFAST_SITE("ldmatrix_x4"));
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, GENFAST_CALLER) {
  ::genfast::emulation::check_aligned(row, 16, GENFAST_SITE("ldmatrix_x4_trans"));
  const uint4 held = *static_cast<const uint4*>(row);
  ::genfast::emulation::ldmatrix(true, &held, r, GENFAST_SITE("ldmatrix_x4_trans"));
}

#else

// D += A B; shape and types are part of the instruction's name.
#define GENFAST_MMA(INSTRUCTION, d, a, b)                                                               \
  asm volatile("mma.sync.aligned." INSTRUCTION " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                         \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

GENFAST_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  GENFAST_MMA("m16n8k16.row.col.f32.bf16.bf16.f32", d, a, b);
}
GENFAST_DEVICE void mma_fp16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  GENFAST_MMA("m16n8k16.row.col.f32.f16.f16.f32", d, a, b);
}
GENFAST_DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  GENFAST_MMA("m16n8k8.row.col.f32.tf32.tf32.f32", d, a, b);
}
#undef GENFAST_MMA

GENFAST_DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
GENFAST_DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

#endif

// To the nearest TF32 (10 bits of mantissa), ties away from zero.
GENFAST_DEVICE uint32_t round_tf32(float x) {
#ifdef CUDA_HOST_EMU
  const uint32_t u = __float_as_uint(x);
  return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000u) & 0xffffe000u;
#else
  uint32_t u;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(u) : "f"(x));
  return u;
#endif
}

// x = high + low for 3xTF32: A B = Ah Bh + Ah Bl + Al Bh up to about 2^-22. Plain integer arithmetic,
// the same bits on both sides; the unit ignores the 13 lowest bits of `low`.
GENFAST_DEVICE void split_tf32(float x, uint32_t& high, uint32_t& low) {
  high = (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
  low = __float_as_uint(x - __uint_as_float(high));
}

// Two 16-bit floats in a register, `first` in the low half; to nearest even.
GENFAST_DEVICE uint32_t pack_bf16(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  uint32_t bits;
  memcpy(&bits, &pair, 4);
  return bits;
}
GENFAST_DEVICE uint32_t pack_fp16(float first, float second) {
  const __half2 pair = __floats2half2_rn(first, second);
  uint32_t bits;
  memcpy(&bits, &pair, 4);
  return bits;
}

}  // namespace genfast::cuda
