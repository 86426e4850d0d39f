// Blocks of components on the CPU, packed in the order in which they are read.
#pragma once
#include "gaussian_mixture/mixture_cpu.h"

namespace genfast::GENFAST_ISA {
namespace {

// A block of components, packed by the thread that is at it.
template <class A>
struct Components {
  using V = VectorFor<A>;
  const Operands<A>& o;
  int64_t first, count;
  A* planes;   // (dim, kBlock): centred means or, for own variances, sqrt(v log2(e) / 2) (dim, kBlock)
               // and the centred means times it (dim, kBlock)
  A* bias;     // (kBlock): what of the score depends on the component alone
  A* centred;  // (kBlock, padded)
  A* scales;   // (kBlock, padded), own variances: sqrt(v log2(e) / 2)
  A* shifts;   // (kBlock, padded), own variances: centred * scale
  A* buffer;   // (padded)
  int32_t* low;

  GENFAST_INLINE_MEMBER Components(const Operands<A>& o, Arena& arena) : o(o) {
    const int64_t padded = o.shape.padded, rows = o.p.own_variances ? kBlock<A> : 0;
    planes = arena.take<A>((o.p.own_variances ? 2 : 1) * padded * kBlock<A>);
    bias = arena.take<A>(kBlock<A>);
    centred = arena.take<A>(kBlock<A> * padded);
    scales = arena.take<A>(rows * padded);
    shifts = arena.take<A>(rows * padded);
    buffer = arena.take<A>(padded);
    low = arena.take<int32_t>(kBlock<A>);
  }

  void pack(int64_t block) {
    const GaussianMixture& p = o.p;
    first = block * kBlock<A>;
    count = smaller(kBlock<A>, p.components - first);
    GENFAST_DISPATCH_DTYPE(p.dtype, {
      if constexpr (sizeof(Arithmetic<T>) == sizeof(A)) read<T>();
    })
    p.own_variances ? own_variances() : shared_variance();
    for (int j = 0; j < kBlock<A>; ++j) bias[j] = bias[j] < kLeftOut ? kLeftOut : bias[j];  // weight 0
  }

 private:
  template <class T>
  void read() {
    const GaussianMixture& p = o.p;
    const int64_t padded = o.shape.padded;
    const T* const means = static_cast<const T*>(p.means.data) + first * p.means.row;
    for (int64_t j = 0; j < count; ++j) centre(means + j * p.means.row, centred + j * padded);
    will_need(means + kBlock<A> * p.means.row, p.components - first - kBlock<A>);
    for (int64_t i = count * padded; i < kBlock<A> * padded; ++i) centred[i] = 0;
    for (int64_t j = 0; j < kBlock<A>; ++j) bias[j] = j < count ? 0 : static_cast<A>(kLeftOut);
    if (p.log_weights.data) {
      const T* const weights = static_cast<const T*>(p.log_weights.data) + first * p.log_weights.row;
      for (int64_t j = 0; j < count; ++j) {
        bias[j] = widen(weights[j * p.log_weights.row]) * static_cast<A>(kLog2e);
      }
    }
    if (p.component_ids.data) {
      for (int64_t j = 0; j < kBlock<A>; ++j) {
        low[j] = j < count ? static_cast<int32_t>(id_of(p.component_ids, first + j)) : 0;
      }
    }
  }

  // The next block, which arrives while tiles of this one are computed.
  template <class T>
  GENFAST_INLINE_MEMBER void will_need(const T* means, int64_t rows) const {
    if (o.p.means.column != 1) return;
    for (int64_t j = 0; j < rows && j < kBlock<A>; ++j) {
      for (int64_t d = 0; d < o.shape.dim; d += 64 / sizeof(T)) {
        __builtin_prefetch(means + j * o.p.means.row + d, 0, 2);
      }
    }
  }

  template <class T>
  GENFAST_INLINE_MEMBER void centre(const T* mean, A* to) {
    const int64_t dim = o.shape.dim, column = o.p.means.column;
    store(to + o.shape.padded - kLanesOf<A>, V{});
    if constexpr (sizeof(T) == sizeof(A)) {
      if (column == 1 && dim >= kLanesOf<A>) {
        over_row<A>(dim, [&](int64_t d) { store(to + d, load(mean + d) - load(o.center + d)); });
        return;
      }
    }
    const A* const from = read_block(mean, column, dim, buffer);
    for (int64_t d = 0; d < dim; ++d) to[d] = from[d] - o.center[d];
  }

  void shared_variance() {
    read_planes(centred, o.shape.padded, kBlock<A>, o.shape.dim, planes, kBlock<A>);
    V square[kTileVectors] = {};
    for (int64_t d = 0; d < o.shape.dim; ++d) {
      GENFAST_EACH_VECTOR(kTileVectors) {
        const V x = load(planes + d * kBlock<A> + j * kLanesOf<A>);
        square[j] += x * x * o.precision[d];
      }
    }
    GENFAST_EACH_VECTOR(kTileVectors) {
      A* const at = bias + j * kLanesOf<A>;
      store(at, load(at) - square[j] * static_cast<A>(0.5 * kLog2e));
    }
  }

  void own_variances() {
    const GaussianMixture& p = o.p;
    const int64_t dim = o.shape.dim, padded = o.shape.padded;
    const A root = static_cast<A>(0.8493218002880191);  // of log2(e) / 2
    for (int64_t d = 0; d < padded; ++d) buffer[d] = 0;
    for (int64_t j = 0; j < kBlock<A>; ++j) {
      const A* const from = j < count ? read_row(p.dtype, p.log_var, first + j, dim, buffer) : o.center;
      V sum{};
      for (int64_t d = 0; d < padded; d += kLanesOf<A>) {
        const V log_var = load(from + d), scale = exp_of(log_var * A(-0.5)) * root;
        store(scales + j * padded + d, j < count ? scale : V{});
        store(shifts + j * padded + d, j < count ? load(centred + j * padded + d) * scale : V{});
        sum += log_var;
      }
      double total = 0;
      for (int lane = 0; lane < kLanesOf<A>; ++lane) total += sum[lane];
      if (j < count) bias[j] -= static_cast<A>(0.5 * kLog2e * total);
    }
    read_planes(scales, padded, kBlock<A>, dim, planes, kBlock<A>);
    read_planes(shifts, padded, kBlock<A>, dim, planes + padded * kBlock<A>, kBlock<A>);
  }
};

}  // namespace
}  // namespace genfast::GENFAST_ISA
