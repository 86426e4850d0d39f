// Launching kernels: launch(kernel, grid, block, bytes of dynamic shared memory, stream, arguments...).
//
// Throws std::runtime_error with CUDA's words if the device refuses the launch; errors of the kernel
// itself come with a later call, as always on CUDA. In the emulation a launch runs at once, and throws
// EmulatorError. Part of cuda.h.
#pragma once
#include <stdexcept>
#include <string>

namespace genfast::cuda {

#ifndef CUDA_HOST_EMU
inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// To be called before a launch or a node of a graph: more dynamic shared memory than every block may
// have must be asked for, on the device that is current.
inline void allow_shared_memory(const void* kernel, size_t smem) {
  if (smem <= 48 * 1024) return;
  check(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(smem)),
      "cudaFuncSetAttribute");
}
#endif

template <class... Parameters, class... Arguments>
void launch_kernel(bool cooperative, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t smem,
                   cudaStream_t stream, const Arguments&... arguments) {
#ifdef CUDA_HOST_EMU
  (void)stream;
  ::genfast::emulation::launch(cooperative, grid, block, smem,
                               [&] { kernel(static_cast<Parameters>(arguments)...); });
#else
  allow_shared_memory(reinterpret_cast<const void*>(kernel), smem);
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = smem;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = cooperative ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...),
        "cudaLaunchKernelEx");
#endif
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t smem, cudaStream_t stream,
            const Arguments&... arguments) {
  launch_kernel(false, kernel, grid, block, smem, stream, arguments...);
}

// All blocks are on the device at once, so that they may wait for each other (grid_sync, spin loops).
// Refused if they do not fit.
template <class... Parameters, class... Arguments>
void launch_coop(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t smem, cudaStream_t stream,
                 const Arguments&... arguments) {
  launch_kernel(true, kernel, grid, block, smem, stream, arguments...);
}

// How many blocks of a cooperative launch to share `work` pieces of work among: as many as fit the
// current device at once. In the emulation few, so that blocks take several pieces there too.
template <class... Parameters>
unsigned resident_blocks(void (*kernel)(Parameters...), int block, int64_t work) {
#ifdef CUDA_HOST_EMU
  (void)kernel, (void)block;
  const int64_t fit = 3;
#else
  int device = 0, processors = 0, each = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
        "cudaDeviceGetAttribute");
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, block, 0),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  const int64_t fit = int64_t{processors} * each;
#endif
  return static_cast<unsigned>(work < fit ? work : fit);
}

}  // namespace genfast::cuda
