// What every *_bindings.cpp needs: tensors arrive as (address, shape, strides), never as torch objects.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

#include "common/dtype.h"
#include "common/parallel.h"
#include "common/strided.h"

namespace genfast {

namespace py = pybind11;

// The entries of a Python tuple of ints (a shape or strides).
inline std::vector<int64_t> integers(const py::tuple& values) {
  std::vector<int64_t> out(values.size());
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(values.ptr(), static_cast<Py_ssize_t>(i)));
  }
  if (PyErr_Occurred()) throw py::error_already_set();
  return out;
}

inline void* element(uintptr_t address, int64_t index, DType dtype) {
  return reinterpret_cast<void*>(address + static_cast<uintptr_t>(index * element_size(dtype)));
}

// The loop nest of K operands over `size`. Dimensions are sorted by the strides of operand 0 and
// neighbours merged wherever every operand allows it, so that the innermost run is as long as it can be.
template <int K>
StridedLoop<K> strided_loop(const std::vector<int64_t>& size,
                            const std::vector<int64_t>* const (&strides)[K]) {
  StridedLoop<K> loop;
  loop.dims = 0;
  if (size.size() > kMaxDims) throw std::invalid_argument("a tensor has more than 24 dimensions");
  for (size_t from = 0; from < size.size(); ++from) {
    if (size[from] == 1) continue;
    int d = loop.dims++;
    loop.size[d] = size[from];
    for (int k = 0; k < K; ++k) loop.stride[k][d] = (*strides[k])[from];
    for (; d > 0 && loop.stride[0][d - 1] < loop.stride[0][d]; --d) {
      std::swap(loop.size[d - 1], loop.size[d]);
      for (int k = 0; k < K; ++k) std::swap(loop.stride[k][d - 1], loop.stride[k][d]);
    }
  }
  int kept = 0;
  for (int d = 0; d < loop.dims; ++d) {
    bool merge = kept > 0;
    for (int k = 0; k < K && merge; ++k) {
      merge = loop.stride[k][kept - 1] == loop.stride[k][d] * loop.size[d];
    }
    const int into = merge ? kept - 1 : kept++;
    loop.size[into] = merge ? loop.size[into] * loop.size[d] : loop.size[d];
    for (int k = 0; k < K; ++k) loop.stride[k][into] = loop.stride[k][d];
  }
  if (kept == 0) {  // a single element
    kept = 1;
    loop.size[0] = 1;
    for (int k = 0; k < K; ++k) loop.stride[k][0] = 1;
  }
  loop.dims = kept;
  return loop;
}

// A function for Python: `pack` makes parameters of its arguments and `kernel` takes them, with the
// number of threads, which comes last, in them.
template <class Parameters, class... Arguments, class Kernel>
auto on_cpu(Parameters (*pack)(Arguments...), Kernel kernel) {
  return [pack, kernel](Arguments... arguments, int threads) {
    Parameters p = pack(arguments...);
    py::gil_scoped_release release;
    p.threads = usable_threads(threads);
    kernel(p);
  };
}

}  // namespace genfast
