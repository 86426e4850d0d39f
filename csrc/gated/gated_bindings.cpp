#include "common/bindings.h"
#include "common/parallel.h"
#include "gated/gated.h"
#ifdef GENFAST_WITH_CUDA
#include "common/cuda_device.h"
#endif

namespace genfast {
namespace {

struct Tensor {
  uintptr_t address;
  std::vector<int64_t> strides;

  Tensor(uintptr_t address, const py::tuple& strides) : address(address), strides(integers(strides)) {}
};

// An operand of the loop nest: a tensor of y's shape, or the lower or upper half of one that is twice as
// long along dim.
struct Operand {
  const Tensor& tensor;
  bool upper_half = false;
};

// What both directions share: y's shape, the dimension that is split, the element type.
struct Gate {
  std::vector<int64_t> shape;
  size_t dim;
  DType dtype;

  template <int K>
  GatedActivation<K> over(const Operand (&operands)[K]) const {
    const std::vector<int64_t>* strides[K];
    for (int k = 0; k < K; ++k) strides[k] = &operands[k].tensor.strides;
    GatedActivation<K> p{dtype, 1, strided_loop<K>(shape, strides), {}};
    for (int k = 0; k < K; ++k) {
      const Tensor& t = operands[k].tensor;
      p.operand[k] = element(t.address, operands[k].upper_half ? shape[dim] * t.strides[dim] : 0, dtype);
    }
    return p;
  }

  // Calls `kernel` on the parameters of the forward pass; a cond at address 0 is none.
  template <class Kernel>
  void forward(const Tensor& x, const Tensor& cond, const Tensor& y, const Kernel& kernel) const {
    if (cond.address) {
      kernel(over<5>({{x}, {x, true}, {cond}, {cond, true}, {y}}));
    } else {
      kernel(over<3>({{x}, {x, true}, {y}}));
    }
  }

  template <class Kernel>
  void backward(const Tensor& x, const Tensor& cond, const Tensor& grad_y, const Tensor& grad_x,
                const Kernel& kernel) const {
    if (cond.address) {
      kernel(over<7>({{x}, {x, true}, {cond}, {cond, true}, {grad_y}, {grad_x}, {grad_x, true}}));
    } else {
      kernel(over<5>({{x}, {x, true}, {grad_y}, {grad_x}, {grad_x, true}}));
    }
  }
};

Gate gate(const py::tuple& y_shape, int64_t dim, int dtype) {
  return {integers(y_shape), static_cast<size_t>(dim), static_cast<DType>(dtype)};
}

void fwd(uintptr_t x, const py::tuple& x_strides, uintptr_t cond, const py::tuple& cond_strides,
         uintptr_t y, const py::tuple& y_shape, const py::tuple& y_strides, int64_t dim, int dtype,
         int threads) {
  gate(y_shape, dim, dtype)
      .forward({x, x_strides}, {cond, cond_strides}, {y, y_strides}, [threads](auto p) {
        py::gil_scoped_release release;
        p.threads = usable_threads(threads);
        GENFAST_CALL_CPU(gated_activation_fwd_cpu, p);
      });
}

void bwd(uintptr_t x, const py::tuple& x_strides, uintptr_t cond, const py::tuple& cond_strides,
         uintptr_t grad_y, const py::tuple& y_shape, const py::tuple& grad_y_strides, uintptr_t grad_x,
         const py::tuple& grad_x_strides, int64_t dim, int dtype, int threads) {
  gate(y_shape, dim, dtype)
      .backward({x, x_strides}, {cond, cond_strides}, {grad_y, grad_y_strides}, {grad_x, grad_x_strides},
                [threads](auto p) {
                  py::gil_scoped_release release;
                  p.threads = usable_threads(threads);
                  GENFAST_CALL_CPU(gated_activation_bwd_cpu, p);
                });
}

#ifdef GENFAST_WITH_CUDA
void fwd_cuda(uintptr_t x, const py::tuple& x_strides, uintptr_t cond, const py::tuple& cond_strides,
              uintptr_t y, const py::tuple& y_shape, const py::tuple& y_strides, int64_t dim, int dtype,
              int device, uintptr_t stream) {
  gate(y_shape, dim, dtype)
      .forward({x, x_strides}, {cond, cond_strides}, {y, y_strides}, [=](const auto& p) {
        py::gil_scoped_release release;
        const CudaDevice current(device);
        gated_activation_fwd_cuda(p, reinterpret_cast<cudaStream_t>(stream));
      });
}

void bwd_cuda(uintptr_t x, const py::tuple& x_strides, uintptr_t cond, const py::tuple& cond_strides,
              uintptr_t grad_y, const py::tuple& y_shape, const py::tuple& grad_y_strides,
              uintptr_t grad_x, const py::tuple& grad_x_strides, int64_t dim, int dtype, int device,
              uintptr_t stream) {
  gate(y_shape, dim, dtype)
      .backward({x, x_strides}, {cond, cond_strides}, {grad_y, grad_y_strides}, {grad_x, grad_x_strides},
                [=](const auto& p) {
                  py::gil_scoped_release release;
                  const CudaDevice current(device);
                  gated_activation_bwd_cuda(p, reinterpret_cast<cudaStream_t>(stream));
                });
}
#endif

}  // namespace

void bind_gated(py::module_& m) {
  m.def("gated_activation_fwd", &fwd);
  m.def("gated_activation_bwd", &bwd);
#ifdef GENFAST_WITH_CUDA
  m.def("gated_activation_fwd_cuda", &fwd_cuda);
  m.def("gated_activation_bwd_cuda", &bwd_cuda);
#endif
}

}  // namespace genfast
