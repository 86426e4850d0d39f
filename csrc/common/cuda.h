// The portable CUDA header: all that a kernel file (.cu) includes besides the CUDA type headers it
// brings.
//
// A kernel file compiles twice. nvcc makes the device code; g++, with csrc/emulation/emulation.h
// force-included (which defines CUDA_HOST_EMU), makes code that runs the same kernels on the CPU. Every
// special instruction therefore is a wrapper of one of the headers below, with a branch for each.
//
//   cuda.h         shared memory
//   cuda_launch.h  launch, launch_coop
//   cuda_graph.h   Graph, Launcher, is_capturing
//   cuda_sync.h    grid_sync, ld_acquire, st_release, spin_yield
//   cuda_async.h   cp_async<BYTES>, cp_async_commit, cp_async_wait<N>
//   cuda_mma.h     ldmatrix_x4, mma_bf16, mma_fp16, mma_tf32, split_tf32, pack_bf16, pack_fp16
//   cuda_math.h    exp2_fast, exp_fast, log_fast, sigmoid_fast, tanh_fast
//   philox.h       philox4x32, philox_uniform (host code too)
//
// Rules for kernel files:
//  1. No inline PTX, no <<<>>>, no cooperative_groups, no torch; no test of __CUDA_ARCH__ in a kernel.
//  2. Shared memory only by SHARED(type, name) or dyn_smem<T>(), of trivial types.
//  3. Launches only by launch(), launch_coop() and Graph; every thread of the grid calls grid_sync.
//  4. Explicit masks, no implicit warp synchrony; a shuffle orders no memory, __syncwarp does.
//  5. At most one barrier or warp operation on a source line, barriers in uniform control flow.
//  6. Spin loops only in cooperative launches, with spin_yield, ld_acquire and st_release.
//  7. cp_async_wait<0> before a thread that copied exits.
//  8. No constexpr functions called from device code and no shuffles of structs: nvcc refuses both.
//     min and max of two values of one type; less than 64 KiB of stack.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

// A function for kernels to call.
#ifdef CUDA_HOST_EMU
#define GENFAST_DEVICE inline
#else
#define GENFAST_DEVICE __device__ __forceinline__
#endif

namespace genfast::cuda {

template <class T>
struct Type {
  using type = T;
};

}  // namespace genfast::cuda

// Shared memory of fixed size: SHARED(float[32][33], tile); makes `tile` an array (16-byte aligned) that
// the threads of a block share. Uninitialised, as on the device (the emulation fills it with NaN).
#ifdef CUDA_HOST_EMU
#define SHARED(TYPE, NAME)                                        \
  using NAME##_type = typename ::genfast::cuda::Type<TYPE>::type; \
  static const char NAME##_key = 0;                               \
  auto& NAME =                                                    \
      *static_cast<NAME##_type*>(::genfast::emulation::shared_static(&NAME##_key, sizeof(NAME##_type)))
#else
#define SHARED(TYPE, NAME) __shared__ __align__(16) typename ::genfast::cuda::Type<TYPE>::type NAME
#endif

namespace genfast::cuda {

// Shared memory whose size the launch gives, 1024-byte aligned.
template <class T>
GENFAST_DEVICE T* dyn_smem() {
#ifdef CUDA_HOST_EMU
  return static_cast<T*>(::genfast::emulation::shared_dynamic());
#else
  extern __shared__ __align__(1024) unsigned char genfast_dynamic_shared_memory[];
  return reinterpret_cast<T*>(genfast_dynamic_shared_memory);
#endif
}

#ifndef CUDA_HOST_EMU
// The address that PTX wants for a place in shared memory.
GENFAST_DEVICE unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}
#endif

}  // namespace genfast::cuda

#include "common/cuda_async.h"
#include "common/cuda_graph.h"
#include "common/cuda_launch.h"
#include "common/cuda_math.h"
#include "common/cuda_mma.h"
#include "common/cuda_sync.h"
#include "common/philox.h"
