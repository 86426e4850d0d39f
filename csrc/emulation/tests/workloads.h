// Kernels that are right, one for each thing the emulation does; see workloads.cu and
// tensor_workloads.cu. Arrays are row-major.
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

}  // namespace genfast::emulation_tests
