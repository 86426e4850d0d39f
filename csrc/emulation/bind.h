// What a test-only Python module of emulated kernels has besides its kernels.
#pragma once
#include <pybind11/pybind11.h>

namespace genfast {

// Adds EmulatorError and configure(order, seed=0), order "forward", "reverse" or "random".
void bind_emulation(pybind11::module_& module);

}  // namespace genfast
