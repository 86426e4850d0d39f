// The accepted rows of a batch moved together, on CUDA: one pass, a scan of how many are accepted.
#include "common/cuda_strided.h"
#include "rejection/rejection.h"
#include "rejection/tile_scan_cuda.h"

namespace genfast {
namespace {

constexpr int kMostItems = 8;  // consecutive rows of a thread
constexpr int kMostRows = kThreads * kMostItems, kFewestRows = 8;
constexpr int64_t kTileBytes = 32 * 1024;

struct Tiles {
  int64_t count;
  int rows, items;  // of a tile; of a thread
  int64_t row_size;
  bool run;  // a row is one contiguous run
};

// Row `row` of a tensor and element `at` of it, in elements.
template <int kOperand>
GENFAST_DEVICE int64_t place(const RejectionCompact& p, const Tiles& tiles, int64_t row, int64_t at) {
  const int64_t start = row * (kOperand == 0 ? p.out_stride : p.sample_stride);
  if (tiles.run) return start + at;
  int64_t offset[2];
  locate(p.row, at, offset);
  return start + offset[kOperand];
}

template <class E>
__global__ void __launch_bounds__(kThreads)
    rejection_compact_fwd_kernel(RejectionCompact p, TileScan<int64_t> scan, Tiles tiles) {
  SHARED(int[kMostRows], kept);  // the accepted rows of the tile
  const E* const samples = static_cast<const E*>(p.samples);
  E* const out = static_cast<E*>(p.out);
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t tile = blockIdx.x; tile < tiles.count; tile += gridDim.x) {
    const int64_t begin = tile * tiles.rows;
    const int rows = p.count - begin < tiles.rows ? static_cast<int>(p.count - begin) : tiles.rows;
    const int first = thread * tiles.items;
    unsigned mine = 0;
    for (int i = 0; i < tiles.items; ++i) {
      if (first + i < rows && p.accept[(begin + first + i) * p.accept_stride]) mine |= 1u << i;
    }
    int64_t all;
    const int64_t number = __popc(mine);
    const int64_t before = tile_scan<Sum>(scan, tile, number, int64_t{0}, int64_t{0}, &all);
    SHARED(int64_t[1], of_tile);
    if (thread == 0) of_tile[0] = before;
    __syncthreads();
    const int64_t accepted_before = of_tile[0];
    int rank = static_cast<int>(before - accepted_before);
    for (int i = 0; i < tiles.items; ++i) {
      if (mine >> i & 1) kept[rank++] = first + i;
    }
    __syncthreads();
    const int64_t moved = (all - accepted_before) * tiles.row_size;
    for (int64_t i = thread; i < moved; i += kThreads) {
      const int64_t row = i / tiles.row_size, at = i - row * tiles.row_size;
      out[place<0>(p, tiles, accepted_before + row, at)] =
          samples[place<1>(p, tiles, begin + kept[row], at)];
    }
    // From the end of `out`, as many rows as are not accepted here become zero.
    const int64_t refused_before = begin - accepted_before;
    const int64_t refused = p.clear ? rows - (all - accepted_before) : 0;
    const int64_t cleared = p.count - refused_before - refused;
    for (int64_t i = thread; i < refused * tiles.row_size; i += kThreads) {
      const int64_t row = i / tiles.row_size, at = i - row * tiles.row_size;
      out[place<0>(p, tiles, cleared + row, at)] = E{};
    }
    if (tile == tiles.count - 1 && thread == 0) *p.accepted = all;
    __syncthreads();
  }
}

// How rows of so many bytes are cut into tiles.
Tiles tiles_of(int64_t count, int64_t row_bytes) {
  Tiles tiles{};
  tiles.rows = kMostRows;
  while (tiles.rows > kFewestRows && tiles.rows * row_bytes > kTileBytes) tiles.rows /= 2;
  tiles.items = (tiles.rows + kThreads - 1) / kThreads;
  tiles.count = count == 0 ? 1 : (count + tiles.rows - 1) / tiles.rows;
  return tiles;
}

template <class E>
void launch(const RejectionCompact& p, void* workspace, cudaStream_t stream) {
  int64_t row_size = 1;
  for (int d = 0; d < p.row.dims; ++d) row_size *= p.row.size[d];
  Tiles tiles = tiles_of(p.count, row_size * p.element_size);
  tiles.row_size = row_size;
  tiles.run = p.row.dims == 1 && p.row.stride[0][0] == 1 && p.row.stride[1][0] == 1;
  const TileScan<int64_t> scan(workspace, tiles.count);
  const auto kernel = rejection_compact_fwd_kernel<E>;
  cuda::launch_coop(kernel, cuda::resident_blocks(kernel, kThreads, tiles.count), kThreads, 0, stream, p,
                    scan, tiles);
}

}  // namespace

int64_t rejection_compact_workspace_cuda(int64_t count, int64_t row_bytes) {
  return tile_scan_bytes(tiles_of(count, row_bytes).count);
}

void rejection_compact_fwd_cuda(const RejectionCompact& p, void* workspace, cudaStream_t stream) {
  switch (p.element_size) {
    case 1: return launch<uint8_t>(p, workspace, stream);
    case 2: return launch<uint16_t>(p, workspace, stream);
    case 4: return launch<uint32_t>(p, workspace, stream);
    case 8: return launch<uint64_t>(p, workspace, stream);
    default: return launch<uint4>(p, workspace, stream);
  }
}

}  // namespace genfast
