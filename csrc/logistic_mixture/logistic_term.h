// The arithmetic of a mixture component, on CPU and CUDA alike: V is a vector of pixels or the number of
// one. Include after term_math_cpu.h or term_math_cuda.h, which define the functions that it builds on.
//
// Let b and -a be the distances, in scales, of the mean below a bin's lower and above its upper
// boundary.
//   P = sigmoid(a) - sigmoid(b) = (1 - e^{-w}) / ((1 + e^{-n-w}) (1 + e^n)),
// where n = max(b, -a) belongs to the nearer boundary (negative inside the bin) and w = a - b. Nothing
// cancels in it. With E = e^{-|n|} and q = e^{-w},
//   P = (1 - q) E / ((n < 0 ? E + q : 1 + E q) (1 + E)).
// The numerator's E is taken as mantissa and power of 2; the rest is neither very large nor very small.
// So the probability of a component, logit and all colours, is a product with one division, whose power
// of 2 is a sum of whole numbers, and neither underflows nor needs a logarithm or another exponential.
// Neighbouring levels compute their common boundary alike, so that their probabilities add up.
#pragma once
#include "logistic_mixture/logistic_mixture.h"

#ifdef GENFAST_ISA
#define GENFAST_TERM GENFAST_INLINE
#define GENFAST_UNROLL _Pragma("GCC unroll 3")
namespace genfast::GENFAST_ISA {
#else
#define GENFAST_TERM GENFAST_DEVICE
#define GENFAST_UNROLL _Pragma("unroll")
namespace genfast::cuda {
#endif

// Where quantities are cut off: too far out to be seen in the result, near enough for the product of
// three quotients to stay a normal number.
template <class V>
struct Limits {
  using Scalar = float;
  static constexpr float deepest = 20.0f;     // -n
  static constexpr float narrowest = 1e-11f;  // w
  static constexpr float log_narrowest = -25.3284360f;
  static constexpr float infinity = 1e30f;  // a boundary; infinity in scales must still be finite
};
template <>
struct Limits<double> {
  using Scalar = double;
  static constexpr double deepest = 200.0;
  static constexpr double narrowest = 1e-30;
  static constexpr double log_narrowest = -69.07755278982137;
  static constexpr double infinity = 1e200;
};
template <class V>
using Scalar = typename Limits<V>::Scalar;

constexpr int kLowestLogScale = -7;

// The levels: `last` is the number of the last, `flattest` the log-scale that makes a bin the narrowest.
template <class V>
struct Grid {
  Scalar<V> last, spacing, flattest;
};
template <class V>
GENFAST_TERM Grid<V> grid_of(int levels, double log_spacing) {
  using S = Scalar<V>;
  const S last = static_cast<S>(levels - 1);
  return {last, S(2) / last, static_cast<S>(log_spacing) - Limits<V>::log_narrowest};
}

// The bin of a level: the level's value, which moves the means of the colours after it, and the bin's
// boundaries. An outer bin has no outer boundary.
template <class V>
struct Bin {
  V value, lower, upper, width, flattest;
};

template <bool kExact, class V>
GENFAST_TERM Bin<V> bin_of(V x, const Grid<V>& grid) {
  using S = Scalar<V>;
  const V infinity = constant<V>(Limits<V>::infinity);
  Bin<V> bin;
  if constexpr (kExact) {
    const V level = at_most(at_least(nearest((x + S(1)) * (grid.last / 2)), S(0)), grid.last);
    const V odd = level + level - grid.last;
    bin.value = odd / grid.last;
    bin.lower = level < S(0.5) ? -infinity : (odd - S(1)) / grid.last;
    bin.upper = level > grid.last - S(0.5) ? infinity : (odd + S(1)) / grid.last;
  } else {
    bin.value = x;
    bin.lower = x < S(-0.999) ? -infinity : x - grid.spacing / 2;
    bin.upper = x > S(0.999) ? infinity : x + grid.spacing / 2;
  }
  const auto outer = bin.upper - bin.lower > Limits<V>::infinity / 2;
  bin.width = outer ? infinity : constant<V>(grid.spacing);
  bin.flattest = outer ? infinity : constant<V>(grid.flattest);
  return bin;
}

template <class V>
struct Term {
  V inverse_scale, below, above;  // e^{-log-scale}; b and -a, times the scale
  V near, width;                  // n, w
  Power<V> far;                   // E, to be multiplied with
  Decay<V> half;                  // of w / 2
  V decay, ratio, mass;           // E, q, 1 - q
  V denominator;                  // P = far mass / denominator
};

template <class V>
GENFAST_TERM V inverse_scale_of(V log_scale) {
  return exp_of(-at_least(log_scale, Scalar<V>(kLowestLogScale)));
}

// By what a bin's log-scale exceeds that at which w would be too small to go on with; the probability
// that term_of gives is to be multiplied with e to the power of minus that.
template <class V>
GENFAST_TERM V flatness_of(const Bin<V>& bin, V log_scale) {
  return log_scale - bin.flattest;
}

template <class V>
GENFAST_TERM Term<V> term_of(const Bin<V>& bin, V mean, V inverse_scale) {
  using S = Scalar<V>;
  Term<V> t;
  t.inverse_scale = inverse_scale;
  t.below = bin.lower - mean;
  t.above = mean - bin.upper;
  t.near = at_least((t.below < t.above ? t.above : t.below) * t.inverse_scale, -Limits<V>::deepest);
  t.width = at_least(bin.width * t.inverse_scale, Limits<V>::narrowest);
  t.half = exponential_decay(t.width * S(0.5));
  t.ratio = t.half.value * t.half.value;
  t.mass = t.half.rest + t.half.rest * t.half.value;
  t.far = power_of(-absolute(t.near));
  t.decay = scaled(t.far.mantissa, t.far.exponent);
  const V far = t.near < S(0) ? t.decay + t.ratio : t.decay * t.ratio + S(1);
  t.denominator = far * t.decay + far;
  return t;
}

// What the published code takes for a bin of probability 1e-5 or less: the density at its centre,
// D / (1 + D)^2 with D = e^{-n-w/2}, times its width. In the tails that is too small by up to e^2.15.
// Such a bin is no wider than to have n > -1e-5, or E within 1e-5 of 1 and 1 / E within 1e-10 of 2 - E.
template <class V>
struct Density {
  V decay, root;       // D, 1 + D
  Power<V> numerator;  // w D
};
template <class V>
GENFAST_TERM Density<V> density_of(const Term<V>& t) {
  using S = Scalar<V>;
  const auto inside = t.near < S(0);
  const V decay = t.half.value * (inside ? S(2) - t.decay : t.decay);
  const V mantissa = inside ? S(2) - t.far.mantissa : t.far.mantissa;
  return {decay,
          decay + S(1),
          {t.width * t.half.power.mantissa * mantissa, t.far.exponent + t.half.power.exponent}};
}
template <class V>
GENFAST_TERM auto is_approximated(const Bin<V>& bin, const Term<V>& t) {
  using S = Scalar<V>;
  const V infinity = constant<V>(Limits<V>::infinity);
  const V least = bin.width < infinity / S(2) ? t.denominator * S(1e-5) : -infinity;
  return t.decay * t.mass <= least;
}

// P = 2^exponent numerator / denominator.
template <class V>
struct Quotient {
  V exponent, numerator, denominator;
};
template <bool kExact, class V>
GENFAST_TERM Quotient<V> quotient_of(const Bin<V>& bin, const Term<V>& t) {
  const V numerator = t.mass * t.far.mantissa;
  if constexpr (kExact) {
    return {t.far.exponent, numerator, t.denominator};
  } else {
    const Density<V> density = density_of(t);
    const auto approximated = is_approximated(bin, t);
    return {approximated ? density.numerator.exponent : t.far.exponent,
            approximated ? density.numerator.mantissa : numerator,
            approximated ? density.root * density.root : t.denominator};
  }
}

// P = 2^exponent quotient, and the derivatives of log P.
template <class V>
struct Slopes {
  V exponent, quotient, mean, log_scale;
};
template <bool kExact, class V>
GENFAST_TERM Slopes<V> slopes_of(const Bin<V>& bin, const Term<V>& t, V log_scale) {
  using S = Scalar<V>;
  const auto inside = t.near < S(0);
  const V one = constant<V>(1), square = t.decay * t.decay;
  const Quotient<V> p = quotient_of<kExact>(bin, t);
  V mass = t.mass, slope;
  // sigmoid(n) - sigmoid(-n-w), and what growing w adds: q / (1 - q) + sigmoid(-n-w), over the
  // denominator
  const V steep = inside ? square - t.ratio : one - t.ratio * square;
  const V far = (inside ? one : t.decay) * (t.decay + one) * t.mass;
  const V wider = t.width * t.ratio * (t.denominator + far);
  Slopes<V> s;
  s.exponent = p.exponent;
  if constexpr (kExact) {
    const V inverse = one / (p.denominator * mass), over_denominator = mass * inverse;
    s.quotient = p.numerator * over_denominator;
    slope = steep * over_denominator;
    s.log_scale = t.near * slope - wider * inverse;
  } else {
    const Density<V> density = density_of(t);
    const auto approximated = is_approximated(bin, t);
    mass = approximated ? one : mass;
    const V inverse = one / (p.denominator * mass), over_denominator = mass * inverse;
    s.quotient = p.numerator * over_denominator;
    slope = (approximated ? (one - density.decay) * density.root : steep) * over_denominator;
    const V distance = approximated ? t.near + t.width * S(0.5) : t.near;
    s.log_scale = distance * slope - (approximated ? one : wider * inverse);
  }
  s.mean = (t.below < t.above ? -slope : slope) * t.inverse_scale;
  s.log_scale = log_scale < S(kLowestLogScale) ? constant<V>(0) : s.log_scale;
  return s;
}

// The channels of a component, j * K + k for component k of K: 0 its logit; for colour c, 3c + 1 the
// mean, 3c + 2 the log-scale and, with three colours, 3c + 3 the coefficient.
template <int kColors>
struct Component {
  static constexpr int channels = kColors == 1 ? 3 : 10;
  static constexpr int couplings = kColors == 1 ? 0 : 3;
};

// The means, moved by the values of the colours before; `coupling` are the tanh of the coefficients.
template <int kColors, class V>
GENFAST_TERM void move_means(const V* own, const V* coupling, const V* value, V* mean) {
  mean[0] = own[0];
  if constexpr (kColors == 3) {
    mean[1] = own[1] + coupling[0] * value[0];
    mean[2] = own[2] + coupling[1] * value[0] + coupling[2] * value[1];
  }
}

// The gradient with respect to the coefficients, from that with respect to the means.
template <class V>
GENFAST_TERM void pull_back_coupling(const V* mean, const V* coupling, const V* value, V* coefficient) {
  const V by[3] = {mean[1] * value[0], mean[2] * value[0], mean[2] * value[1]};
  GENFAST_UNROLL for (int c = 0; c < 3; ++c) {
    coefficient[c] = by[c] * (constant<V>(1) - coupling[c] * coupling[c]);
  }
}

// One step of a running sum, 2^top * sum, which grows by x * 2^exponent.
template <class V>
GENFAST_TERM void add_scaled(V x, V exponent, V& top, V& sum) {
  const V higher = top < exponent ? exponent : top;
  sum = scaled(sum, top - higher) + scaled(x, exponent - higher);
  top = higher;
}

// log(x 2^exponent).
template <class V>
GENFAST_TERM V log_of_scaled(V x, V exponent) {
  return log_of(x) + exponent * Scalar<V>(0.69314718055994531);
}

// ---- drawing -------------------------------------------------------------------------------------

// A colour drawn by the inverse of the logistic distribution's cumulative function. 0 and 1 are taken
// for numbers just inside (0, 1).
template <class V>
GENFAST_TERM V draw_of(V mean, V log_scale, V uniform, const Grid<V>& grid, bool quantize) {
  using S = Scalar<V>;
  const V u = at_most(at_least(uniform, S(1.2e-38)), S(1) - S(6e-8));
  const V scale = exp_of(at_least(log_scale, S(kLowestLogScale)));
  const V x = at_most(at_least(mean + scale * log_of(u / (S(1) - u)), S(-1)), S(1));
  if (!quantize) return x;
  const V level = nearest((x + S(1)) * (grid.last / 2));
  return (level + level) / grid.last - S(1);
}

// A pixel of the component whose channels are given.
template <int kColors, class V>
GENFAST_TERM void draw_pixel(const V* channel, const V* uniform, const Grid<V>& grid, bool quantize,
                             V* x) {
  x[0] = draw_of(channel[1], channel[2], uniform[0], grid, quantize);
  if constexpr (kColors == 3) {
    const V green = channel[4] + tanh_of(channel[3]) * x[0];
    x[1] = draw_of(green, channel[5], uniform[1], grid, quantize);
    const V blue = channel[7] + tanh_of(channel[6]) * x[0] + tanh_of(channel[9]) * x[1];
    x[2] = draw_of(blue, channel[8], uniform[2], grid, quantize);
  }
}

#undef GENFAST_TERM
#undef GENFAST_UNROLL
#ifdef GENFAST_ISA
}  // namespace genfast::GENFAST_ISA
#else
}  // namespace genfast::cuda
#endif
