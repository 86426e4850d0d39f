// The test-only module _emulation_tests. Arrays come as addresses (numpy: array.ctypes.data).
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <tuple>

#include "emulation/bind.h"
#include "emulation/tests/faulty.h"
#include "emulation/tests/workload_checks.h"
#include "emulation/tests/workloads.h"

namespace py = pybind11;
using namespace genfast::emulation_tests;

namespace {

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace

PYBIND11_MODULE(_emulation_tests, m) {
  genfast::bind_emulation(m);
  const auto no_gil = py::call_guard<py::gil_scoped_release>();
  using Address = uintptr_t;
  m.def(
      "matmul",
      [](Address a, Address b, Address c, int rows, int columns, int depth) {
        matmul(at<float>(a), at<float>(b), at<float>(c), rows, columns, depth, nullptr);
      },
      no_gil);
  m.def(
      "logsumexp",
      [](Address x, Address y, int rows, int columns) {
        logsumexp(at<float>(x), at<float>(y), rows, columns, nullptr);
      },
      no_gil);
  m.def(
      "recurrence",
      [](Address w, Address x, Address h, Address barrier, int steps, int dim, int blocks) {
        recurrence(at<float>(w), at<float>(x), at<float>(h), at<unsigned>(barrier), steps, dim, blocks,
                   nullptr);
      },
      no_gil);
  m.def(
      "tensor_matmul",
      [](const std::string& format, Address a, Address b, Address c, int rows, int columns, int depth) {
        tensor_matmul(format.c_str(), at<void>(a), at<void>(b), at<float>(c), rows, columns, depth,
                      nullptr);
      },
      no_gil);
  m.def(
      "scan",
      [](Address x, Address sums, Address odd, int n) {
        scan(at<int>(x), at<int>(sums), at<int>(odd), n, nullptr);
      },
      no_gil);
  m.def(
      "chained_scan",
      [](Address x, Address sums, Address state, int n) {
        chained_scan(at<int>(x), at<int>(sums), at<int>(state), n, nullptr);
      },
      no_gil);
  m.def(
      "histogram",
      [](Address x, Address counts, Address largest, int n, int bins) {
        histogram(at<int>(x), at<int>(counts), at<int>(largest), n, bins, nullptr);
      },
      no_gil);
  m.def(
      "functions",
      [](Address x, Address y, int n) { functions(at<float>(x), at<float>(y), n, nullptr); }, no_gil);
  m.def(
      "uniforms",
      [](Address y, uint64_t seed, int64_t first_image, int images, unsigned pixel, int draws) {
        uniforms(at<float>(y), seed, first_image, images, pixel, draws, nullptr);
      },
      no_gil);
  m.def(
      "check_workloads",
      [] {
        std::vector<std::tuple<std::string, double, double>> results;
        for (const CheckResult& check : check_workloads()) {
          results.emplace_back(check.name, check.error, check.tolerance);
        }
        return results;
      },
      no_gil, "(name, error, allowed) of every check that also runs on a GPU.");
  m.def("faulty_names", faulty_names);
  m.def(
      "run_faulty",
      [](const std::string& name, Address values) { run_faulty(name, at<float>(values), nullptr); },
      no_gil);
  m.attr("FAULTY_VALUES") = kFaultyValues;
}
