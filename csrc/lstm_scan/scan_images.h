// Between the caller's tensors, of any type and strides, and images in the workspace: pixel after pixel,
// the channels of a pixel side by side, in the arithmetic type.
#pragma once
#include "lstm_scan/scan_layout.h"
#include "lstm_scan/scan_math.h"

namespace genfast::GENFAST_ISA {

// An image that kernels read: strides of rows, columns and gates in elements.
template <class A>
struct View {
  A* data;  // pixel (0, 0)
  int64_t row, column, gate;

  GENFAST_INLINE_MEMBER A* at(int64_t r, int64_t c) const { return data + r * row + c * column; }
};

struct Range {
  int64_t first, last;
};

// One image of a tensor.
template <class T>
struct Image {
  T* data;
  int64_t channel, row, column;

  GENFAST_INLINE_MEMBER Image(const ScanMap& m, int64_t group, int64_t image)
      : data(static_cast<T*>(m.data) + group * m.group + image * m.image),
        channel(m.channel),
        row(m.row),
        column(m.column) {}
};

// Turns a square block of numbers over: rows become columns.
template <class A, class V>
GENFAST_INLINE void transpose_by_element(V* rows) {
  constexpr int n = kLanesOf<A>;
  A block[n][n], turned[n][n];
  for (int i = 0; i < n; ++i) store(block[i], rows[i]);
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) turned[j][i] = block[i][j];
  }
  for (int i = 0; i < n; ++i) rows[i] = load(turned[i]);
}
GENFAST_INLINE void transpose_block(DVec* rows) { transpose_by_element<double>(rows); }
#ifdef __clang__
GENFAST_INLINE void transpose_block(Vec* rows) { transpose_by_element<float>(rows); }
#else
// One step: exchanges blocks of kSize x kSize on either side of the diagonal.
template <int kSize>
GENFAST_INLINE void exchange_blocks(Vec* rows) {
  IVec low, high;
  for (int i = 0; i < kLanes; ++i) {
    low[i] = i & kSize ? kLanes + i - kSize : i;
    high[i] = i & kSize ? kLanes + i : i + kSize;
  }
  _Pragma("GCC unroll 16") for (int i = 0; i < kLanes; ++i) {
    if (i & kSize) continue;
    const Vec a = rows[i], b = rows[i + kSize];
    rows[i] = __builtin_shuffle(a, b, low);
    rows[i + kSize] = __builtin_shuffle(a, b, high);
  }
}
GENFAST_INLINE void transpose_block(Vec* rows) {
  exchange_blocks<1>(rows);
  exchange_blocks<2>(rows);
  if constexpr (kLanes > 4) exchange_blocks<4>(rows);
  if constexpr (kLanes > 8) exchange_blocks<8>(rows);
}
#endif

// `count` elements of a vector, zeros in the others.
template <class T>
static VectorFor<Arithmetic<T>> load_part(const T* from, int64_t stride, int64_t count) {
  alignas(64) Arithmetic<T> buffer[kLanesOf<Arithmetic<T>>] = {};
  return load(count ? read_block(from, stride, count, buffer) : buffer);
}

// Where channels lie apart, a row is a hundred short pieces: the caches are asked for those of the row
// after, `below` elements on, while this one is copied. Asking beyond the end does no harm. From the end
// of a piece backwards: its first line is that of the end of the row before, its last is its own.
template <int kWrite, class T>
GENFAST_INLINE void will_need(const T* piece, int64_t elements) {
  for (int64_t i = elements - 1; i >= 0; i -= 64 / sizeof(T)) __builtin_prefetch(piece + i, kWrite, 2);
}

#define GENFAST_EACH_LANE(n) _Pragma("GCC unroll 16") for (int i = 0; i < n; ++i)

// A row of pixels, `channels` of each, into target (a pixel every `pitch`), zeros up to `padded`
// channels.
template <class T>
static void read_row(const T* source, int64_t channel, int64_t column, int64_t below, int64_t channels,
                     int64_t width, Arithmetic<T>* target, int64_t pitch, int64_t padded) {
  using A = Arithmetic<T>;
  constexpr int n = kLanesOf<A>;
  if (channel == 1) {
    for (int64_t c = 0; c < width; ++c) {
      const A* read = read_block(source + c * column, 1, channels, target + c * pitch);
      if (read != target + c * pitch) {
        __builtin_memcpy(target + c * pitch, read, channels * sizeof(A));
      }
      for (int64_t k = channels; k < padded; ++k) target[c * pitch + k] = 0;
    }
    return;
  }
  if (column < 0) {  // a mirrored row is read forwards and written backwards
    source += (width - 1) * column, column = -column;
    target += (width - 1) * pitch, pitch = -pitch;
  }
  for (int64_t k = 0; k < padded; k += n) {
    for (int64_t i = k; column == 1 && i < k + n && i < channels; ++i) {
      will_need<0>(source + i * channel + below, width);
    }
    for (int64_t c = 0; c < width; c += n) {
      // The last block overlaps the one before it, where there is one.
      const int64_t first = c + n <= width || width < n ? c : width - n;
      const int64_t count = width - first < n ? width - first : n;
      const T* const from = source + k * channel + first * column;
      A* const to = target + first * pitch + k;
      VectorFor<A> block[n];
      if (column == 1 && count == n && k + n <= channels && sizeof(T) == sizeof(A)) {
        GENFAST_EACH_LANE(n) block[i] = load(reinterpret_cast<const A*>(from + i * channel));
        transpose_block(block);
        GENFAST_EACH_LANE(n) store(to + i * pitch, block[i]);
        continue;
      }
      for (int i = 0; i < n; ++i) {
        block[i] = load_part(from + i * channel, column, k + i < channels ? count : 0);
      }
      transpose_block(block);
      for (int64_t i = 0; i < count; ++i) store(to + i * pitch, block[i]);
    }
  }
}

// The other way round: `channels` of each pixel of a row into a tensor.
template <class T>
static void write_row(const Arithmetic<T>* source, int64_t pitch, int64_t channels, int64_t width,
                      T* target, int64_t channel, int64_t column, int64_t below) {
  using A = Arithmetic<T>;
  constexpr int n = kLanesOf<A>;
  if (channel == 1) {
    for (int64_t c = 0; c < width; ++c)
      write_block(source + c * pitch, target + c * column, 1, channels);
    return;
  }
  if (column < 0) {
    target += (width - 1) * column, column = -column;
    source += (width - 1) * pitch, pitch = -pitch;
  }
  for (int64_t k = 0; k < channels; k += n) {
    for (int64_t i = k; column == 1 && i < k + n && i < channels; ++i) {
      will_need<1>(target + i * channel + below, width);
    }
    for (int64_t c = 0; c < width; c += n) {
      const int64_t first = c + n <= width || width < n ? c : width - n;
      const int64_t count = width - first < n ? width - first : n;
      const A* const from = source + first * pitch + k;
      T* const to = target + k * channel + first * column;
      VectorFor<A> block[n] = {};
      if (column == 1 && count == n && k + n <= channels && sizeof(T) == sizeof(A)) {
        GENFAST_EACH_LANE(n) block[i] = load(from + i * pitch);
        transpose_block(block);
        GENFAST_EACH_LANE(n) store(reinterpret_cast<A*>(to + i * channel), block[i]);
        continue;
      }
      for (int64_t i = 0; i < count; ++i) block[i] = load(from + i * pitch);
      transpose_block(block);
      for (int64_t i = 0; i < n && k + i < channels; ++i) {
        A values[n];
        store(values, block[i]);
        write_block(values, to + i * channel, column, count);
      }
    }
  }
}

// Whether kernels may use a tensor where it is: units side by side, and no padding that they would
// touch.
template <class T>
GENFAST_INLINE bool readable_in_place(int64_t channel, int64_t units) {
  return sizeof(T) == sizeof(Arithmetic<T>) && channel == 1 && units % kUnitPad == 0;
}

// Some (padded) units of row r of an image of `parts` times `units` channels to `target` on, each part
// padded.
template <class T>
static void read_image_row(const ScanLayout& l, const LstmScan& p, const Image<T>& image, int parts,
                           int64_t r, const Range& units, Arithmetic<T>* target, int64_t pitch) {
  const int64_t last = units.last < p.units ? units.last : p.units;
  for (int part = 0; part < parts; ++part) {
    const T* source = image.data + r * image.row + (part * p.units + units.first) * image.channel;
    read_row(source, image.channel, image.column, image.row, last - units.first, p.width,
             target + part * l.padded + units.first, pitch, units.last - units.first);
  }
}
template <class T>
static void read_image(const ScanLayout& l, const LstmScan& p, const Image<T>& image, int parts,
                       const Range& rows, Arithmetic<T>* target, int64_t pitch) {
  for (int64_t r = rows.first; r < rows.last; ++r) {
    read_image_row(l, p, image, parts, r, {0, l.padded}, target + l.at(r, 0) * pitch, pitch);
  }
}

template <class T>
static void write_image(const ScanLayout& l, const LstmScan& p, const Arithmetic<T>* source,
                        int64_t pitch, int parts, const Range& rows, const Image<T>& image) {
  for (int64_t r = rows.first; r < rows.last; ++r) {
    for (int part = 0; part < parts; ++part) {
      write_row(source + l.at(r, 0) * pitch + part * l.padded, pitch, p.units, p.width,
                image.data + r * image.row + part * p.units * image.channel, image.channel, image.column,
                image.row);
    }
  }
}

// The states of all positions: (position, padded unit), zeros if there are none.
template <class T>
static void read_states(const ScanLayout& l, const LstmScan& p, const ScanState& state, int64_t group,
                        Arithmetic<T>* target, int64_t pitch) {
  for (int64_t at = 0; at < l.positions; ++at) {
    for (int64_t k = 0; k < l.padded; ++k) {
      const bool there = state.data && k < p.units;
      const T* from = static_cast<const T*>(state.data) + group * state.group + at * state.position;
      target[at * pitch + k] = there ? widen(from[k * state.unit]) : 0;
    }
  }
}

// What a scan keeps of an image: of the arithmetic type, one image after the other.
template <class A>
GENFAST_INLINE Image<A> kept_image(const LstmScan& p, void* data, int64_t channels, int64_t group,
                                   int64_t image) {
  const int64_t row = p.width * channels;
  const ScanMap m = {data, p.images * p.height * row, p.height * row, 1, row, channels};
  return Image<A>(m, group, image);
}
template <class A>
GENFAST_INLINE Image<A> kept_gates(const LstmScan& p, int64_t group, int64_t image) {
  return kept_image<A>(p, p.kept_gates, 4 * p.units, group, image);
}
template <class A>
GENFAST_INLINE Image<A> kept_cells(const LstmScan& p, int64_t group, int64_t image) {
  return kept_image<A>(p, p.kept_cells, p.units, group, image);
}

// An image that is readable in place.
template <class A, class T>
GENFAST_INLINE View<A> view(const Image<T>& image, int64_t gate) {
  return {reinterpret_cast<A*>(image.data), image.row, image.column, gate};
}

}  // namespace genfast::GENFAST_ISA
