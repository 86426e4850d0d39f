// The state of a launch: threads (fibers), their warps and blocks, and the queue of those that can run.
// Internal to the runtime: scheduler.cpp, launch.cpp, async_copy.cpp.
#pragma once
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "emulation/fiber.h"
#include "emulation/runtime.h"

namespace genfast::emulation {

struct Block;

struct AsyncCopy {
  void* target;
  const void* source;
  int bytes;
  bool live;
  bool done;  // already at issue
  Site site;
};

// One CUDA thread.
struct Thread : Indices {
  enum class State : uint8_t { ready, at_block_barrier, in_warp_operation, at_grid_barrier, done };
  Context context;
  Block* owner = nullptr;
  State state = State::ready;
  Site site{};  // where it waits
  unsigned mask = 0;
  void* argument = nullptr;  // of the warp operation it waits in
  std::vector<AsyncCopy> open_copies;
  std::vector<std::vector<AsyncCopy>> copy_groups;  // committed, oldest first
};

// Lanes that wait for each other. Disjoint masks of one warp may do so at the same time.
struct Rendezvous {
  unsigned mask = 0;
  int arrived = 0;
  WarpOperation operation = nullptr;
  Site site{};
};

struct Warp {
  Rendezvous rendezvous[32];  // by the lowest lane of the mask
  int open = 0;               // how many of them are in use
  unsigned missing = 0;       // lanes past the end of the block
  unsigned exited = 0;        // those and the ones that have returned
  int phase = 0;              // operations completed
  char order[2];              // tokens for ThreadSanitizer, taken in turns by `phase`
};

struct SharedArray {
  const void* key;
  char* memory;
  size_t bytes;
};

struct Block {
  std::vector<Thread*> threads;
  std::vector<Warp> warps;
  std::vector<SharedArray> shared;  // the first is the dynamic one, if any
  int alive = 0;
  int arrived = 0;  // at the block's barrier
  Site site{};      // of that barrier
  int phase = 0;
  char order[2];
};

struct Scheduler {
  Thread* current = nullptr;
  Thread host;  // stands for the caller of launch()
  std::vector<Thread*>
      ring;  // the threads that can run: `ready` of them from `head`; size a power of two
  size_t head = 0, ready = 0;
  std::vector<Thread*> waiting;  // scratch of the barriers
  std::vector<Thread*> pool;     // fibers are made once
  unsigned rotation = 0;         // which fiber of the pool is a block's first thread

  std::function<void()> body;
  std::string error;
  bool cooperative = false;
  std::vector<Block*> blocks;  // alive
  int alive = 0, arrived = 0;  // threads; at the grid's barrier
  Site site{};
  int phase = 0;
  char order[2], launch_order;

  uint64_t random_state = 1;
  uint64_t yields = 0;  // since any thread last did something else
  std::mutex mutex;     // one launch at a time
};
extern Scheduler& scheduler;

void push_back(Thread* thread);
void run_ready_threads();                              // until none can run
void thread_main();                                    // what every fiber runs
const AsyncCopy* unwaited_copy(const Thread& thread);  // null if there is none
unsigned random_bits();
std::string describe(const Thread& thread);  // block (x,y,z) thread (x,y,z)
std::string describe(const Site& site);      // operation at file:line

}  // namespace genfast::emulation
