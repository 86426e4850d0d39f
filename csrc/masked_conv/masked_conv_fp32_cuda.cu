// The tensor-core convolutions in fp32 in three TF32 products; a file a format keeps compilation short.
#include "masked_conv/weight_gradient.h"

namespace genfast::conv {

template void launch_implicit_gemm<Tf32x3Path>(const ImplicitGemm&, bool, bool, cudaStream_t);
template void launch_weight_gradient<Tf32x3Path>(const WeightGradient&, bool, cudaStream_t);

}  // namespace genfast::conv
