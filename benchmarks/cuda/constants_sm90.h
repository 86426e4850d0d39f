// What constants.cu measures of Hopper alone. constants_sm90.cu compiles for every GPU, and is empty
// elsewhere.
#pragma once
#include <cuda_runtime_api.h>

namespace genfast::constants {

// Whether the current device is a Hopper, and this program built for it (sm_90a).
bool has_sm90();

struct WgmmaWork {
  double flops;  // of the launch
  int threads;   // of a block, each of which writes a float
};
// wgmma products from shared memory in `blocks` blocks; out has blocks * 256 floats.
WgmmaWork launch_wgmma(bool bf16, int blocks, int times, float* out, cudaStream_t stream);

// `times` barriers of every cluster of `cluster` blocks of 256 threads.
void launch_cluster_barriers(int cluster, int blocks, int times, cudaStream_t stream);

}  // namespace genfast::constants
