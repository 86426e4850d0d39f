// A pixel program as Python packs it (genfast/sampling/packing.py), unpacked and with its weights.
#pragma once
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "pixel_sampler/pixel_sampler.h"

namespace genfast {

// Memory aligned to a cache line; if there is much of it, to a huge page, which it asks for: weights are
// read through from end to end for every pixel, and small pages then cost as much as the reading.
struct FreeAligned {
  void operator()(float* p) const { std::free(p); }
};
typedef std::unique_ptr<float[], FreeAligned> AlignedFloats;
inline AlignedFloats allocate(int64_t count) {
  constexpr size_t kLine = 64, kHugePage = 2 << 20;
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  const size_t alignment = bytes < 2 * kHugePage ? kLine : kHugePage;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded);
  if (!memory) throw std::bad_alloc();
#ifdef __linux__
  if (alignment == kHugePage) madvise(memory, rounded, MADV_HUGEPAGE);  // a wish: it may fail
#endif
  return AlignedFloats(static_cast<float*>(memory));
}

// Reads what genfast/sampling/packing.py writes.
class PackedReader {
 public:
  explicit PackedReader(const std::vector<int64_t>& code) : code_(code) {}
  int64_t next() {
    if (at_ >= code_.size()) throw std::invalid_argument("the packed pixel program ends too early");
    return code_[at_++];
  }
  int number() { return static_cast<int>(next()); }
  template <class T>
  T kind() {
    return static_cast<T>(number());
  }
  PixelTap tap() {
    PixelTap t;
    for (int* field : {&t.buffer, &t.channel, &t.channels, &t.row, &t.column}) *field = number();
    return t;
  }

 private:
  const std::vector<int64_t>& code_;
  size_t at_ = 0;
};

// A packed program with its weights. Immutable but for a piece of memory that samplings lend each other:
// fresh pages cost as much as the computing.
class PackedProgram {
 public:
  // Weights on a GPU (`count` = 0) stay where they are; others are copied.
  PackedProgram(const std::vector<int64_t>& code, uintptr_t weights, int64_t count)
      : weights_(reinterpret_cast<const float*>(weights)) {
    if (count) {
      copy_ = allocate(count + kPixelPad);
      std::memcpy(copy_.get(), weights_, static_cast<size_t>(count) * sizeof(float));
      weights_ = copy_.get();
    }
    PackedReader in(code);
    for (int* field : {&view_.colours, &view_.height, &view_.width, &view_.levels, &view_.outputs}) {
      *field = in.number();
    }
    read_buffers(in);
    read_instructions(in);
  }
  PackedProgram(const PackedProgram&) = delete;

  const PixelProgram& view() const { return view_; }
  int64_t floats() const { return floats_; }  // of memory, an image

  AlignedFloats borrow(int64_t count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (spare_ && spare_count_ >= count) return std::move(spare_);
    return allocate(count);
  }
  void give_back(AlignedFloats memory, int64_t count) {
    if (count > kKept) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (spare_ && spare_count_ >= count) return;
    spare_ = std::move(memory);
    spare_count_ = count;
  }

 private:
  static constexpr int64_t kKept = 16 << 20;  // floats

  bool on_gpu() const { return !copy_; }
  static int power_of_two(int at_least) {
    int power = 1;
    while (power < at_least) power *= 2;
    return power;
  }

  const float* address(int64_t place) const { return place < 0 ? nullptr : weights_ + place; }

  void read_buffers(PackedReader& in) {
    view_.buffers = in.number();
    for (int n = 0; n < view_.buffers; ++n) {
      PixelBuffer b;
      b.source = in.kind<PixelSource>();
      for (int* field : {&b.level, &b.depth, &b.left, &b.columns, &b.right, &b.channels, &b.padded}) {
        *field = in.number();
      }
      // Rows come back to the same places after as many rows as the deepest ring has, if all depths are
      // powers of two: so few graphs do for all of them.
      if (on_gpu()) b.depth = power_of_two(b.depth);
      b.offset = floats_;
      floats_ += int64_t{b.depth} * (b.left + b.columns + b.right) * b.padded;
      b.above = address(in.next());
      b.beside = address(in.next());
      if (b.source == PixelSource::image) view_.image = n;
      buffers_.push_back(b);
    }
    view_.buffer = buffers_.data();
  }

  void read_instructions(PackedReader& in) {
    const int count = in.number();
    std::vector<size_t> operands;  // of each instruction, where its first is
    int phase = 0;
    for (int n = 0; n < count; ++n) {
      for (const int own = in.number(); phase <= own; ++phase) view_.first[phase] = n;
      operands.push_back(taps_.size());
      instructions_.push_back(in.number() ? read_draw(in) : read_compute(in));
    }
    for (; phase <= static_cast<int>(PixelPhase::count); ++phase) view_.first[phase] = count;
    for (int n = 0; n < count; ++n) instructions_[n].operand = taps_.data() + operands[n];
    view_.instruction = instructions_.data();
    view_.operands = static_cast<int>(taps_.size());
  }

  PixelInstruction read_compute(PackedReader& in) {
    PixelInstruction i{};
    i.function = in.kind<PixelFunction>();
    i.target = in.tap();
    for (int* field :
         {&i.level, &i.outputs, &i.row_parity, &i.column_parity, &i.scan, &i.step, &i.cell_distance}) {
      *field = in.number();
    }
    const int64_t weight = in.next();
    i.weight = weights_ + (weight < 0 ? 0 : weight);
    i.bias = address(in.next());
    for (int* kind : {&i.taps, &i.before, &i.after, &i.cell}) {
      *kind = in.number();
      for (int n = 0; n < *kind; ++n) {
        taps_.push_back(in.tap());
        if (kind == &i.taps) i.channels += taps_.back().channels;
      }
    }
    if (i.outputs > view_.widest) view_.widest = i.outputs;
    return i;
  }

  PixelInstruction read_draw(PackedReader& in) {
    PixelInstruction i{};
    i.draw = true;
    i.head = in.kind<PixelHead>();
    taps_.push_back(in.tap());
    for (int* field : {&i.first_colour, &i.colours, &i.first_output}) *field = in.number();
    return i;
  }

  AlignedFloats copy_;
  const float* weights_;
  std::vector<PixelBuffer> buffers_;
  std::vector<PixelInstruction> instructions_;
  std::vector<PixelTap> taps_;
  PixelProgram view_{};
  int64_t floats_ = 0;
  std::mutex mutex_;
  AlignedFloats spare_;
  int64_t spare_count_ = 0;
};

}  // namespace genfast
