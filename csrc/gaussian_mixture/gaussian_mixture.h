// The log-density of a mixture of N Gaussians at B points, and its gradient, without a B x N matrix.
//
//   log_prob_b = log sum_n w_n N(z_b; mean_n, diag exp(log_var))
//
// over the components whose id is not the query's. The weights are as given or 1 / (N - left out).
// Without a component it is -inf, and no gradient comes from it.
//
// Everything is computed relative to a point amid the components, from which it rounds least. In units
// of log 2, with v = exp(-log_var), a score is
//   shared variance:         sum_d z_bd v_d mean_nd - v_d mean_nd^2 / 2, without the term of z_b alone,
//   one variance each:      -sum_d ((z_bd - mean_nd) sqrt(v_nd / 2))^2 - log_var_nd / 2,
// plus the log-weight. evidence, what forward keeps, is for each query a level near its largest score
// and the sum of 2^(score - level): more exact than log_prob, whose rounding would scale the whole
// gradient. Backward computes the scores again, from which follows every posterior probability.
//
// z, means, log_var, log_weights and the gradients of the first two are of `dtype`; all else is of the
// type that it is computed in, double for float64 and float for the rest. Unless given strides, tensors
// are dense.
#pragma once
#include "common/dtype.h"
#include "common/isa.h"

namespace genfast {

struct MixtureMatrix {
  const void* data;
  int64_t row, column;  // strides in elements
};

struct GaussianMixture {
  DType dtype;
  int threads;
  int64_t queries, components, dim;
  bool own_variances;                      // log_var is (N, D), else (D,), a row stride of 0
  MixtureMatrix z, means, log_var;         // (B, D), (N, D)
  MixtureMatrix log_weights;               // (N,), its stride is `row`; null: uniform
  MixtureMatrix query_ids, component_ids;  // (B,), (N,), int64; null: nothing is left out
  void *log_prob, *evidence;               // (B,), (2, B)
  // Backward only. Null: not wanted.
  MixtureMatrix grad;         // (B,)
  void *grad_z, *grad_means;  // (B, D), (N, D)
  void* grad_log_var;         // (N, D) or (D,)
  void* grad_log_weights;     // (N,)
  void* workspace;
};

GENFAST_DECLARE_CPU(
    // What a call needs in `workspace`, which begins at a multiple of 64 bytes.
    void gaussian_mixture_fwd_bytes(const GaussianMixture& p, int64_t* bytes);
    void gaussian_mixture_bwd_bytes(const GaussianMixture& p, int64_t* bytes);
    void gaussian_mixture_fwd_cpu(const GaussianMixture& p);
    void gaussian_mixture_bwd_cpu(const GaussianMixture& p))

}  // namespace genfast
