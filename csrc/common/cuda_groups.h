// Loop nests in CUDA kernels, a thread a group of neighbours: 16 bytes of every operand where layout and
// alignment allow it, one element otherwise. Include after cuda.h.
#pragma once
#include "common/cuda_elements.h"
#include "common/strided.h"

namespace genfast::cuda {

constexpr int kGroupThreads = 256;       // of a block
constexpr int64_t kMaxBlocks = 1 << 14;  // beyond that the threads loop

inline unsigned blocks_for(int64_t work, int64_t of_a_block) {
  const int64_t wanted = (work + of_a_block - 1) / of_a_block;
  return static_cast<unsigned>(wanted < kMaxBlocks ? wanted : kMaxBlocks);
}

// Where group `index` of kWidth neighbouring elements lies in each of the K operands.
template <int kWidth, int K>
GENFAST_DEVICE void locate_group(const StridedLoop<K>& loop, int64_t index, int64_t (&offset)[K]) {
  const int inner = loop.dims - 1;
  int64_t row = index;
  int64_t column = 0;
  if (inner > 0) {
    const int64_t width = loop.size[inner] / kWidth;
    row = index / width;
    column = index - row * width;
  } else {
    row = 0;
    column = index;
  }
  column *= kWidth;
#pragma unroll
  for (int k = 0; k < K; ++k) offset[k] = column * loop.stride[k][inner];
  for (int d = inner - 1; d >= 0; --d) {
    const int64_t above = d > 0 ? row / loop.size[d] : 0;
    const int64_t place = row - above * loop.size[d];
    row = above;
#pragma unroll
    for (int k = 0; k < K; ++k) offset[k] += place * loop.stride[k][d];
  }
}

// Calls body(offset) for the groups of this thread, offset[k] being where the group lies in operand k.
template <int kWidth, int K, class Body>
GENFAST_DEVICE void for_each_group(const StridedLoop<K>& loop, int64_t groups, const Body& body) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kGroupThreads;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kGroupThreads + threadIdx.x;
  for (int64_t i = first; i < groups; i += step) {
    int64_t offset[K];
    locate_group<kWidth>(loop, i, offset);
    body(offset);
  }
}

// kWidth elements; of an operand that is broadcast along the innermost dimension, one that many times.
template <class T, int kWidth>
GENFAST_DEVICE void read_group(const void* operand, int64_t offset, int64_t stride,
                               Arithmetic<T> (&out)[kWidth]) {
  const T* source = static_cast<const T*>(operand) + offset;
  if (kWidth > 1 && stride == 0) {
    const Arithmetic<T> value = widen(*source);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) out[i] = value;
  } else {
    load_elements(source, out);
  }
}

// Whether the rows of an operand can be accessed `width` elements, 16 bytes, at a time: contiguous, and
// every one of them aligned. `outer`: the strides of the `dims` dimensions of rows.
inline bool aligned_rows(const void* operand, int64_t stride, const int64_t* outer, int dims,
                         int64_t width) {
  if (stride != 1 || reinterpret_cast<uintptr_t>(operand) % 16 != 0) return false;
  for (int d = 0; d < dims; ++d) {
    if (outer[d] % width != 0) return false;
  }
  return true;
}

// Whether that holds for every operand, or (inputs only: the last `outputs` are written) it is constant
// along the innermost dimension.
template <int K>
bool vectorisable(const StridedLoop<K>& loop, void* const (&operand)[K], DType dtype, int outputs) {
  const int64_t width = 16 / element_size(dtype);
  const int inner = loop.dims - 1;
  if (loop.size[inner] % width != 0) return false;
  for (int k = 0; k < K; ++k) {
    const int64_t stride = loop.stride[k][inner];
    if (stride == 0 && k < K - outputs) continue;
    if (!aligned_rows(operand[k], stride, loop.stride[k], inner, width)) return false;
  }
  return true;
}

template <int K>
int64_t elements_of(const StridedLoop<K>& loop) {
  int64_t elements = 1;
  for (int d = 0; d < loop.dims; ++d) elements *= loop.size[d];
  return elements;
}

}  // namespace genfast::cuda
