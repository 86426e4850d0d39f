// cp.async: copies from global to shared memory that run while the thread goes on.
//
// A thread issues copies, closes them into groups with cp_async_commit, and cp_async_wait<N> waits until
// at most the N latest of its groups are under way. Other threads see the data after a barrier that
// follows the wait. In the emulation a copy happens at issue, or as late as its wait allows, by the
// schedule, so that both a read too early and an overwrite too early show. Part of cuda.h.
#pragma once

namespace genfast::cuda {

// Copies BYTES (4, 8 or 16; both addresses aligned to it). live = false reads nothing and writes zeros;
// `gmem` must be aligned all the same.
#ifdef CUDA_HOST_EMU
template <int BYTES>
inline void cp_async(void* smem, const void* gmem, bool live, GENFAST_CALLER) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
  ::genfast::emulation::async_copy(smem, gmem, BYTES, live, GENFAST_SITE("cp_async"));
}
GENFAST_DEVICE void cp_async_commit() { ::genfast::emulation::async_commit(); }
template <int N>
GENFAST_DEVICE void cp_async_wait() {
  ::genfast::emulation::async_wait(N);
}
#else
template <int BYTES>
GENFAST_DEVICE void cp_async(void* smem, const void* gmem, bool live) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
  const unsigned target = shared_address(smem);
  const int source_bytes = live ? BYTES : 0;
  if constexpr (BYTES == 16) {  // .cg: through L2 only, which nothing smaller offers
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(gmem),
                 "r"(source_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(target), "l"(gmem), "n"(BYTES),
                 "r"(source_bytes)
                 : "memory");
  }
}
GENFAST_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
GENFAST_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
#endif

}  // namespace genfast::cuda
