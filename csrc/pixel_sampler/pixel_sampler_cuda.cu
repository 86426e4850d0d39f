// pixel_sampler on CUDA: all images are one tile, caches stay on the device, a kernel an instruction.
//
// The host knows where everything is and never waits. A pixel of a Gated PixelCNN takes some 20
// launches; to make them from graphs is several times as fast. Nothing of a launch depends on what is
// drawn, and where its operands are depends on the row by its place in the rings only: there are as many
// kinds of rows as the deepest ring has (4 in a Gated PixelCNN, 8 with PixelCNN++'s three levels), and
// each kind becomes a graph when its first row is reached. What a row needs besides, its number (for the
// uniforms and for where images and conditions are), is kept on the device; the last launch of a row
// counts it up. So a graph needs no update between two replays. Rows above the image need nothing of
// their own: the rings begin as zeros. A graph belongs to one sampling, hence to one stream at a time.
//
// fp32 throughout, each output summed in one order: as on the CPU, the parameters of the draws do not
// depend on the batch.
#include <algorithm>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "common/cuda.h"
#include "pixel_sampler/draw_cuda.h"
#include "pixel_sampler/layout.h"
#include "pixel_sampler/pixel_sampler.h"
#include "pixel_sampler/product_cuda.h"
#include "pixel_sampler/scan_cuda.h"

namespace genfast {
namespace {

// The row that is sampled, counted on the device.
__global__ void pixel_set_row_kernel(int* row, int value) { *row = value; }
__global__ void pixel_next_row_kernel(int* row) { ++*row; }

// What is known beforehand, with the distances from one image, row and column to the next; null for
// ones.
struct Input {
  const float* source;
  int64_t image, row, column;
};

// Fills columns of a row; `row` null for row 0.
__global__ void __launch_bounds__(kThreads)
    pixel_input_kernel(Input in, float* target, int64_t images, const int* row, int columns,
                       int channels, int padded) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t position = i / channels, channel = i - position * channels;
  if (position >= columns * images) return;
  const int64_t column = position / images, image = position - column * images;
  const int64_t from = image * in.image + (row ? *row : 0) * in.row + column * in.column + channel;
  target[position * padded + channel] = in.source ? in.source[from] : 1.0f;
}

// ---- the host's side -----------------------------------------------------------------------------

unsigned blocks(int64_t n, int64_t each) { return static_cast<unsigned>((n + each - 1) / each); }

// Launches a row, or adds it to a graph.
struct Row {
  const PixelProgram& program;
  const PixelBatch& batch;
  const PixelLayout& layout;
  int* number;  // of the row, on the device
  int row;
  cuda::Launcher out;

  // Columns column .. column + columns - 1 of a work.
  void launch(const PixelWork& work, int64_t column, int64_t columns) const {
    const PixelInstruction& code = *work.code;
    const int operands = code.operands();
    if (columns < 1) return;
    if (operands > kMaxOperands) {
      throw std::invalid_argument("an instruction reads more than " + std::to_string(kMaxOperands) +
                                  " taps, the most that the CUDA kernels take");
    }
    Product p;
    p.function = code.function;
    p.outputs = code.outputs, p.channels = code.channels;
    p.taps = code.taps, p.before = code.before, p.after = code.after;
    p.cell_distance = code.cell_distance;
    p.positions = static_cast<int>(columns * layout.images), p.inner = static_cast<int>(layout.images);
    p.weight = code.weight, p.bias = code.bias;
    p.target = work.target + column * work.target_column;
    p.target_column = work.target_column, p.target_image = work.target_image;
    for (int k = 0; k < operands; ++k) {
      p.operand[k] = work.operand[k];
      p.operand[k].base += column * p.operand[k].column;
      p.size[k] = code.operand[k].channels;
    }
    const bool halves = code.function == PixelFunction::gate || code.function == PixelFunction::glu;
    const int parts = code.function == PixelFunction::lstm ? 4 : halves ? 2 : 1;
    const dim3 grid(blocks(p.positions, kTile), blocks(code.outputs / parts, kTile));
    out.launch(parts == 4   ? pixel_compute_kernel<4>
               : parts == 2 ? pixel_compute_kernel<2>
                            : pixel_compute_kernel<1>,
               grid, kThreads, 0, p);
  }

  // Instructions first .. last - 1, scans that are independent of one another.
  void scan(int first, int last, std::vector<PixelOperand>& operands) const {
    for (int k = first; k < last;) {
      Scans scans;
      unsigned count = 0;
      size_t memory = 0;
      for (; count < kScansAtOnce && k < last; ++count, ++k) {
        scans.scan[count] = scan_of(layout.work(program.instruction[k], row, operands.data()));
        memory = std::max(memory, scan_memory(scans.scan[count]));
      }
      out.launch(pixel_scan_kernel, dim3(blocks(layout.images, kScanImages), count), kScanThreads,
                 memory, scans, layout.images);
    }
  }

  void input(const Input& in, float* target, const int* of_row, int columns, int channels,
             int padded) const {
    if (columns < 1) return;
    out.launch(pixel_input_kernel, blocks(layout.images * columns * channels, kThreads), kThreads, 0, in,
               target, layout.images, of_row, columns, channels, padded);
  }

  // What buffers hold above the image (once) and beside it (in each row).
  void borders(const PixelBuffer& b, bool once) const {
    if (once && b.above) {
      for (int r = 1; r < b.depth; ++r) {
        input({b.above, 0, 0, b.padded}, layout.at(b, -r, 0), nullptr, b.columns, b.padded, b.padded);
      }
    } else if (!once && b.beside) {
      const Input beside = {b.beside, 0, b.padded, 0};
      input(beside, layout.at(b, row, -b.left), number, b.left, b.padded, b.padded);
      input(beside, layout.at(b, row, b.columns), number, b.right, b.padded, b.padded);
    }
  }

  // What is known beforehand, of each row or (vectors) once for all.
  void inputs(bool once) const {
    for (int n = 0; n < program.buffers; ++n) {
      const PixelBuffer& b = program.buffer[n];
      const bool vector = b.source == PixelSource::vector;
      borders(b, once);
      if (b.source == PixelSource::computed || b.source == PixelSource::image || vector != once)
        continue;
      const int64_t pitch = int64_t{b.columns} * b.channels;
      const Input in = {b.source == PixelSource::ones ? nullptr : batch.inputs[n],
                        vector ? pitch : pitch * program.height, pitch, b.channels};
      input(in, layout.at(b, row, 0), vector ? nullptr : number, b.columns, b.channels, b.padded);
    }
  }

  void compute(PixelPhase phase, std::vector<PixelOperand>& operands) const {
    const int last = program.first[int(phase) + 1];
    for (int k = program.first[int(phase)]; k < last;) {
      const int next = scans_end(program, k, last);
      if (next > k) {
        scan(k, next, operands);
        k = next;
      } else {
        const PixelWork work = layout.work(program.instruction[k++], row, operands.data());
        launch(work, 0, work.columns);
      }
    }
  }

  void draw(const PixelInstruction& code, int column) const {
    const PixelBuffer &from = program.buffer[code.operand->buffer],
                      &image = program.buffer[program.image];
    const DrawLaunch d = {code.head,
                          batch,
                          layout.at(from, row, column) + code.operand->channel,
                          layout.at(image, row, column) + code.first_colour,
                          from.padded,
                          image.padded,
                          code.operand->channels,
                          code.first_colour,
                          code.colours,
                          program.colours,
                          program.levels,
                          code.first_output,
                          program.outputs,
                          number,
                          column,
                          program.width,
                          int64_t{program.height} * program.width};
    out.launch(pixel_draw_kernel, static_cast<unsigned>(layout.images), kDrawThreads, 0, d);
  }

  void pixels(std::vector<PixelOperand>& operands) const {
    const int first = program.first[int(PixelPhase::pixel)], last = program.first[int(PixelPhase::end)];
    std::vector<PixelWork> works(static_cast<size_t>(last));
    PixelOperand* own = operands.data();
    for (int k = first; k < last; ++k) {
      const PixelInstruction& code = program.instruction[k];
      if (code.draw) continue;
      works[static_cast<size_t>(k)] = layout.work(code, row, own);
      own += code.operands();
    }
    for (int column = 0; column < program.width; ++column) {
      for (int k = first; k < last; ++k) {
        if (program.instruction[k].draw) {
          draw(program.instruction[k], column);
          continue;
        }
        const PixelWork& work = works[static_cast<size_t>(k)];
        const int q = pixel_column(work, column);
        if (q >= 0) launch(work, q, 1);
      }
    }
  }

  void all() const {
    std::vector<PixelOperand> operands(static_cast<size_t>(program.operands));
    inputs(false);
    compute(PixelPhase::row, operands);
    pixels(operands);
    if (row + 1 < program.height) compute(PixelPhase::end, operands);  // only later rows read it
    out.launch(pixel_next_row_kernel, 1, 1, 0, number);
  }
};

// After how many rows everything is in the same places again, and the same instructions run.
int period_of(const PixelProgram& program) {
  int period = 1;
  for (int n = 0; n < program.buffers; ++n) {
    period = std::lcm(period, program.buffer[n].depth << program.buffer[n].level);
  }
  for (int k = 0; k < program.first[int(PixelPhase::count)]; ++k) {
    const PixelInstruction& code = program.instruction[k];
    if (!code.draw) period = std::lcm(period, (code.row_parity < 0 ? 1 : 2) << code.level);
  }
  return period;
}

}  // namespace

struct PixelCudaSampling::Rows {
  const PixelProgram& program;
  const PixelBatch& batch;
  const PixelLayout layout;
  int* const number;
  const int period;
  const bool use_graphs;
  std::vector<std::unique_ptr<cuda::Graph>> graph;  // of each kind of row

  Row row(int row, cudaStream_t stream, cuda::Graph* into) const {
    return {program, batch, layout, number, row, {stream, into}};
  }

  // Into a stream that is being captured itself rows are launched: they become part of that graph, which
  // may outlive ours. So are those of a kind that does not come again.
  void run(int r, bool captured, cudaStream_t stream) {
    std::unique_ptr<cuda::Graph>& own = graph[static_cast<size_t>(r % period)];
    if (!use_graphs || captured || (!own && r + period >= program.height)) {
      return row(r, stream, nullptr).all();
    }
    if (!own) {
      auto made = std::make_unique<cuda::Graph>();
      row(r, stream, made.get()).all();
      own = std::move(made);
    }
    own->launch(stream);
  }
};

PixelCudaSampling::PixelCudaSampling(const PixelProgram& program, const PixelBatch& batch, float* memory,
                                     int* row_number, int64_t images, bool graphs) {
  const int period = period_of(program);
  rows_.reset(new Rows{program,
                       batch,
                       {program, memory, images},
                       row_number,
                       period,
                       graphs,
                       std::vector<std::unique_ptr<cuda::Graph>>(static_cast<size_t>(period))});
}

PixelCudaSampling::~PixelCudaSampling() = default;

void PixelCudaSampling::run(int first_row, int last_row, cudaStream_t stream) {
  const bool captured = cuda::is_capturing(stream);
  cuda::launch(pixel_set_row_kernel, 1, 1, 0, stream, rows_->number, first_row);
  if (first_row == 0) rows_->row(0, stream, nullptr).inputs(true);
  for (int row = first_row; row < last_row; ++row) rows_->run(row, captured, stream);
}

}  // namespace genfast
