// gated_activation: y = tanh(a + ca) * sigmoid(b + cb), the gate of van den Oord et al. 2016 (eq. 2).
//
// x holds a and b as the two halves of one dimension; cond, where given, holds ca and cb likewise and is
// broadcast to x. The loop nest runs over the shape of y; its operands are
//   forward:   a, b, [ca, cb], y            backward:   a, b, [ca, cb], grad_y, grad_a, grad_b
// (the brackets are absent without cond). Backward recomputes tanh and sigmoid, so nothing but x and
// cond is kept; the gradient of cond is grad_x summed over what cond was broadcast over.
#pragma once
#include "common/dtype.h"
#include "common/isa.h"
#include "common/strided.h"

#ifdef GENFAST_WITH_CUDA
struct CUstream_st;
typedef CUstream_st* cudaStream_t;  // as the CUDA headers have it, which bindings do without
#endif

namespace genfast {

template <int K>
struct GatedActivation {
  DType dtype;
  int threads;
  StridedLoop<K> loop;
  void* operand[K];  // in the order above
};

GENFAST_DECLARE_CPU(void gated_activation_fwd_cpu(const GatedActivation<3>& without_cond);
                    void gated_activation_fwd_cpu(const GatedActivation<5>& with_cond);
                    void gated_activation_bwd_cpu(const GatedActivation<5>& without_cond);
                    void gated_activation_bwd_cpu(const GatedActivation<7>& with_cond))

#ifdef GENFAST_WITH_CUDA
// Asynchronous on `stream`; `threads` is not used. Nothing is launched for an empty loop nest.
void gated_activation_fwd_cuda(const GatedActivation<3>& without_cond, cudaStream_t stream);
void gated_activation_fwd_cuda(const GatedActivation<5>& with_cond, cudaStream_t stream);
void gated_activation_bwd_cuda(const GatedActivation<5>& without_cond, cudaStream_t stream);
void gated_activation_bwd_cuda(const GatedActivation<7>& with_cond, cudaStream_t stream);
#endif

}  // namespace genfast
