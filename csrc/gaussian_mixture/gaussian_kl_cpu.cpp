// The divergence of Gaussians on the CPU, a row at a time, and its gradient element by element.
#include "common/vectors.h"
#include "gaussian_mixture/gaussian_kl.h"

namespace genfast::GENFAST_ISA {
namespace {

extern "C" double exp(double);
extern "C" double expm1(double);

// e^r - 1 and e^-log_var of vectors, and of a number in fp64.
GENFAST_INLINE Vec growth_of(Vec r) { return minus_one(exp_parts(r)); }
GENFAST_INLINE Vec precision_of(Vec log_var) { return value(exp_parts(-log_var)); }
GENFAST_INLINE double growth_of(double r) { return expm1(r); }
GENFAST_INLINE double precision_of(double log_var) { return exp(-log_var); }

template <class A>
struct Step {
  using V = Vec;
  static constexpr int64_t size = kLanes;
  GENFAST_INLINE_MEMBER static Vec get(const float* p) { return load(p); }
  GENFAST_INLINE_MEMBER static void put(float* p, Vec v) { store(p, v); }
};
template <>
struct Step<double> {
  using V = double;
  static constexpr int64_t size = 1;
  GENFAST_INLINE_MEMBER static double get(const double* p) { return *p; }
  GENFAST_INLINE_MEMBER static void put(double* p, double v) { *p = v; }
};

// A sum of vectors, or of numbers with what rounding took of them (Kahan): one after the other they
// would lose more than PyTorch's blocks.
template <class V>
struct Sum {
  Vec sum{};
  GENFAST_INLINE_MEMBER void add(Vec v) { sum += v; }
  GENFAST_INLINE_MEMBER double total() const {
    double total = 0;
    for (int i = 0; i < kLanes; ++i) total += sum[i];
    return total;
  }
};
template <>
struct Sum<double> {
  double sum = 0, lost = 0;
  GENFAST_INLINE_MEMBER void add(double v) {
    const double term = v - lost, now = sum + term;
    lost = (now - sum) - term;
    sum = now;
  }
  GENFAST_INLINE_MEMBER double total() const { return sum; }
};

// Twice the divergence of n dimensions, a multiple of kLanes. Zeros add nothing.
template <bool kPrior, class A>
GENFAST_INLINE double twice_divergence(int64_t n, const A* const* in) {
  using S = Step<A>;
  Sum<typename S::V> sum;
  for (int64_t i = 0; i < n; i += S::size) {
    auto distance = S::get(in[0] + i), r = S::get(in[1] + i);
    if constexpr (kPrior) {
      const auto prior = S::get(in[3] + i);
      distance -= S::get(in[2] + i);
      r -= prior;
      sum.add(growth_of(r) - r + distance * distance * precision_of(prior));
    } else {
      sum.add(growth_of(r) - r + distance * distance);
    }
  }
  return sum.total();
}

template <class T, int K>
static void divergences(const GaussianKl<K>& p) {
  using A = Arithmetic<T>;
  constexpr int kInputs = K - 1;
  constexpr bool kPrior = K == 5;
  int64_t rows = 1;
  for (int d = 0; d < p.rows.dims; ++d) rows *= p.rows.size[d];
  const int last = p.rows.dims - 1;
  const int64_t width = p.rows.size[last];
  parallel_for(p.threads, rows, 1 + kGrain / (p.dim + 1), [&](int64_t begin, int64_t end) {
    alignas(64) A buffer[kInputs][kBlock], tail[kInputs][kLanes] = {};
    Row<K> outer(p.rows, begin / width);
    int64_t column = begin % width;
    for (int64_t at = begin; at < end; ++at) {
      T* start[K];
      for (int k = 0; k < K; ++k) {
        start[k] = static_cast<T*>(p.operand[k]) + outer.offset[k] + column * p.rows.stride[k][last];
      }
      double sum = 0;
      const A* in[kInputs];
      const int64_t whole = p.dim - p.dim % kLanes;
      for (int64_t d = 0; d < whole; d += kBlock) {
        const int64_t n = whole - d < kBlock ? whole - d : kBlock;
        for (int k = 0; k < kInputs; ++k) {
          in[k] = read_block(start[k] + d * p.column_stride[k], p.column_stride[k], n, buffer[k]);
        }
        sum += twice_divergence<kPrior>(n, in);
      }
      if (whole < p.dim) {
        for (int k = 0; k < kInputs; ++k) {
          in[k] = read_block(start[k] + whole * p.column_stride[k], p.column_stride[k], p.dim - whole,
                             tail[k]);
        }
        sum += twice_divergence<kPrior>(kLanes, in);
      }
      narrow(static_cast<A>(0.5 * sum), start[kInputs]);
      if (++column == width) {
        column = 0;
        outer.next();
      }
    }
  });
}

struct StandardGradient {
  template <class A>
  static void run(int64_t n, const A* const* in, A* const* out) {
    using S = Step<A>;
    for (int64_t i = 0; i < n; i += S::size) {
      const auto g = S::get(in[2] + i);
      const auto mean = S::get(in[0] + i), half = growth_of(S::get(in[1] + i)) * A(0.5);
      S::put(out[0] + i, g * mean);
      S::put(out[1] + i, g * half);
    }
  }
};

struct PriorGradient {
  template <class A>
  static void run(int64_t n, const A* const* in, A* const* out) {
    using S = Step<A>;
    for (int64_t i = 0; i < n; i += S::size) {
      const auto prior = S::get(in[3] + i), g = S::get(in[4] + i);
      const auto distance = S::get(in[0] + i) - S::get(in[2] + i), precise = precision_of(prior);
      const auto half = growth_of(S::get(in[1] + i) - prior) * A(0.5);
      const auto slope = distance * precise;
      S::put(out[0] + i, g * slope);
      S::put(out[1] + i, g * half);
      S::put(out[2] + i, (g * A(-0.5)) * (half + half + slope * distance));
    }
  }
};

}  // namespace

void gaussian_kl_fwd_cpu(const GaussianKl<3>& p) {
  GENFAST_DISPATCH_DTYPE(p.dtype, (divergences<T, 3>(p)))
}
void gaussian_kl_fwd_cpu(const GaussianKl<5>& p) {
  GENFAST_DISPATCH_DTYPE(p.dtype, (divergences<T, 5>(p)))
}
void gaussian_kl_bwd_cpu(const GaussianKlGradient<5>& p) {
  GENFAST_DISPATCH_DTYPE(p.dtype, (map_strided<T, StandardGradient, 2>(p.loop, p.operand, p.threads)))
}
void gaussian_kl_bwd_cpu(const GaussianKlGradient<8>& p) {
  GENFAST_DISPATCH_DTYPE(p.dtype, (map_strided<T, PriorGradient, 3>(p.loop, p.operand, p.threads)))
}

}  // namespace genfast::GENFAST_ISA
