#include "common/cuda_device.h"

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "common/cuda_architectures.h"

namespace genfast {
namespace {

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(error));
}

std::string version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

void check_driver() {
  const CudaVersions versions = cuda_versions();
  // Within a major version any driver runs any build.
  if (versions.driver / 1000 >= versions.build / 1000) return;
  throw std::runtime_error("the NVIDIA driver supports CUDA " + version(versions.driver) +
                           ", but this build of genfast needs CUDA " + version(versions.build) +
                           ": update the driver, or install a genfast built with an older toolkit");
}

void check_device(int device) {
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "compute capability");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "compute capability");
  const std::string reason = unsupported_device(GENFAST_BUILT_CUDA_ARCHS, major, minor);
  if (!reason.empty()) throw std::runtime_error(reason);
}

}  // namespace

CudaVersions cuda_versions() {
  int driver = 0;
  cudaDriverGetVersion(&driver);  // leaves 0 where there is no driver
  return {driver, CUDART_VERSION};
}

long long shared_memory_of_block() {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), "current device");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "shared memory of a block");
  return bytes;
}

CudaDevice::CudaDevice(int device) {
  static const bool driver_checked = (check_driver(), true);
  static_cast<void>(driver_checked);
  check(cudaGetDevice(&previous_), "current device");
  if (previous_ != device) check(cudaSetDevice(device), "set device");
  static thread_local int checked = -1;
  if (checked != device) check_device(device), checked = device;
}

CudaDevice::~CudaDevice() { cudaSetDevice(previous_); }

}  // namespace genfast
