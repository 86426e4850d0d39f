// One kernel for each primitive whose meaning per lane the emulation can only assume: shuffles,
// ldmatrix, mma fragments, cp.async, conversions, atomics. Their expected results are in
// workload_checks.cu.
#include <stdexcept>
#include <string>

#include "common/cuda.h"
#include "emulation/tests/workloads.h"

namespace genfast::emulation_tests {

using namespace genfast::cuda;

namespace {

// Every lane starts with 100 + its number. out [width 32, 8, 2][sync, xor, up, down][lane].
__global__ void shuffles_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x), value = 100 + lane;
  for (int width = 32; width >= 2; width /= 4) {
    int got[4];
    got[0] = __shfl_sync(~0u, value, 5 * lane + 1, width);
    got[1] = __shfl_xor_sync(~0u, value, 5, width);
    got[2] = __shfl_up_sync(~0u, value, 3, width);
    got[3] = __shfl_down_sync(~0u, value, 3, width);
    for (int i = 0; i < 4; ++i) *(out + i * 32 + lane) = got[i];
    out += 4 * 32;
  }
}

// Four 8 x 8 matrices of 16-bit elements, one below the other, as registers. out [plain,
// trans][lane][4].
__global__ void ldmatrix_kernel(const uint4* rows, uint32_t* out) {
  SHARED(uint4[32], matrices);
  const int lane = static_cast<int>(threadIdx.x);
  matrices[lane] = rows[lane];
  __syncwarp();
  uint32_t plain[4], trans[4];
  ldmatrix_x4(plain, &matrices[lane]);
  ldmatrix_x4_trans(trans, &matrices[lane]);
  for (int r = 0; r < 4; ++r) {
    out[4 * lane + r] = plain[r];
    out[4 * (32 + lane) + r] = trans[r];
  }
}

// d [lane][4] += a [lane][4] b [lane][2], registers as they come.
enum class Product { bf16, fp16, tf32 };
template <Product product>
__global__ void mma_kernel(const uint32_t* a, const uint32_t* b, float* d) {
  const int lane = static_cast<int>(threadIdx.x);
  uint32_t ar[4], br[2];
  float dr[4];
  for (int r = 0; r < 4; ++r) ar[r] = a[4 * lane + r];
  for (int r = 0; r < 2; ++r) br[r] = b[2 * lane + r];
  for (int r = 0; r < 4; ++r) dr[r] = d[4 * lane + r];
  if constexpr (product == Product::bf16) {
    mma_bf16(dr, ar, br);
  } else if constexpr (product == Product::fp16) {
    mma_fp16(dr, ar, br);
  } else {
    mma_tf32(dr, ar, br);
  }
  for (int r = 0; r < 4; ++r) d[4 * lane + r] = dr[r];
}

// A lane copies BYTES, unless its number is a multiple of 3, and hands on what its neighbour copied.
template <int BYTES>
GENFAST_DEVICE void copy_and_swap(unsigned char* shared, const unsigned char* in, unsigned char* out) {
  const int lane = static_cast<int>(threadIdx.x);
  cp_async<BYTES>(shared + lane * BYTES, in + lane * BYTES, lane % 3 != 0);
  cp_async_commit();
  cp_async_wait<0>();
  __syncwarp();
  for (int i = 0; i < BYTES; ++i) out[lane * BYTES + i] = shared[(lane ^ 1) * BYTES + i];
  __syncwarp();
}
// in, out: 32 x 4 bytes, then 32 x 8, then 32 x 16.
__global__ void copies_kernel(const unsigned char* in, unsigned char* out) {
  SHARED(unsigned char[512], shared);
  copy_and_swap<4>(shared, in, out);
  copy_and_swap<8>(shared, in + 128, out + 128);
  copy_and_swap<16>(shared, in + 384, out + 384);
}

// out [5][n]: round_tf32, the two parts of split_tf32, pack_bf16 and pack_fp16 of (x, -x / 4).
__global__ void conversions_kernel(const float* x, uint32_t* out, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  uint32_t high, low;
  split_tf32(x[i], high, low);
  out[i] = round_tf32(x[i]);
  out[n + i] = high;
  out[2 * n + i] = low;
  out[3 * n + i] = pack_bf16(x[i], x[i] * -0.25f);
  out[4 * n + i] = pack_fp16(x[i], x[i] * -0.25f);
}

// out: the largest, the smallest, the sum in floats, how often atomicExch found an x left by another.
__global__ void atomics_kernel(const int* x, int n, int* largest, int* smallest, float* sum, int* held,
                               int* total) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  atomicMax(largest, x[i]);
  atomicMin(smallest, x[i]);
  atomicAdd(sum, static_cast<float>(x[i]));
  atomicAdd(total, atomicExch(held, x[i]));  // each x is found once, but for the one that stays
}

}  // namespace

void shuffles(int* out, cudaStream_t stream) { launch(shuffles_kernel, 1, 32, 0, stream, out); }

void ldmatrix(const void* rows, uint32_t* out, cudaStream_t stream) {
  launch(ldmatrix_kernel, 1, 32, 0, stream, static_cast<const uint4*>(rows), out);
}

void mma(const char* format, const uint32_t* a, const uint32_t* b, float* d, cudaStream_t stream) {
  const std::string name = format;
  if (name == "bf16") return launch(mma_kernel<Product::bf16>, 1, 32, 0, stream, a, b, d);
  if (name == "fp16") return launch(mma_kernel<Product::fp16>, 1, 32, 0, stream, a, b, d);
  if (name == "tf32") return launch(mma_kernel<Product::tf32>, 1, 32, 0, stream, a, b, d);
  throw std::invalid_argument("no format " + name);
}

void copies(const unsigned char* in, unsigned char* out, cudaStream_t stream) {
  launch(copies_kernel, 1, 32, 0, stream, in, out);
}

void conversions(const float* x, uint32_t* out, int n, cudaStream_t stream) {
  launch(conversions_kernel, (n + 63) / 64, 64, 0, stream, x, out, n);
}

void atomics(const int* x, int n, int* largest, int* smallest, float* sum, int* held, int* total,
             cudaStream_t stream) {
  launch(atomics_kernel, (n + 95) / 96, 96, 0, stream, x, n, largest, smallest, sum, held, total);
}

}  // namespace genfast::emulation_tests
