// Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011), for kernels of the
// CPU and of CUDA. genfast/sampling/philox.py is the same generator with the same keys.
#pragma once
#include <cstdint>

// Always inlined, so that no copy is shared between the instruction-set levels of the CPU kernels.
#ifdef __CUDACC__
#define GENFAST_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define GENFAST_HOST_DEVICE static inline __attribute__((always_inline))
#endif

namespace genfast {

struct PhiloxWords {
  uint32_t word[4];
};

// Known answer: counter 0, key 0 gives 6627e8d5 e169c58d bc57ac4c 9b00dbd8.
GENFAST_HOST_DEVICE PhiloxWords philox4x32(PhiloxWords counter, uint64_t key) {
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  uint32_t* c = counter.word;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * c[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * c[2];
    c[0] = static_cast<uint32_t>(product1 >> 32) ^ c[1] ^ key0;
    c[2] = static_cast<uint32_t>(product0 >> 32) ^ c[3] ^ key1;
    c[1] = static_cast<uint32_t>(product1);
    c[3] = static_cast<uint32_t>(product0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// In the open interval (0, 1): 23 random bits, so that no value rounds to 0 or 1.
GENFAST_HOST_DEVICE float uniform_of_word(uint32_t word) {
  return (static_cast<float>(word >> 9) + 0.5f) * (1.0f / 8388608.0f);
}

// The words of draws 4 * group ... 4 * group + 3 of a pixel.
GENFAST_HOST_DEVICE PhiloxWords philox_words(uint64_t seed, uint64_t image, uint32_t pixel,
                                             uint32_t group) {
  const PhiloxWords counter = {
      {static_cast<uint32_t>(image), static_cast<uint32_t>(image >> 32), pixel, group}};
  return philox4x32(counter, seed);
}

// Draw number `draw` of pixel row * width + column of an image.
GENFAST_HOST_DEVICE float philox_uniform(uint64_t seed, uint64_t image, uint32_t pixel, uint32_t draw) {
  return uniform_of_word(philox_words(seed, image, pixel, draw / 4).word[draw % 4]);
}

}  // namespace genfast
