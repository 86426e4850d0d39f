// The convolutions in ordinary arithmetic: any dtype, any strides, one thread an element of the result,
// no workspace. For fp64, for shapes too small for a tensor core's tile, and to test the others against.
#pragma once
#include "masked_conv/masked_conv.h"

namespace genfast::conv {

void simt_fwd(const MaskedConv2d& p, bool gated, cudaStream_t stream);
void simt_bwd_input(const MaskedConv2dBwdInput& p, cudaStream_t stream);
void simt_bwd_weight(const MaskedConv2dBwdWeight& p, cudaStream_t stream);  // the weight's only

}  // namespace genfast::conv
