// The two scans of PixelRNN (van den Oord et al. 2016, section 3): an LSTM over the pixels of an image.
//
//   a[r,c] = gates[r,c] + sum over the taps of weight[:,:,tap] h[source of the tap]
//   i, f, o = sigmoid(a_i, a_f, a_o);  g = tanh(a_g);  C[r,c] = f C' + i g;  h[r,c] = o tanh(C[r,c])
//
//               taps read h at                          C' is         initial states stand at
//   row         (r-1, c-1), (r-1, c), (r-1, c+1)        C[r-1, c]     row -1, one a column
//   diagonal    (r-1, c), (r, c-1)                      C[r, c-1]     column -1, one a row
//
// Elsewhere outside the image h is zero. A diagonal scan from right to left is one from left to right on
// mirrored columns: bindings hand over maps that start at the last column and have a negative stride, so
// kernels know one direction. Pixels that may be computed together are those of a row (row scan) or of
// an anti-diagonal r + c = s (diagonal scan), which is a vector of constant stride: nothing is skewed.
//
// h is rounded to the element type before any product takes it, so the h that is stored determines the
// gates again: backward recomputes them by one dense product, unless forward kept them. The cell state
// and all sums are of the arithmetic type, double for float64 and float for the rest.
//
//   forward:  gates, weight, h0, c0 -> hidden [, kept_gates, kept_cells]
//   backward: the same, hidden, [kept_gates, kept_cells,] grad -> grad_gates, grad_weight, grad_h0,
//   grad_c0
//
// With a the gradient of the pre-activations, grad_gates = a; the gradient of h at a pixel is grad plus
// weight[:,:,tap]^T a of every pixel that reads it. grad_weight is one product after the scan:
// grad_weight[:,:,tap] = sum over pixels of a h[source]^T.
#pragma once
#include "common/dtype.h"
#include "common/isa.h"

#ifdef GENFAST_WITH_CUDA
struct CUstream_st;
typedef CUstream_st* cudaStream_t;  // as the CUDA headers have it, which bindings do without
#endif

namespace genfast {

// A tensor (group, image, channel, row, column) of the element type; strides in elements.
struct ScanMap {
  void* data;
  int64_t group, image, channel, row, column;
};

// Initial states or their gradients (group, position, unit); a position is a column in a row scan, a row
// in a diagonal one. No data: the state is zero, the gradient is not wanted.
struct ScanState {
  void* data;
  int64_t group, position, unit;
};

// (group, output, unit, tap), outputs in order i, f, g, o. No data: the gradient is not wanted.
struct ScanWeight {
  void* data;
  int64_t group, output, unit, tap;
};

struct LstmScan {
  DType dtype;
  int threads;
  bool diagonal;
  // Groups have weights and initial states of their own.
  int64_t groups, images, units, height, width;
  ScanMap gates, hidden;  // 4 * units channels in order i, f, g, o; units channels
  ScanWeight weight;      // 3 taps in a row scan, 2 in a diagonal one, in the order above
  ScanState h0, c0;
  // i, f, g, o after their nonlinearities (group, image, row, column, 4 * units) and C (..., units):
  // dense, of the arithmetic type, columns as in memory order of the scan. Null: not kept.
  void *kept_gates, *kept_cells;
  ScanMap grad, grad_gates;  // backward only, as what follows
  ScanWeight grad_weight;
  ScanState grad_h0, grad_c0;
  void* workspace;  // of the arithmetic type; scan_layout.h says how many elements a CPU kernel needs
  // CUDA only: C, or in backward its gradient, of the pixels done last; in the end, of those at the
  // edge. (group, image, position, unit), dense, of the arithmetic type.
  void* line;
};

GENFAST_DECLARE_CPU(void lstm_scan_fwd_cpu(const LstmScan& p); void lstm_scan_bwd_cpu(const LstmScan& p))

#ifdef GENFAST_WITH_CUDA
// Resident: one block an image, weights in shared memory. Stepwise: a launch a line.
enum class ScanPlan : int { automatic = 0, resident = 1, stepwise = 2 };
enum class ScanProduct : int { automatic = 0, simt = 1, mma = 2 };
struct ScanChoice {
  ScanPlan plan;
  ScanProduct product;
};

// Asynchronous on `stream`; `threads` is not used. Backward writes grad_gates and leaves, in `line`, the
// gradient of the initial cell states image by image: what else there is are dense products of
// grad_gates with other maps, for the caller. It needs the kept values, or, with `recompute`, room for
// them. A choice that cannot be met throws std::invalid_argument.
int64_t lstm_scan_workspace_cuda(const LstmScan& p);
void lstm_scan_fwd_cuda(const LstmScan& p, const ScanChoice& choice, cudaStream_t stream);
void lstm_scan_bwd_cuda(const LstmScan& p, bool recompute, const ScanChoice& choice,
                        cudaStream_t stream);
#endif

}  // namespace genfast
