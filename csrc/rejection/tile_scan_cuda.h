// A scan over tiles in one pass (Merrill and Garland, "Single-pass Parallel Prefix Scan with Decoupled
// Look-back", 2016): every tile publishes what it has by itself, looks back over the tiles before it
// until one knows all before that, and publishes the same of itself. Blocks wait for each other, so they
// are all resident: each takes every gridDim.x-th tile, in ascending order, and depends on lower ones
// only.
#pragma once
#include "common/cuda.h"

namespace genfast {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr unsigned kWholeWarp = 0xffffffffu;

// Of a tile: nothing yet, its own value, or that of all tiles up to it.
constexpr unsigned kAlone = 1, kUpTo = 2;

struct Largest {
  template <class V>
  static GENFAST_DEVICE V combine(V a, V b) {
    return a < b ? b : a;
  }
};

struct Sum {
  template <class V>
  static GENFAST_DEVICE V combine(V a, V b) {
    return a + b;
  }
};

// In global memory, the states zero at first; 8 bytes each, of which a state uses 4.
template <class V>
struct TileScan {
  unsigned* state;
  V *alone, *up_to;

  TileScan(void* workspace, int64_t tiles)
      : state(static_cast<unsigned*>(workspace)),
        alone(reinterpret_cast<V*>(static_cast<char*>(workspace) + 8 * tiles)),
        up_to(reinterpret_cast<V*>(static_cast<char*>(workspace) + 16 * tiles)) {}
};

inline int64_t tile_scan_bytes(int64_t tiles) { return 24 * tiles; }

// The combination over all lanes up to this one.
template <class Operation, class V>
GENFAST_DEVICE V warp_scan(V value) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const V before = __shfl_up_sync(kWholeWarp, value, step);
    value = lane >= step ? Operation::combine(before, value) : value;
  }
  return value;
}

// The state of a tile once it has one.
GENFAST_DEVICE unsigned wait_for_state(const unsigned* state) {
  for (;;) {
    const unsigned found = cuda::ld_acquire(state);
    if (found != 0) return found;
    cuda::spin_yield();
  }
}

// For one warp: the combination of tiles 0 ... tile - 1, tile > 0; `none` changes nothing.
template <class Operation, class V>
GENFAST_DEVICE V look_back(const TileScan<V>& scan, int64_t tile, V none) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  V prefix = none;
  for (int64_t last = tile - 1;; last -= 32) {
    const int64_t mine = last - lane;
    unsigned state = kAlone;
    V value = none;
    if (mine >= 0) {
      state = wait_for_state(scan.state + 2 * mine);
      value = state == kUpTo ? scan.up_to[mine] : scan.alone[mine];
    }
    const unsigned known = __ballot_sync(kWholeWarp, state == kUpTo);
    const int nearest = __ffs(static_cast<int>(known)) - 1;  // -1: none of the 32
    if (known != 0 && lane > nearest) value = none;
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
      const V other = __shfl_xor_sync(kWholeWarp, value, step);
      value = Operation::combine(value, other);
    }
    prefix = Operation::combine(value, prefix);
    if (known != 0) return prefix;
  }
}

// For the whole block, which must not call it again before a __syncthreads: `value` of every thread in,
// the combination of all threads before it in all tiles up to this one out, which begins with `first`.
// `total` becomes the combination up to the end of the tile.
template <class Operation, class V>
GENFAST_DEVICE V tile_scan(const TileScan<V>& scan, int64_t tile, V value, V first, V none, V* total) {
  SHARED(V[kWarps + 2], shared);
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread / 32;
  const V up_to = warp_scan<Operation>(value);
  const V previous = __shfl_up_sync(kWholeWarp, up_to, 1);
  if (lane == 31) shared[warp] = up_to;
  __syncthreads();
  if (warp == 0) {
    const V of_warp = lane < kWarps ? shared[lane] : none;
    const V scanned = warp_scan<Operation>(of_warp);
    const V own = __shfl_sync(kWholeWarp, scanned, kWarps - 1);
    V prefix = first;
    if (tile > 0) {
      if (lane == 0) {
        scan.alone[tile] = own;
        cuda::st_release(scan.state + 2 * tile, kAlone);
      }
      prefix = look_back<Operation>(scan, tile, none);
    }
    const V all = Operation::combine(prefix, own);
    if (lane == 0) {
      scan.up_to[tile] = all;
      cuda::st_release(scan.state + 2 * tile, kUpTo);
      shared[kWarps] = prefix;
      shared[kWarps + 1] = all;
    }
    const V before_warp = __shfl_up_sync(kWholeWarp, scanned, 1);
    if (lane < kWarps) shared[lane] = lane == 0 ? none : before_warp;
  }
  __syncthreads();
  *total = shared[kWarps + 1];
  const V before_warp = Operation::combine(shared[kWarps], shared[warp]);
  return lane == 0 ? before_warp : Operation::combine(before_warp, previous);
}

}  // namespace
}  // namespace genfast
