// Draws from the mixture on CUDA, a thread a pixel.
#include "logistic_mixture/pixel_cuda.h"

namespace genfast {
namespace {

template <class T, int kColors>
__global__ void __launch_bounds__(kThreads)
    logistic_mixture_sample_fwd_kernel(LogisticMixture<3> p, int64_t pixels) {
  using A = Arithmetic<T>;
  const cuda::Grid<A> grid = cuda::grid_of<A>(p.levels, p.log_spacing);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < pixels; i += step) {
    int64_t offset[3];
    locate(p.pixels, i, offset);
    const Channels<T> channels{place<T>(p, offset, 0, 0), p.channel_stride[0]};
    const A first = top_logit(channels, p.mixtures);
    const A threshold = *place<const A>(p, offset, 1, 0) * normaliser(channels, p.mixtures, first);
    // The first component at which the cumulative probability exceeds the uniform.
    int64_t k = 0;
    A cumulative = cuda::exp_of(channels.get(0) - first);
    while (k < p.mixtures - 1 && cumulative <= threshold) {
      ++k;
      cumulative += cuda::exp_of(channels.get(k) - first);
    }
    A channel[Component<kColors>::channels], uniform[kColors], x[kColors];
    read_component<kColors>(channels, p.mixtures, k, channel);
#pragma unroll
    for (int c = 0; c < kColors; ++c) uniform[c] = *place<const A>(p, offset, 1, c + 1);
    cuda::draw_pixel<kColors>(channel, uniform, grid, p.flag, x);
#pragma unroll
    for (int c = 0; c < kColors; ++c) *place<A>(p, offset, 2, c) = x[c];
  }
}

}  // namespace

void logistic_mixture_sample_fwd_cuda(const LogisticMixture<3>& p, cudaStream_t stream) {
  const int64_t pixels = pixels_of(p);
  if (pixels == 0) return;
  GENFAST_DISPATCH_DTYPE(p.dtype, {
    using E = cuda::Element<T>;
    cuda::launch(p.colors == 1 ? logistic_mixture_sample_fwd_kernel<E, 1>
                               : logistic_mixture_sample_fwd_kernel<E, 3>,
                 blocks_for(pixels), kThreads, 0, stream, p, pixels);
  });
}

}  // namespace genfast
