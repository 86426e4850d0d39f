#include "pixel_sampler/pixel_sampler.h"

#include "pixel_sampler/draw.h"
#include "pixel_sampler/instruction_cpu.h"

namespace genfast::GENFAST_ISA {
namespace {

// One tile on its way through a batch.
struct Sampler {
  const PixelProgram& program;
  const PixelBatch& batch;
  PixelTile& tile;
  const PixelScratch& scratch;
  const Team& team;
  const bool shares_pixels;
  const PixelLayout layout{program, tile.memory, tile.images};

  // Fills the row of what is known beforehand.
  void start_row(int row) const {
    for (int n = 0; n < program.buffers; ++n) {
      const PixelBuffer& b = program.buffer[n];
      fill_borders(b, row);
      if (b.source == PixelSource::ones) {
        for (int64_t k = 0; k < b.columns * tile.images; ++k) layout.at(b, row, 0)[k * b.padded] = 1.0f;
      } else if (b.source == PixelSource::map || (b.source == PixelSource::vector && row == 0)) {
        const int columns = b.source == PixelSource::map ? b.columns : 1;
        const int rows = b.source == PixelSource::map ? program.height : 1;
        for (int c = 0; c < columns; ++c) {
          for (int t = 0; t < tile.images; ++t) {
            const float* from =
                batch.inputs[n] + (((tile.first + t) * rows + row) * columns + c) * b.channels;
            __builtin_memcpy(layout.at(b, row, c) + t * b.padded, from,
                             sizeof(float) * static_cast<unsigned long>(b.channels));
          }
        }
      }
    }
  }

  void fill_borders(const PixelBuffer& b, int row) const {
    const auto fill = [&](int of_row, int column, const float* from) {
      for (int t = 0; t < tile.images; ++t) {
        __builtin_memcpy(layout.at(b, of_row, column) + t * b.padded, from,
                         sizeof(float) * static_cast<unsigned long>(b.padded));
      }
    };
    for (int r = 1; b.above && row == 0 && r < b.depth; ++r) {
      for (int c = 0; c < b.columns; ++c) fill(-r, c, b.above + int64_t{c} * b.padded);
    }
    if (!b.beside) return;
    const float* beside = b.beside + int64_t{row} * b.padded;
    for (int c = -b.left; c < 0; ++c) fill(row, c, beside);
    for (int c = b.columns; c < b.columns + b.right; ++c) fill(row, c, beside);
  }

  // ---- running ----

  void run(PixelPhase phase, int row) const {
    const int last = program.first[int(phase) + 1];
    for (int k = program.first[int(phase)]; k < last;) {
      const int next = scans_end(program, k, last);
      if (next == k) {
        run_row(layout.work(program.instruction[k++], row, scratch.operands), tile.images, team,
                scratch.floats);
      } else {
        for (int own = k + team.member; own < next; own += team.size) scan(own, row);
        k = next;
      }
      team.meet();
    }
  }

  void scan(int k, int row) const {
    const PixelWork work = layout.work(program.instruction[k], row, scratch.operands);
    const int way = work.code->scan, begin = way > 0 ? 0 : work.columns - 1;
    for (int q = begin; q >= 0 && q < work.columns; q += way) {
      run_positions(work, q, 0, tile.images, share_of(*work.code, 0, 1), scratch.floats);
    }
  }

  void draw(const PixelInstruction& code, int row, int column) const {
    const PixelTap& tap = *code.operand;
    const PixelBuffer& b = program.buffer[tap.buffer];
    const float* parameters = layout.at(b, row, column) + tap.channel;
    float* image = layout.at(program.buffer[program.image], row, column) + code.first_colour;
    const int64_t pixels = int64_t{program.height} * program.width;
    const int64_t pixel = int64_t{row} * program.width + column;
    for (int t = 0; t < tile.images; ++t) {
      const int64_t n = tile.first + t;
      if (batch.outputs) {
        float* out = batch.outputs + (n * program.outputs + code.first_output) * pixels + pixel;
        for (int k = 0; k < tap.channels; ++k) out[k * pixels] = parameters[k];
      }
      int drawn[3] = {0, 0, 0};
      draw_levels(code, parameters, n, pixel, drawn);
      for (int k = 0; k < code.colours; ++k) {
        const int64_t place = (n * program.colours + code.first_colour + k) * pixels + pixel;
        if (!batch.known[place]) batch.x[place] = drawn[k];
        image[k] = batch.scaled[batch.x[place]];
      }
      parameters += b.padded;
      image += program.buffer[program.image].padded;
    }
  }

  void draw_levels(const PixelInstruction& code, const float* parameters, int64_t n, int64_t pixel,
                   int* drawn) const {
    const PixelUniforms uniform = {batch.seed, static_cast<uint64_t>(batch.start + n),
                                   static_cast<uint32_t>(pixel)};
    switch (code.head) {
      case PixelHead::bernoulli:
        drawn[0] = draw_bernoulli(parameters[0] / batch.temperature, uniform[code.first_colour]);
        return;
      case PixelHead::categorical:
        drawn[0] = draw_categorical(parameters, program.levels, batch.temperature,
                                    uniform[code.first_colour], scratch.floats);
        return;
      case PixelHead::logistic_mixture:
        draw_mixture(parameters, code.operand->channels, code.colours, program.levels, batch.temperature,
                     uniform, scratch.floats, drawn);
    }
  }

  // The instructions that run at pixels, on a row: their operands are found once.
  void find_pixel_works(int row) const {
    PixelOperand* operands = tile.operands;
    for (int k = program.first[int(PixelPhase::pixel)]; k < program.first[int(PixelPhase::end)]; ++k) {
      const PixelInstruction& code = program.instruction[k];
      if (code.draw) continue;
      tile.works[k] = layout.work(code, row, operands);
      operands += code.operands();
    }
  }

  template <class Compute, class Draw>
  void each_pixel_instruction(const Compute& compute, const Draw& draw_one) const {
    const int first = program.first[int(PixelPhase::pixel)], last = program.first[int(PixelPhase::end)];
    for (int column = 0; column < program.width; ++column) {
      for (int k = first; k < last; ++k) {
        if (program.instruction[k].draw) {
          draw_one(program.instruction[k], column);
        } else {
          const int q = pixel_column(tile.works[k], column);
          if (q >= 0) compute(tile.works[k], q);
        }
      }
    }
  }

  void run_pixels_alone(int row) const {
    each_pixel_instruction(
        [&](const PixelWork& work, int column) {
          run_positions(work, column, 0, tile.images, share_of(*work.code, 0, 1), scratch.floats);
        },
        [&](const PixelInstruction& code, int column) { draw(code, row, column); });
  }

  // Each member computes its share of the outputs. They meet before an instruction that reads what one
  // of them may have written since they last met; every place is written once a row, before it is read.
  void run_pixels_together(int row) const {
    for (int n = 0; n < program.buffers; ++n) scratch.written[n] = -1;
    int meetings = 0;  // since when the row began
    const auto meet_for = [&](const PixelInstruction& code, int operands) {
      for (int i = 0; i < operands; ++i) {
        if (scratch.written[code.operand[i].buffer] != meetings) continue;
        team.meet();
        ++meetings;
        return;
      }
    };
    each_pixel_instruction(
        [&](const PixelWork& work, int column) {
          const PixelInstruction& code = *work.code;
          meet_for(code, code.operands());
          run_positions(work, column, 0, tile.images, share_of(code, team.member, team.size),
                        scratch.floats);
          scratch.written[code.target.buffer] = meetings;
        },
        [&](const PixelInstruction& code, int column) {
          meet_for(code, 1);
          if (team.member == 0) draw(code, row, column);
          scratch.written[program.image] = meetings;
        });
  }

  void run_rows(int first_row, int last_row) const {
    for (int row = first_row; row < last_row; ++row) {
      if (team.member == 0) start_row(row);
      team.meet();
      run(PixelPhase::row, row);
      if (team.member == 0) find_pixel_works(row);
      if (shares_pixels && team.size > 1) {
        team.meet();
        run_pixels_together(row);
      } else if (team.member == 0) {
        run_pixels_alone(row);
      }
      team.meet();
      if (row + 1 < program.height) run(PixelPhase::end, row);  // only later rows read its results
    }
  }
};

}  // namespace

void pixel_sampler_run_cpu(const PixelProgram& program, const PixelBatch& batch, PixelTile* tiles,
                           int count, const PixelScratch* scratch, int threads, bool share_pixels,
                           int first_row, int last_row) {
  constexpr int kMost = 1 << 16;  // a team may be of any size
  in_teams(
      threads, count, kMost, [&](int tile) { return &tiles[tile].barrier; },
      [&](int tile, int thread, const Team& team) {
        const Sampler sampler{program, batch, tiles[tile], scratch[thread], team, share_pixels};
        sampler.run_rows(first_row, last_row);
      });
}

}  // namespace genfast::GENFAST_ISA
