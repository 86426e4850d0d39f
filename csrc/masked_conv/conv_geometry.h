// What all convolution kernels share: the causal mask, and where pixels and taps lie.
//
// Live taps are the first ones in raster order: the rows above the centre, what is left of it, and last
// the centre itself. So tap t of the live ones is (t / kw, t % kw), and no table is needed.
#pragma once
#include "common/cuda_elements.h"
#include "masked_conv/masked_conv.h"

namespace genfast::conv {

// The mask of an (O, I, kh, kw) weight. Channels times colours fit an int (check_sizes).
struct CausalMask {
  int inputs, part;   // I, and O / out_splits
  int colors, least;  // a centre tap is live iff colour_out - colour_in >= least (A: 1, B: 0)
  int kernel_h, kernel_w, centre;
};

inline CausalMask causal_mask(const MaskedConvShape& s) {
  return {s.in_channels,
          s.out_channels / s.out_splits,
          s.colors,
          s.mask_a ? 1 : 0,
          s.kernel_height,
          s.kernel_width,
          s.kernel_height / 2 * s.kernel_width + s.kernel_width / 2};
}

// How many taps are live for some pair of channels.
inline int live_taps(const CausalMask& mask) {
  return mask.centre + (mask.colors - 1 >= mask.least ? 1 : 0);
}

GENFAST_DEVICE bool centre_is_live(const CausalMask& mask, int out, int in) {
  const int colour_out = out % mask.part * mask.colors / mask.part;
  const int colour_in = in * mask.colors / mask.inputs;
  return colour_out - colour_in >= mask.least;
}

GENFAST_DEVICE bool is_live(const CausalMask& mask, int out, int in, int tap) {
  return tap < mask.centre || (tap == mask.centre && centre_is_live(mask, out, in));
}

// How many (tap, input channel) pairs, in that order, may be live for output channels first ... last.
GENFAST_DEVICE int live_depth(const CausalMask& mask, int first, int last) {
  const bool one_part = first / mask.part == last / mask.part;  // else a last colour is among them
  const int colour = one_part ? last % mask.part * mask.colors / mask.part : mask.colors - 1;
  const int seen = colour + 1 - mask.least;  // colours
  return mask.centre * mask.inputs + (seen * mask.inputs + mask.colors - 1) / mask.colors;
}

// A pixel of a batch of images.
struct Pixel {
  int64_t image;
  int row, column;
};

GENFAST_DEVICE Pixel pixel_at(int64_t index, int height, int width) {
  const int64_t line = index / width;
  Pixel p;
  p.column = static_cast<int>(index - line * width);
  p.image = line / height;
  p.row = static_cast<int>(line - p.image * height);
  return p;
}

GENFAST_DEVICE bool inside(int row, int column, int height, int width) {
  return static_cast<unsigned>(row) < static_cast<unsigned>(height) &&
         static_cast<unsigned>(column) < static_cast<unsigned>(width);
}

GENFAST_DEVICE int64_t offset_of(const Tensor4& t, const Pixel& p) {
  return p.image * t.stride[0] + p.row * t.stride[2] + p.column * t.stride[3];
}

template <class T>
GENFAST_DEVICE T* at(const Tensor4& t, int64_t offset) {
  return static_cast<T*>(t.data) + offset;
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int64_t pixels_of(const MaskedConvShape& s) { return s.batch * s.height * s.width; }

// Whether channels can be read 16 bytes at a time.
inline bool vector_channels(const Tensor4& t, DType dtype, int channels) {
  const int64_t width = 16 / element_size(dtype);
  return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && channels % width == 0 && t.stride[1] == 1 &&
         t.stride[0] % width == 0 && t.stride[2] % width == 0 && t.stride[3] % width == 0;
}

}  // namespace genfast::conv
