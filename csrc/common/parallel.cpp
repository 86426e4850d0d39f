#include "common/parallel.h"

#include <pthread.h>

namespace genfast {
namespace {

bool in_forked_child = false;
const int registered = pthread_atfork(nullptr, nullptr, [] { in_forked_child = true; });

}  // namespace

int usable_threads(int requested) {
  return in_forked_child || registered != 0 || requested < 1 ? 1 : requested;
}

}  // namespace genfast
