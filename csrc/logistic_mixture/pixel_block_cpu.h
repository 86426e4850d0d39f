// Blocks of pixels for the CPU kernels: every channel of a block is a row, in place where it already is
// contiguous floats. Nothing grows with the number of components, save where the channels of a pixel lie
// side by side (channels-last): such a block is transposed as a whole.
#pragma once
#include "common/transpose.h"
#include "logistic_mixture/logistic_mixture.h"
#include "logistic_mixture/term_math_cpu.h"

#include "logistic_mixture/logistic_term.h"  // after the functions that it builds on

// Not inlined: the same for all element types that are computed in float.
#define GENFAST_ARITHMETIC static __attribute__((noinline)) void

namespace genfast::GENFAST_ISA {
namespace {

template <class A>
struct VectorOf {
  using type = Vec;
  static constexpr int lanes = kLanes;
};
template <>
struct VectorOf<double> {
  using type = double;
  static constexpr int lanes = 1;
};

// Pixels in a block: long rows keep the number of memory pages at work small; but a block that is
// transposed must stay in the cache (100 channels of 128 pixels: 50 KB).
constexpr int64_t kPixels = 256, kPixelsApart = 128;
constexpr int64_t kPixelGrain = 256;

// Memory that is fetched before it is needed, so many bytes a vector: a block of pixels touches too many
// places for the hardware to foresee.
struct Memory {
  const char* begin;
  int64_t step;
};

// The rows of the component at hand, and what the pixels' vectors have gathered.
template <class A, int kColors>
struct Rows {
  using V = typename VectorOf<A>::type;
  static constexpr int kStep = VectorOf<A>::lanes;
  static constexpr int64_t kVectors = kPixels / kStep;
  static constexpr int kChannels = Component<kColors>::channels;

  int64_t vectors;
  const A* in[kChannels];
  A* out[kChannels];
  Memory next[kChannels];                  // what will be read next
  Memory target[kChannels];                // and written, if this is the gradient
  V top_logit[kVectors], total[kVectors];  // of the softmax over the components
  V top[kVectors], sum[kVectors];          // evidence
  Bin<V> bin[kColors][kVectors];

  GENFAST_INLINE_MEMBER V channel(int j, int64_t v) const { return load(in[j] + v * kStep); }
  GENFAST_INLINE_MEMBER void fetch(int j, int64_t v) const {
    __builtin_prefetch(next[j].begin + v * next[j].step);
  }
  GENFAST_INLINE_MEMBER void fetch_target(int j, int64_t v) const {
    __builtin_prefetch(target[j].begin + v * target[j].step, 1);
  }
};

// Memory for the channels of a block, transposed. Without it (none left) rows are gathered one by one.
template <class A>
struct Planes {
  void* memory = nullptr;
  A* rows = nullptr;  // kPixelsApart elements apart

  void allocate(int64_t channels) {
    constexpr size_t line = 64;
    // What pads a ragged tail is computed with, so it must be some number.
    memory = __builtin_calloc(static_cast<size_t>(channels * kPixelsApart) * sizeof(A) + line, 1);
    if (!memory) return;
    const size_t past = reinterpret_cast<uintptr_t>(memory) % line;
    rows = reinterpret_cast<A*>(static_cast<char*>(memory) + (past ? line - past : 0));
  }
  ~Planes() { __builtin_free(memory); }
};

// A block, its place in the operands, and buffers for the rows that cannot be used where they are.
template <class T, int kColors, int K, template <class, int> class Base = Rows>
struct Block : Base<Arithmetic<T>, kColors> {
  using A = Arithmetic<T>;
  using typename Rows<A, kColors>::V;
  using Rows<A, kColors>::kChannels, Rows<A, kColors>::kStep, Rows<A, kColors>::vectors;
  static constexpr bool kDifferentiates = K == 5;  // the last operand is the gradient of params

  const LogisticMixture<K>& p;
  const Grid<V> grid;
  int64_t stride[K], offset[K], pixels;
  int64_t ahead;  // where params of the next block begin, from offset[0]
  bool apart[K];  // whether the operand has the channels of a pixel side by side
  Planes<A> planes;
  // What pads a ragged tail is computed with, so it must be some number.
  alignas(64) A read[kChannels][kPixels] = {};
  alignas(64) A image[4][kPixels] = {};
  alignas(64) A written[kChannels][kPixels];

  GENFAST_INLINE_MEMBER explicit Block(const LogisticMixture<K>& p)
      : p(p), grid(grid_of<V>(p.levels, p.log_spacing)) {
    for (int k = 0; k < K; ++k) {
      stride[k] = p.pixels.stride[k][p.pixels.dims - 1];
      apart[k] = p.channel_stride[k] == 1 && stride[k] != 1;
    }
    if (apart[0] || (kDifferentiates && apart[K - 1])) planes.allocate(channels());
  }
  GENFAST_INLINE_MEMBER int64_t channels() const { return kChannels * p.mixtures; }
  GENFAST_INLINE_MEMBER int64_t most_pixels() const {
    return stride[0] == 1 && !planes.rows ? kPixels : kPixelsApart;
  }
  // Whether operand k, params or their gradient, is read or written through the planes.
  GENFAST_INLINE_MEMBER bool in_planes(int k) const { return apart[k] && planes.rows; }
  GENFAST_INLINE_MEMBER A* plane(int64_t channel) const { return planes.rows + channel * kPixelsApart; }

  // Operand k, whose elements are of type E.
  template <class E>
  GENFAST_INLINE_MEMBER E* place(int k, int64_t channel) const {
    return static_cast<E*>(p.operand[k]) + offset[k] + channel * p.channel_stride[k];
  }
  template <class E>
  GENFAST_INLINE_MEMBER const A* input(int k, int64_t channel, A* buffer) const {
    return read_block(place<const E>(k, channel), stride[k], pixels, buffer);
  }
  template <class E>
  GENFAST_INLINE_MEMBER A* output(int k, int64_t channel, A* buffer) const {
    E* there = place<E>(k, channel);
    return in_place(there, stride[k], pixels) ? reinterpret_cast<A*>(there) : buffer;
  }
  template <class E>
  GENFAST_INLINE_MEMBER void finish(int k, int64_t channel, const A* buffer) const {
    E* there = place<E>(k, channel);
    if (!in_place(there, stride[k], pixels)) write_block(buffer, there, stride[k], pixels);
  }
  // Vectors as a row of operand k.
  GENFAST_INLINE_MEMBER void put(int k, int64_t channel, const V* values) {
    A* row = output<A>(k, channel, written[0]);
    for (int64_t v = 0; v < vectors; ++v) store(row + v * kStep, values[v]);
    finish<A>(k, channel, row);
  }
  GENFAST_INLINE_MEMBER void get(int k, int64_t channel, V* values) {
    const A* row = input<A>(k, channel, image[0]);
    for (int64_t v = 0; v < vectors; ++v) values[v] = load(row + v * kStep);
  }

  // Of params, which are operand 0.
  GENFAST_INLINE_MEMBER const A* channel_row(int64_t channel, A* buffer) const {
    if (in_planes(0)) return plane(channel);
    return input<T>(0, channel, buffer);
  }
  GENFAST_INLINE_MEMBER void read_component(int64_t k) {
    for (int j = 0; j < kChannels; ++j) this->in[j] = channel_row(j * p.mixtures + k, read[j]);
    // The next component; after the last, the first of the next block. Logits are read before all else,
    // so those to come are the next block's.
    const bool last = k + 1 == p.mixtures;
    for (int j = 0; j < kChannels; ++j) {
      const int64_t channel = j * p.mixtures + (last ? 0 : k + 1);
      this->next[j] = in_planes(0) ? share<T>(0, ahead, k, j)
                      : j == 0     ? row_of<T>(0, ahead, k)
                                   : row_of<T>(0, last ? ahead : 0, channel);
    }
  }

  // A channel's row of operand k, from `from` elements on.
  template <class E>
  GENFAST_INLINE_MEMBER Memory row_of(int k, int64_t from, int64_t channel) const {
    const E* row = place<const E>(k, channel) + from;
    return {reinterpret_cast<const char*>(row),
            stride[k] == 1 ? kStep * static_cast<int64_t>(sizeof(E)) : 0};
  }
  // Of a block whose pixels have their channels side by side, the part that falls to a channel of a
  // component if each is to fetch as much.
  template <class E>
  GENFAST_INLINE_MEMBER Memory share(int k, int64_t from, int64_t component, int j) const {
    const int64_t step = kStep * static_cast<int64_t>(sizeof(E));
    const E* block = place<const E>(k, 0) + from;
    return {reinterpret_cast<const char*>(block) + (component * kChannels + j) * vectors * step, step};
  }

  // The block's params where they are to be transposed; then the logits' maximum and, if `sum`, the
  // softmax's normaliser.
  GENFAST_INLINE_MEMBER void read_logits(bool sum) {
    if (in_planes(0)) {
      read_planes(place<const T>(0, 0), stride[0], pixels, channels(), planes.rows, kPixelsApart);
    }
    for (int64_t k = 0; k < p.mixtures; ++k) {
      const A* logits = channel_row(k, read[0]);
      for (int64_t v = 0; v < vectors; ++v) {
        const V logit = load(logits + v * kStep);
        this->top_logit[v] = k == 0 || this->top_logit[v] < logit ? logit : this->top_logit[v];
      }
    }
    for (int64_t v = 0; v < vectors; ++v) this->total[v] = constant<V>(0);
    for (int64_t k = 0; sum && k < p.mixtures; ++k) {
      const A* logits = channel_row(k, read[0]);
      for (int64_t v = 0; v < vectors; ++v) {
        this->total[v] = this->total[v] + exp_of(load(logits + v * kStep) - this->top_logit[v]);
      }
    }
  }

  GENFAST_INLINE_MEMBER void read_bins() {
    for (int c = 0; c < kColors; ++c) {
      const A* x = input<A>(1, c, image[0]);
      for (int64_t v = 0; v < vectors; ++v) {
        const V value = load(x + v * kStep);
        this->bin[c][v] = p.flag ? bin_of<true>(value, grid) : bin_of<false>(value, grid);
      }
    }
  }
};

// Runs Worker over all pixels, a block at a time.
template <class Worker, int K>
static void run_blocks(const LogisticMixture<K>& p) {
  const int inner = p.pixels.dims - 1;
  const int64_t width = p.pixels.size[inner];
  int64_t pixels = 1;
  for (int d = 0; d <= inner; ++d) pixels *= p.pixels.size[d];
  parallel_for(p.threads, pixels, kPixelGrain, [&](int64_t begin, int64_t end) {
    Worker worker(p);
    Row<K> row(p.pixels, begin / width);
    int64_t column = begin % width;
    for (int64_t at = begin; at < end;) {
      const int64_t rest = width - column < end - at ? width - column : end - at;
      int64_t n = rest < worker.most_pixels() ? rest : worker.most_pixels();
      if (n > kLanes) n -= n % kLanes;  // a ragged tail goes through the buffers, in a round of its own
      for (int k = 0; k < K; ++k) worker.offset[k] = row.offset[k] + column * worker.stride[k];
      worker.pixels = n;
      worker.ahead = n * worker.stride[0];
      if (column + n == width && inner > 0) {
        worker.ahead = p.pixels.stride[0][inner - 1] - column * worker.stride[0];
      }
      worker.vectors = (n + Worker::kStep - 1) / Worker::kStep;
      worker.run();
      at += n;
      column += n;
      if (column == width) {
        column = 0;
        row.next();
      }
    }
  });
}

template <template <class, int> class Worker, int K>
static void run(const LogisticMixture<K>& p) {
  GENFAST_DISPATCH_DTYPE(p.dtype,
                         (p.colors == 1 ? run_blocks<Worker<T, 1>>(p) : run_blocks<Worker<T, 3>>(p)));
}

}  // namespace
}  // namespace genfast::GENFAST_ISA
