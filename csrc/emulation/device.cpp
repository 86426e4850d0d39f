// common/cuda_device.h where there is no device: the emulation has one, which runs everything.
#include "common/cuda_device.h"

#include "emulation/runtime.h"

namespace genfast {

CudaDevice::CudaDevice(int device) : previous_(device) {}
CudaDevice::~CudaDevice() = default;
CudaVersions cuda_versions() { return {0, 0}; }
long long shared_memory_of_block() { return static_cast<long long>(emulation::config.shared_memory); }

}  // namespace genfast
