// Discriminator rejection sampling (Azadi et al. 2018, section 3): which samples of a batch are
// accepted, and the accepted ones moved together.
//
// accept: element i sees r_i, the largest of log_m and logits[0..i]; with d_i = logits[i] - r_i,
//   F_i = d_i - log(1 - e^(d_i - eps)) - gamma,   accept[i] = uniform_i <= sigmoid(F_i).
// In exponentials, with a = e^(d - gamma) and q = 1 - e^(d - eps), sigmoid(F) = a / (a + q), so that no
// logarithm is taken and nothing cancels or overflows at d = 0. A logit of +infinity is its own running
// maximum (d = 0), and rejects every finite one after it. -infinity is never accepted. NaN is never
// accepted, never enters the running maximum, and is counted.
//
// Without `uniforms`, uniform i is word i % 4 of the Philox counter (i / 4, pixel 0, group 0) with key
// `seed`, i counted from `first`.
//
// compact: rows of `samples` that are accepted, in their order, to the front of `out`, and how many
// there are. The rows of `out` after those become zero, or stay as they are. Rows are moved as bytes,
// whatever their type.
//
// logits are of `dtype`; uniforms, log_m and new_log_m of the type that it is computed in, double for
// float64 and float for the rest. All strides are in elements.
#pragma once
#include "common/dtype.h"
#include "common/isa.h"
#include "common/strided.h"

#ifdef GENFAST_WITH_CUDA
struct CUstream_st;
typedef CUstream_st* cudaStream_t;  // as the CUDA headers have it, which bindings do without
#endif

namespace genfast {

struct RejectionAccept {
  DType dtype;
  int threads;
  int64_t count;  // of elements
  const void* logits;
  int64_t logits_stride;
  const void* uniforms;  // null: counter-based
  int64_t uniforms_stride;
  const void* log_m;
  uint64_t seed, first;
  double gamma, eps;
  uint8_t* accept;  // contiguous
  void* new_log_m;
  int64_t* nan_count;
};

struct RejectionCompact {
  int threads;
  int64_t count;     // of rows
  int element_size;  // bytes: 1, 2, 4, 8 or 16
  const uint8_t* accept;
  int64_t accept_stride;
  const void* samples;
  int64_t sample_stride;  // from row to row
  void* out;
  int64_t out_stride;
  StridedLoop<2> row;  // the elements of a row: out's strides, samples'
  int64_t* accepted;
  bool clear;  // the rows after the accepted ones
};

GENFAST_DECLARE_CPU(void rejection_accept_fwd_cpu(const RejectionAccept& p);
                    void rejection_compact_fwd_cpu(const RejectionCompact& p))

#ifdef GENFAST_WITH_CUDA
// Asynchronous on `stream`; `threads` is not used. Nothing is launched where there are no elements.
// `workspace` is zeroed memory of so many bytes: for `count` elements of `dtype`; for `count` rows of
// `row_bytes` each.
int64_t rejection_accept_workspace_cuda(DType dtype, int64_t count);
int64_t rejection_compact_workspace_cuda(int64_t count, int64_t row_bytes);
void rejection_accept_fwd_cuda(const RejectionAccept& p, void* workspace, cudaStream_t stream);
void rejection_compact_fwd_cuda(const RejectionCompact& p, void* workspace, cudaStream_t stream);
#endif

}  // namespace genfast
