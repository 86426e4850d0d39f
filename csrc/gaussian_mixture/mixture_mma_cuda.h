// The kernels on tensor cores, as the others see them.
#pragma once
#include "gaussian_mixture/mixture_products.h"

namespace genfast {

constexpr int64_t kMostMmaFeatures = 64;
void gaussian_mixture_mma_densities(const MixtureProducts& p, cudaStream_t stream);
void gaussian_mixture_mma_posteriors(const MixtureProducts& p, cudaStream_t stream);

}  // namespace genfast
