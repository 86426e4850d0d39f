// The package's kernels whose blocks wait for each other, against plain loops on the host.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/cuda.h"
#include "emulation/tests/device_array.h"
#include "emulation/tests/host_numbers.h"
#include "emulation/tests/workload_checks.h"
#include "rejection/rejection.h"

namespace genfast::emulation_tests {
namespace {

constexpr int kCount = 9 * 2048 + 77;  // more tiles than the emulation has blocks, and a ragged one

// How many answers are wrong, the maximum included; which side of the boundary the last bit of a
// probability decides does not count.
CheckResult check_accept() {
  Numbers numbers(11);
  std::vector<float> logits = numbers.floats(kCount), uniforms = numbers.floats(kCount);
  for (int i = 0; i < kCount; ++i) {
    logits[i] += 4.0f * static_cast<float>(i) / kCount;  // the maximum keeps rising
    uniforms[i] = 0.5f + 0.499f * uniforms[i];
  }
  const float log_m = -1.5f;
  const Array<float> logits_there(logits), uniforms_there(uniforms), before(1, log_m);
  const Array<uint8_t> accept(kCount, uint8_t{2});
  const Array<float> after(1, NAN);
  const Array<int64_t> nans(1);
  const Array<unsigned char> workspace(
      static_cast<size_t>(rejection_accept_workspace_cuda(DType::float32, kCount)));
  RejectionAccept p{};
  p.dtype = DType::float32;
  p.count = kCount;
  p.logits = logits_there, p.logits_stride = 1;
  p.uniforms = uniforms_there, p.uniforms_stride = 1;
  p.log_m = before;
  p.eps = 1e-8;
  p.accept = accept;
  p.new_log_m = after;
  p.nan_count = nans;
  rejection_accept_fwd_cuda(p, workspace, nullptr);
  const std::vector<uint8_t> got = accept.read();
  double wrong = nans.read()[0] != 0, running = log_m;
  for (int i = 0; i < kCount; ++i) {
    running = std::max(running, static_cast<double>(logits[i]));
    const double d = logits[i] - running, a = std::exp(d), odds = a / (a - std::expm1(d - 1e-8));
    if (std::fabs(uniforms[i] / odds - 1) < 1e-5) continue;
    wrong += got[i] != (uniforms[i] <= odds);
  }
  wrong += static_cast<double>(after.read()[0]) != running;
  return {"rejection_accept", wrong, 0};
}

// The rows after the accepted ones: zeros, or what was there.
CheckResult check_compact(bool clear) {
  const std::vector<int> rows = Numbers(12).integers(kCount, 1 << 20);
  std::vector<uint8_t> accept(kCount);
  for (int i = 0; i < kCount; ++i) accept[i] = rows[i] % 3 == 0;
  const Array<int> there(rows), out(kCount, -1);
  const Array<uint8_t> accept_there(accept);
  const Array<int64_t> accepted(1, int64_t{-1});
  const Array<unsigned char> workspace(
      static_cast<size_t>(rejection_compact_workspace_cuda(kCount, sizeof(int))));
  RejectionCompact p{};
  p.count = kCount;
  p.element_size = sizeof(int);
  p.accept = accept_there, p.accept_stride = 1;
  p.samples = there, p.sample_stride = 1;
  p.out = out, p.out_stride = 1;
  p.row.dims = 1, p.row.size[0] = 1, p.row.stride[0][0] = p.row.stride[1][0] = 1;
  p.accepted = accepted;
  p.clear = clear;
  rejection_compact_fwd_cuda(p, workspace, nullptr);
  std::vector<int> exact;
  for (int i = 0; i < kCount; ++i) {
    if (accept[i]) exact.push_back(rows[i]);
  }
  const bool counted = accepted.read()[0] == static_cast<int64_t>(exact.size());
  exact.resize(kCount, clear ? 0 : -1);
  return {clear ? "rejection_compact, cleared" : "rejection_compact",
          differing(out.read(), exact) + !counted, 0};
}

}  // namespace

std::vector<CheckResult> check_rejection() {
  return {check_accept(), check_compact(true), check_compact(false)};
}

}  // namespace genfast::emulation_tests
