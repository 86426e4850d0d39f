#include <stdexcept>
#include <string>

#include "common/cuda.h"
#include "emulation/tests/workloads.h"

namespace genfast::emulation_tests {

using namespace genfast::cuda;

namespace {

// ---- cp.async, ldmatrix, mma: 16 x 16 of c to a block of one warp, two stages
// --------------------------- A step takes 32 bytes of every row of a and b: k16 of 16-bit elements, k8
// of floats. ldmatrix takes a float for two 16-bit elements, which puts it where the TF32 fragments want
// it.
enum class Format { bf16, bf16_trans, fp16, tf32, tf32x3 };
constexpr int kRowBytes = 48;  // 32 of data; 16-byte aligned
constexpr int kTileBytes = 16 * kRowBytes;

template <Format format>
GENFAST_DEVICE void multiply(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (format == Format::fp16) {
    mma_fp16(sum, a, b);
  } else if constexpr (format == Format::tf32) {
    uint32_t ar[4], br[2];
    for (int i = 0; i < 4; ++i) ar[i] = round_tf32(__uint_as_float(a[i]));
    for (int i = 0; i < 2; ++i) br[i] = round_tf32(__uint_as_float(b[i]));
    mma_tf32(sum, ar, br);
  } else if constexpr (format == Format::tf32x3) {
    uint32_t ah[4], al[4], bh[2], bl[2];
    for (int i = 0; i < 4; ++i) split_tf32(__uint_as_float(a[i]), ah[i], al[i]);
    for (int i = 0; i < 2; ++i) split_tf32(__uint_as_float(b[i]), bh[i], bl[i]);
    mma_tf32(sum, al, bh);
    mma_tf32(sum, ah, bl);
    mma_tf32(sum, ah, bh);
  } else {
    mma_bf16(sum, a, b);
  }
}

template <Format format>
__global__ void tensor_kernel(const char* a, const char* b, float* c, int n, int k) {
  constexpr int kElement = format == Format::tf32 || format == Format::tf32x3 ? 4 : 2;
  constexpr bool kTrans = format == Format::bf16_trans;
  char* shared = dyn_smem<char>();  // [stage][a, b][16 rows]
  const int lane = threadIdx.x, row0 = blockIdx.y * 16, column0 = blockIdx.x * 16;
  const int steps = k * kElement / 32, chunk = lane % 2 * 16;  // a lane copies half a row of each
  const auto fetch = [&](int step) {
    char* stage = shared + step % 2 * 2 * kTileBytes + lane / 2 * kRowBytes + chunk;
    const size_t a_row = static_cast<size_t>(row0 + lane / 2) * k * kElement;
    const size_t b_start = kTrans ? (static_cast<size_t>(step * 16 + lane / 2) * n + column0) * kElement
                                  : static_cast<size_t>(column0 + lane / 2) * k * kElement + step * 32;
    cp_async<16>(stage, a + a_row + step * 32 + chunk, true);
    cp_async<16>(stage + kTileBytes, b + b_start + chunk, true);
  };
  float sum[2][4] = {};
  fetch(0);
  cp_async_commit();
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) fetch(step + 1);
    cp_async_commit();
    cp_async_wait<1>();
    __syncwarp();
    const char* a_tile = shared + step % 2 * 2 * kTileBytes;
    const char* b_tile = a_tile + kTileBytes;
    uint32_t ar[4], br[4];
    ldmatrix_x4(ar, a_tile + lane % 16 * kRowBytes + lane / 16 * 16);
    if constexpr (kTrans) {  // matrices: (k, n) = (0, 0), (8, 0), (0, 8), (8, 8)
      ldmatrix_x4_trans(br, b_tile + lane % 16 * kRowBytes + lane / 16 * 16);
    } else {
      ldmatrix_x4(br, b_tile + (lane % 8 + lane / 16 * 8) * kRowBytes + lane / 8 % 2 * 16);
    }
    for (int j = 0; j < 2; ++j) {
      const uint32_t pair[2] = {br[2 * j], br[2 * j + 1]};
      multiply<format>(sum[j], ar, pair);
    }
    __syncwarp();  // the stage is free for the step after the next
  }
  cp_async_wait<0>();
  for (int j = 0; j < 2; ++j) {
    for (int i = 0; i < 4; ++i) {
      const int row = row0 + lane / 4 + i / 2 * 8, column = column0 + j * 8 + lane % 4 * 2 + i % 2;
      c[row * n + column] = sum[j][i];
    }
  }
}

}  // namespace

void tensor_matmul(const char* format, const void* a, const void* b, float* c, int m, int n, int k,
                   cudaStream_t stream) {
  const std::string name = format;
  const auto run = [&](auto kernel) {
    launch(kernel, dim3(n / 16, m / 16), 32, 4 * kTileBytes, stream, static_cast<const char*>(a),
           static_cast<const char*>(b), c, n, k);
  };
  if (name == "bf16") return run(tensor_kernel<Format::bf16>);
  if (name == "bf16 trans") return run(tensor_kernel<Format::bf16_trans>);
  if (name == "fp16") return run(tensor_kernel<Format::fp16>);
  if (name == "tf32") return run(tensor_kernel<Format::tf32>);
  if (name == "3xtf32") return run(tensor_kernel<Format::tf32x3>);
  throw std::invalid_argument("no format " + name);
}

}  // namespace genfast::emulation_tests
