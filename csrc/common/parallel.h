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
#include <omp.h>

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

// Threads that do one job together: member 0 .. size - 1.
struct Team {
  int member, size;
  SpinBarrier* barrier;

  // Until all members are here; what they wrote before can be read then.
  inline __attribute__((always_inline)) void meet() const {
    if (size > 1) barrier->wait(static_cast<unsigned>(size));
  }
  inline __attribute__((always_inline)) int64_t first(int64_t n) const { return n * member / size; }
  inline __attribute__((always_inline)) int64_t last(int64_t n) const { return n * (member + 1) / size; }
};

// Calls body(job, thread, team) for every job. Where there are at least twice as many threads as jobs,
// each job is done by a team of up to `most` threads that run at the same time, which each get the call;
// those left over join the last team. Otherwise a job is done by one thread. Jobs bring a barrier each,
// as barrier(job).
template <class Barrier, class Body>
static void in_teams(int threads, int jobs, int most, const Barrier& barrier, const Body& body) {
  if (threads > jobs && most < 2) threads = jobs;
  if (threads <= 1) {
    for (int job = 0; job < jobs; ++job) body(job, 0, Team{0, 1, nullptr});
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    // Perhaps fewer than were asked for: one, if the caller is in a parallel region itself.
    const int thread = omp_get_thread_num(), got = omp_get_num_threads();
    if (got < 2 * jobs || most < 2) {
      for (int job = thread; job < jobs; job += got) body(job, thread, Team{0, 1, nullptr});
    } else {
      const int size = got / jobs, job = thread / size < jobs ? thread / size : jobs - 1;
      const int member = thread - job * size, there = job == jobs - 1 ? got - job * size : size;
      const int taking_part = there < most ? there : most;
      if (member < taking_part) body(job, thread, Team{member, taking_part, barrier(job)});
    }
  }
}

}  // namespace genfast::GENFAST_ISA
#endif
