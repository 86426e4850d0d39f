// Where the operands of an instruction are, for the CPU and for the host side of CUDA.
#pragma once
#include "pixel_sampler/pixel_sampler.h"

namespace genfast {
namespace {  // of each file's own: the CPU's are compiled for several instruction sets

// The memory of `images` images that are sampled together.
struct PixelLayout {
  const PixelProgram& program;
  float* memory;
  int64_t images;

  int64_t column_pitch(const PixelBuffer& b) const { return images * b.padded; }

  float* at(const PixelBuffer& b, int row, int column) const {
    const int slot = (row % b.depth + b.depth) % b.depth;
    const int64_t pitch = b.left + b.columns + b.right;
    return memory + b.offset * images + (slot * pitch + b.left + column) * column_pitch(b);
  }

  // A tap of an instruction at row i of `level`, and at columns j, j + step, ...
  PixelOperand operand(const PixelTap& tap, int level, int i, int j, int step) const {
    const PixelBuffer& b = program.buffer[tap.buffer];
    PixelOperand o;
    if (b.source == PixelSource::vector) {
      o = {at(b, 0, 0) + tap.channel, 0, b.padded};
    } else {
      const bool coarser = b.level > level;
      const int finer = coarser ? 0 : level - b.level;
      i = coarser ? i >> 1 : i << finer;
      j = coarser ? j >> 1 : j << finer;
      step = coarser ? 1 : step << finer;
      o = {at(b, i + tap.row, j + tap.column) + tap.channel, step * column_pitch(b), b.padded};
    }
    if (images == 1) o.image = o.column;  // so that a row is one run of positions
    return o;
  }

  // `operands` has room for the instruction's own.
  PixelWork work(const PixelInstruction& code, int row, PixelOperand* operands) const {
    PixelWork w = {&code, operands, nullptr, 0, 0, 0, true};
    const int level = code.level, i = row >> level;
    const bool parity = code.column_parity >= 0;
    if (row % (1 << level) || (parity && i % 2 != code.row_parity)) return w;
    const int j = parity ? code.column_parity : 0, step = parity ? 2 : 1;
    const PixelOperand target = operand(code.target, level, i, j, step);
    w.target = const_cast<float*>(target.base);
    w.target_column = target.column;
    w.target_image = target.image;
    w.columns = (program.buffer[code.target.buffer].columns - j + step - 1) / step;
    w.together = target.column == images * target.image;
    for (int k = 0; k < code.operands(); ++k) {
      operands[k] = operand(code.operand[k], level, i, j, step);
      w.together = w.together && operands[k].column == images * operands[k].image;
    }
    return w;
  }
};

// Where the scans from instruction k on end that are independent of one another: k if it is none.
inline int scans_end(const PixelProgram& program, int k, int last) {
  const int step = program.instruction[k].step;
  while (k < last && program.instruction[k].scan && program.instruction[k].step == step) ++k;
  return k;
}

// Which of a work's columns an instruction runs at for a column of the image, -1 for none.
inline int pixel_column(const PixelWork& work, int column) {
  const PixelInstruction& code = *work.code;
  if (!work.columns || column % (1 << code.level)) return -1;
  const int q = column >> code.level;
  if (code.column_parity < 0) return q;
  return q % 2 == code.column_parity ? q / 2 : -1;
}

}  // namespace
}  // namespace genfast
