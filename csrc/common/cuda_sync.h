// Synchronisation between blocks: loads and stores that order memory, spin loops, a barrier of the whole
// grid. Only for cooperative launches. Part of cuda.h.
#pragma once

namespace genfast::cuda {

// What was written before a st_release is seen after the ld_acquire that reads its value. 4-byte types.
template <class T>
GENFAST_DEVICE T ld_acquire(const T* p) {
  static_assert(sizeof(T) == 4, "ld_acquire reads 4 bytes");
#ifdef CUDA_HOST_EMU
  T value;
  __atomic_load(p, &value, __ATOMIC_ACQUIRE);
  return value;
#else
  uint32_t bits;
  asm volatile("ld.acquire.gpu.global.b32 %0, [%1];" : "=r"(bits) : "l"(p) : "memory");
  T value;
  memcpy(&value, &bits, 4);
  return value;
#endif
}

template <class T>
GENFAST_DEVICE void st_release(T* p, T value) {
  static_assert(sizeof(T) == 4, "st_release writes 4 bytes");
#ifdef CUDA_HOST_EMU
  __atomic_store(p, &value, __ATOMIC_RELEASE);
#else
  uint32_t bits;
  memcpy(&bits, &value, 4);
  asm volatile("st.release.gpu.global.b32 [%0], %1;" ::"l"(p), "r"(bits) : "memory");
#endif
}

// Goes into the body of every loop that waits for another thread's store.
#ifdef CUDA_HOST_EMU
inline void spin_yield(GENFAST_CALLER) { ::genfast::emulation::yield(GENFAST_SITE("spin_yield")); }
#else
GENFAST_DEVICE void spin_yield() { __nanosleep(32); }
#endif

// In global memory, zero before the first launch that uses it; a barrier leaves it ready for the next.
struct GridBarrier {
  unsigned count, generation;
};

// Every thread of the grid calls it; what was written before it is seen after it.
#ifdef CUDA_HOST_EMU
inline void grid_sync(GridBarrier*, GENFAST_CALLER) {
  ::genfast::emulation::grid_barrier(GENFAST_SITE("grid_sync"));
}
#else
GENFAST_DEVICE void grid_sync(GridBarrier* barrier) {
  __syncthreads();
  if (threadIdx.x + threadIdx.y + threadIdx.z == 0) {
    const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
    const unsigned generation = ld_acquire(&barrier->generation);
    __threadfence();
    if (atomicAdd(&barrier->count, 1u) == blocks - 1) {  // the last to arrive lets the others go
      barrier->count = 0;
      __threadfence();
      st_release(&barrier->generation, generation + 1);
    } else {
      while (ld_acquire(&barrier->generation) == generation) spin_yield();
    }
    __threadfence();
  }
  __syncthreads();
}
#endif

}  // namespace genfast::cuda
