// Kernels that are wrong on purpose, each in one way, by name; see faulty.cu.
#pragma once
#include <string>
#include <vector>

struct CUstream_st;
typedef CUstream_st* cudaStream_t;

namespace genfast::emulation_tests {

constexpr int kFaultyValues = 64;  // floats, 16-byte aligned

std::vector<std::string> faulty_names();
void run_faulty(const std::string& name, float* values, cudaStream_t stream);

}  // namespace genfast::emulation_tests
