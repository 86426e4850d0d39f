// Draws of the pixel sampler on CUDA, a warp an image; draw.h is the same on the CPU.
#pragma once
#include "common/cuda.h"
#include "pixel_sampler/pixel_sampler.h"

namespace genfast {
namespace {

constexpr int kDrawThreads = 32;  // a warp

struct DrawLaunch {
  PixelHead head;
  PixelBatch batch;
  const float* parameters;  // of image 0
  float* image;             // where the program sees the first colour of image 0
  int64_t parameters_pitch, image_pitch;
  int channels, first_colour, colours, all_colours, levels, first_output, all_outputs;
  const int* row;
  int column, width;
  int64_t pixels;
};

// The first of `count` levels whose cumulative probability exceeds the uniform, by a warp: each lane has
// a run of levels. `bernoulli`: of two, of which the first has the logit 0.
GENFAST_DEVICE int pick(const float* logits, int count, bool bernoulli, float temperature,
                        float uniform) {
  const int lane = threadIdx.x, run = (count + kDrawThreads - 1) / kDrawThreads;
  const int first = min(lane * run, count), last = min(first + run, count);
  float top = -INFINITY;
  for (int i = first; i < last; ++i) {
    top = fmaxf(top, (bernoulli ? (i ? logits[0] : 0.0f) : logits[i]) / temperature);
  }
  for (int o = kDrawThreads / 2; o > 0; o /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, o));
  float own = 0.0f;
  for (int i = first; i < last; ++i) {
    own += expf((bernoulli ? (i ? logits[0] : 0.0f) : logits[i]) / temperature - top);
  }
  float through = own;  // the sum over this lane's levels and all before them
  for (int o = 1; o < kDrawThreads; o *= 2) {
    const float before = __shfl_up_sync(~0u, through, o);
    if (lane >= o) through += before;
  }
  const float threshold = uniform * __shfl_sync(~0u, through, kDrawThreads - 1);
  float cumulative = through - own;
  int passed = 0;
  for (int i = first; i < last && i < count - 1; ++i) {
    cumulative += expf((bernoulli ? (i ? logits[0] : 0.0f) : logits[i]) / temperature - top);
    passed += cumulative <= threshold;
  }
  for (int o = kDrawThreads / 2; o > 0; o /= 2) passed += __shfl_xor_sync(~0u, passed, o);
  return passed;
}

GENFAST_DEVICE int64_t pixel_of(const DrawLaunch& d) {
  return static_cast<int64_t>(*d.row) * d.width + d.column;
}

GENFAST_DEVICE float uniform_of(const DrawLaunch& d, int64_t n, int draw) {
  return philox_uniform(d.batch.seed, static_cast<uint64_t>(d.batch.start + n),
                        static_cast<uint32_t>(pixel_of(d)), static_cast<uint32_t>(draw));
}

// Levels of all colours from one component of a mixture of logistics; see draw.h.
GENFAST_DEVICE void mixture_levels(const DrawLaunch& d, const float* own, int mixtures, int64_t n,
                                   int (&drawn)[3]) {
  const int kinds = d.colours == 3 ? 3 : 2;
  const float last = static_cast<float>(d.levels - 1);
  float value[3] = {0.0f, 0.0f, 0.0f};
#pragma unroll
  for (int colour = 0; colour < 3; ++colour) {
    if (colour >= d.colours) break;
    const float* of_colour = own + colour * kinds * mixtures;
    float mean = of_colour[0];
#pragma unroll
    for (int earlier = 0; earlier < colour; ++earlier) {
      mean += tanhf(own[((colour - 1 + earlier) * kinds + 2) * mixtures]) * value[earlier];
    }
    const float u = uniform_of(d, n, 1 + colour);
    const float scale = d.batch.temperature * expf(fmaxf(of_colour[mixtures], -7.0f));
    const float x = fminf(fmaxf(mean + scale * logf(u / (1.0f - u)), -1.0f), 1.0f);
    const float level = rintf((x + 1.0f) * (last / 2.0f));
    drawn[colour] = static_cast<int>(level);
    value[colour] = level * (2.0f / last) - 1.0f;
  }
}

// A warp an image.
__global__ void __launch_bounds__(kDrawThreads) pixel_draw_kernel(DrawLaunch d) {
  const int64_t n = blockIdx.x;
  const float* parameters = d.parameters + n * d.parameters_pitch;
  if (d.batch.outputs) {
    float* out = d.batch.outputs + (n * d.all_outputs + d.first_output) * d.pixels + pixel_of(d);
    for (int k = threadIdx.x; k < d.channels; k += kDrawThreads) out[k * d.pixels] = parameters[k];
  }
  const bool mixture = d.head == PixelHead::logistic_mixture;
  const int mixtures = d.channels / (d.colours == 3 ? 10 : 3);
  const int count = mixture ? mixtures : d.head == PixelHead::bernoulli ? 2 : d.levels;
  const int picked = pick(parameters, count, d.head == PixelHead::bernoulli, d.batch.temperature,
                          uniform_of(d, n, mixture ? 0 : d.first_colour));
  if (threadIdx.x) return;
  int drawn[3] = {picked, 0, 0};
  if (mixture) mixture_levels(d, parameters + mixtures + picked, mixtures, n, drawn);
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    if (k >= d.colours) break;
    const int64_t place = (n * d.all_colours + d.first_colour + k) * d.pixels + pixel_of(d);
    if (!d.batch.known[place]) d.batch.x[place] = drawn[k];
    d.image[n * d.image_pitch + k] = d.batch.scaled[d.batch.x[place]];
  }
}

}  // namespace
}  // namespace genfast
