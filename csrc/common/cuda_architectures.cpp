#include "common/cuda_architectures.h"

#include <sstream>

namespace genfast {

std::string unsupported_device(const std::string& architectures, int major, int minor) {
  std::istringstream list(architectures);
  std::string architecture;
  int number = 0;
  while (list >> architecture) {
    const bool exact = architecture.back() == 'a';  // code of these runs on no other capability
    number = std::stoi(architecture);
    const bool same_major = number / 10 == major && number % 10 <= minor;
    if (exact ? number == major * 10 + minor : same_major) return "";
  }
  if (architecture.back() != 'a' && number < major * 10 + minor) return "";  // by way of its PTX
  return "this GPU has compute capability " + std::to_string(major) + "." + std::to_string(minor) +
         ", but genfast was built for: " + architectures +
         "; rebuild with GENFAST_CUDA_ARCHS=" + std::to_string(major * 10 + minor);
}

}  // namespace genfast
