// cp.async. The hardware may copy at any time between issue and wait. Copies as late as the wait allows
// (schedule forward) show reads before the wait; copies at issue (reverse) show that another thread
// still reads what is overwritten; random schedules draw for every copy.
#include <cstring>
#include <utility>

#include "emulation/scheduler.h"

namespace genfast::emulation {

namespace {

void perform(const AsyncCopy& copy) {  // by memcpy and memset, which sanitizers check even here
  if (copy.live) {
    memcpy(copy.target, copy.source, static_cast<size_t>(copy.bytes));
  } else {
    memset(copy.target, 0, static_cast<size_t>(copy.bytes));
  }
}

}  // namespace

void check_aligned(const void* p, size_t bytes, Site site) {
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0) {
    fail("misaligned address: not a multiple of " + std::to_string(bytes), site);
  }
}

void async_copy(void* smem, const void* gmem, int bytes, bool live, Site site) {
  check_aligned(smem, static_cast<size_t>(bytes), site);
  check_aligned(gmem, static_cast<size_t>(bytes), site);
  const bool at_once =
      config.order == Order::reverse || (config.order == Order::random && (random_bits() & 1) != 0);
  const AsyncCopy copy{smem, gmem, bytes, live, at_once, site};
  if (at_once) perform(copy);
  scheduler.current->open_copies.push_back(copy);
}

void async_commit() {
  Thread& thread = *scheduler.current;
  thread.copy_groups.push_back(std::move(thread.open_copies));
  thread.open_copies.clear();
}

void async_wait(int groups_left) {
  std::vector<std::vector<AsyncCopy>>& groups = scheduler.current->copy_groups;
  while (static_cast<int>(groups.size()) > groups_left) {
    for (const AsyncCopy& copy : groups.front()) {
      if (!copy.done) perform(copy);
    }
    groups.erase(groups.begin());
  }
}

const AsyncCopy* unwaited_copy(const Thread& thread) {
  for (const std::vector<AsyncCopy>& group : thread.copy_groups) {
    if (!group.empty()) return &group.front();
  }
  return thread.open_copies.empty() ? nullptr : &thread.open_copies.front();
}

}  // namespace genfast::emulation
