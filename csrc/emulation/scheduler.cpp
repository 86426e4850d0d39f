// Who runs next, and who waits for whom: barriers, warp operations, spin loops.
#include "emulation/scheduler.h"

#include <cstring>
#include <utility>

namespace genfast::emulation {

Config config;
std::atomic<unsigned> graph_launches{0};
Indices* current_indices;
dim3 grid_dim, block_dim;
// Never destroyed, so that LeakSanitizer still finds the fibers at exit.
Scheduler& scheduler = *new Scheduler;

namespace {

using State = Thread::State;

void push_front(Thread* thread) {
  scheduler.head = (scheduler.head - 1) & (scheduler.ring.size() - 1);
  scheduler.ring[scheduler.head] = thread;
  ++scheduler.ready;
}

// The next thread to run: the caller of launch() if none can.
Thread* pop() {
  Scheduler& s = scheduler;
  if (s.ready == 0) return &s.host;
  const size_t wrap = s.ring.size() - 1;
  if (config.order == Order::random && s.ready > 1) {
    std::swap(s.ring[s.head & wrap], s.ring[(s.head + random_bits() % s.ready) & wrap]);
  }
  Thread* next = s.ring[s.head];
  s.head = (s.head + 1) & wrap;
  --s.ready;
  return next;
}

// The only place where control moves between threads.
void switch_to(Thread* next, bool current_ends = false) {
  Thread* from = scheduler.current;
  if (next == from) return;
  scheduler.current = next;
  current_indices = next;
  switch_fiber(from->context, next->context, current_ends);
}

[[noreturn]] void stop(const std::string& message) {
  scheduler.error = message;
  switch_to(&scheduler.host);  // fibers that have not finished are abandoned
  __builtin_unreachable();
}

bool same(const Site& a, const Site& b) {
  return a.line == b.line && strcmp(a.operation, b.operation) == 0 && strcmp(a.file, b.file) == 0;
}

[[noreturn]] void stop_diverged(const char* what, const Thread& thread, const Site& others) {
  stop(std::string("divergent ") + what + ": " + describe(thread) + " is in " + describe(thread.site) +
       " while others wait in " + describe(others));
}

// Makes waiting threads (in ascending order, nulls are skipped) ready: the first runs next, or the last.
void wake(Thread* const* begin, Thread* const* end) {
  const bool reverse = config.order == Order::reverse;
  for (size_t i = 0, n = static_cast<size_t>(end - begin); i < n; ++i) {
    Thread* thread = begin[reverse ? i : n - 1 - i];
    if (thread == nullptr) continue;
    thread->state = State::ready;
    push_front(thread);
  }
}

void append_waiting(const Block& block, State state) {
  for (Thread* thread : block.threads) {
    if (thread->state == state) scheduler.waiting.push_back(thread);
  }
}

void wake_waiting() {
  std::vector<Thread*>& waiting = scheduler.waiting;
  wake(waiting.data(), waiting.data() + waiting.size());
  waiting.clear();
}

void complete_block_barrier(Block& block) {
  block.arrived = 0;
  ++block.phase;
  append_waiting(block, State::at_block_barrier);
  wake_waiting();
}

void complete_grid_barrier() {
  scheduler.arrived = 0;
  ++scheduler.phase;
  for (const Block* block : scheduler.blocks) append_waiting(*block, State::at_grid_barrier);
  wake_waiting();
}

void complete_rendezvous(Block& block, unsigned warp_index, Rendezvous& meeting) {
  void* arguments[32] = {};
  Thread* lanes[32] = {};
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned index = warp_index * 32 + lane;
    if ((meeting.mask >> lane & 1) == 0 || index >= block.threads.size()) continue;
    Thread* thread = block.threads[index];
    if (thread->state != State::in_warp_operation || thread->mask != meeting.mask) continue;  // exited
    lanes[lane] = thread;
    arguments[lane] = thread->argument;
  }
  meeting.operation(arguments);
  meeting.arrived = 0;
  Warp& warp = block.warps[warp_index];
  --warp.open;
  ++warp.phase;
  wake(lanes, lanes + 32);
}

bool complete(const Rendezvous& meeting, const Warp& warp) {
  return meeting.arrived > 0 && meeting.arrived == __builtin_popcount(meeting.mask & ~warp.exited);
}

// A thread has returned: those who wait for it need not any more.
void leave(Thread& thread) {
  Scheduler& s = scheduler;
  Block& block = *thread.owner;
  thread.state = State::done;
  s.yields = 0;
  --block.alive;
  --s.alive;
  release(&s.order[0]);
  Warp& warp = block.warps[thread.linear >> 5];
  warp.exited |= 1u << (thread.linear & 31);
  if (warp.open > 0) {
    for (Rendezvous& meeting : warp.rendezvous) {
      if (complete(meeting, warp)) complete_rendezvous(block, thread.linear >> 5, meeting);
    }
  }
  if (block.arrived > 0 && block.arrived == block.alive) complete_block_barrier(block);
  if (s.arrived > 0 && s.arrived == s.alive) complete_grid_barrier();
}

}  // namespace

unsigned random_bits() {  // xorshift64
  uint64_t& x = scheduler.random_state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return static_cast<unsigned>(x >> 32);
}

std::string describe(const Thread& thread) {
  const auto triple = [](uint3 v) {
    return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
  };
  return "block " + triple(thread.block) + " thread " + triple(thread.thread);
}

std::string describe(const Site& site) {
  return std::string(site.operation) + " at " + site.file + ":" + std::to_string(site.line);
}

void fail(const std::string& what, Site site) {
  stop(what + ": " + describe(*scheduler.current) + " in " + describe(site));
}

void push_back(Thread* thread) {
  Scheduler& s = scheduler;
  s.ring[(s.head + s.ready) & (s.ring.size() - 1)] = thread;
  ++s.ready;
}

void run_ready_threads() {
  scheduler.current = &scheduler.host;
  switch_to(pop());
  scheduler.current = &scheduler.host;
}

void thread_main() {
  fiber_entered();
  Thread& thread = *scheduler.current;
  acquire(&scheduler.launch_order);
  scheduler.body();
  if (const AsyncCopy* copy = unwaited_copy(thread)) fail("copy that was never waited for", copy->site);
  leave(thread);
  switch_to(pop(), true);
  __builtin_trap();  // nobody switches to a thread that is done
}

void block_barrier(Site site) {
  Thread& thread = *scheduler.current;
  Block& block = *thread.owner;
  scheduler.yields = 0;
  thread.site = site;
  if (block.arrived == 0) block.site = site;
  if (!same(block.site, site)) stop_diverged("barrier", thread, block.site);
  thread.state = State::at_block_barrier;
  char* token = &block.order[block.phase & 1];
  release(token);
  if (++block.arrived == block.alive) complete_block_barrier(block);
  switch_to(pop());
  acquire(token);
}

void grid_barrier(Site site) {
  Scheduler& s = scheduler;
  Thread& thread = *s.current;
  s.yields = 0;
  thread.site = site;
  if (!s.cooperative) fail("grid_sync in a launch that is not cooperative", site);
  if (s.arrived == 0) s.site = site;
  if (!same(s.site, site)) stop_diverged("grid_sync", thread, s.site);
  thread.state = State::at_grid_barrier;
  char* token = &s.order[s.phase & 1];
  release(token);
  if (++s.arrived == s.alive) complete_grid_barrier();
  switch_to(pop());
  acquire(token);
}

void warp_operation(unsigned mask, void* argument, WarpOperation operation, Site site,
                    bool orders_memory) {
  Thread& thread = *scheduler.current;
  Block& block = *thread.owner;
  const unsigned warp_index = thread.linear >> 5;
  Warp& warp = block.warps[warp_index];
  scheduler.yields = 0;
  thread.site = site;
  if ((mask >> (thread.linear & 31) & 1) == 0) fail("mask without the calling lane", site);
  mask &= ~warp.missing;  // a full mask is usual in a last, partial warp
  Rendezvous& meeting = warp.rendezvous[__builtin_ctz(mask)];
  if (meeting.arrived == 0) {
    meeting.mask = mask;
    meeting.operation = operation;
    meeting.site = site;
    ++warp.open;
  } else if (meeting.mask != mask || meeting.operation != operation || !same(meeting.site, site)) {
    stop_diverged("warp operation", thread, meeting.site);
  }
  thread.state = State::in_warp_operation;
  thread.mask = mask;
  thread.argument = argument;
  ++meeting.arrived;
  char* token = &warp.order[warp.phase & 1];
  if (orders_memory) release(token);
  if (complete(meeting, warp)) complete_rendezvous(block, warp_index, meeting);
  switch_to(pop());
  if (orders_memory) acquire(token);
}

void yield(Site site) {
  constexpr uint64_t kPatience = 1000000;  // yields with nothing else happening
  Thread& thread = *scheduler.current;
  if (scheduler.ready == 0 || ++scheduler.yields == kPatience) {
    fail("livelock: a thread spins and no other can help", site);
  }
  push_back(&thread);
  switch_to(pop());
}

}  // namespace genfast::emulation
