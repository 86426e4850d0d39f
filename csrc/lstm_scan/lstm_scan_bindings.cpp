#include <pybind11/stl.h>

#include <tuple>

#include "common/bindings.h"
#include "common/parallel.h"
#include "lstm_scan/lstm_scan.h"
#include "lstm_scan/scan_layout.h"
#ifdef GENFAST_WITH_CUDA
#include "common/cuda_device.h"
#endif

namespace genfast {
namespace {

// dtype, scan, groups, images, units, height, width. Scans: 0 row, 1 diagonal, 2 diagonal reversed.
using Options = std::tuple<int, int, int64_t, int64_t, int64_t, int64_t, int64_t>;
using Operand = std::pair<uintptr_t, py::tuple>;  // address (0: none) and strides

LstmScan scan(const Options& options, int threads) {
  LstmScan p = {};
  int dtype, kind;
  std::tie(dtype, kind, p.groups, p.images, p.units, p.height, p.width) = options;
  p.dtype = static_cast<DType>(dtype);
  p.diagonal = kind != 0;
  p.threads = usable_threads(threads);
  return p;
}

// A map whose columns are mirrored if the scan is reversed.
ScanMap map(const Operand& operand, const Options& options) {
  const std::vector<int64_t> s = integers(operand.second);
  ScanMap m = {reinterpret_cast<void*>(operand.first), s[0], s[1], s[2], s[3], s[4]};
  if (std::get<1>(options) == 2) {
    const int64_t last = std::get<6>(options) - 1;
    m.data = element(operand.first, last * m.column, static_cast<DType>(std::get<0>(options)));
    m.column = -m.column;
  }
  return m;
}

ScanState state(const Operand& operand) {
  if (!operand.first) return {};
  const std::vector<int64_t> s = integers(operand.second);
  return {reinterpret_cast<void*>(operand.first), s[0], s[1], s[2]};
}

ScanWeight weight_of(const Operand& operand) {
  if (!operand.first) return {};
  const std::vector<int64_t> s = integers(operand.second);
  return {reinterpret_cast<void*>(operand.first), s[0], s[1], s[2], s[3]};
}

// gates, weight, h0, c0, hidden
using Forward = std::tuple<Operand, Operand, Operand, Operand, Operand>;
// grad, grad_gates, grad_weight, grad_h0, grad_c0
using Backward = std::tuple<Operand, Operand, Operand, Operand, Operand>;
using Kept = std::pair<uintptr_t, uintptr_t>;  // gates, cells

void set_forward(LstmScan& p, const Options& options, const Forward& operands, const Kept& kept,
                 uintptr_t workspace) {
  p.gates = map(std::get<0>(operands), options);
  p.weight = weight_of(std::get<1>(operands));
  p.h0 = state(std::get<2>(operands));
  p.c0 = state(std::get<3>(operands));
  p.hidden = map(std::get<4>(operands), options);
  p.kept_gates = reinterpret_cast<void*>(kept.first);
  p.kept_cells = reinterpret_cast<void*>(kept.second);
  p.workspace = reinterpret_cast<void*>(workspace);
}

void set_backward(LstmScan& p, const Options& options, const Backward& operands) {
  p.grad = map(std::get<0>(operands), options);
  p.grad_gates = map(std::get<1>(operands), options);
  p.grad_weight = weight_of(std::get<2>(operands));
  p.grad_h0 = state(std::get<3>(operands));
  p.grad_c0 = state(std::get<4>(operands));
}

int64_t workspace_size(const Options& options, bool backward, int threads) {
  return scan_workspace(scan(options, threads), backward);
}

void fwd(const Options& options, const Forward& operands, const Kept& kept, uintptr_t workspace,
         int threads) {
  LstmScan p = scan(options, threads);
  set_forward(p, options, operands, kept, workspace);
  py::gil_scoped_release release;
  GENFAST_CALL_CPU(lstm_scan_fwd_cpu, p);
}

void bwd(const Options& options, const Forward& operands, const Backward& gradients, const Kept& kept,
         uintptr_t workspace, int threads) {
  LstmScan p = scan(options, threads);
  set_forward(p, options, operands, kept, workspace);
  set_backward(p, options, gradients);
  py::gil_scoped_release release;
  GENFAST_CALL_CPU(lstm_scan_bwd_cpu, p);
}

#ifdef GENFAST_WITH_CUDA
using Choice = std::pair<int, int>;  // codes of ScanPlan and ScanProduct

ScanChoice choice_of(const Choice& c) {
  return {static_cast<ScanPlan>(c.first), static_cast<ScanProduct>(c.second)};
}

void fwd_cuda(const Options& options, const Forward& operands, const Kept& kept, uintptr_t line,
              uintptr_t workspace, const Choice& choice, int device, uintptr_t stream) {
  LstmScan p = scan(options, 1);
  set_forward(p, options, operands, kept, workspace);
  p.line = reinterpret_cast<void*>(line);
  py::gil_scoped_release release;
  const CudaDevice current(device);
  lstm_scan_fwd_cuda(p, choice_of(choice), reinterpret_cast<cudaStream_t>(stream));
}

// gradients: of hidden and of gates.
void bwd_cuda(const Options& options, const Forward& operands,
              const std::pair<Operand, Operand>& gradients, const Kept& kept, bool recompute,
              uintptr_t line, uintptr_t workspace, const Choice& choice, int device, uintptr_t stream) {
  LstmScan p = scan(options, 1);
  set_forward(p, options, operands, kept, workspace);
  p.grad = map(gradients.first, options);
  p.grad_gates = map(gradients.second, options);
  p.line = reinterpret_cast<void*>(line);
  py::gil_scoped_release release;
  const CudaDevice current(device);
  lstm_scan_bwd_cuda(p, recompute, choice_of(choice), reinterpret_cast<cudaStream_t>(stream));
}
#endif

}  // namespace

void bind_lstm_scan(py::module_& m) {
  m.def("lstm_scan_workspace", &workspace_size);
  m.def("lstm_scan_fwd", &fwd);
  m.def("lstm_scan_bwd", &bwd);
#ifdef GENFAST_WITH_CUDA
  m.def("lstm_scan_workspace_cuda",
        [](const Options& options) { return lstm_scan_workspace_cuda(scan(options, 1)); });
  m.def("lstm_scan_fwd_cuda", &fwd_cuda);
  m.def("lstm_scan_bwd_cuda", &bwd_cuda);
#endif
}

}  // namespace genfast
