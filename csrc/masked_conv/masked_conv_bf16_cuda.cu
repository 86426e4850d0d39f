// The tensor-core convolutions in bf16; a file a format keeps compilation short.
#include "masked_conv/weight_gradient.h"

namespace genfast::conv {

template void launch_implicit_gemm<Bf16Path>(const ImplicitGemm&, bool, bool, cudaStream_t);
template void launch_weight_gradient<Bf16Path>(const WeightGradient&, bool, cudaStream_t);

}  // namespace genfast::conv
