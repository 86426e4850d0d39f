#include "common/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

namespace genfast {
namespace {

bool in_forked_child = false;
const int registered = pthread_atfork(nullptr, nullptr, [] { in_forked_child = true; });

// Some 20 us of spinning, then milliseconds of offers, which return at once while no one wants the core.
constexpr int kSpins = 1000, kOffers = 20000;
constexpr timespec kNap = {0, 50000};

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace

int usable_threads(int requested) {
  return in_forked_child || registered != 0 || requested < 1 ? 1 : requested;
}

void SpinBarrier::wait(unsigned threads) {
  const unsigned now = __atomic_load_n(&meeting, __ATOMIC_RELAXED);
  if (__atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL) == threads) {
    __atomic_store_n(&arrived, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&meeting, now + 1, __ATOMIC_RELEASE);
    return;
  }
  for (int tries = 0; __atomic_load_n(&meeting, __ATOMIC_ACQUIRE) == now; ++tries) {
    if (tries < kSpins) {
      relax();
    } else if (tries < kSpins + kOffers) {
      sched_yield();
    } else {
      nanosleep(&kNap, nullptr);
      --tries;
    }
  }
}

}  // namespace genfast
