// Kernels that are right, one for each thing the emulation does; see workloads.cu, tensor_workloads.cu
// and primitive_workloads.cu. They also run on a GPU, as the test of what the emulation takes for
// granted (workload_checks.h). Arrays are row-major.
#pragma once
#include <cstdint>

struct CUstream_st;
typedef CUstream_st* cudaStream_t;

namespace genfast::emulation_tests {

// c (m, n) = a (m, k) b (k, n), tiles in shared memory.
void matmul(const float* a, const float* b, float* c, int m, int n, int k, cudaStream_t stream);
// y[i] = log(sum(exp(x[i, :]))), by shuffles.
void logsumexp(const float* x, float* y, int rows, int columns, cudaStream_t stream);
// h[t + 1] = tanh(w h[t] + x[t]), by one cooperative launch. h (steps + 1, dim); barrier: two zeros.
void recurrence(const float* w, const float* x, float* h, unsigned* barrier, int steps, int dim,
                int blocks, cudaStream_t stream);
// c (m, n) = a (m, k) b on tensor cores. format "bf16", "fp16": b (n, k), 16-bit; "bf16 trans": b (k,
// n); "tf32", "3xtf32": b (n, k), float. m, n, k multiples of 16.
void tensor_matmul(const char* format, const void* a, const void* b, float* c, int m, int n, int k,
                   cudaStream_t stream);
// Prefix sums of x (n), n at most 1024 and of one block; odd[0] = number of odd values.
void scan(const int* x, int* sums, int* odd, int n, cudaStream_t stream);
// Prefix sums by blocks of 64 that wait for each other; n a multiple of 64; state: 2 n / 64 zeros.
void chained_scan(const int* x, int* sums, int* state, int n, cudaStream_t stream);
// counts[b] += number of x with x % bins == b; largest[0] = max(largest[0], x...).
void histogram(const int* x, int* counts, int* largest, int n, int bins, cudaStream_t stream);
// y (4, n): exp_fast, log_fast of |x|, sigmoid_fast, tanh_fast of x (n), n a multiple of 4.
void functions(const float* x, float* y, int n, cudaStream_t stream);
// y (images, draws): philox_uniform of one pixel.
void uniforms(float* y, uint64_t seed, int64_t first_image, int images, unsigned pixel, int draws,
              cudaStream_t stream);
// x = 3 x + 1, then 3 x + 2, 3 x + 3, by a graph that is replayed and counts `times` down; from 0 on x
// stays.
void replays(unsigned* x, int* times, int launches, cudaStream_t stream);

// The rest are single primitives, whose results are spelt out lane by lane in workload_checks.cu.
// out (3, 4, 32): widths 32, 8 and 2; __shfl_sync, _xor (5), _up (3), _down (3) of 100 + lane.
void shuffles(int* out, cudaStream_t stream);
// out (2, 32, 4): registers of ldmatrix_x4 and ldmatrix_x4_trans from rows (32, 8), 16-bit.
void ldmatrix(const void* rows, uint32_t* out, cudaStream_t stream);
// d (32, 4) += a (32, 4) b (32, 2): the registers of one mma; format "bf16", "fp16" or "tf32".
void mma(const char* format, const uint32_t* a, const uint32_t* b, float* d, cudaStream_t stream);
// 896 bytes through cp.async of 4, 8 and 16 bytes.
void copies(const unsigned char* in, unsigned char* out, cudaStream_t stream);
// out (5, n): round_tf32, split_tf32 (2), pack_bf16, pack_fp16.
void conversions(const float* x, uint32_t* out, int n, cudaStream_t stream);
// largest and smallest: of themselves and x; sum += x; the x go through *held, and those pushed out are
// added to *total.
void atomics(const int* x, int n, int* largest, int* smallest, float* sum, int* held, int* total,
             cudaStream_t stream);

}  // namespace genfast::emulation_tests
