// The Python module genfast._C: build facts, and one bind function per op family.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "common/cuda_architectures.h"
#include "common/isa.h"
#ifdef GENFAST_WITH_CUDA
#include "common/cuda_device.h"
#endif

namespace genfast {
namespace py = pybind11;

void bind_gated(py::module_& m);
void bind_gaussian_mixture(py::module_& m);
void bind_logistic_mixture(py::module_& m);
void bind_lstm_scan(py::module_& m);
void bind_masked_conv(py::module_& m);
void bind_pixel_sampler(py::module_& m);
void bind_rejection(py::module_& m);
#ifdef GENFAST_EMULATED
void bind_emulation(py::module_& m);
#endif

namespace {

py::dict build_info() {
  py::dict info;
  info["version"] = GENFAST_VERSION;
  info["compiler"] = GENFAST_COMPILER;
  info["build_type"] = GENFAST_BUILD_TYPE;
  info["sanitize"] = GENFAST_SANITIZE;
  info["cpu_isas"] = GENFAST_BUILT_ISAS;
  info["cuda_archs"] = GENFAST_BUILT_CUDA_ARCHS;
  return info;
}

std::vector<std::string> runnable_isa_names() {
  std::vector<std::string> names;
  for (Isa isa : runnable_isas()) names.emplace_back(name(isa));
  return names;
}

// CUDA versions (major * 1000 + minor * 10) of the driver and of this build, 0 where there is none.
std::pair<int, int> cuda_version_numbers() {
#ifdef GENFAST_WITH_CUDA
  const CudaVersions versions = cuda_versions();
  return {versions.driver, versions.build};
#else
  return {0, 0};
#endif
}

}  // namespace
}  // namespace genfast

// The emulated module for tests is built from this file under another name.
#ifndef GENFAST_MODULE_NAME
#define GENFAST_MODULE_NAME _C
#endif

PYBIND11_MODULE(GENFAST_MODULE_NAME, m) {
  using namespace genfast;
  m.def("build_info", &build_info);
  m.def("cuda_versions", &cuda_version_numbers);
  m.def("unsupported_device", &unsupported_device);
  m.def("runnable_isas", &runnable_isa_names);
  m.def("current_isa", [] { return name(current_isa()); });
  m.def("set_isa", &set_isa);
  current_isa();  // a GENFAST_CPU_ISA that cannot be used is an error at import, not at the first call
  bind_gated(m);
  bind_gaussian_mixture(m);
  bind_logistic_mixture(m);
  bind_lstm_scan(m);
  bind_masked_conv(m);
  bind_pixel_sampler(m);
  bind_rejection(m);
#ifdef GENFAST_EMULATED
  bind_emulation(m);
#endif
}
