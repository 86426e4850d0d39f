// A scan in launches, for weights that no shared memory holds: one launch a line, many blocks an image.
// States pass from launch to launch in the maps themselves. The same product over all pixels at once is
// what computes the gates again from stored hidden states.
//
// A block computes 32 units of kPixels pixels. The product runs over slabs of at most kSlab values of
// one tap (backward: and gate), of which the pixels' sources stand in shared memory; weights are read
// where they are packed.
#pragma once
#include "lstm_scan/scan_products_cuda.h"

namespace genfast::scan {

constexpr int kStepThreads = 256, kStepUnits = 32, kSlab = 128;

template <class Path, int kParts>
struct StepShape {
  using Tile = typename Path::template Tile<kParts>;
  static constexpr int kUnitTiles = kStepUnits / Tile::kUnits;
  static constexpr int kChunks = kStepThreads / Path::kThreads / kUnitTiles;
  static constexpr int kPixels = kChunks * Tile::kPositions;
  static constexpr int kPitch = kSlab + 16 / static_cast<int>(sizeof(typename Path::Operand));
};

// The pixels of a launch: a line of every image, or (line < 0) all of them.
struct Step {
  int line, first, count;  // the first position of the line; pixels of an image
  int blocks;              // of a group
};

GENFAST_DEVICE Pixel step_pixel(const Launch& k, const Step& step, int64_t group, int64_t index) {
  const int64_t image = index / step.count;
  const int at = static_cast<int>(index - image * step.count);
  if (step.line < 0) return {group, image, at / k.width, at % k.width};
  return pixel_of(k, group, image, step.line, step.first + at);
}

// The product of this block's pixels, direction 1 with h, -1 with gradients of gates; then
// body(tile, i, pixel, unit) for the thread's pairs.
template <class Path, int kParts, class Body>
GENFAST_DEVICE void step_product(const Launch& k, const Step& step, const Body& body) {
  using E = typename Path::Element;
  using O = typename Path::Operand;
  using Shape = StepShape<Path, kParts>;
  using Tile = typename Shape::Tile;
  using Slab = O[Shape::kPixels][Shape::kPitch];
  SHARED(Slab, slab);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % Path::kThreads;
  const int worker = thread / Path::kThreads;
  const int unit_tile = static_cast<int>(blockIdx.y) * Shape::kUnitTiles + worker % Shape::kUnitTiles;
  const int chunk = worker / Shape::kUnitTiles * Tile::kPositions;
  const bool active = unit_tile * Tile::kUnits < k.padded;
  const int64_t group = blockIdx.x / step.blocks, pixels = k.p.images * step.count;
  const int64_t first = (blockIdx.x - group * step.blocks) * Shape::kPixels;
  const O* packed = packed_of<Path>(k, group);

  Tile tile;
  for (int part = 0; part < k.taps * (4 / kParts); ++part) {
    const int tap = part / (4 / kParts), gate = part % (4 / kParts);
    for (int from = 0; from < k.padded; from += kSlab) {
      const int depth = min(kSlab, k.padded - from);
      __syncthreads();  // nobody reads the slab before
      for (int n = thread / 32; n < Shape::kPixels; n += kStepThreads / 32) {  // a warp a pixel
        const bool there = first + n < pixels;
        const Pixel x = step_pixel(k, step, group, there ? first + n : 0);
        const Pixel source = source_of(k, x, tap, kParts == 4 ? 1 : -1);
#pragma unroll
        for (int i = 0; i < kSlab; i += 32) {
          const int at = i + thread % 32, unit = from + at;
          if (at >= depth) break;
          E value = initial_state<E>(ScanState{}, 0, 0, 0);
          if (there && unit < k.units) {
            if constexpr (kParts == 4) {
              value = hidden_at<E>(k, source, unit);
            } else if (inside(k, source)) {
              value = *element_of<E>(k.p.grad_gates, source, gate * k.units + unit);
            }
          }
          slab[n][at] = Path::operand(value);
        }
      }
      __syncthreads();
      if (active) {
        tile.multiply(k, packed, unit_tile, part * k.padded + from, depth, &slab[chunk][0],
                      Shape::kPitch, lane, ~0u);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < Tile::kEach; ++i) {
    const int64_t index = first + chunk + Tile::position(i, lane);
    const int unit = unit_tile * Tile::kUnits + Tile::unit(i, lane);
    if (index < pixels && unit < k.units) body(tile, i, step_pixel(k, step, group, index), unit);
  }
}

template <class E>
GENFAST_DEVICE void pre_activations(const Launch& k, const Pixel& x, int unit, Arithmetic<E> (&a)[4]) {
  const E* from = element_of<E>(k.p.gates, x, unit);
#pragma unroll
  for (int gate = 0; gate < 4; ++gate) {
    a[gate] += cuda::widen(from[gate * k.units * k.p.gates.channel]);
  }
}

template <class Path>
__global__ void __launch_bounds__(kStepThreads) step_forward_kernel(Launch k, Step step) {
  using E = typename Path::Element;
  using A = Arithmetic<E>;
  using Tile = typename Path::template Tile<4>;
  step_product<Path, 4>(k, step, [&](const Tile& tile, int i, const Pixel& x, int unit) {
    A a[4] = {tile.value(i, 0), tile.value(i, 1), tile.value(i, 2), tile.value(i, 3)};
    pre_activations<E>(k, x, unit, a);
    const Gates<A> g = gates_of<E>(a);
    const int position = position_of(k, x);
    A& state = line_values<A>(k, x.group, x.image)[static_cast<int64_t>(position) * k.units + unit];
    const bool begins = (k.diagonal ? x.column : x.row) == 0;
    const A c =
        next_cell(g, begins ? A(cuda::widen(initial_state<E>(k.p.c0, x.group, position, unit))) : state);
    state = c;
    cuda::narrow(g.o * tanh_of<E>(c), element_of<E>(k.p.hidden, x, unit));
    if (k.p.kept_gates) {
      keep_gates(k, x, unit, g);
      kept_of<A>(k, k.p.kept_cells, x, k.units)[unit] = c;
    }
  });
}

template <class Path>
__global__ void __launch_bounds__(kStepThreads) recompute_gates_kernel(Launch k, Step step) {
  using E = typename Path::Element;
  using A = Arithmetic<E>;
  using Tile = typename Path::template Tile<4>;
  step_product<Path, 4>(k, step, [&](const Tile& tile, int i, const Pixel& x, int unit) {
    A a[4] = {tile.value(i, 0), tile.value(i, 1), tile.value(i, 2), tile.value(i, 3)};
    pre_activations<E>(k, x, unit, a);
    keep_gates(k, x, unit, gates_of<E>(a));
  });
}

template <class Path>
__global__ void __launch_bounds__(kStepThreads) step_backward_kernel(Launch k, Step step) {
  using E = typename Path::Element;
  using A = Arithmetic<E>;
  using Tile = typename Path::template Tile<1>;
  step_product<Path, 1>(k, step, [&](const Tile& tile, int i, const Pixel& x, int unit) {
    const int64_t at = static_cast<int64_t>(position_of(k, x)) * k.units + unit;
    A& state = line_values<A>(k, x.group, x.image)[at];
    const bool begins = k.diagonal ? x.column == k.width - 1 : x.row == k.height - 1;
    A dc = begins ? A(0) : state;
    const Gates<A> da = gate_gradients<E>(load_kept<E>(k, x, unit), tile.value(i, 0), dc);
    state = dc;
    const A parts[4] = {da.i, da.f, da.g, da.o};
    E* to = element_of<E>(k.p.grad_gates, x, unit);
#pragma unroll
    for (int gate = 0; gate < 4; ++gate) {
      cuda::narrow(parts[gate], &to[gate * k.units * k.p.grad_gates.channel]);
    }
  });
}

// Cell states from gates, along rows (diagonal scan) or columns: a thread a position and unit.
template <class E>
__global__ void __launch_bounds__(kStepThreads) recompute_cells_kernel(Launch k) {
  using A = Arithmetic<E>;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kStepThreads + threadIdx.x;
  const int64_t lines = index / k.units, images = lines / k.positions;
  if (images >= k.p.groups * k.p.images) return;
  const int unit = static_cast<int>(index - lines * k.units);
  const int position = static_cast<int>(lines - images * k.positions);
  const int64_t group = images / k.p.images;
  A c = cuda::widen(initial_state<E>(k.p.c0, group, position, unit));
  const int steps = k.diagonal ? k.width : k.height;
  for (int i = 0; i < steps; ++i) {
    const Pixel x = {group, images - group * k.p.images, k.diagonal ? position : i,
                     k.diagonal ? i : position};
    const A* gate = kept_of<A>(k, k.p.kept_gates, x, 4 * k.units) + unit;
    c = next_cell<A>({gate[0], gate[k.units], gate[2 * k.units], A(0)}, c);
    kept_of<A>(k, k.p.kept_cells, x, k.units)[unit] = c;
  }
}

}  // namespace genfast::scan
