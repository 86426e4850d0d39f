#include <pybind11/stl.h>

#include <tuple>

#include "common/bindings.h"
#include "common/parallel.h"
#include "gaussian_mixture/gaussian_kl.h"
#include "gaussian_mixture/gaussian_mixture.h"
#include "gaussian_mixture/mixture_products.h"
#ifdef GENFAST_WITH_CUDA
#include "common/cuda_device.h"
#endif

namespace genfast {
namespace {

using Operand = std::pair<uintptr_t, py::tuple>;  // address (0: none) and strides

// ---- KL ------------------------------------------------------------------------------------------

// `shape` is that of mean.
template <int K>
GaussianKl<K> divergence(int dtype, const py::tuple& shape, const std::vector<Operand>& operands) {
  std::vector<int64_t> size = integers(shape), strides[K];
  GaussianKl<K> p = {};
  p.dtype = static_cast<DType>(dtype);
  p.dim = size.back();
  size.pop_back();
  const std::vector<int64_t>* of_rows[K];
  for (int k = 0; k < K; ++k) {
    strides[k] = integers(operands[k].second);
    if (k < K - 1) {
      p.column_stride[k] = strides[k].back();
      strides[k].pop_back();
    }
    of_rows[k] = &strides[k];
    p.operand[k] = reinterpret_cast<void*>(operands[k].first);
  }
  p.rows = strided_loop<K>(size, of_rows);
  return p;
}

template <int K>
GaussianKlGradient<K> gradient(int dtype, const py::tuple& shape, const std::vector<Operand>& operands) {
  std::vector<int64_t> strides[K];
  const std::vector<int64_t>* of_all[K];
  GaussianKlGradient<K> p = {};
  p.dtype = static_cast<DType>(dtype);
  for (int k = 0; k < K; ++k) {
    strides[k] = integers(operands[k].second);
    of_all[k] = &strides[k];
    p.operand[k] = reinterpret_cast<void*>(operands[k].first);
  }
  p.loop = strided_loop<K>(integers(shape), of_all);
  return p;
}

void check_count(const std::vector<Operand>& operands, size_t standard, size_t prior) {
  if (operands.size() == standard || operands.size() == prior) return;
  throw std::invalid_argument("gaussian_kl takes both parameters of a prior or none");
}

template <class Kernel>
auto without_gil(const Kernel& kernel) {
  return [&kernel](auto p) {
    py::gil_scoped_release release;
    kernel(p);
  };
}

// Calls `kernel` on the parameters of a pass, for either prior.
template <class Kernel>
void kl_forward(int dtype, const py::tuple& shape, const std::vector<Operand>& operands,
                const Kernel& kernel) {
  check_count(operands, 3, 5);
  const auto run = without_gil(kernel);
  operands.size() == 3 ? run(divergence<3>(dtype, shape, operands))
                       : run(divergence<5>(dtype, shape, operands));
}

template <class Kernel>
void kl_backward(int dtype, const py::tuple& shape, const std::vector<Operand>& operands,
                 const Kernel& kernel) {
  check_count(operands, 5, 8);
  const auto run = without_gil(kernel);
  operands.size() == 5 ? run(gradient<5>(dtype, shape, operands))
                       : run(gradient<8>(dtype, shape, operands));
}

void kl_fwd(int dtype, const py::tuple& shape, const std::vector<Operand>& operands, int threads) {
  kl_forward(dtype, shape, operands, [threads](auto& p) {
    p.threads = usable_threads(threads);
    GENFAST_CALL_CPU(gaussian_kl_fwd_cpu, p);
  });
}

void kl_bwd(int dtype, const py::tuple& shape, const std::vector<Operand>& operands, int threads) {
  kl_backward(dtype, shape, operands, [threads](auto& p) {
    p.threads = usable_threads(threads);
    GENFAST_CALL_CPU(gaussian_kl_bwd_cpu, p);
  });
}

#ifdef GENFAST_WITH_CUDA
void kl_fwd_cuda(int dtype, const py::tuple& shape, const std::vector<Operand>& operands, int device,
                 uintptr_t stream) {
  kl_forward(dtype, shape, operands, [=](const auto& p) {
    const CudaDevice current(device);
    gaussian_kl_fwd_cuda(p, reinterpret_cast<cudaStream_t>(stream));
  });
}

void kl_bwd_cuda(int dtype, const py::tuple& shape, const std::vector<Operand>& operands, int device,
                 uintptr_t stream) {
  kl_backward(dtype, shape, operands, [=](const auto& p) {
    const CudaDevice current(device);
    gaussian_kl_bwd_cuda(p, reinterpret_cast<cudaStream_t>(stream));
  });
}
#endif

// ---- mixture -------------------------------------------------------------------------------------

// dtype, queries, components, dim, own_variances
using Options = std::tuple<int, int64_t, int64_t, int64_t, bool>;
// z, means, log_var, log_weights, query_ids, component_ids
using Inputs = std::tuple<Operand, Operand, Operand, Operand, Operand, Operand>;
// grad_z, grad_means, grad_log_var, grad_log_weights; 0 where not wanted
using Gradients = std::tuple<uintptr_t, uintptr_t, uintptr_t, uintptr_t>;

MixtureMatrix matrix(const Operand& operand) {
  if (!operand.first) return {};
  const std::vector<int64_t> s = integers(operand.second);
  return {reinterpret_cast<const void*>(operand.first), s[0], s.size() > 1 ? s[1] : 0};
}

GaussianMixture mixture(const Options& options, const Inputs& inputs, uintptr_t evidence, int threads) {
  GaussianMixture p = {};
  int dtype;
  std::tie(dtype, p.queries, p.components, p.dim, p.own_variances) = options;
  p.dtype = static_cast<DType>(dtype);
  p.threads = usable_threads(threads);
  p.z = matrix(std::get<0>(inputs));
  p.means = matrix(std::get<1>(inputs));
  p.log_var = matrix(std::get<2>(inputs));
  p.log_weights = matrix(std::get<3>(inputs));
  p.query_ids = matrix(std::get<4>(inputs));
  p.component_ids = matrix(std::get<5>(inputs));
  p.evidence = reinterpret_cast<void*>(evidence);
  return p;
}

void set_backward(GaussianMixture& p, const Operand& grad, const Gradients& gradients) {
  p.grad = matrix(grad);
  p.grad_z = reinterpret_cast<void*>(std::get<0>(gradients));
  p.grad_means = reinterpret_cast<void*>(std::get<1>(gradients));
  p.grad_log_var = reinterpret_cast<void*>(std::get<2>(gradients));
  p.grad_log_weights = reinterpret_cast<void*>(std::get<3>(gradients));
}

// The caller allocates the workspace, of the bytes that `allocate` is called with.
using Allocate = py::function;

template <class Bytes, class Kernel>
void run_on_cpu(GaussianMixture& p, const Allocate& allocate, const Bytes& bytes_of,
                const Kernel& kernel) {
  int64_t bytes = 0;
  bytes_of(&bytes);
  p.workspace = reinterpret_cast<void*>(allocate(bytes).cast<uintptr_t>());
  py::gil_scoped_release release;
  kernel();
}

void fwd(const Options& options, const Inputs& inputs, uintptr_t log_prob, uintptr_t evidence,
         const Allocate& allocate, int threads) {
  GaussianMixture p = mixture(options, inputs, evidence, threads);
  p.log_prob = reinterpret_cast<void*>(log_prob);
  run_on_cpu(
      p, allocate, [&](int64_t* bytes) { GENFAST_CALL_CPU(gaussian_mixture_fwd_bytes, p, bytes); },
      [&] { GENFAST_CALL_CPU(gaussian_mixture_fwd_cpu, p); });
}

void bwd(const Options& options, const Inputs& inputs, uintptr_t evidence, const Operand& grad,
         const Gradients& gradients, const Allocate& allocate, int threads) {
  GaussianMixture p = mixture(options, inputs, evidence, threads);
  set_backward(p, grad, gradients);
  run_on_cpu(
      p, allocate, [&](int64_t* bytes) { GENFAST_CALL_CPU(gaussian_mixture_bwd_bytes, p, bytes); },
      [&] { GENFAST_CALL_CPU(gaussian_mixture_bwd_cpu, p); });
}

#ifdef GENFAST_WITH_CUDA
// arithmetic, by_query, queries, components, features, splits
using Products = std::tuple<int, bool, int64_t, int64_t, int64_t, int64_t>;

// x, y, c, query_ids, component_ids, top, scale, least, partial, partial_mass: addresses, 0 for none.
void on_cuda(void (*kernel)(const MixtureProducts&, cudaStream_t), const Products& shape,
             const std::vector<uintptr_t>& addresses, int device, uintptr_t stream) {
  MixtureProducts p = {};
  int arithmetic;
  std::tie(arithmetic, p.by_query, p.queries, p.components, p.features, p.splits) = shape;
  p.arithmetic = static_cast<MixtureArithmetic>(arithmetic);
  const auto read = [&](size_t i) { return reinterpret_cast<const void*>(addresses.at(i)); };
  p.x = read(0), p.y = read(1), p.c = read(2);
  p.query_ids = static_cast<const int64_t*>(read(3));
  p.component_ids = static_cast<const int64_t*>(read(4));
  p.top = read(5), p.scale = read(6), p.least = read(7);
  p.partial = reinterpret_cast<void*>(addresses.at(8));
  p.partial_mass = reinterpret_cast<void*>(addresses.at(9));
  py::gil_scoped_release release;
  const CudaDevice current(device);
  kernel(p, reinterpret_cast<cudaStream_t>(stream));
}

void densities_cuda(const Products& shape, const std::vector<uintptr_t>& addresses, int device,
                    uintptr_t stream) {
  on_cuda(&gaussian_mixture_densities_cuda, shape, addresses, device, stream);
}
void posteriors_cuda(const Products& shape, const std::vector<uintptr_t>& addresses, int device,
                     uintptr_t stream) {
  on_cuda(&gaussian_mixture_posteriors_cuda, shape, addresses, device, stream);
}
#endif

}  // namespace

void bind_gaussian_mixture(py::module_& m) {
  m.def("gaussian_kl_fwd", &kl_fwd);
  m.def("gaussian_kl_bwd", &kl_bwd);
  m.def("gaussian_mixture_log_prob_fwd", &fwd);
  m.def("gaussian_mixture_log_prob_bwd", &bwd);
#ifdef GENFAST_WITH_CUDA
  m.def("gaussian_kl_fwd_cuda", &kl_fwd_cuda);
  m.def("gaussian_kl_bwd_cuda", &kl_bwd_cuda);
  m.def("gaussian_mixture_densities_cuda", &densities_cuda);
  m.def("gaussian_mixture_posteriors_cuda", &posteriors_cuda);
#endif
}

}  // namespace genfast
