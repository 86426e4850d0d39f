// Numbers where kernels can use them: a GPU's memory, or under the emulation memory of exactly the size
// asked for, so that a sanitizer sees every byte beyond. Include after cuda.h.
#pragma once
#include <cstdlib>
#include <new>
#include <vector>

#include "common/cuda.h"

namespace genfast::emulation_tests {

template <class T>
class Array {
 public:
  explicit Array(const std::vector<T>& values) : size_(values.size()) {
    const size_t bytes = size_ * sizeof(T);
#ifdef CUDA_HOST_EMU
    void* memory = nullptr;
    if (posix_memalign(&memory, 16, bytes) != 0) throw std::bad_alloc();
    data_ = static_cast<T*>(memory);
    memcpy(memory, values.data(), bytes);
#else
    cuda::check(cudaMalloc(&data_, bytes), "cudaMalloc");
    cuda::check(cudaMemcpy(data_, values.data(), bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
#endif
  }
  explicit Array(size_t n, T value = T{}) : Array(std::vector<T>(n, value)) {}
  ~Array() {
#ifdef CUDA_HOST_EMU
    free(data_);
#else
    cudaFree(data_);
#endif
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  operator T*() const { return data_; }

  // After everything that was launched; throws what went wrong in it.
  std::vector<T> read() const {
    std::vector<T> values(size_);
#ifdef CUDA_HOST_EMU
    memcpy(values.data(), data_, size_ * sizeof(T));
#else
    cuda::check(cudaDeviceSynchronize(), "kernel");
    cuda::check(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost),
                "cudaMemcpy");
#endif
    return values;
  }

 private:
  size_t size_;
  T* data_ = nullptr;
};

}  // namespace genfast::emulation_tests
