#include "common/bindings.h"
#include "common/parallel.h"
#include "gated/gated.h"

namespace genfast {
namespace {

struct Tensor {
  uintptr_t address;
  std::vector<int64_t> strides;
};

// An operand of the loop nest: a tensor of y's shape, or the lower or upper half of one that is twice as
// long along dim.
struct Operand {
  const Tensor& tensor;
  bool upper_half = false;
};

template <int K>
GatedActivation<K> make(const py::tuple& y_shape, int64_t dim, int dtype, int threads,
                        const Operand (&operands)[K]) {
  GatedActivation<K> p;
  p.dtype = static_cast<DType>(dtype);
  p.threads = usable_threads(threads);
  const std::vector<int64_t> size = integers(y_shape);
  const std::vector<int64_t>* strides[K];
  for (int k = 0; k < K; ++k) strides[k] = &operands[k].tensor.strides;
  p.loop = strided_loop<K>(size, strides);
  const size_t split = static_cast<size_t>(dim);
  for (int k = 0; k < K; ++k) {
    const Tensor& t = operands[k].tensor;
    p.operand[k] =
        element(t.address, operands[k].upper_half ? size[split] * t.strides[split] : 0, p.dtype);
  }
  return p;
}

// cond == 0 stands for no cond.
void fwd(uintptr_t x, const py::tuple& x_strides, uintptr_t cond, const py::tuple& cond_strides,
         uintptr_t y, const py::tuple& y_shape, const py::tuple& y_strides, int64_t dim, int dtype,
         int threads) {
  const Tensor tx{x, integers(x_strides)}, tc{cond, integers(cond_strides)}, ty{y, integers(y_strides)};
  if (cond) {
    const auto p = make<5>(y_shape, dim, dtype, threads, {{tx}, {tx, true}, {tc}, {tc, true}, {ty}});
    py::gil_scoped_release release;
    GENFAST_CALL_CPU(gated_activation_fwd_cpu, p);
  } else {
    const auto p = make<3>(y_shape, dim, dtype, threads, {{tx}, {tx, true}, {ty}});
    py::gil_scoped_release release;
    GENFAST_CALL_CPU(gated_activation_fwd_cpu, p);
  }
}

void bwd(uintptr_t x, const py::tuple& x_strides, uintptr_t cond, const py::tuple& cond_strides,
         uintptr_t grad_y, const py::tuple& y_shape, const py::tuple& grad_y_strides, uintptr_t grad_x,
         const py::tuple& grad_x_strides, int64_t dim, int dtype, int threads) {
  const Tensor tx{x, integers(x_strides)}, tc{cond, integers(cond_strides)},
      tgy{grad_y, integers(grad_y_strides)}, tgx{grad_x, integers(grad_x_strides)};
  if (cond) {
    const auto p = make<7>(y_shape, dim, dtype, threads,
                           {{tx}, {tx, true}, {tc}, {tc, true}, {tgy}, {tgx}, {tgx, true}});
    py::gil_scoped_release release;
    GENFAST_CALL_CPU(gated_activation_bwd_cpu, p);
  } else {
    const auto p = make<5>(y_shape, dim, dtype, threads, {{tx}, {tx, true}, {tgy}, {tgx}, {tgx, true}});
    py::gil_scoped_release release;
    GENFAST_CALL_CPU(gated_activation_bwd_cpu, p);
  }
}

}  // namespace

void bind_gated(py::module_& m) {
  m.def("gated_activation_fwd", &fwd);
  m.def("gated_activation_bwd", &bwd);
}

}  // namespace genfast
