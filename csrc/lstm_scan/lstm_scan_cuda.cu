// Entry points of the LSTM scans on CUDA: which path, and what it needs of the workspace.
#include <stdexcept>

#include "lstm_scan/scan_launch_cuda.h"

namespace genfast {
namespace scan {

// Compiled in lstm_scan_{simt16,tf32,bf16,fp16}_cuda.cu; Simt<float> and Simt<double> are here.
#define GENFAST_COMPILED_ELSEWHERE(Path)                                          \
  extern template void forward_on<Path>(const LstmScan&, ScanPlan, cudaStream_t); \
  extern template void backward_on<Path>(const LstmScan&, bool, ScanPlan, cudaStream_t);
GENFAST_COMPILED_ELSEWHERE(Simt<__nv_bfloat16>)
GENFAST_COMPILED_ELSEWHERE(Simt<__half>)
GENFAST_COMPILED_ELSEWHERE(Mma<cuda::Tf32x3Format>)
GENFAST_COMPILED_ELSEWHERE(Mma<cuda::Bf16Format>)
GENFAST_COMPILED_ELSEWHERE(Mma<cuda::Fp16Format>)
#undef GENFAST_COMPILED_ELSEWHERE

namespace {

void check_sizes(const LstmScan& p, const ScanChoice& choice) {
  if (choice.product == ScanProduct::mma && p.dtype == DType::float64) {
    throw std::invalid_argument("tensor cores of this path have no fp64; use product simt or automatic");
  }
  if (p.units >= 1 << 13 || p.height >= 1 << 15 || p.width >= 1 << 15) {
    throw std::invalid_argument(
        "an LSTM scan of 2^13 units or more, or of a side of 2^15 pixels or more");
  }
}

// Calls f with the path. Not measured yet: tensor cores wherever they know the dtype, unless the units
// would mostly be padding.
template <class F>
void with_path(const LstmScan& p, ScanProduct product, const F& f) {
  if (product == ScanProduct::automatic) {
    product = p.units >= 8 ? ScanProduct::mma : ScanProduct::simt;
  }
  const bool mma = product == ScanProduct::mma;
  switch (p.dtype) {
    case DType::float64: return f(Simt<double>{});
    case DType::float32: return mma ? f(Mma<cuda::Tf32x3Format>{}) : f(Simt<float>{});
    case DType::bfloat16: return mma ? f(Mma<cuda::Bf16Format>{}) : f(Simt<__nv_bfloat16>{});
    case DType::float16: return mma ? f(Mma<cuda::Fp16Format>{}) : f(Simt<__half>{});
  }
}

}  // namespace
}  // namespace scan

int64_t lstm_scan_workspace_cuda(const LstmScan& p) { return scan::packed_elements(p); }

void lstm_scan_fwd_cuda(const LstmScan& p, const ScanChoice& choice, cudaStream_t stream) {
  scan::check_sizes(p, choice);
  scan::with_path(p, choice.product,
                  [&](auto path) { scan::forward_on<decltype(path)>(p, choice.plan, stream); });
}

void lstm_scan_bwd_cuda(const LstmScan& p, bool recompute, const ScanChoice& choice,
                        cudaStream_t stream) {
  scan::check_sizes(p, choice);
  scan::with_path(p, choice.product, [&](auto path) {
    scan::backward_on<decltype(path)>(p, recompute, choice.plan, stream);
  });
}

}  // namespace genfast
