// Elementwise loops over operands of any strides, without copies.
//
// A StridedLoop is the loop nest that K operands share: sizes once, strides per operand (in elements;
// 0 where an operand is broadcast), outermost dimension first. strided_loop() of bindings.h builds it.
// map_strided() runs a kernel over it, on contiguous blocks of at most kBlock elements in the kernel's
// arithmetic type: read in place where the data already are contiguous floats, converted or gathered
// into a small buffer otherwise.
#pragma once
#include <cstdint>

#include "common/dtype.h"

namespace genfast {

constexpr int kMaxDims = 24;

template <int K>
struct StridedLoop {
  int dims;
  int64_t size[kMaxDims];
  int64_t stride[K][kMaxDims];
};

}  // namespace genfast

#ifdef GENFAST_ISA
#include "common/convert.h"
#include "common/parallel.h"

namespace genfast::GENFAST_ISA {

constexpr int64_t kBlock = 512;        // elements a kernel sees at once: every buffer stays in L1
constexpr int64_t kGrain = 16 * 1024;  // elements below which a second thread costs more than it gives

// A place in a loop nest: which row (index of all dimensions but the innermost), and where each
// operand's row begins.
template <int K>
struct Row {
  const StridedLoop<K>& loop;
  int64_t index[kMaxDims];
  int64_t offset[K] = {};

  GENFAST_INLINE_MEMBER Row(const StridedLoop<K>& loop, int64_t row) : loop(loop) {
    for (int d = loop.dims - 2; d >= 0; --d) {
      index[d] = row % loop.size[d];
      row /= loop.size[d];
      for (int k = 0; k < K; ++k) offset[k] += index[d] * loop.stride[k][d];
    }
  }

  GENFAST_INLINE_MEMBER void next() {
    for (int d = loop.dims - 2; d >= 0; --d) {
      if (++index[d] < loop.size[d]) {
        for (int k = 0; k < K; ++k) offset[k] += loop.stride[k][d];
        return;
      }
      for (int k = 0; k < K; ++k) offset[k] -= (loop.size[d] - 1) * loop.stride[k][d];
      index[d] = 0;
    }
  }
};

// Runs Kernel over the whole nest. Of its K operands the last Outputs are written, the others read.
// Kernel::run(n, in, out) gets n elements (a multiple of kLanes, padding included), all contiguous.
template <class T, class Kernel, int Outputs, int K>
static void map_strided(const StridedLoop<K>& loop, void* const (&operand)[K], int threads) {
  using A = Arithmetic<T>;
  constexpr int Inputs = K - Outputs;
  const int64_t width = loop.size[loop.dims - 1];
  int64_t elements = 1, stride[K];
  for (int d = 0; d < loop.dims; ++d) elements *= loop.size[d];
  for (int k = 0; k < K; ++k) stride[k] = loop.stride[k][loop.dims - 1];

  parallel_for(threads, elements, kGrain, [&](int64_t begin, int64_t end) {
    alignas(64) A buffer[K][kBlock];
    for (auto& b : buffer) {  // what pads a ragged tail is computed with, so it must be some number
      for (int lane = 0; lane < kLanes; ++lane) b[lane] = 0;
    }
    Row<K> row(loop, begin / width);
    int64_t column = begin % width;
    for (int64_t at = begin; at < end;) {
      const int64_t rest = width - column < end - at ? width - column : end - at;
      int64_t n = rest < kBlock ? rest : kBlock;
      if (n > kLanes) n -= n % kLanes;  // a ragged tail goes through the buffers, in a round of its own
      T* start[K];
      const A* in[Inputs];
      A* out[Outputs];
      for (int k = 0; k < K; ++k) {
        start[k] = static_cast<T*>(operand[k]) + row.offset[k] + column * stride[k];
        if (k < Inputs) {
          in[k] = read_block(start[k], stride[k], n, buffer[k]);
        } else {
          out[k - Inputs] =
              in_place(start[k], stride[k], n) ? reinterpret_cast<A*>(start[k]) : buffer[k];
        }
      }
      Kernel::run((n + kLanes - 1) / kLanes * kLanes, in, out);
      for (int k = Inputs; k < K; ++k) {
        if (out[k - Inputs] == buffer[k]) write_block(buffer[k], start[k], stride[k], n);
      }
      at += n;
      column += n;
      if (column == width) {
        column = 0;
        row.next();
      }
    }
  });
}

}  // namespace genfast::GENFAST_ISA
#endif
