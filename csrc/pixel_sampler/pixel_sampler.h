// pixel_sampler: runs pixel programs (genfast/sampling/program.py; docs/pixel-sampler.md). Each
// instruction
//
//   target = function(weight . taps + bias + sum of before) + sum of after
//
// reads channels of buffers a few rows and columns away; a draw turns parameters into a level of the
// image. genfast/reference/pixel_sampler.py is the specification; this is its translation.
//
// Memory: a tile of T images is sampled together, by one thread, or by a team of several where there are
// fewer tiles than threads: they share the outputs (or columns) of what runs for whole rows and, where
// the weights are large, the outputs of what runs at pixels. Each buffer is a ring of its last rows,
// [depth][left + columns + right][T images][channels], with zeros on both sides, channels padded to
// kPixelPad. So the positions of a row, or the images of a pixel, follow one another at a fixed
// distance, and one product serves rows and pixels alike. Weights are packed as panels of kPixelPanel
// outputs: [panel][channels of the taps, one tap after the other][outputs of the panel, padded to
// kPixelPad].
//
// An lstm's outputs are the gates i, f, g, o of kPixelPad units, then those of the next kPixelPad, all
// padded. Where an instruction reads its own results beside it, a row is a scan, column by column; scans
// of one step are independent of one another.
//
// Every output is accumulated in the same order whatever the tile, so that the parameters of the draws
// do not depend, bit for bit, on how images are tiled or on the number of threads.
#pragma once
#include <cstdint>

#include "common/isa.h"
#include "common/parallel.h"

#ifdef GENFAST_WITH_CUDA
#include <memory>
struct CUstream_st;
typedef CUstream_st* cudaStream_t;  // as the CUDA headers have it, which bindings do without
#endif

namespace genfast {

constexpr int kPixelPad = 16;
constexpr int kPixelPanel = 64;

// The codes that genfast/sampling/packing.py writes.
enum class PixelSource : int { computed, image, ones, map, vector };
enum class PixelPhase : int { row, pixel, post, end, count };
enum class PixelFunction : int { identity, relu, elu, concat_elu, gate, glu, lstm };
enum class PixelHead : int { bernoulli, categorical, logistic_mixture };

struct PixelBuffer {
  PixelSource source;
  int level, depth, left, columns, right;
  int channels, padded;  // as the program has them, as memory has them
  int64_t offset;        // of the buffer, in floats an image
  // What the rows above the image hold, (columns, padded), and rows outside of it, (height, padded); or
  // null.
  const float *above, *beside;
};

struct PixelTap {
  int buffer, channel, channels, row, column;
};

struct PixelInstruction {
  bool draw;
  // A compute instruction:
  PixelFunction function;
  PixelTap target;
  int level, outputs, row_parity, column_parity;  // parities: -1 for none
  int scan, step;                 // 1 or -1: column by column on a row, beside other scans of the step
  int cell_distance;              // of an lstm, from the target to the new cell state, in floats
  int taps, before, after, cell;  // how many
  int channels;                   // of all taps together
  const PixelTap* operand;        // taps, before, after, cell; a draw's parameters
  const float *weight, *bias;     // bias may be null, weight where there are no taps
  // A draw:
  PixelHead head;
  int first_colour, colours, first_output;

  int operands() const { return taps + before + after + cell; }
};

struct PixelProgram {
  int colours, height, width, levels, outputs;
  int buffers, image;  // how many, and which is the image
  const PixelBuffer* buffer;
  const PixelInstruction* instruction;
  int first[static_cast<int>(PixelPhase::count) +
            1];          // instructions of phase p: first[p] .. first[p + 1] - 1
  int operands, widest;  // of all instructions; outputs of the widest, padded
};

// What a call samples; images are numbered from 0 here.
struct PixelBatch {
  int64_t* x;                  // (N, C, H, W) levels
  const uint8_t* known;        // (N, C, H, W), 1 for a value of x to keep
  float* outputs;              // (N, outputs, H, W), or null
  const float* const* inputs;  // one a buffer: a map's (N, H, W, channels), a vector's (N, channels)
  const float* scaled;         // what the network sees for each level
  uint64_t seed;
  int64_t start;  // number of image 0, for the uniforms
  float temperature;
};

// An operand of an instruction on a row, with the distances from column to column and from image to
// image.
struct PixelOperand {
  const float* base;
  int64_t column, image;
};

// An instruction on a row: where its operands are.
struct PixelWork {
  const PixelInstruction* code;
  const PixelOperand* operand;  // in the order of code->operand
  float* target;
  int64_t target_column, target_image;
  int columns;    // that it runs at, 0 for a row that its level or parity leaves out
  bool together;  // all columns and images follow one another at the same distance, for every operand
};

struct PixelTile {
  int64_t first;  // image
  int images;
  float* memory;
  PixelOperand* operands;  // of the instructions that run at pixels, at most program.operands
  PixelWork* works;        // one an instruction
  SpinBarrier barrier;     // of the team
};

// A thread's own.
struct PixelScratch {
  float* floats;           // pixel_scratch_floats
  PixelOperand* operands;  // of one instruction, at most program.operands
  int* written;            // one a buffer
};

constexpr int kPixelBlock = 48;  // positions that a product works on at once, at most

inline int64_t pixel_scratch_floats(const PixelProgram& program) {
  const int64_t widest = program.widest > program.levels ? program.widest : program.levels;
  return kPixelBlock * (widest + 2 * kPixelPad) + kPixelPad;
}

// Samples rows first_row .. last_row - 1 of all tiles, on at most `threads` threads; scratch: one each.
// share_pixels: whether a team shares the outputs of what runs at pixels, too.
GENFAST_DECLARE_CPU(void pixel_sampler_run_cpu(const PixelProgram& program, const PixelBatch& batch,
                                               PixelTile* tiles, int count, const PixelScratch* scratch,
                                               int threads, bool share_pixels, int first_row,
                                               int last_row))

#ifdef GENFAST_WITH_CUDA
// A sampling on a GPU. All addresses are the device's but those of the program's tables and of
// batch.inputs; `memory` is that of all images as one tile, zeroed; in `row_number` it keeps the number
// of the row. Program and batch have to outlive it.
class PixelCudaSampling {
 public:
  // graphs: whether rows are replayed from CUDA graphs or launched kernel by kernel.
  PixelCudaSampling(const PixelProgram& program, const PixelBatch& batch, float* memory, int* row_number,
                    int64_t images, bool graphs);
  ~PixelCudaSampling();

  // Asynchronous on `stream`. Rows are sampled in their order.
  void run(int first_row, int last_row, cudaStream_t stream);

 private:
  struct Rows;
  std::unique_ptr<Rows> rows_;
};
#endif

}  // namespace genfast
