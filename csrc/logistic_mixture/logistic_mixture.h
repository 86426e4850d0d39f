// The discretised mixture of logistics of PixelCNN++ (Salimans et al. 2017, section 2.1 and appendix):
// log-likelihood of a pixel, its gradient, and draws.
//
// params has 10K channels for colour: K logits, then for each of 3 colours K means, K log-scales and K
// coefficients; or 3K for grey: K logits, K means, K log-scales. A colour's mean is moved by the colours
// before it: mean_g += tanh(c_0) r, mean_b += tanh(c_1) r + tanh(c_2) g. Log-scales below -7 count as
// -7. A level's probability is the mass that the logistic distribution has between the level's two
// boundaries, half a level away; the first and the last level take what is beyond.
//
// The loop nest runs over the pixels, all dimensions but the channels'; operands are
//   log_prob: params, x, log_prob, evidence         bwd: params, x, evidence, grad, grad_params
//   sample:   params, uniforms, x
// evidence, of three channels, is what forward keeps for backward: top and sum of the components' joint
// probabilities, 2^top * sum up to the softmax's normaliser, and that normaliser. It is more exact than
// log_prob, whose rounding would scale the whole gradient.
//
// params and grad_params are of `dtype`; all others of the type that it is computed in, double for
// float64 and float for the rest. A gradient with respect to x does not exist: x is a level.
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
struct LogisticMixture {
  DType dtype;
  int threads;
  int colors;          // 1 or 3
  int64_t mixtures;    // components of the mixture
  int levels;          // values a colour can take, at least 2, evenly spaced in [-1, 1]
  double log_spacing;  // log(2 / (levels - 1))
  bool flag;           // log_prob, bwd: exact, or else the published approximations; sample: quantize
  StridedLoop<K> pixels;
  void* operand[K];           // in the order above
  int64_t channel_stride[K];  // in elements
};

GENFAST_DECLARE_CPU(void logistic_mixture_log_prob_fwd_cpu(const LogisticMixture<4>& p);
                    void logistic_mixture_log_prob_bwd_cpu(const LogisticMixture<5>& p);
                    void logistic_mixture_sample_fwd_cpu(const LogisticMixture<3>& p))

#ifdef GENFAST_WITH_CUDA
// Asynchronous on `stream`; `threads` is not used. Nothing is launched where there are no pixels.
void logistic_mixture_log_prob_fwd_cuda(const LogisticMixture<4>& p, cudaStream_t stream);
void logistic_mixture_log_prob_bwd_cuda(const LogisticMixture<5>& p, cudaStream_t stream);
void logistic_mixture_sample_fwd_cuda(const LogisticMixture<3>& p, cudaStream_t stream);
#endif

}  // namespace genfast
