// Parallel loops on OpenMP with the caller's thread count (torch.get_num_threads()).
#pragma once
#include <cstdint>

namespace genfast {
// 1 in a process forked from one that loaded this module: an OpenMP region there can wait for ever for
// threads that only the parent has. Defined in parallel.cpp.
int usable_threads(int requested);

// Where the threads of a team meet every few microseconds: those that are early spin, since a wake-up
// costs more than the wait. On a busy machine the late one may not be running at all, so they soon offer
// their core, and in the end sleep in between.
struct alignas(64) SpinBarrier {
  unsigned arrived = 0;
  alignas(64) unsigned meeting = 0;  // how many there have been

  void wait(unsigned threads);
};
}  // namespace genfast

#ifdef GENFAST_ISA
namespace genfast::GENFAST_ISA {

// Calls body(begin, end) on consecutive ranges that cover 0..n, at least `grain` long each. One range
// means no parallel region at all.
template <class Body>
static void parallel_for(int threads, int64_t n, int64_t grain, const Body& body) {
  int64_t ranges = n / (grain < 1 ? 1 : grain);
  if (ranges > threads) ranges = threads;
  if (ranges <= 1) {
    if (n > 0) body(int64_t{0}, n);
    return;
  }
#pragma omp parallel for schedule(static, 1) num_threads(static_cast<int>(ranges))
  for (int64_t r = 0; r < ranges; ++r) body(n * r / ranges, n * (r + 1) / ranges);
}

}  // namespace genfast::GENFAST_ISA
#endif
