// Loop nests in CUDA kernels, a thread an element.
#pragma once
#include "common/cuda.h"
#include "common/strided.h"

namespace genfast {

// Where element `index` of the loop nest lies in each of the K operands.
template <int K>
GENFAST_DEVICE void locate(const StridedLoop<K>& loop, int64_t index, int64_t* offset) {
#pragma unroll
  for (int k = 0; k < K; ++k) offset[k] = 0;
  for (int d = loop.dims - 1; d >= 0; --d) {
    const int64_t above = d > 0 ? index / loop.size[d] : 0;
    const int64_t place = index - above * loop.size[d];
    index = above;
#pragma unroll
    for (int k = 0; k < K; ++k) offset[k] += place * loop.stride[k][d];
  }
}

}  // namespace genfast
