#include "emulation/bind.h"

#include <string>

#include "emulation/runtime.h"

namespace genfast {

void bind_emulation(pybind11::module_& module) {
  // Local: several emulated modules may be loaded, each with an EmulatorError of its own.
  pybind11::register_local_exception<emulation::EmulatorError>(module, "EmulatorError",
                                                               PyExc_RuntimeError);
  module.def(
      "configure",
      [](const std::string& order, uint64_t seed) {
        using emulation::Order;
        if (order == "forward") {
          emulation::config.order = Order::forward;
        } else if (order == "reverse") {
          emulation::config.order = Order::reverse;
        } else if (order == "random") {
          emulation::config.order = Order::random;
        } else {
          throw std::invalid_argument("order must be 'forward', 'reverse' or 'random', not '" + order +
                                      "'");
        }
        emulation::config.seed = seed;
      },
      pybind11::arg("order"), pybind11::arg("seed") = 0,
      "In which order the emulated threads of later launches run; seed: of the order 'random'.");
  module.def(
      "set_shared_memory", [](size_t bytes) { emulation::config.shared_memory = bytes; },
      "Bytes of shared memory that a block of the emulated device may have from now on.");
  module.def("shared_memory", [] { return emulation::config.shared_memory; });
  module.def(
      "set_capturing", [](bool capturing) { emulation::config.capturing = capturing; },
      "Whether every stream says from now on that a graph is being captured from it.");
  module.def(
      "graph_launches", [] { return emulation::graph_launches.load(); },
      "How many times graphs have been replayed.");
}

}  // namespace genfast
