// One instruction of a pixel program on the CPU: its product, its function, what is added after it, at
// many positions or in shares of a team.
#pragma once
#include "common/parallel.h"
#include "common/simd.h"
#include "pixel_sampler/cell.h"
#include "pixel_sampler/layout.h"
#include "pixel_sampler/product.h"

namespace genfast::GENFAST_ISA {
namespace {

// ---- functions -----------------------------------------------------------------------------------

GENFAST_INLINE Vec elu(Vec z) { return z > 0.0f ? z : minus_one(exp_parts(at_most(z, 0.0f))); }
GENFAST_INLINE Vec glu(Vec a, Vec b) { return a / (1.0f + value(exp_parts(-b))); }

// Channels first .. last - 1 of those that an instruction's function takes, of each half where it takes
// two of them together.
struct Share {
  int first, last;
  bool all;
};

bool takes_halves(PixelFunction function) {
  return function == PixelFunction::gate || function == PixelFunction::glu;
}

// Outputs that are not parted: a vector's, or those of a cell's gates that lie together.
int part_of(const PixelInstruction& code) {
  return code.function == PixelFunction::lstm ? kCellPart : kPixelPad;
}

// In how many parts an instruction can be shared out. In one only, if a vector that runs over the end of
// a half would write what is another's.
int64_t shareable_parts(const PixelInstruction& code) {
  const bool halves = takes_halves(code.function);
  const int channels = halves ? code.outputs / 2 : code.outputs, part = part_of(code);
  const bool adjoining = halves || code.function == PixelFunction::concat_elu;
  return adjoining && channels % kPixelPad ? 1 : (channels + part - 1) / part;
}

// A member's share of an instruction.
Share share_of(const PixelInstruction& code, int64_t member, int64_t members) {
  const int64_t parts = shareable_parts(code), part = part_of(code);
  if (members == 1 || parts == 1) {
    const int channels = takes_halves(code.function) ? code.outputs / 2 : code.outputs;
    return {0, member ? 0 : channels, true};
  }
  return {static_cast<int>(parts * member / members * part),
          static_cast<int>(parts * (member + 1) / members * part), false};
}

// The vectors of a share. They may run over the end by less than a vector: into padding.
template <class Function>
GENFAST_INLINE void each_vector(const Share& share, const Function& function) {
  for (int i = share.first; i < share.last; i += kLanes) function(i);
}

// elu(-z) follows elu(z) without padding, so its last vector has to end where the channels do.
static void concat_elu(const float* z, int channels, const Share& share, float* y) {
  each_vector(share, [&](int i) { store(y + i, elu(load(z + i))); });
  each_vector(share, [&](int i) {
    const Vec v = elu(-load(z + i));
    const int left = channels - i;
    if (left >= kLanes) {
      store(y + channels + i, v);
    } else {
      __builtin_memcpy(y + channels + i, &v, sizeof(float) * static_cast<unsigned>(left));
    }
  });
}

// The function of what `product` left in z, at one position.
static void apply(PixelFunction function, const float* z, int outputs, const Share& share, float* y) {
  const int half = outputs / 2;
  switch (function) {
    case PixelFunction::identity: break;  // it has no z of its own
    case PixelFunction::relu:
      return each_vector(share, [&](int i) { store(y + i, at_least(load(z + i), 0.0f)); });
    case PixelFunction::elu: return each_vector(share, [&](int i) { store(y + i, elu(load(z + i))); });
    case PixelFunction::concat_elu: return concat_elu(z, outputs, share, y);
    case PixelFunction::gate:
      return each_vector(share, [&](int i) { store(y + i, gate(load(z + i), load(z + half + i))); });
    case PixelFunction::glu:
      return each_vector(share, [&](int i) { store(y + i, glu(load(z + i), load(z + half + i))); });
    case PixelFunction::lstm: break;  // it takes more
  }
}

// ---- running an instruction ----------------------------------------------------------------------

Outputs outputs_of(const PixelInstruction& code, const Share& share) {
  if (share.all) return {0, (code.outputs + kPixelPad - 1) / kPixelPad * kPixelPad, -1};
  return {share.first, share.last, takes_halves(code.function) ? code.outputs / 2 + share.first : -1};
}

// Adds what comes after the function to a share of the channels that it gave.
void add_after(const PixelWork& work, int64_t column, int64_t position, const Share& share, float* y) {
  const PixelInstruction& code = *work.code;
  for (int i = 0; i < code.after; ++i) {
    const PixelOperand& o = work.operand[code.taps + code.before + i];
    const float* x = o.base + column * o.column + position * o.image;
    const auto add = [&](int c) { store(y + c, load(y + c) + load(x + c)); };
    if (share.all) {
      each_vector({0, code.target.channels, true}, add);
    } else {
      each_vector(share, add);
      if (code.function == PixelFunction::concat_elu) {
        each_vector({code.outputs + share.first, code.outputs + share.last, false}, add);
      }
    }
  }
}

// A share of the channels at consecutive positions, images of one column or all columns and images of a
// row.
void run_positions(const PixelWork& work, int64_t column, int64_t first, int64_t last,
                   const Share& share, float* scratch) {
  if (share.first == share.last) return;
  const PixelInstruction& code = *work.code;
  const Outputs outputs = outputs_of(code, share);
  const int64_t pitch = (code.outputs + kPixelPad - 1) / kPixelPad * kPixelPad + kPixelPad;
  for (int64_t position = first; position < last;) {
    const int count = last - position < kPixelBlock ? static_cast<int>(last - position) : kPixelBlock;
    float* y = work.target + column * work.target_column + position * work.target_image;
    if (code.function == PixelFunction::identity) {
      product(work, column, position, count, outputs, y, work.target_image);
    } else {
      product(work, column, position, count, outputs, scratch, pitch);
      for (int n = 0; n < count; ++n, y += work.target_image) {
        if (code.function == PixelFunction::lstm) {
          const PixelOperand& cell = work.operand[code.operands() - 1];
          lstm(scratch + n * pitch, share.first, share.last,
               cell.base + column * cell.column + (position + n) * cell.image, y + code.cell_distance,
               y);
        } else {
          apply(code.function, scratch + n * pitch, code.outputs, share, y);
        }
        add_after(work, column, position + n, share, y);
      }
    }
    position += count;
  }
}

int64_t largest_share(int64_t n, int members) { return (n + members - 1) / members; }

// A member's share of a row: of the outputs, so that it reads but its own weights, unless the columns
// can be shared more evenly.
void run_row(const PixelWork& work, int images, const Team& team, float* scratch) {
  const int64_t columns = work.columns, parts = shareable_parts(*work.code);
  const bool by_outputs =
      largest_share(parts, team.size) * columns <= largest_share(columns, team.size) * parts;
  const Share share =
      by_outputs ? share_of(*work.code, team.member, team.size) : share_of(*work.code, 0, 1);
  const int64_t first = by_outputs ? 0 : team.first(columns);
  const int64_t last = by_outputs ? columns : team.last(columns);
  if (work.together) {
    run_positions(work, 0, first * images, last * images, share, scratch);
  } else {
    for (int64_t q = first; q < last; ++q) run_positions(work, q, 0, images, share, scratch);
  }
}

}  // namespace
}  // namespace genfast::GENFAST_ISA
