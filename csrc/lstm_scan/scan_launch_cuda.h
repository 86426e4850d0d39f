// A scan's launches on one path. Included by a file for each element type, which keeps compilation
// short.
#pragma once
#include <stdexcept>

#include "common/cuda_device.h"
#include "lstm_scan/scan_resident_cuda.h"
#include "lstm_scan/scan_steps_cuda.h"

namespace genfast::scan {

inline unsigned blocks_of(int64_t n, int64_t each) {
  return static_cast<unsigned>((n + each - 1) / each);
}

inline Launch launch_of(const LstmScan& p) {
  Launch k{};
  k.p = p;
  k.diagonal = p.diagonal;
  k.units = static_cast<int>(p.units);
  k.padded = (k.units + kUnitPad - 1) / kUnitPad * kUnitPad;
  k.height = static_cast<int>(p.height);
  k.width = static_cast<int>(p.width);
  k.positions = p.diagonal ? k.height : k.width;
  k.lines = p.diagonal ? k.height + k.width - 1 : k.height;
  k.taps = p.diagonal ? 2 : 3;
  return k;
}

// Numbers of a packed weight, of either direction and all groups.
inline int64_t packed_elements(const LstmScan& p) {
  const Launch k = launch_of(p);
  return p.groups * 4 * k.taps * k.padded * k.padded;
}

template <class Path, int kParts>
Launch packed_launch(const LstmScan& p, void* packed, cudaStream_t stream) {
  Launch k = launch_of(p);
  const int64_t elements = packed_elements(p);
  k.packed = packed;
  k.packed_bytes = elements / p.groups * static_cast<int64_t>(sizeof(typename Path::Operand));
  cuda::launch(pack_kernel<Path, kParts>, blocks_of(elements, kPackThreads), kPackThreads, 0, stream, k);
  return k;
}

template <class Path, int kParts>
unsigned set_blocks(const Launch& k, Step& step) {
  step.blocks = static_cast<int>(blocks_of(k.p.images * step.count, StepShape<Path, kParts>::kPixels));
  return static_cast<unsigned>(k.p.groups * step.blocks);
}

template <class Path, int kParts>
void launch_step(void (*kernel)(Launch, Step), const Launch& k, Step step, cudaStream_t stream) {
  const unsigned blocks = set_blocks<Path, kParts>(k, step);
  cuda::launch(kernel, dim3(blocks, blocks_of(k.padded, kStepUnits)), kStepThreads, 0, stream, k, step);
}

template <class Path, int kParts>
void launch_line(void (*kernel)(Launch, Step), const Launch& k, int s, cudaStream_t stream) {
  const Line line = line_of(k, s);
  launch_step<Path, kParts>(kernel, k, {s, line.first, line.last - line.first + 1, 0}, stream);
}

// Whether the scan stays in one block; refuses a choice that cannot be met.
template <class Path, int kParts>
bool resident(const Launch& k, ScanPlan plan) {
  const int64_t needed = room_of<Path, kParts>(k).bytes, there = shared_memory_of_block();
  if (plan == ScanPlan::resident && needed > there) {
    throw std::invalid_argument("a resident scan of " + std::to_string(k.units) + " units and " +
                                std::to_string(k.positions) + " positions needs " +
                                std::to_string(needed) + " bytes of shared memory, the device has " +
                                std::to_string(there));
  }
  return plan != ScanPlan::stepwise && needed <= there;
}

template <class Path, int kParts>
void launch_resident(void (*own)(Launch), void (*shared)(Launch), const Launch& k, cudaStream_t stream) {
  const Room room = room_of<Path, kParts>(k);
  const bool fits = room.items <= Path::kMaxWorkers;
  const int threads = fits ? (room.items * Path::kThreads + 31) / 32 * 32 : kResidentThreads;
  cuda::launch(fits ? own : shared, static_cast<unsigned>(k.p.groups * k.p.images), threads,
               static_cast<size_t>(room.bytes), stream, k);
}

template <class Path>
void forward_on(const LstmScan& p, ScanPlan plan, cudaStream_t stream) {
  const Launch k = packed_launch<Path, 4>(p, p.workspace, stream);
  if (resident<Path, 4>(k, plan)) {
    return launch_resident<Path, 4>(resident_forward_kernel<Path, true>,
                                    resident_forward_kernel<Path, false>, k, stream);
  }
  for (int s = 0; s < k.lines; ++s) launch_line<Path, 4>(step_forward_kernel<Path>, k, s, stream);
}

template <class Path>
void backward_on(const LstmScan& p, bool recompute, ScanPlan plan, cudaStream_t stream) {
  using E = typename Path::Element;
  if (recompute) {
    const Launch k = packed_launch<Path, 4>(p, p.workspace, stream);
    launch_step<Path, 4>(recompute_gates_kernel<Path>, k, {-1, 0, k.height * k.width, 0}, stream);
    const int64_t threads = p.groups * p.images * k.positions * k.units;
    cuda::launch(recompute_cells_kernel<E>, blocks_of(threads, kStepThreads), kStepThreads, 0, stream,
                 k);
  }
  // Launches run in order, so the weight may be packed where forward's was.
  const Launch k = packed_launch<Path, 1>(p, p.workspace, stream);
  if (resident<Path, 1>(k, plan)) {
    return launch_resident<Path, 1>(resident_backward_kernel<Path, true>,
                                    resident_backward_kernel<Path, false>, k, stream);
  }
  for (int s = k.lines - 1; s >= 0; --s) launch_line<Path, 1>(step_backward_kernel<Path>, k, s, stream);
}

}  // namespace genfast::scan
