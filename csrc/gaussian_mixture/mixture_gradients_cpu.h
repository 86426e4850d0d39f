// From sums over posteriors to gradients on the CPU.
#pragma once
#include "gaussian_mixture/mixture_components_cpu.h"

namespace genfast::GENFAST_ISA {
namespace {

// Writes value(d), a vector, for all d < dim. `row`, a buffer, has room for whole vectors.
template <class T, class Value>
GENFAST_INLINE void write_values(int64_t dim, const Value& value, Arithmetic<T>* row, T* to) {
  using A = Arithmetic<T>;
  if constexpr (sizeof(T) == sizeof(A)) {
    if (dim >= kLanesOf<A>) {
      over_row<A>(dim, [&](int64_t d) { store(to + d, value(d)); });
      return;
    }
  }
  for (int64_t d = 0; d < dim; d += kLanesOf<A>) store(row + d, value(d));
  write_block(row, to, 1, dim);
}

// Sums over queries of what posteriors p give to components. Tiles that are multiplied as a whole give
// p z and, for own variances, p z^2, from which the mean is subtracted in the end; pairs taken one by
// one give p (z - mean) and p (z - mean)^2, which do not cancel where components are narrow.
template <class A>
struct ComponentSums {
  A *tiles, *pairs;              // (components, width), (components, 2 padded)
  A *tile_masses, *pair_masses;  // (components): sums of p

  static ComponentSums take(const Shape<A>& s, int64_t components, Arena& arena) {
    ComponentSums sums;
    sums.tiles = arena.take<A>(components * s.width);
    sums.pairs = arena.take<A>(components * 2 * s.padded);
    sums.tile_masses = arena.take<A>(components);
    sums.pair_masses = arena.take<A>(components);
    return sums;
  }
  ComponentSums from(const Shape<A>& s, int64_t first) const {
    return {tiles + first * s.width, pairs + first * 2 * s.padded, tile_masses + first,
            pair_masses + first};
  }
  // Calls body(array, elements) for the arrays of so many components.
  template <class Body>
  void each(const Shape<A>& s, int64_t components, const Body& body) const {
    body(&ComponentSums::tiles, components * s.width);
    body(&ComponentSums::pairs, components * 2 * s.padded);
    body(&ComponentSums::tile_masses, components);
    body(&ComponentSums::pair_masses, components);
  }
  void clear_all(const Shape<A>& s, int64_t components) const {
    each(s, components, [&](A* ComponentSums::* of, int64_t n) { clear(this->*of, n); });
  }
  void copy_to(const ComponentSums& to, const Shape<A>& s, int64_t components) const {
    each(s, components, [&](A* ComponentSums::* of, int64_t n) {
      for (int64_t i = 0; i < n; ++i) (to.*of)[i] = (this->*of)[i];
    });
  }
  void add(const ComponentSums& more, const Shape<A>& s, int64_t components) const {
    each(s, components, [&](A* ComponentSums::* of, int64_t n) {
      for (int64_t i = 0; i < n; ++i) (this->*of)[i] += (more.*of)[i];
    });
  }
};

template <class A>
struct Gradients {
  using V = VectorFor<A>;
  const Operands<A>& o;
  A* z_sums;             // (component splits, queries, width): what components give to queries
  A* query_masses;       // (component splits, queries, lanes): posteriors of tiles, summed
  double* log_var_sums;  // (splits, padded), shared variance
  double* pair_masses;   // (splits): posteriors of pairs, summed

  // Of a block of components, from the sums over queries, all of them. `row` is a buffer.
  void finish_block(const Components<A>& c, const ComponentSums<A>& sums, A* row, double* squares,
                    double* pair_mass) const {
    GENFAST_DISPATCH_DTYPE(o.p.dtype, {
      if constexpr (sizeof(Arithmetic<T>) == sizeof(A)) finish_rows<T>(c, sums, row);
    })
    if (!o.p.grad_log_var || o.p.own_variances) return;
    const int64_t padded = o.shape.padded;
    for (int64_t j = 0; j < c.count; ++j) {
      const A *const sum = sums.tiles + j * o.shape.width, *const mean = c.centred + j * padded;
      const A* const of_pairs = sums.pairs + (2 * j + 1) * padded;
      const double mass = sums.tile_masses[j];
      for (int64_t d = 0; d < o.shape.dim; ++d) {
        squares[d] += mean[d] * (mass * mean[d] - 2.0 * sum[d]) + of_pairs[d];
      }
      *pair_mass += sums.pair_masses[j];
    }
  }

  template <class T>
  void finish_rows(const Components<A>& c, const ComponentSums<A>& sums, A* row) const {
    const GaussianMixture& p = o.p;
    const int64_t dim = o.shape.dim, padded = o.shape.padded;
    T* const grad_means = static_cast<T*>(p.grad_means);
    T* const grad_log_var = static_cast<T*>(p.grad_log_var);
    for (int64_t j = 0; j < c.count; ++j) {
      const A *const sum = sums.tiles + j * o.shape.width, *const mean = c.centred + j * padded;
      const A *const of_pairs = sums.pairs + 2 * j * padded, *const scales = c.scales + j * padded;
      const A m = sums.tile_masses[j], all = m + sums.pair_masses[j];
      const auto precision = [&](int64_t d) {
        const V scale = load(scales + d);
        return scale * scale * static_cast<A>(2 * kLn2);
      };
      const auto of_mean = [&](int64_t d) {
        return load(sum + d) - m * load(mean + d) + load(of_pairs + d);
      };
      const auto of_log_var = [&](int64_t d) {
        const V x = load(mean + d);
        const V of_tiles = load(sum + padded + d) - 2 * x * load(sum + d) + m * x * x;
        const V squares = of_tiles + load(of_pairs + padded + d);
        return (squares * precision(d) - all) * static_cast<A>(0.5);
      };
      T* const to = grad_means + (c.first + j) * dim;
      if (grad_means && p.own_variances) {
        write_values(dim, [&](int64_t d) { return of_mean(d) * precision(d); }, row, to);
      } else if (grad_means) {
        write_values(dim, [&](int64_t d) { return of_mean(d) * load(o.precision + d); }, row, to);
      }
      if (grad_log_var && p.own_variances) {
        write_values(dim, of_log_var, row, grad_log_var + (c.first + j) * dim);
      }
      if (p.grad_log_weights) narrow(all, static_cast<T*>(p.grad_log_weights) + c.first + j);
    }
  }

  template <class T>
  void finish_query(int64_t b) const {
    const int64_t padded = o.shape.padded, width = o.shape.width;
    A *const sum = z_sums + b * width, *const z = o.rows + b * width;
    for (int64_t split = 1; split < o.shape.component_splits; ++split) {
      const A* const more = sum + split * o.shape.padded_queries() * width;
      for (int64_t d = 0; d < width; d += kLanesOf<A>) store(sum + d, load(sum + d) + load(more + d));
    }
    T* const to = static_cast<T*>(o.p.grad_z) + b * o.shape.dim;
    if (o.p.own_variances) {
      const auto value = [&](int64_t d) { return load(sum + d) - load(z + d) * load(sum + padded + d); };
      write_values(o.shape.dim, value, sum, to);
      return;
    }
    const A mass = static_cast<A>(query_mass(b));
    write_values(
        o.shape.dim,
        [&](int64_t d) { return (load(sum + d) - mass * load(z + d)) * load(o.precision + d); }, sum,
        to);
  }

  // Sums that cancel each other must have the same rounding: this one, of posteriors as they were added.
  double query_mass(int64_t b) const {
    double mass = 0;
    for (int64_t split = 0; split < o.shape.component_splits; ++split) {
      const A* const lanes = query_masses + (split * o.shape.padded_queries() + b) * kLanesOf<A>;
      for (int lane = 0; lane < kLanesOf<A>; ++lane) mass += lanes[lane];
    }
    return mass;
  }

  // sum over b, n of posterior ((z - mean)^2 v - 1) / 2.
  void finish_log_var() const {
    double* const squares = log_var_sums;
    for (int64_t i = o.shape.padded; i < o.shape.splits() * o.shape.padded; ++i) {
      squares[i % o.shape.padded] += log_var_sums[i];
    }
    double total = 0;
    for (int64_t split = 0; split < o.shape.splits(); ++split) total += pair_masses[split];
    for (int64_t b = 0; b < o.p.queries; ++b) {
      const double mass = query_mass(b);
      const A* const z = o.rows + b * o.shape.width;
      for (int64_t d = 0; d < o.shape.dim; ++d) squares[d] += mass * z[d] * z[d];
      total += mass;
    }
    for (int64_t d = 0; d < o.shape.dim; ++d) {
      static_cast<A*>(o.p.grad_log_var)[d] = static_cast<A>(0.5 * (squares[d] * o.precision[d] - total));
    }
  }
};

}  // namespace
}  // namespace genfast::GENFAST_ISA
