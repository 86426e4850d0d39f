// A launch: its blocks one after another (all at once if cooperative), their shared memory, their end.
#include <cstdlib>
#include <utility>

#include "emulation/scheduler.h"
#ifdef GENFAST_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#endif
#ifdef GENFAST_EMULATION_TSAN
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace genfast::emulation {

namespace {

constexpr size_t kStaticAlignment = 16, kDynamicAlignment = 1024;
constexpr size_t kDefaultShared = 48 << 10;  // of a block, unless it is asked for more
// A guard page splits a mapping, and Linux allows 65530 mappings to a process.
constexpr size_t kGuardedFibers = 8192;

size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

#ifdef GENFAST_EMULATION_TSAN
// Blocks get addresses that no other block of the launch has had, from memory that ThreadSanitizer has
// not seen allocated: reuse would look like a race, or hide one.
struct Arena {
  static constexpr size_t kBytes = size_t{16} << 30;  // of addresses; pages are used as they are touched
  char *begin = nullptr, *next = nullptr;
  void reset() {
    if (begin == nullptr) {
      begin = reinterpret_cast<char*>(syscall(SYS_mmap, nullptr, kBytes, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L));
    } else {
      syscall(SYS_madvise, begin, round_up(static_cast<size_t>(next - begin), 4096), MADV_DONTNEED);
    }
    next = begin;
  }
  char* allocate(size_t alignment, size_t bytes) {
    next = begin + round_up(static_cast<size_t>(next - begin), alignment) + bytes;
    if (next > begin + kBytes) abort();
    return next - bytes;
  }
} arena;
void reset_shared() { arena.reset(); }
char* allocate_shared(size_t alignment, size_t bytes) { return arena.allocate(alignment, bytes); }
void free_shared(char*) {}
#else
void reset_shared() {}
char* allocate_shared(size_t alignment, size_t bytes) {
  return static_cast<char*>(aligned_alloc(alignment, bytes));
}
void free_shared(char* memory) { free(memory); }
#endif

// Filled with NaN (all bits 1; by a loop, which no sanitizer intercepts), its padding out of bounds.
char* add_shared(Block& block, const void* key, size_t bytes, size_t alignment) {
  const size_t padded = round_up(bytes, alignment);
  char* memory = allocate_shared(alignment, padded);
  for (size_t i = 0; i < padded; ++i) memory[i] = static_cast<char>(0xff);
#ifdef GENFAST_EMULATION_ASAN
  __asan_poison_memory_region(memory + bytes, padded - bytes);
#endif
  block.shared.push_back({key, memory, padded});
  return memory;
}

void check_shape(bool cooperative, dim3 grid, dim3 block, size_t dynamic_smem) {
  const auto shape = [](dim3 d) {
    return std::to_string(d.x) + " x " + std::to_string(d.y) + " x " + std::to_string(d.z);
  };
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  if (threads == 0 || threads > 1024 || block.z > 64) {
    throw EmulatorError("invalid launch: " + shape(block) +
                        " threads a block (1 to 1024, z at most 64)");
  }
  if (blocks == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    throw EmulatorError("invalid launch: a grid of " + shape(grid) + " (y and z 1 to 65535)");
  }
  if (dynamic_smem > config.shared_memory) {
    throw EmulatorError("invalid launch: " + std::to_string(dynamic_smem) +
                        " bytes of dynamic shared memory, at most " +
                        std::to_string(config.shared_memory));
  }
  if (cooperative && blocks > config.max_coresident_blocks) {
    throw EmulatorError("invalid cooperative launch: " + std::to_string(blocks) + " blocks, at most " +
                        std::to_string(config.max_coresident_blocks) + " fit the device at once");
  }
}

uint3 position(size_t index, dim3 size) {  // x fastest
  return {static_cast<unsigned>(index % size.x), static_cast<unsigned>(index / size.x % size.y),
          static_cast<unsigned>(index / size.x / size.y)};
}

// In which order the blocks run. Only what a kernel assumes about it can depend on it.
std::vector<size_t> block_order(size_t blocks) {
  std::vector<size_t> order(blocks);
  for (size_t i = 0; i < blocks; ++i) order[i] = config.order == Order::reverse ? blocks - 1 - i : i;
  for (size_t i = blocks; config.order == Order::random && i > 1; --i) {
    std::swap(order[i - 1], order[random_bits() % i]);
  }
  return order;
}

Block* start_block(size_t index, size_t threads, size_t first_fiber, size_t dynamic_smem) {
  Scheduler& s = scheduler;
  Block* block = new Block;
  block->alive = static_cast<int>(threads);
  if (dynamic_smem > 0) add_shared(*block, nullptr, dynamic_smem, kDynamicAlignment);
  block->warps.resize((threads + 31) / 32);
  if (threads % 32 != 0)
    block->warps.back().missing = block->warps.back().exited = ~0u << (threads % 32);
  for (size_t t = 0; t < threads; ++t) {
    // Other fibers than the last block's same threads had: ThreadSanitizer takes what one fiber did as
    // ordered, and would see no race between the blocks.
    Thread* thread = s.pool[first_fiber + (t + s.rotation) % threads];
    arm_fiber(thread->context, thread_main);
    thread->owner = block;
    thread->state = Thread::State::ready;
    thread->block = position(index, grid_dim);
    thread->thread = position(t, block_dim);
    thread->linear = static_cast<unsigned>(t);
    thread->open_copies.clear();
    thread->copy_groups.clear();
    block->threads.push_back(thread);
  }
  s.rotation += 17;
  const bool reverse = config.order == Order::reverse;
  for (size_t t = 0; t < threads; ++t) push_back(block->threads[reverse ? threads - 1 - t : t]);
  return block;
}

void end_block(Block* block) {
  for (const SharedArray& array : block->shared) {
#ifdef GENFAST_EMULATION_ASAN
    __asan_unpoison_memory_region(array.memory, array.bytes);
#endif
    free_shared(array.memory);
  }
  delete block;
}

// No thread can run: then all must have returned.
void check_all_done() {
  using State = Thread::State;
  const Thread* stuck = nullptr;
  int waiting[3] = {};
  for (const Block* block : scheduler.blocks) {
    for (const Thread* thread : block->threads) {
      if (thread->state == State::done) continue;
      if (stuck == nullptr) stuck = thread;
      ++waiting[static_cast<int>(thread->state) - static_cast<int>(State::at_block_barrier)];
    }
  }
  if (stuck == nullptr) return;
  scheduler.error = "deadlock: " + describe(*stuck) + " waits in " + describe(stuck->site) + " (" +
                    std::to_string(waiting[0]) + " threads at a block barrier, " +
                    std::to_string(waiting[1]) + " in a warp operation, " + std::to_string(waiting[2]) +
                    " at grid_sync)";
}

}  // namespace

void* shared_static(const void* key, size_t bytes, const char* file_, int line_) {
  Block& block = *scheduler.current->owner;
  size_t all = bytes, dynamic = 0;
  for (const SharedArray& array : block.shared) {
    if (array.key == key) return array.memory;
    all += array.bytes;
    if (array.key == nullptr) dynamic = array.bytes;
  }
  // A launch raises a kernel's limit only if its dynamic memory alone is above the default.
  const size_t limit = dynamic > kDefaultShared ? config.shared_memory : kDefaultShared;
  if (all > limit) {
    fail("more shared memory, " + std::to_string(all) + " bytes, than the " + std::to_string(limit) +
             " that the launch asks for",
         GENFAST_SITE("SHARED"));
  }
  return add_shared(block, key, bytes, kStaticAlignment);
}

void* shared_dynamic() {
  const Block& block = *scheduler.current->owner;
  const bool any = !block.shared.empty() && block.shared.front().key == nullptr;
  return any ? block.shared.front().memory : nullptr;
}

void launch(bool cooperative, dim3 grid, dim3 block, size_t dynamic_smem, std::function<void()> body) {
  Scheduler& s = scheduler;
  const std::lock_guard<std::mutex> one_at_a_time(s.mutex);
  check_shape(cooperative, grid, block, dynamic_smem);
  const size_t threads = size_t{block.x} * block.y * block.z, blocks = size_t{grid.x} * grid.y * grid.z;
  const size_t at_once = cooperative ? blocks : 1;
  while (s.pool.size() < threads * at_once) {
    s.pool.push_back(new Thread);
    create_fiber(s.pool.back()->context, s.pool.size() <= kGuardedFibers);
  }
  size_t capacity = 64;
  while (capacity <= threads * at_once) capacity *= 2;
  s.ring.assign(capacity, nullptr);
  s.body = std::move(body);
  s.error.clear();
  s.cooperative = cooperative;
  s.random_state = (config.seed + 1) * 0x9E3779B97F4A7C15u | 1;
  s.yields = 0;
  grid_dim = grid;
  block_dim = block;
  adopt_thread(s.host.context);
  reset_shared();
  release(&s.launch_order);

  const std::vector<size_t> order = block_order(blocks);
  for (size_t first = 0; first < blocks && s.error.empty(); first += at_once) {
    s.head = s.ready = 0;
    s.alive = static_cast<int>(threads * at_once);
    s.arrived = s.phase = 0;
    for (size_t i = 0; i < at_once; ++i) {
      s.blocks.push_back(start_block(order[first + i], threads, i * threads, dynamic_smem));
    }
    run_ready_threads();
    acquire(&s.order[0]);
    if (s.error.empty()) check_all_done();
    for (Block* ended : s.blocks) end_block(ended);
    s.blocks.clear();
  }
  s.body = nullptr;
  s.current = nullptr;
  if (!s.error.empty()) throw EmulatorError(s.error);
}

}  // namespace genfast::emulation
