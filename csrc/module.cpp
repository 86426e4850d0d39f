// The Python module genfast._C: build facts, and one bind function per op family.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "common/isa.h"

namespace genfast {
namespace py = pybind11;

void bind_gated(py::module_& m);

namespace {

py::dict build_info() {
  py::dict info;
  info["version"] = GENFAST_VERSION;
  info["compiler"] = GENFAST_COMPILER;
  info["build_type"] = GENFAST_BUILD_TYPE;
  info["sanitize"] = GENFAST_SANITIZE;
  info["cpu_isas"] = GENFAST_BUILT_ISAS;
  return info;
}

std::vector<std::string> runnable_isa_names() {
  std::vector<std::string> names;
  for (Isa isa : runnable_isas()) names.emplace_back(name(isa));
  return names;
}

}  // namespace
}  // namespace genfast

PYBIND11_MODULE(_C, m) {
  using namespace genfast;
  m.def("build_info", &build_info);
  m.def("runnable_isas", &runnable_isa_names);
  m.def("current_isa", [] { return name(current_isa()); });
  m.def("set_isa", &set_isa);
  current_isa();  // a GENFAST_CPU_ISA that cannot be used is an error at import, not at the first call
  bind_gated(m);
}
