// Which samples are accepted, on the CPU: ranges of elements in parallel, each with the maximum of all
// before it; within a range, blocks that stay in L1.
#include "common/philox.h"
#include "rejection/rejection.h"

namespace genfast::GENFAST_ISA {
namespace {

extern "C" double exp(double);
extern "C" double expm1(double);

constexpr int kMaxRanges = 32;
constexpr double kInfinity = __builtin_inf();

typedef int8_t Bytes __attribute__((vector_size(kLanes)));

// What all elements have in common. `shared`: e^(d - gamma) and e^(d - eps) are one exponential.
template <class A>
struct Terms {
  A eps, gamma;
  bool shared;
};

// a and a + q, for d <= 0; the head of rejection.h says what they are.
struct Odds {
  Vec accepted, all;
};
GENFAST_INLINE Odds odds(Vec d, const Terms<float>& terms) {
  const Exponential t = exp_parts(d - terms.eps);
  const Vec a = terms.shared ? value(t) : value(exp_parts(d - terms.gamma));
  return {a, a - minus_one(t)};
}

GENFAST_INLINE bool below(double u, double d, const Terms<double>& terms) {
  const double a = exp(d - terms.gamma), q = -expm1(d - terms.eps);
  return a == kInfinity || u * (a + q) <= a;
}

GENFAST_INLINE void put_mask(int8_t* out, IVec mask) {
  const Bytes bytes = __builtin_convertvector(mask, Bytes) & 1;
  __builtin_memcpy(out, &bytes, sizeof bytes);
}

// accept of n elements (a multiple of kLanes) whose d and uniforms are given.
GENFAST_INLINE void judge(const float* d, const float* u, int64_t n, const Terms<float>& terms,
                          int8_t* out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const Vec v = load(d + i);
    const Odds o = odds(v, terms);
    put_mask(out + i, (load(u + i) * o.all <= o.accepted) & (v > static_cast<float>(-kInfinity)));
  }
}

// In fp32 first, whose error is far below 1e-4; only what is nearer than that is computed in fp64.
GENFAST_INLINE void judge(const double* d, const double* u, int64_t n, const Terms<double>& terms,
                          int8_t* out) {
  alignas(64) float rough_d[kBlock], rough_u[kBlock];
  alignas(64) int8_t open[kBlock];
  for (int64_t i = 0; i < n; ++i) rough_d[i] = static_cast<float>(d[i]);
  for (int64_t i = 0; i < n; ++i) rough_u[i] = static_cast<float>(u[i]);
  const Terms<float> rough = {static_cast<float>(terms.eps), static_cast<float>(terms.gamma),
                              terms.shared};
  for (int64_t i = 0; i < n; i += kLanes) {
    const Vec v = load(rough_d + i);
    const Odds o = odds(v, rough);
    const Vec left = load(rough_u + i) * o.all;
    const IVec possible = v > static_cast<float>(-kInfinity);
    const IVec under = (left <= 0.9999f * o.accepted) & (o.accepted >= 1e-30f);
    put_mask(out + i, under & possible);
    put_mask(open + i, ~(under | (left >= 1.0001f * o.accepted)) & possible);
  }
  for (int64_t i = 0; i < n; i += 8) {
    uint64_t some = 0;
    __builtin_memcpy(&some, open + i, n - i < 8 ? 4 : 8);
    if (some == 0) continue;
    for (int64_t j = i; j < i + 8 && j < n; ++j) {
      if (open[j]) out[j] = below(u[j], d[j], terms);
    }
  }
}

// Four words of kLanes / 2 counters, in the low halves of 64-bit lanes.
typedef uint64_t Words __attribute__((vector_size(4 * kLanes)));

// The mask is for GCC 12, as in simd.h.
GENFAST_INLINE Words product(Words a, uint32_t b) {
#if defined(__AVX512F__)
  const __m512i all = reinterpret_cast<__m512i>(a);
  return reinterpret_cast<Words>(_mm512_maskz_mul_epu32(0xff, all, _mm512_set1_epi64(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<Words>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), _mm256_set1_epi64x(b)));
#elif defined(__SSE2__)
  return reinterpret_cast<Words>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), _mm_set1_epi64x(b)));
#else
  return a * uint64_t{b};
#endif
}

// philox4x32 of the counters group ... group + kLanes / 2 - 1.
GENFAST_INLINE void philox_groups(uint64_t seed, uint64_t group, uint32_t (&word)[2 * kLanes]) {
  constexpr uint64_t kLow = 0xffffffffu;
  Words image;
  for (int i = 0; i < kLanes / 2; ++i) image[i] = group + static_cast<uint64_t>(i);
  Words c0 = image & kLow, c1 = image >> 32, c2 = {}, c3 = {};
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const Words product0 = product(c0, 0xD2511F53u), product1 = product(c2, 0xCD9E8D57u);
    c0 = (product1 >> 32) ^ c1 ^ uint64_t{key0};
    c2 = (product0 >> 32) ^ c3 ^ uint64_t{key1};
    c1 = product1 & kLow;
    c3 = product0 & kLow;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  for (int i = 0; i < kLanes / 2; ++i) {
    word[4 * i] = static_cast<uint32_t>(c0[i]);
    word[4 * i + 1] = static_cast<uint32_t>(c1[i]);
    word[4 * i + 2] = static_cast<uint32_t>(c2[i]);
    word[4 * i + 3] = static_cast<uint32_t>(c3[i]);
  }
}

// Uniforms number at ... at + n - 1.
template <class A>
static void fill_uniforms(uint64_t seed, uint64_t at, int64_t n, A* out) {
  uint32_t word[2 * kLanes];
  for (int64_t i = 0; i < n;) {
    const uint64_t group = (at + static_cast<uint64_t>(i)) / 4;
    philox_groups(seed, group, word);
    int64_t skip = static_cast<int64_t>(at + static_cast<uint64_t>(i) - 4 * group);
    for (; skip < 2 * kLanes && i < n; ++skip, ++i) out[i] = uniform_of_word(word[skip]);
  }
}

GENFAST_INLINE int64_t padded(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// The largest of `most` and n elements, a multiple of kLanes; NaN is left out.
template <class A>
GENFAST_INLINE A largest(const A* x, int64_t n, A most) {
  A lane[kLanes];
  for (int l = 0; l < kLanes; ++l) lane[l] = most;
  for (int64_t i = 0; i < n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
  }
  for (int l = 0; l < kLanes; ++l) most = lane[l] > most ? lane[l] : most;
  return most;
}

template <class T>
struct Accept {
  using A = Arithmetic<T>;
  const RejectionAccept& p;
  Terms<A> terms;

  explicit Accept(const RejectionAccept& p)
      : p(p), terms{static_cast<A>(p.eps), static_cast<A>(p.gamma), p.gamma == 0 && p.eps <= 1e-8} {}

  GENFAST_INLINE_MEMBER const T* logit(int64_t i) const {
    return static_cast<const T*>(p.logits) + i * p.logits_stride;
  }

  // A block of at most kBlock logits from `at` on, padded to whole vectors with -infinity.
  GENFAST_INLINE_MEMBER const A* block(int64_t at, int64_t n, A* buffer) const {
    const A* x = read_block(logit(at), p.logits_stride, n, buffer);
    if (x == buffer) {
      for (int64_t i = n; i % kLanes; ++i) buffer[i] = static_cast<A>(-kInfinity);
    }
    return x;
  }

  // The largest logit of a range, NaN left out.
  A top(int64_t begin, int64_t end) const {
    alignas(64) A buffer[kBlock];
    A most = static_cast<A>(-kInfinity);
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t n = end - at < kBlock ? end - at : kBlock;
      most = largest(block(at, n, buffer), padded(n), most);
    }
    return most;
  }

  // Elements begin ... end - 1, where `carry` is the maximum of all before. Returns the maximum after,
  // and adds to `nans`.
  A run(int64_t begin, int64_t end, A carry, int64_t* nans) const {
    alignas(64) A logits[kBlock], uniforms[kBlock], d[kBlock];
    alignas(64) int8_t accepted[kBlock];
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t n = end - at < kBlock ? end - at : kBlock, whole = padded(n);
      const A* x = block(at, n, logits);
      const A* u = uniforms_of(at, n, uniforms);
      int64_t nan = 0;
      for (int64_t i = 0; i < whole; ++i) nan += x[i] != x[i];
      *nans += nan;
      if (largest(x, whole, carry) > carry) {
        for (int64_t i = 0; i < whole; ++i) {
          carry = x[i] > carry ? x[i] : carry;
          d[i] = below_maximum(x[i], carry);
        }
      } else {
        for (int64_t i = 0; i < whole; ++i) d[i] = below_maximum(x[i], carry);
      }
      int8_t* const out = n == whole ? reinterpret_cast<int8_t*>(p.accept + at) : accepted;
      judge(d, u, whole, terms, out);
      if (out == accepted) __builtin_memcpy(p.accept + at, accepted, static_cast<size_t>(n));
    }
    return carry;
  }

  // x - running, which is 0 for +infinity too. What can not be accepted is -infinity or NaN.
  static GENFAST_INLINE_MEMBER A below_maximum(A x, A running) {
    const A d = x - running;
    return x == running && x > static_cast<A>(-kInfinity) ? 0 : d;
  }

  GENFAST_INLINE_MEMBER const A* uniforms_of(int64_t at, int64_t n, A* buffer) const {
    if (p.uniforms) {
      const A* const start = static_cast<const A*>(p.uniforms) + at * p.uniforms_stride;
      const A* const u = read_block(start, p.uniforms_stride, n, buffer);
      if (u != buffer) return u;
    } else {
      fill_uniforms(p.seed, p.first + static_cast<uint64_t>(at), n, buffer);
    }
    for (int64_t i = n; i % kLanes; ++i) buffer[i] = 1;
    return buffer;
  }
};

template <class T>
void accept(const RejectionAccept& p) {
  using A = Arithmetic<T>;
  const Accept<T> kernel(p);
  A carry[kMaxRanges + 1], part[kMaxRanges * kMaxRanges];
  int64_t nans[kMaxRanges] = {};
  int64_t ranges = p.count / kGrain;
  if (ranges > p.threads) ranges = p.threads;
  if (ranges > kMaxRanges) ranges = kMaxRanges;
  if (ranges < 1) ranges = 1;
  // The maxima of all ranges but the last, each in as many parts as there are threads.
  const int64_t parts = (ranges - 1) * ranges;
  const auto cut = [&](int64_t i) { return p.count * i / (ranges * ranges); };
  parallel_for(static_cast<int>(ranges), parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) part[i] = kernel.top(cut(i), cut(i + 1));
  });
  const A log_m = *static_cast<const A*>(p.log_m);
  carry[0] = log_m > static_cast<A>(-kInfinity) ? log_m : static_cast<A>(-kInfinity);
  for (int64_t r = 0; r < ranges - 1; ++r) {
    carry[r + 1] = carry[r];
    for (int64_t i = r * ranges; i < (r + 1) * ranges; ++i) {
      carry[r + 1] = part[i] > carry[r + 1] ? part[i] : carry[r + 1];
    }
  }
  A last = carry[0];
  parallel_for(static_cast<int>(ranges), ranges, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const A after = kernel.run(cut(r * ranges), cut((r + 1) * ranges), carry[r], &nans[r]);
      if (r == ranges - 1) last = after;
    }
  });
  *static_cast<A*>(p.new_log_m) = last;
  *p.nan_count = 0;
  for (int64_t r = 0; r < ranges; ++r) *p.nan_count += nans[r];
}

}  // namespace

void rejection_accept_fwd_cpu(const RejectionAccept& p) {
  GENFAST_DISPATCH_DTYPE(p.dtype, accept<T>(p));
}

}  // namespace genfast::GENFAST_ISA
