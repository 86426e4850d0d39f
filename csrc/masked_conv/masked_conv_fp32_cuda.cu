// The tensor-core convolutions in fp32 in three TF32 products; a file a format keeps compilation short.
#include "masked_conv/weight_gradient.h"

namespace genfast::conv {

template void launch_implicit_gemm<cuda::Tf32x3Format>(const ImplicitGemm&, bool, bool, cudaStream_t);
template void launch_weight_gradient<cuda::Tf32x3Format>(const WeightGradient&, bool, cudaStream_t);

}  // namespace genfast::conv
