// Which samples are accepted, on CUDA: one pass over the logits, a scan of their running maximum.
#include "common/cuda_elements.h"
#include "rejection/rejection.h"
#include "rejection/tile_scan_cuda.h"

namespace genfast {
namespace {

using cuda::Arithmetic;

// Consecutive elements of a thread: as many as leave registers for the exponentials.
template <class A>
struct Tile {
  static constexpr int items = sizeof(A) == 8 ? 4 : 8, size = kThreads * items;
};

GENFAST_DEVICE float exp_of(float x) { return expf(x); }
GENFAST_DEVICE double exp_of(double x) { return exp(x); }
GENFAST_DEVICE float minus_one(float x) { return expm1f(x); }
GENFAST_DEVICE double minus_one(double x) { return expm1(x); }

template <class A>
GENFAST_DEVICE bool accepted(A x, A running, A uniform, A gamma, A eps) {
  const A d = x == running ? A(0) : x - running;  // 0 for +infinity too
  const A a = exp_of(d - gamma), q = -minus_one(d - eps);
  const bool below = a == A(INFINITY) || uniform * (a + q) <= a;
  return below && x > A(-INFINITY) && d > A(-INFINITY);
}

// Elements from ... from + kItems - 1 of an array, `rest` where it has ended: 16 bytes at a time where
// they are all there and aligned.
template <int kItems, class T>
GENFAST_DEVICE void load_items(const T* base, int64_t stride, int64_t from, int64_t count,
                               Arithmetic<T> rest, Arithmetic<T> (&out)[kItems]) {
  constexpr int kWide =
      16 / static_cast<int>(sizeof(T)) < kItems ? 16 / static_cast<int>(sizeof(T)) : kItems;
  const T* const start = base + from * stride;
  if (stride == 1 && from + kItems <= count && reinterpret_cast<uintptr_t>(start) % 16 == 0) {
#pragma unroll
    for (int i = 0; i < kItems; i += kWide) {
      Arithmetic<T> part[kWide];
      cuda::load_elements<kWide>(start + i, part);
#pragma unroll
      for (int j = 0; j < kWide; ++j) out[i + j] = part[j];
    }
  } else {
#pragma unroll
    for (int i = 0; i < kItems; ++i) out[i] = from + i < count ? cuda::widen(start[i * stride]) : rest;
  }
}

template <int kItems, class A>
GENFAST_DEVICE void draw_items(uint64_t seed, uint64_t from, A (&out)[kItems]) {
  PhiloxWords words = philox_words(seed, from / 4, 0, 0);
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const uint64_t at = from + static_cast<uint64_t>(i);
    const unsigned place = static_cast<unsigned>(at % 4);
    if (i > 0 && place == 0) words = philox_words(seed, at / 4, 0, 0);
    const uint32_t low = place == 0 ? words.word[0] : words.word[1];
    const uint32_t high = place == 2 ? words.word[2] : words.word[3];
    out[i] = static_cast<A>(uniform_of_word(place < 2 ? low : high));
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    rejection_accept_fwd_kernel(RejectionAccept p, TileScan<Arithmetic<T>> scan, int64_t tiles) {
  using A = Arithmetic<T>;
  constexpr int kItems = Tile<A>::items;
  const A least = A(-INFINITY), gamma = static_cast<A>(p.gamma), eps = static_cast<A>(p.eps);
  const A given = *static_cast<const A*>(p.log_m);
  const A log_m = given > least ? given : least;  // NaN counts as -infinity
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t from = tile * Tile<A>::size + static_cast<int64_t>(threadIdx.x) * kItems;
    A x[kItems], u[kItems];
    load_items<kItems>(static_cast<const T*>(p.logits), p.logits_stride, from, p.count, least, x);
    if (p.uniforms) {
      load_items<kItems>(static_cast<const A*>(p.uniforms), p.uniforms_stride, from, p.count, A(1), u);
    } else {
      draw_items<kItems>(p.seed, p.first + static_cast<uint64_t>(from), u);
    }
    A top = least;
    unsigned long long nans = 0;
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      top = x[i] > top ? x[i] : top;
      nans += x[i] != x[i];
    }
    if (nans) atomicAdd(reinterpret_cast<unsigned long long*>(p.nan_count), nans);
    A all;
    A running = tile_scan<Largest>(scan, tile, top, log_m, least, &all);
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      running = x[i] > running ? x[i] : running;
      if (from + i < p.count) p.accept[from + i] = accepted(x[i], running, u[i], gamma, eps);
    }
    if (tile == tiles - 1 && threadIdx.x == 0) *static_cast<A*>(p.new_log_m) = all;
    __syncthreads();
  }
}

template <class A>
int64_t tiles_of(int64_t count) {
  return count == 0 ? 1 : (count + Tile<A>::size - 1) / Tile<A>::size;
}

}  // namespace

int64_t rejection_accept_workspace_cuda(DType dtype, int64_t count) {
  const bool wide = dtype == DType::float64;
  return tile_scan_bytes(wide ? tiles_of<double>(count) : tiles_of<float>(count));
}

void rejection_accept_fwd_cuda(const RejectionAccept& p, void* workspace, cudaStream_t stream) {
  GENFAST_DISPATCH_DTYPE(p.dtype, {
    using E = cuda::Element<T>;
    const int64_t tiles = tiles_of<Arithmetic<E>>(p.count);
    const TileScan<Arithmetic<E>> scan(workspace, tiles);
    const auto kernel = rejection_accept_fwd_kernel<E>;
    cuda::launch_coop(kernel, cuda::resident_blocks(kernel, kThreads, tiles), kThreads, 0, stream, p,
                      scan, tiles);
  });
}

}  // namespace genfast
