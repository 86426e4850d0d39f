// Where the CPU kernels keep what they work on. All functions are static: bindings ask for the size of
// the workspace, kernels of every instruction-set level for the places in it.
#pragma once
#include "lstm_scan/lstm_scan.h"

namespace genfast {

constexpr int64_t kUnitPad = 16;  // the widest vector; padded units have zero weights and stay zero

// An image in the workspace has a border one pixel wide, so that no product has an edge: pixel (r, c) is
// number (r + 1) * row + c + 1.
struct ScanLayout {
  int64_t padded;  // units of a pixel
  int64_t pitch;   // from the gates of a pixel to those of the next, not a power of two
  int64_t row, pixels;
  int64_t taps, positions;
  int64_t weights;  // elements of a packed weight

  // Inlined everywhere: a copy in an object file would be of one instruction-set level.
  __attribute__((always_inline)) int64_t at(int64_t r, int64_t c) const { return (r + 1) * row + c + 1; }
};

static inline ScanLayout scan_layout(const LstmScan& p) {
  ScanLayout l;
  l.padded = (p.units + kUnitPad - 1) / kUnitPad * kUnitPad;
  l.pitch = 4 * l.padded + kUnitPad;
  l.row = p.width + 2;
  l.pixels = (p.height + 2) * l.row;
  l.taps = p.diagonal ? 2 : 3;
  l.positions = p.diagonal ? p.height : p.width;
  l.weights = l.taps * 4 * l.padded * l.padded;
  return l;
}

// What one image takes: offsets from the start of its part of the workspace.
struct ScanScratch {
  int64_t gates, hidden, cells, grad, state;  // maps and, in state, a value a position and unit
  int64_t total;
};

static inline ScanScratch scan_scratch(const ScanLayout& l, bool backward) {
  ScanScratch s = {};
  const auto place = [&s](int64_t elements) {
    const int64_t here = s.total;
    s.total += elements;
    return here;
  };
  const int64_t map = l.pixels * l.padded, line = l.positions * l.padded;
  s.gates = place(l.pixels * l.pitch);
  s.hidden = place(map);
  s.state = place(line);
  s.cells = place(map);
  if (backward) s.grad = place(map);
  return s;
}

// Images at work at once, one a thread.
static inline int64_t scan_parts(const LstmScan& p) {
  return p.images < p.threads ? p.images : p.threads;
}

// Images whose gradients of weight, h0 and c0 are summed apart, by one thread or team: a number that
// depends on no number of threads, so neither do the bits of the sums.
static inline int64_t scan_sums(const LstmScan& p) { return p.images < 32 ? p.images : 32; }
static inline int64_t scan_sum_size(const ScanLayout& l) {
  return l.weights + 2 * l.positions * l.padded;
}

// What all share, before the images: packed weights, and in backward those sums.
static inline int64_t scan_shared(const LstmScan& p, const ScanLayout& l, bool backward) {
  return backward ? 2 * l.weights + scan_sums(p) * scan_sum_size(l) : l.weights;
}

static inline int64_t scan_workspace(const LstmScan& p, bool backward) {
  const ScanLayout l = scan_layout(p);
  return scan_shared(p, l, backward) + scan_parts(p) * scan_scratch(l, backward).total;
}

}  // namespace genfast
