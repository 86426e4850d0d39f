// The host's side of a CUDA call: which device, and whether this build can run there at all.
//
// Nothing here touches CUDA before the first call on a CUDA tensor: initialising it at import would
// break processes that fork later.
#pragma once

// As in cuda_runtime.h, so that bindings need no CUDA header.
struct CUstream_st;
typedef CUstream_st* cudaStream_t;

namespace genfast {

// Makes `device` current while it lives. The module has a CUDA runtime of its own, so it cannot rely on
// what torch has made current. Throws std::runtime_error if the driver is too old for this build or the
// device is none that it has code for, naming what is there and what is needed.
class CudaDevice {
 public:
  explicit CudaDevice(int device);
  ~CudaDevice();
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

 private:
  int previous_;
};

// The CUDA version that the installed driver supports and the one of this build, as major * 1000 + minor
// * 10; the driver's is 0 where there is none.
struct CudaVersions {
  int driver, build;
};
CudaVersions cuda_versions();

// Bytes of shared memory that a block may have on the current device.
long long shared_memory_of_block();

}  // namespace genfast
