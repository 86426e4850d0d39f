// A whole scan of one image in one block: weights in shared memory, one barrier a line, no barrier of
// the grid.
//
// States of the latest two lines are in shared memory, a slot a position and a slot of zeros at either
// end; a line reads one buffer and writes the other. A slot of a diagonal scan keeps its row's initial
// state (backward: zero) until the row begins. Where a worker has one tile of a line (kOwn), cell states
// stay in its registers from line to line, and what it reads from memory for the next line is under way
// while it waits and multiplies.
#pragma once
#include "lstm_scan/scan_products_cuda.h"

namespace genfast::scan {

constexpr int kResidentThreads = 512;

// The sizes of a block's shared memory, and how the tiles of a line are dealt out.
struct Room {
  int depth, pitch, slots, unit_tiles, items;
  int64_t ring, cells, bytes;  // where the ring of states and the cell states begin; in all
};

template <class Path, int kParts>
GENFAST_HOST_DEVICE Room room_of(const Launch& k) {
  using O = typename Path::Operand;
  using Tile = typename Path::template Tile<kParts>;
  Room room;
  room.depth = k.padded * (4 / kParts);
  room.pitch = room.depth + 16 / static_cast<int>(sizeof(O));  // ldmatrix meets no bank conflict
  const int chunks = (k.positions + Tile::kPositions - 1) / Tile::kPositions;
  room.slots = chunks * Tile::kPositions + 2;
  room.unit_tiles = k.padded / Tile::kUnits;
  room.items = room.unit_tiles * chunks;
  room.ring = k.packed_bytes;
  const int64_t ring_bytes = int64_t{2} * room.slots * room.pitch * static_cast<int64_t>(sizeof(O));
  room.cells = room.ring + (ring_bytes + 15) / 16 * 16;
  const bool own = room.items <= Path::kMaxWorkers;
  room.bytes = room.cells;
  if (!own) {
    room.bytes += int64_t{k.positions} * k.units *
                  static_cast<int64_t>(sizeof(Arithmetic<typename Path::Element>));
  }
  return room;
}

// What a thread of a block works with.
template <class Path, int kParts>
struct Block {
  using Operand = typename Path::Operand;
  using A = Arithmetic<typename Path::Element>;
  using Tile = typename Path::template Tile<kParts>;
  const Launch& k;
  Room room;
  int64_t group, image;
  int thread, lane, worker, workers;
  const Operand* weights;
  Operand* ring;
  A* cells;

  GENFAST_DEVICE explicit Block(const Launch& k) : k(k), room(room_of<Path, kParts>(k)) {
    group = blockIdx.x / k.p.images;
    image = blockIdx.x - group * k.p.images;
    thread = static_cast<int>(threadIdx.x);
    lane = thread % Path::kThreads;
    worker = thread / Path::kThreads;
    workers = static_cast<int>(blockDim.x) / Path::kThreads;
    unsigned char* shared = cuda::dyn_smem<unsigned char>();
    weights = reinterpret_cast<const Operand*>(shared);
    ring = reinterpret_cast<Operand*>(shared + room.ring);
    cells = reinterpret_cast<A*>(shared + room.cells);
    uint4* target = reinterpret_cast<uint4*>(shared);
    const uint4* source = reinterpret_cast<const uint4*>(packed_of<Path>(k, group));
    const int pieces = static_cast<int>(k.packed_bytes / 16);
    for (int i = thread; i < pieces; i += static_cast<int>(blockDim.x)) target[i] = source[i];
  }

  // The slot of position -1 in the buffer of line s (modulo 2).
  GENFAST_DEVICE Operand* buffer(int s) const { return ring + (s & 1) * room.slots * room.pitch; }

  // The first position of an item, and its tile of units.
  GENFAST_DEVICE int first_position(int item) const { return item / room.unit_tiles * Tile::kPositions; }
  GENFAST_DEVICE int unit_tile(int item) const { return item % room.unit_tiles; }

  // Calls body(i, position, unit) for this thread's pairs of an item that lie in the image.
  template <class Body>
  GENFAST_DEVICE void each_pair(int item, const Body& body) const {
#pragma unroll
    for (int i = 0; i < Tile::kEach; ++i) {
      const int position = first_position(item) + Tile::position(i, lane);
      const int unit = unit_tile(item) * Tile::kUnits + Tile::unit(i, lane);
      if (position < k.positions && unit < k.units) body(i, position, unit);
    }
  }
  template <class Body>
  GENFAST_DEVICE void each_pair_of_line(int item, const Line& line, const Body& body) const {
    each_pair(item, [&](int i, int position, int unit) {
      if (position >= line.first && position <= line.last) body(i, position, unit);
    });
  }

  // The product of an item's positions with the line in `buffer`. Tap t reads position p + direction *
  // (t - 1).
  GENFAST_DEVICE void multiply(Tile& tile, int item, const Line& line, const Operand* buffer,
                               int direction) const {
    const int first = first_position(item);
    unsigned live = 0;
#pragma unroll
    for (int n = 0; n < Tile::kPositions; n += 16) {
      if (first + n <= line.last && first + n + 15 >= line.first) live |= 1u << (n / 16);
    }
    if (first + Tile::kPositions <= line.first || first > line.last) return;
    for (int tap = 0; tap < k.taps; ++tap) {
      tile.multiply(k, weights, unit_tile(item), tap * room.depth, room.depth,
                    buffer + (first + 1 + direction * (tap - 1)) * room.pitch, room.pitch, lane, live);
    }
  }
};

template <class Path, bool kOwn>
__global__ void __launch_bounds__(kResidentThreads) resident_forward_kernel(Launch k) {
  using E = typename Path::Element;
  using A = Arithmetic<E>;
  using Tile = typename Path::template Tile<4>;
  const Block<Path, 4> b(k);
  const int64_t group = b.group, image = b.image;

  // Both buffers hold the initial states.
  const int values = 2 * b.room.slots * b.room.pitch;
  for (int i = b.thread; i < values; i += static_cast<int>(blockDim.x)) {
    const int slot = i / b.room.pitch % b.room.slots, unit = i % b.room.pitch;
    const bool there = slot > 0 && slot <= k.positions && unit < k.units;
    b.ring[i] =
        Path::operand(initial_state<E>(there ? k.p.h0 : ScanState{}, group, slot - 1, there ? unit : 0));
  }

  A cell[Tile::kEach], ahead[Tile::kEach][4];
  const auto cell_of = [&](int i, int position, int unit) -> A& {
    return kOwn ? cell[i] : b.cells[position * k.units + unit];
  };
  const auto load = [&](int item, int s) {
    const Line line = line_of(k, s);
    b.each_pair_of_line(item, line, [&](int i, int position, int unit) {
      const Pixel x = pixel_of(k, group, image, s, position);
      const E* from = element_of<E>(k.p.gates, x, unit);
#pragma unroll
      for (int gate = 0; gate < 4; ++gate) {
        ahead[i][gate] = cuda::widen(from[gate * k.units * k.p.gates.channel]);
      }
    });
  };
  for (int item = b.worker; item < b.room.items; item += b.workers) {
    b.each_pair(item, [&](int i, int position, int unit) {
      cell_of(i, position, unit) = cuda::widen(initial_state<E>(k.p.c0, group, position, unit));
    });
    if constexpr (kOwn) load(item, 0);
  }

  for (int s = 0; s < k.lines; ++s) {
    __syncthreads();  // the line before is complete, and nobody reads the one before that
    const Line line = line_of(k, s);
    typename Path::Operand* now = b.buffer(s) + b.room.pitch;
    for (int item = b.worker; item < b.room.items; item += b.workers) {
      if constexpr (!kOwn) load(item, s);
      Tile tile;
      b.multiply(tile, item, line, b.buffer(s + 1), 1);
      b.each_pair_of_line(item, line, [&](int i, int position, int unit) {
        A a[4];
#pragma unroll
        for (int gate = 0; gate < 4; ++gate) a[gate] = tile.value(i, gate) + ahead[i][gate];
        const Gates<A> g = gates_of<E>(a);
        A& c = cell_of(i, position, unit);
        c = next_cell(g, c);
        E h;
        cuda::narrow(g.o * tanh_of<E>(c), &h);
        now[position * b.room.pitch + unit] = Path::operand(h);
        const Pixel x = pixel_of(k, group, image, s, position);
        *element_of<E>(k.p.hidden, x, unit) = h;
        if (k.p.kept_gates) {
          keep_gates(k, x, unit, g);
          kept_of<A>(k, k.p.kept_cells, x, k.units)[unit] = c;
        }
      });
      if constexpr (kOwn) {
        if (s + 1 < k.lines) load(item, s + 1);
      }
    }
  }
}

template <class Path, bool kOwn>
__global__ void __launch_bounds__(kResidentThreads) resident_backward_kernel(Launch k) {
  using E = typename Path::Element;
  using A = Arithmetic<E>;
  using Tile = typename Path::template Tile<1>;
  const Block<Path, 1> b(k);
  const int64_t group = b.group, image = b.image;
  const int values = 2 * b.room.slots * b.room.pitch;
  for (int i = b.thread; i < values; i += static_cast<int>(blockDim.x)) {
    b.ring[i] = Path::operand(initial_state<E>(ScanState{}, 0, 0, 0));
  }

  A cell[Tile::kEach];  // the gradient of C, from the pixels done so far
  Kept<A> ahead[Tile::kEach];
  const auto cell_of = [&](int i, int position, int unit) -> A& {
    return kOwn ? cell[i] : b.cells[position * k.units + unit];
  };
  const auto load = [&](int item, int s) {
    b.each_pair_of_line(item, line_of(k, s), [&](int i, int position, int unit) {
      ahead[i] = load_kept<E>(k, pixel_of(k, group, image, s, position), unit);
    });
  };
  for (int item = b.worker; item < b.room.items; item += b.workers) {
    b.each_pair(item, [&](int i, int position, int unit) { cell_of(i, position, unit) = 0; });
    if constexpr (kOwn) load(item, k.lines - 1);
  }

  for (int s = k.lines - 1; s >= 0; --s) {
    __syncthreads();  // the line after is complete, and nobody reads the one after that
    const Line line = line_of(k, s);
    typename Path::Operand* now = b.buffer(s) + b.room.pitch;
    for (int item = b.worker; item < b.room.items; item += b.workers) {
      if constexpr (!kOwn) load(item, s);
      Tile tile;
      b.multiply(tile, item, line, b.buffer(s + 1), -1);
      b.each_pair_of_line(item, line, [&](int i, int position, int unit) {
        const Gates<A> da = gate_gradients<E>(ahead[i], tile.value(i, 0), cell_of(i, position, unit));
        const A parts[4] = {da.i, da.f, da.g, da.o};
        E* to = element_of<E>(k.p.grad_gates, pixel_of(k, group, image, s, position), unit);
#pragma unroll
        for (int gate = 0; gate < 4; ++gate) {
          E rounded;
          cuda::narrow(parts[gate], &rounded);
          to[gate * k.units * k.p.grad_gates.channel] = rounded;
          now[position * b.room.pitch + gate * k.padded + unit] = Path::operand(rounded);
        }
      });
      if constexpr (kOwn) {
        if (s > 0) load(item, s - 1);
      }
    }
  }

  A* edge = line_values<A>(k, group, image);
  for (int item = b.worker; item < b.room.items; item += b.workers) {
    b.each_pair(item, [&](int i, int position, int unit) {
      edge[static_cast<int64_t>(position) * k.units + unit] = cell_of(i, position, unit);
    });
  }
}

}  // namespace genfast::scan
