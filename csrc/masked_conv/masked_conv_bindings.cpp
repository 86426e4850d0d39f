#include "common/bindings.h"
#include "masked_conv/masked_conv.h"

#ifdef GENFAST_WITH_CUDA
#include <pybind11/stl.h>

#include <array>

#include "common/cuda_device.h"

namespace genfast {
namespace {

// (dtype, path, allow_tf32, mask_a, batch, height, width, in_channels, out_channels, kernel_height,
// kernel_width, colors, out_splits), the order of MaskedConvShape.
MaskedConvShape shape_of(const std::array<int64_t, 13>& s) {
  const auto number = [&s](size_t i) { return static_cast<int>(s[i]); };
  return {static_cast<DType>(s[0]),
          static_cast<ConvPath>(s[1]),
          s[2] != 0,
          s[3] != 0,
          s[4],
          number(5),
          number(6),
          number(7),
          number(8),
          number(9),
          number(10),
          number(11),
          number(12)};
}

using Shape = std::array<int64_t, 13>;
using Strides = std::array<int64_t, 4>;

void* at(uintptr_t address) { return reinterpret_cast<void*>(address); }

Tensor4 tensor(uintptr_t address, const Strides& s) { return {at(address), {s[0], s[1], s[2], s[3]}}; }

// An address of 0 stands for a tensor that is absent.
void fwd(bool gate, const Shape& shape, uintptr_t x, const Strides& x_strides, uintptr_t weight,
         const Strides& weight_strides, uintptr_t bias, uintptr_t cond, const Strides& cond_strides,
         uintptr_t y, const Strides& y_strides, uintptr_t pre, const Strides& pre_strides,
         uintptr_t workspace, int device, uintptr_t stream) {
  const MaskedConv2d p{shape_of(shape),
                       tensor(x, x_strides),
                       tensor(weight, weight_strides),
                       at(bias),
                       tensor(cond, cond_strides),
                       tensor(y, y_strides),
                       tensor(pre, pre_strides),
                       at(workspace)};
  py::gil_scoped_release release;
  const CudaDevice current(device);
  const auto run = gate ? gated_masked_conv2d_fwd_cuda : masked_conv2d_fwd_cuda;
  run(p, reinterpret_cast<cudaStream_t>(stream));
}

void bwd_input(const Shape& shape, uintptr_t grad, const Strides& grad_strides, uintptr_t weight,
               const Strides& weight_strides, uintptr_t grad_x, const Strides& grad_x_strides,
               uintptr_t workspace, int device, uintptr_t stream) {
  const MaskedConv2dBwdInput p{shape_of(shape), tensor(grad, grad_strides),
                               tensor(weight, weight_strides), tensor(grad_x, grad_x_strides),
                               at(workspace)};
  py::gil_scoped_release release;
  const CudaDevice current(device);
  masked_conv2d_bwd_input_cuda(p, reinterpret_cast<cudaStream_t>(stream));
}

void bwd_weight(const Shape& shape, uintptr_t grad, const Strides& grad_strides, uintptr_t x,
                const Strides& x_strides, uintptr_t grad_weight, const Strides& grad_weight_strides,
                uintptr_t workspace, int device, uintptr_t stream) {
  const MaskedConv2dBwdWeight p{shape_of(shape),
                                tensor(grad, grad_strides),
                                tensor(x, x_strides),
                                tensor(grad_weight, grad_weight_strides),
                                nullptr,
                                at(workspace)};
  py::gil_scoped_release release;
  const CudaDevice current(device);
  masked_conv2d_bwd_weight_cuda(p, reinterpret_cast<cudaStream_t>(stream));
}

}  // namespace

void bind_masked_conv(py::module_& m) {
  m.def("masked_conv2d_fwd_cuda", &fwd);
  m.def("masked_conv2d_bwd_input_cuda", &bwd_input);
  m.def("masked_conv2d_bwd_weight_cuda", &bwd_weight);
  m.def("masked_conv2d_workspaces", [](const Shape& shape) {
    const MaskedConvShape s = shape_of(shape);
    return py::make_tuple(masked_conv2d_fwd_workspace(s), masked_conv2d_bwd_input_workspace(s),
                          masked_conv2d_bwd_weight_workspace(s));
  });
}

}  // namespace genfast
#else
namespace genfast {
void bind_masked_conv(py::module_&) {}
}  // namespace genfast
#endif
