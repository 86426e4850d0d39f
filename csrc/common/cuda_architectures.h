// Which GPUs a build can run on. Knows nothing of CUDA, so that it is tested everywhere.
#pragma once
#include <string>

namespace genfast {

// Why code built for `architectures` ("80 90a 120", the last also as PTX) cannot run on a device of
// compute capability major.minor; empty if it can.
std::string unsupported_device(const std::string& architectures, int major, int minor);

}  // namespace genfast
