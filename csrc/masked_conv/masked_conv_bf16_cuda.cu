// The tensor-core convolutions in bf16; a file a format keeps compilation short.
#include "masked_conv/weight_gradient.h"

namespace genfast::conv {

template void launch_implicit_gemm<cuda::Bf16Format>(const ImplicitGemm&, bool, bool, cudaStream_t);
template void launch_weight_gradient<cuda::Bf16Format>(const WeightGradient&, bool, cudaStream_t);

}  // namespace genfast::conv
