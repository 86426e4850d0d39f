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

// Runs Kernel over the whole nest. Of its K operands the last Outputs are written, the others read.
// Kernel::run(n, in, out) gets n elements (a multiple of kLanes, padding included), all contiguous.
template <class T, class Kernel, int Outputs, int K>
static void map_strided(const StridedLoop<K>& loop, void* const (&operand)[K], int threads) {
  using A = Arithmetic<T>;
  constexpr int Inputs = K - Outputs;
  const int inner_dim = loop.dims - 1;
  const int64_t inner = loop.size[inner_dim];
  int64_t elements = 1;
  for (int d = 0; d < loop.dims; ++d) elements *= loop.size[d];

  parallel_for(threads, elements, kGrain, [&](int64_t begin, int64_t end) {
    alignas(64) A buffer[K][kBlock] = {};
    const A* block_in[Inputs];
    A* block_out[Outputs];
    for (int64_t at = begin; at < end;) {
      int64_t offset[K] = {};
      int64_t rest = at / inner;
      const int64_t column = at % inner;
      for (int d = inner_dim - 1; d >= 0; --d) {
        const int64_t index = rest % loop.size[d];
        rest /= loop.size[d];
        for (int k = 0; k < K; ++k) offset[k] += index * loop.stride[k][d];
      }
      const int64_t run = inner - column < end - at ? inner - column : end - at;
      at += run;
      for (int64_t done = 0; done < run;) {
        int64_t n = run - done < kBlock ? run - done : kBlock;
        const int64_t whole = n / kLanes * kLanes;
        if (whole > 0) n = whole;  // the ragged tail goes through the buffers in a round of its own
        T* start[K];
        for (int k = 0; k < K; ++k) {
          const int64_t stride = loop.stride[k][inner_dim];
          start[k] = static_cast<T*>(operand[k]) + offset[k] + (column + done) * stride;
          if (k < Inputs) {
            block_in[k] = read_block(start[k], stride, n, buffer[k]);
          } else {
            block_out[k - Inputs] =
                in_place(start[k], stride, n) ? reinterpret_cast<A*>(start[k]) : buffer[k];
          }
        }
        Kernel::run((n + kLanes - 1) / kLanes * kLanes, block_in, block_out);
        for (int k = Inputs; k < K; ++k) {
          if (block_out[k - Inputs] != buffer[k]) continue;
          write_block(buffer[k], start[k], loop.stride[k][inner_dim], n);
        }
        done += n;
      }
    }
  });
}

}  // namespace genfast::GENFAST_ISA
#endif
