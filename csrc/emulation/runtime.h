// What emulated kernels, common/cuda_*.h and the tests call: the interface of the emulation's runtime.
#pragma once
#include <cuda_runtime.h>  // for types only: dim3, uint3, float4, cudaStream_t

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

namespace genfast::emulation {

enum class Order { forward, reverse, random };

// How launches from now on are scheduled, and the limits of the emulated device.
struct Config {
  Order order = Order::forward;
  uint64_t seed = 0;                     // of Order::random
  unsigned max_coresident_blocks = 132;  // of a cooperative launch
  size_t shared_memory = 227 << 10;      // of a block, static and dynamic: sm_90
  bool capturing = false;                // what is_capturing says of every stream
};
extern Config config;
extern std::atomic<unsigned> graph_launches;  // since the module was loaded

// A kernel did what CUDA forbids; the message says what, which thread, and where.
struct EmulatorError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A place in a kernel's source, and the operation there.
struct Site {
  const char* file;
  int line;
  const char* operation;
};
// The last parameter of every emulated operation: its caller's place, taken by default arguments.
#define GENFAST_CALLER const char *file_ = __builtin_FILE(), int line_ = __builtin_LINE()
#define GENFAST_SITE(operation) (::genfast::emulation::Site{file_, line_, operation})

// What a kernel can ask about itself: threadIdx, blockIdx, blockDim, gridDim.
struct Indices {
  uint3 thread{}, block{};
  unsigned linear = 0;  // number of the thread in its block
};
extern Indices* current_indices;
extern dim3 grid_dim, block_dim;
inline int lane() { return static_cast<int>(current_indices->linear & 31); }

// Runs `body` once for every thread. Throws EmulatorError.
void launch(bool cooperative, dim3 grid, dim3 block, size_t dynamic_smem, std::function<void()> body);
// Ends the launch that is running with an EmulatorError: "<what>: block (..) thread (..) at <site>".
[[noreturn]] void fail(const std::string& what, Site site);
void check_aligned(const void* p, size_t bytes, Site site);

// Shared memory of the current block: exactly as large as asked for, filled with NaN.
void* shared_static(const void* key, size_t bytes, GENFAST_CALLER);
void* shared_dynamic();

void block_barrier(Site site);
void grid_barrier(Site site);
void yield(Site site);

// A warp operation: the lanes of `mask` wait for each other; the last to arrive runs `operation` on what
// every lane passed (null for lanes that are not in the mask or have exited).
using WarpOperation = void (*)(void* const (&lanes)[32]);
void warp_operation(unsigned mask, void* argument, WarpOperation operation, Site site,
                    bool orders_memory);

void warp_sync(unsigned mask, Site site);
unsigned ballot(unsigned mask, bool vote, Site site);
// `value`, of `bytes` bytes, becomes that of lane `source`: all bits 1 (NaN, -1) if that lane has none.
void shuffle(unsigned mask, void* value, int bytes, int source, Site site);

// cp.async; see async_copy.cpp.
void async_copy(void* smem, const void* gmem, int bytes, bool live, Site site);
void async_commit();
void async_wait(int groups_left);

// Tensor cores; see tensor_core.cpp.
enum class Operand { bf16, fp16, tf32 };
void mma(Operand operand, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site);
void ldmatrix(bool transposed, const void* row, uint32_t (&out)[4], Site site);

}  // namespace genfast::emulation
