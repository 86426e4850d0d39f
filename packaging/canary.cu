// Faults on purpose: `make gpu` trusts a tool of compute-sanitizer only after it has found its own here.
// The kernels are in the namespace genfast because the tools are told to watch nothing else.
#include <cuda_runtime.h>
#include <cstdio>
#include <cstring>

namespace genfast {

__global__ void reads_past_the_end(float* x, int n) { x[threadIdx.x] = x[threadIdx.x + n]; }

__global__ void forgets_a_barrier(float* x) {
  __shared__ float line[64];
  line[threadIdx.x] = x[threadIdx.x];
  x[threadIdx.x] = line[63 - threadIdx.x];
}

// Half of a warp waits at a barrier that the mask says the whole warp takes part in.
__global__ void waits_with_half_a_warp(float* x) {
  if (threadIdx.x < 16) __syncwarp(0xffff0000u);
  x[threadIdx.x] = 1.0f;
}

__global__ void is_right(float* x) { x[threadIdx.x] = 1.0f; }

}  // namespace genfast

int main(int argc, char** argv) {
  const char* fault = argc > 1 ? argv[1] : "none";
  float* x = nullptr;
  cudaMalloc(&x, 64 * sizeof(float));
  cudaMemset(x, 0, 64 * sizeof(float));
  if (!strcmp(fault, "memcheck")) {
    genfast::reads_past_the_end<<<1, 64>>>(x, 1 << 20);
  } else if (!strcmp(fault, "racecheck")) {
    genfast::forgets_a_barrier<<<1, 64>>>(x);
  } else if (!strcmp(fault, "synccheck")) {
    genfast::waits_with_half_a_warp<<<1, 32>>>(x);
  } else {
    genfast::is_right<<<1, 64>>>(x);
  }
  cudaError_t error = cudaDeviceSynchronize();
  printf("%s: %s\n", fault, cudaGetErrorString(error));
  return error == cudaSuccess ? 0 : 1;
}
