// mma.sync and ldmatrix, from the fragment tables of the PTX ISA (common/cuda_mma.h shows them).
// Products are summed in double and rounded once, so a GPU's result is a little worse. That the tables
// are read rightly only a GPU can prove.
#include <cmath>

#include "emulation/runtime.h"

namespace genfast::emulation {

namespace {

float from_bits(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

float from_half(uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31);
  const float mantissa = static_cast<float>(bits & 1023);
  float magnitude;
  if (exponent == 0) {
    magnitude = std::ldexp(mantissa, -24);
  } else if (exponent == 31) {
    magnitude = mantissa == 0.0f ? INFINITY : NAN;
  } else {
    magnitude = std::ldexp(1024.0f + mantissa, exponent - 25);
  }
  return bits & 0x8000u ? -magnitude : magnitude;
}

// Element `half` (0: low, 1: high) of a register.
float element(Operand operand, uint32_t bits, int half) {
  switch (operand) {
    case Operand::bf16: return from_bits(half ? bits & 0xffff0000u : bits << 16);
    case Operand::fp16: return from_half(half ? bits >> 16 : bits & 0xffffu);
    case Operand::tf32: return from_bits(bits & 0xffffe000u);  // the unit ignores the low 13 bits
  }
  return NAN;
}

struct MmaArgument {
  const uint32_t (&a)[4];
  const uint32_t (&b)[2];
  float (&d)[4];
};

template <Operand operand>
void run_mma(void* const (&lanes)[32]) {
  constexpr int kPerRegister = operand == Operand::tf32 ? 1 : 2;
  constexpr int kDepth = 8 * kPerRegister;  // K of the product
  float a[16][kDepth], b[kDepth][8];
  for (int lane = 0; lane < 32; ++lane) {
    const MmaArgument& of_lane = *static_cast<const MmaArgument*>(lanes[lane]);
    const int group = lane / 4, first_k = lane % 4 * kPerRegister;
    for (int half = 0; half < kPerRegister; ++half) {
      for (int r = 0; r < 4; ++r) {
        a[group + 8 * (r % 2)][first_k + half + kDepth / 2 * (r / 2)] =
            element(operand, of_lane.a[r], half);
      }
      for (int r = 0; r < 2; ++r) {
        b[first_k + half + kDepth / 2 * r][group] = element(operand, of_lane.b[r], half);
      }
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    float (&d)[4] = static_cast<const MmaArgument*>(lanes[lane])->d;
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      double sum = d[i];
      for (int k = 0; k < kDepth; ++k) sum += double{a[row][k]} * double{b[k][column]};
      d[i] = static_cast<float>(sum);
    }
  }
}

struct LdmatrixArgument {
  const uint32_t* row;  // eight 16-bit elements
  uint32_t (&out)[4];
};

uint32_t element16(const LdmatrixArgument& of_lane, int column) {
  return of_lane.row[column / 2] >> (16 * (column % 2)) & 0xffffu;
}

template <bool transposed>
void run_ldmatrix(void* const (&lanes)[32]) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int j = 0; j < 4; ++j) {
      const auto row = [&](int i) -> const LdmatrixArgument& {
        return *static_cast<const LdmatrixArgument*>(lanes[8 * j + i]);
      };
      const int group = lane / 4, pair = 2 * (lane % 4);
      const uint32_t low = transposed ? element16(row(pair), group) : element16(row(group), pair);
      const uint32_t high =
          transposed ? element16(row(pair + 1), group) : element16(row(group), pair + 1);
      static_cast<const LdmatrixArgument*>(lanes[lane])->out[j] = low | high << 16;
    }
  }
}

// The operations above read all 32 lanes.
WarpOperation check_lanes(WarpOperation operation, Site site) {
  const unsigned threads = block_dim.x * block_dim.y * block_dim.z;
  if ((current_indices->linear | 31) >= threads) fail("tensor core operation in a partial warp", site);
  return operation;
}

}  // namespace

void mma(Operand operand, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site) {
  MmaArgument argument{a, b, d};
  const WarpOperation operation = operand == Operand::bf16   ? run_mma<Operand::bf16>
                                  : operand == Operand::fp16 ? run_mma<Operand::fp16>
                                                             : run_mma<Operand::tf32>;
  warp_operation(~0u, &argument, check_lanes(operation, site), site, /*orders_memory=*/false);
}

void ldmatrix(bool transposed, const void* row, uint32_t (&out)[4], Site site) {
  LdmatrixArgument argument{static_cast<const uint32_t*>(row), out};
  const WarpOperation operation = transposed ? run_ldmatrix<true> : run_ldmatrix<false>;
  warp_operation(~0u, &argument, check_lanes(operation, site), site, /*orders_memory=*/false);
}

}  // namespace genfast::emulation
