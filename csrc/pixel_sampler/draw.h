// Draws from the distributions of a program's heads: genfast/reference/draws.py, one image at a time.
#pragma once
#include "common/philox.h"
#include "common/simd.h"
#include "pixel_sampler/pixel_sampler.h"

namespace genfast::GENFAST_ISA {

extern "C" float expf(float);
extern "C" float logf(float);
extern "C" float tanhf(float);
extern "C" float nearbyintf(float);

// Draw number `draw` of one pixel of one image.
struct PixelUniforms {
  uint64_t seed, image;
  uint32_t pixel;
  GENFAST_INLINE_MEMBER float operator[](int draw) const {
    return philox_uniform(seed, image, pixel, static_cast<uint32_t>(draw));
  }
};

GENFAST_INLINE int draw_bernoulli(float logit, float uniform) {
  const float top = logit > 0.0f ? logit : 0.0f;
  const float zero = expf(0.0f - top), both = zero + expf(logit - top);
  return zero <= uniform * both;
}

// The first level whose cumulative probability exceeds the uniform. `weights`: levels floats, padded.
static int draw_categorical(const float* logits, int levels, float temperature, float uniform,
                            float* weights) {
  float top = logits[0] / temperature;
  for (int i = 0; i < levels; ++i) {
    weights[i] = logits[i] / temperature;
    top = weights[i] > top ? weights[i] : top;
  }
  for (int i = 0; i < levels; i += kLanes) store(weights + i, value(exp_parts(load(weights + i) - top)));
  double total = 0.0;  // as PyTorch's cumulative sum
  for (int i = 0; i < levels; ++i) total += static_cast<double>(weights[i]);
  const float threshold = uniform * static_cast<float>(total);
  double cumulative = 0.0;
  int level = 0;
  for (; level < levels - 1; ++level) {
    cumulative += static_cast<double>(weights[level]);
    if (!(static_cast<float>(cumulative) <= threshold)) break;
  }
  return level;
}

// Levels of all colours. parameters: K logits, then a colour's K means, K log-scales and, for three
// colours, K coefficients.
static void draw_mixture(const float* parameters, int channels, int colours, int levels,
                         float temperature, const PixelUniforms& uniform, float* weights, int* drawn) {
  const int mixtures = channels / (colours == 3 ? 10 : 3), kinds = colours == 3 ? 3 : 2;
  const float* own =
      parameters + mixtures + draw_categorical(parameters, mixtures, temperature, uniform[0], weights);
  const float last = static_cast<float>(levels - 1);
  float value[3];
  for (int colour = 0; colour < colours; ++colour) {
    const float* of_colour = own + colour * kinds * mixtures;
    float mean = of_colour[0];
    for (int earlier = 0; earlier < colour; ++earlier) {  // green: c_0 red; blue: c_1 red + c_2 green
      const int coefficient = colour - 1 + earlier;
      mean += tanhf(own[(coefficient * kinds + 2) * mixtures]) * value[earlier];
    }
    const float log_scale = of_colour[mixtures] < -7.0f ? -7.0f : of_colour[mixtures];
    const float u = uniform[1 + colour];
    float x = mean + temperature * expf(log_scale) * logf(u / (1.0f - u));
    x = x < -1.0f ? -1.0f : x > 1.0f ? 1.0f : x;
    const float level = x != x ? 0.0f : nearbyintf((x + 1.0f) * (last / 2.0f));
    drawn[colour] = static_cast<int>(level);
    value[colour] = level * (2.0f / last) - 1.0f;
  }
}

}  // namespace genfast::GENFAST_ISA
