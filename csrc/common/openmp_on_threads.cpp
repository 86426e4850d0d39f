// The entry points of OpenMP that the kernels use, on std::thread: for builds under ThreadSanitizer,
// which sees what std::thread puts in order and nothing of what libgomp does (it is not instrumented),
// and would call every use of a parallel region's results a race. For tests only.
#include <omp.h>

#include <thread>
#include <vector>

namespace {
thread_local int member = 0, members = 1;

void run(void (*body)(void*), void* data, int number, int threads) {
  const int outer_member = member, outer_members = members;
  member = number, members = threads;
  body(data);
  member = outer_member, members = outer_members;
}
}  // namespace

extern "C" void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned) {
  const int count = members > 1 ? 1 : static_cast<int>(threads);  // nested regions have one thread
  std::vector<std::thread> others;
  for (int number = 1; number < count; ++number) others.emplace_back(run, body, data, number, count);
  run(body, data, 0, count);
  for (std::thread& other : others) other.join();
}

extern "C" int omp_get_thread_num() { return member; }
extern "C" int omp_get_num_threads() { return members; }
