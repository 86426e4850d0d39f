#include <pybind11/stl.h>

#include <cmath>
#include <tuple>

#include "common/bindings.h"
#include "logistic_mixture/logistic_mixture.h"
#ifdef GENFAST_WITH_CUDA
#include "common/cuda_device.h"
#endif

namespace genfast {
namespace {

// Address and strides: of a tensor (..., C, H, W), or of one that has no channels, (..., H, W).
struct Tensor {
  uintptr_t address;
  std::vector<int64_t> strides;  // of the dimensions of the pixels
  int64_t channel_stride = 0;
};

Tensor with_channels(uintptr_t address, const py::tuple& strides) {
  Tensor t{address, integers(strides)};
  const auto channel = t.strides.end() - 3;
  t.channel_stride = *channel;
  t.strides.erase(channel);
  return t;
}

Tensor without_channels(uintptr_t address, const py::tuple& strides) {
  return {address, integers(strides)};
}

// dtype, colors, mixtures, levels, flag: the fields of LogisticMixture.
using Options = std::tuple<int, int, int64_t, int, bool>;

// `shape` is that of the pixels.
template <int K>
LogisticMixture<K> mixture(const Options& options, const py::tuple& shape, const Tensor (&tensors)[K]) {
  const std::vector<int64_t>* strides[K];
  for (int k = 0; k < K; ++k) strides[k] = &tensors[k].strides;
  LogisticMixture<K> p;
  int dtype;
  std::tie(dtype, p.colors, p.mixtures, p.levels, p.flag) = options;
  p.dtype = static_cast<DType>(dtype);
  p.threads = 1;
  p.log_spacing = std::log(2.0 / (p.levels - 1));
  p.pixels = strided_loop<K>(integers(shape), strides);
  for (int k = 0; k < K; ++k) {
    p.operand[k] = reinterpret_cast<void*>(tensors[k].address);
    p.channel_stride[k] = tensors[k].channel_stride;
  }
  return p;
}

LogisticMixture<4> log_prob(const Options& options, const py::tuple& shape, uintptr_t params,
                            const py::tuple& params_strides, uintptr_t x, const py::tuple& x_strides,
                            uintptr_t log_prob, const py::tuple& log_prob_strides, uintptr_t evidence,
                            const py::tuple& evidence_strides) {
  return mixture<4>(
      options, shape,
      {with_channels(params, params_strides), with_channels(x, x_strides),
       without_channels(log_prob, log_prob_strides), with_channels(evidence, evidence_strides)});
}

LogisticMixture<5> gradient(const Options& options, const py::tuple& shape, uintptr_t params,
                            const py::tuple& params_strides, uintptr_t x, const py::tuple& x_strides,
                            uintptr_t evidence, const py::tuple& evidence_strides, uintptr_t grad,
                            const py::tuple& grad_strides, uintptr_t grad_params,
                            const py::tuple& grad_params_strides) {
  return mixture<5>(options, shape,
                    {with_channels(params, params_strides), with_channels(x, x_strides),
                     with_channels(evidence, evidence_strides), without_channels(grad, grad_strides),
                     with_channels(grad_params, grad_params_strides)});
}

LogisticMixture<3> sample(const Options& options, const py::tuple& shape, uintptr_t params,
                          const py::tuple& params_strides, uintptr_t uniforms,
                          const py::tuple& uniforms_strides, uintptr_t x, const py::tuple& x_strides) {
  return mixture<3>(options, shape,
                    {with_channels(params, params_strides), with_channels(uniforms, uniforms_strides),
                     with_channels(x, x_strides)});
}

#ifdef GENFAST_WITH_CUDA
template <class Parameters, class... Arguments>
auto on_cuda(Parameters (*pack)(Arguments...), void (*kernel)(const Parameters&, cudaStream_t)) {
  return [pack, kernel](Arguments... arguments, int device, uintptr_t stream) {
    const Parameters p = pack(arguments...);
    py::gil_scoped_release release;
    const CudaDevice current(device);
    kernel(p, reinterpret_cast<cudaStream_t>(stream));
  };
}
#endif

}  // namespace

void bind_logistic_mixture(py::module_& m) {
  m.def("logistic_mixture_log_prob_fwd", on_cpu(log_prob, [](const LogisticMixture<4>& p) {
          GENFAST_CALL_CPU(logistic_mixture_log_prob_fwd_cpu, p);
        }));
  m.def("logistic_mixture_log_prob_bwd", on_cpu(gradient, [](const LogisticMixture<5>& p) {
          GENFAST_CALL_CPU(logistic_mixture_log_prob_bwd_cpu, p);
        }));
  m.def("logistic_mixture_sample_fwd", on_cpu(sample, [](const LogisticMixture<3>& p) {
          GENFAST_CALL_CPU(logistic_mixture_sample_fwd_cpu, p);
        }));
#ifdef GENFAST_WITH_CUDA
  m.def("logistic_mixture_log_prob_fwd_cuda", on_cuda(log_prob, &logistic_mixture_log_prob_fwd_cuda));
  m.def("logistic_mixture_log_prob_bwd_cuda", on_cuda(gradient, &logistic_mixture_log_prob_bwd_cuda));
  m.def("logistic_mixture_sample_fwd_cuda", on_cuda(sample, &logistic_mixture_sample_fwd_cuda));
#endif
}

}  // namespace genfast
