// What of the Gaussian mixture runs in CUDA kernels: sums over all pairs of rows and columns, of which
// neither the pairs nor their scores are ever stored. What precedes and follows them, O(B + N), is
// PyTorch's (genfast/ops/gaussian_mixture_cuda.py).
//
// Queries x_b (B, K) and components y_n (N, K) are such that the score of a pair, in units of log 2, is
//   s_bn = x_b . y_n + c_n,
// and a component whose id is the query's has none. `densities` gives, for each query, the largest score
// and the sum of 2^(s - largest); `posteriors` the sums of p_bn = scale_b 2^(s_bn - top_b): over
// components p_bn y_n and p_bn for each query, or over queries p_bn x_b and p_bn for each component.
// Each split of the columns gives partial results of its own: a later sum is in a fixed order.
#pragma once
#include <cstdint>

struct CUstream_st;
typedef CUstream_st* cudaStream_t;

namespace genfast {

// fp32 is 3xTF32 on tensor cores up to 64 features, ordinary arithmetic beyond; TF32 wants operands that
// are rounded already. fp64 is ordinary arithmetic.
enum class MixtureArithmetic : int { fp32 = 0, tf32 = 1, fp64 = 2 };

struct MixtureProducts {
  MixtureArithmetic arithmetic;
  bool by_query;  // rows are queries and columns components, else the reverse
  int64_t queries, components, features, splits;
  const void *x, *y, *c;                     // (B, K), (N, K), (N,)
  const int64_t *query_ids, *component_ids;  // null: nothing is left out
  const void *top, *scale, *least;  // (B,), posteriors only; `least`: the score of a negligible p
  void *partial, *partial_mass;     // densities: largest, sum, (splits, B)
                                    // posteriors: (splits, rows, K), (splits, rows)
};

#ifdef GENFAST_WITH_CUDA
void gaussian_mixture_densities_cuda(const MixtureProducts& p, cudaStream_t stream);
void gaussian_mixture_posteriors_cuda(const MixtureProducts& p, cudaStream_t stream);
#endif

}  // namespace genfast
