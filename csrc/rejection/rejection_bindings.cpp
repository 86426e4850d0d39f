#include "common/bindings.h"
#include "rejection/rejection.h"
#ifdef GENFAST_WITH_CUDA
#include "common/cuda_device.h"
#endif

namespace genfast {
namespace {

// seed and first are 64 bits whose sign Python's int and torch's schema may show.
RejectionAccept pack_accept(int dtype, int64_t count, uintptr_t logits, int64_t logits_stride,
                            uintptr_t uniforms, int64_t uniforms_stride, uintptr_t log_m, int64_t seed,
                            int64_t first, double gamma, double eps, uintptr_t accept,
                            uintptr_t new_log_m, uintptr_t nan_count) {
  return {static_cast<DType>(dtype),
          1,
          count,
          reinterpret_cast<const void*>(logits),
          logits_stride,
          reinterpret_cast<const void*>(uniforms),
          uniforms_stride,
          reinterpret_cast<const void*>(log_m),
          static_cast<uint64_t>(seed),
          static_cast<uint64_t>(first),
          gamma,
          eps,
          reinterpret_cast<uint8_t*>(accept),
          reinterpret_cast<void*>(new_log_m),
          reinterpret_cast<int64_t*>(nan_count)};
}

// A row of contiguous bytes is taken for one of fewer and larger elements, up to 16 bytes, where all
// rows are aligned to those.
void widen_elements(RejectionCompact& p) {
  const bool run = p.row.dims == 1 && p.row.stride[0][0] == 1 && p.row.stride[1][0] == 1;
  for (int times = 16 / p.element_size; run && times > 1; times /= 2) {
    const auto fits = [&](const void* base, int64_t stride) {
      return reinterpret_cast<uintptr_t>(base) % (times * p.element_size) == 0 && stride % times == 0;
    };
    if (p.row.size[0] == 0 || p.row.size[0] % times != 0) continue;
    if (!fits(p.samples, p.sample_stride) || !fits(p.out, p.out_stride)) continue;
    p.element_size *= times;
    p.sample_stride /= times;
    p.out_stride /= times;
    p.row.size[0] /= times;
    return;
  }
}

// The strides are those of whole tensors: of rows first, then of what a row is made of.
RejectionCompact pack_compact(const py::tuple& shape, int element_size, uintptr_t accept,
                              int64_t accept_stride, uintptr_t samples, const py::tuple& sample_strides,
                              uintptr_t out, const py::tuple& out_strides, uintptr_t accepted,
                              bool clear) {
  const std::vector<int64_t> size = integers(shape), from = integers(sample_strides),
                             to = integers(out_strides);
  const auto inner = [](const std::vector<int64_t>& all) {
    return std::vector<int64_t>(all.begin() + 1, all.end());
  };
  const std::vector<int64_t> inner_to = inner(to), inner_from = inner(from);
  RejectionCompact p{1,
                     size[0],
                     element_size,
                     reinterpret_cast<const uint8_t*>(accept),
                     accept_stride,
                     reinterpret_cast<const void*>(samples),
                     from[0],
                     reinterpret_cast<void*>(out),
                     to[0],
                     strided_loop<2>(inner(size), {&inner_to, &inner_from}),
                     reinterpret_cast<int64_t*>(accepted),
                     clear};
  widen_elements(p);
  return p;
}

#ifdef GENFAST_WITH_CUDA
template <class Parameters, class... Arguments>
auto on_cuda(Parameters (*pack)(Arguments...),
             void (*kernel)(const Parameters&, void* workspace, cudaStream_t)) {
  return [pack, kernel](Arguments... arguments, uintptr_t workspace, int device, uintptr_t stream) {
    const Parameters p = pack(arguments...);
    py::gil_scoped_release release;
    const CudaDevice current(device);
    kernel(p, reinterpret_cast<void*>(workspace), reinterpret_cast<cudaStream_t>(stream));
  };
}
#endif

}  // namespace

void bind_rejection(py::module_& m) {
  m.def("rejection_accept_fwd", on_cpu(pack_accept, [](const RejectionAccept& p) {
          GENFAST_CALL_CPU(rejection_accept_fwd_cpu, p);
        }));
  m.def("rejection_compact_fwd", on_cpu(pack_compact, [](const RejectionCompact& p) {
          GENFAST_CALL_CPU(rejection_compact_fwd_cpu, p);
        }));
#ifdef GENFAST_WITH_CUDA
  m.def("rejection_accept_workspace_cuda", [](int dtype, int64_t count) {
    return rejection_accept_workspace_cuda(static_cast<DType>(dtype), count);
  });
  m.def("rejection_compact_workspace_cuda", &rejection_compact_workspace_cuda);
  m.def("rejection_accept_fwd_cuda", on_cuda(pack_accept, &rejection_accept_fwd_cuda));
  m.def("rejection_compact_fwd_cuda", on_cuda(pack_compact, &rejection_compact_fwd_cuda));
#endif
}

}  // namespace genfast
