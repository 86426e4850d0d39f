// The divergence of diagonal Gaussians, KL(N(mean, e^log_var) || N(prior_mean, e^prior_log_var)) in
// nats, summed over the last dimension:
//   1/2 sum_d (e^r - 1 - r + (mean - prior_mean)^2 e^-prior_log_var),  r = log_var - prior_log_var.
// The standard normal distribution is a prior of its own, without operands.
#pragma once
#include "common/dtype.h"
#include "common/isa.h"
#include "common/strided.h"

#ifdef GENFAST_WITH_CUDA
struct CUstream_st;
typedef CUstream_st* cudaStream_t;
#endif

namespace genfast {

// The loop nest runs over all dimensions but the last; operands are mean, log_var and, but for the
// standard prior, prior_mean, prior_log_var; then the divergence.
template <int K>
struct GaussianKl {
  DType dtype;
  int threads;
  int64_t dim;
  StridedLoop<K> rows;
  void* operand[K];
  int64_t column_stride[K];  // in elements, 0 for the divergence
};

// The loop nest runs over all dimensions; operands are mean, log_var, (prior_mean, prior_log_var,) the
// gradient of the divergence, expanded; then those of mean, log_var (and prior_log_var). That of
// prior_mean is minus that of mean.
template <int K>
struct GaussianKlGradient {
  DType dtype;
  int threads;
  StridedLoop<K> loop;
  void* operand[K];
};

GENFAST_DECLARE_CPU(void gaussian_kl_fwd_cpu(const GaussianKl<3>& p);
                    void gaussian_kl_fwd_cpu(const GaussianKl<5>& p);
                    void gaussian_kl_bwd_cpu(const GaussianKlGradient<5>& p);
                    void gaussian_kl_bwd_cpu(const GaussianKlGradient<8>& p))

#ifdef GENFAST_WITH_CUDA
// Asynchronous on `stream`; `threads` is not used. Nothing is launched where there is nothing to write.
void gaussian_kl_fwd_cuda(const GaussianKl<3>& p, cudaStream_t stream);
void gaussian_kl_fwd_cuda(const GaussianKl<5>& p, cudaStream_t stream);
void gaussian_kl_bwd_cuda(const GaussianKlGradient<5>& p, cudaStream_t stream);
void gaussian_kl_bwd_cuda(const GaussianKlGradient<8>& p, cudaStream_t stream);
#endif

}  // namespace genfast
