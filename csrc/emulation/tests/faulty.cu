// How each of these is caught stands in tests/test_emulation.py.
#include "emulation/tests/faulty.h"

#include <stdexcept>

#include "common/cuda.h"

namespace genfast::emulation_tests {

using namespace genfast::cuda;

namespace {

#define THREAD static_cast<int>(threadIdx.x)

// ---- order between threads ----------------------------------------------------------------------
__global__ void missing_syncthreads(float* g) {
  float* shared = dyn_smem<float>();
  shared[THREAD] = g[THREAD];
  g[THREAD] = shared[63 - THREAD];
}
__global__ void missing_syncwarp(float* g) {
  float* shared = dyn_smem<float>();
  shared[THREAD] = g[THREAD];
  g[THREAD] = shared[THREAD ^ 1];
}
__global__ void shuffle_for_syncwarp(float* g) {  // a shuffle orders no memory: only TSan can tell
  float* shared = dyn_smem<float>();
  shared[THREAD] = g[THREAD];
  const float other = __shfl_xor_sync(~0u, shared[THREAD], 2);
  g[THREAD] = shared[THREAD ^ 1] + other;
}
__global__ void missing_second_barrier(float* g) {  // the next round overwrites what others still read
  float* shared = dyn_smem<float>();
  for (int i = 0; i < 3; ++i) {
    if (THREAD == 0) shared[0] = static_cast<float>(i);
    __syncthreads();
    g[THREAD] += shared[0];
  }
}
__global__ void write_race(float* g) { g[0] = static_cast<float>(THREAD); }
__global__ void block_race(float* g) {
  if (THREAD == 0) g[0] = g[0] * 2.0f + static_cast<float>(blockIdx.x);
}
__global__ void flag_without_release(float* g) {
  SHARED(float, got);
  int* flag = reinterpret_cast<int*>(g);
  if (THREAD == 0 && blockIdx.x == 0) {
    g[2] = 5.0f;
    atomicExch(flag, 1);  // relaxed
  }
  if (THREAD == 0 && blockIdx.x == 1) {
    while (atomicAdd(flag, 0) != 1) spin_yield();
    got = g[2];
    g[3] = got;
  }
}

// ---- shared memory ------------------------------------------------------------------------------
__global__ void uninitialised_shared(float* g) { g[THREAD] = dyn_smem<float>()[THREAD]; }
__global__ void dynamic_shared_overrun(float* g) {
  float* shared = dyn_smem<float>();
  shared[THREAD] = g[THREAD];
  __syncthreads();
  g[THREAD] = shared[THREAD + 1];
}
__global__ void static_shared_overrun(float* g) {
  SHARED(float[63], shared);
  float* p = shared;
  p[THREAD] = g[THREAD];
}

// ---- other memory -------------------------------------------------------------------------------
__global__ void global_overrun(float* g) { g[THREAD + 1] = 1.0f; }
__global__ void local_overrun(float* g) {
  float local[8];
  for (int i = 0; i < 8; ++i) local[i] = g[i];
  volatile int index = 8 + (THREAD & 1);
  g[THREAD] = local[index];
}
__global__ void misaligned_float4(float* g) { g[THREAD] = reinterpret_cast<float4*>(g + 1)->x; }

// ---- cp.async -----------------------------------------------------------------------------------
__global__ void copy_read_before_wait(float* g) {
  float* shared = dyn_smem<float>();
  cp_async<4>(&shared[THREAD], &g[THREAD], true);
  cp_async_commit();
  g[THREAD] = shared[THREAD] + 1.0f;
  cp_async_wait<0>();
}
__global__ void copy_over_data_in_use(float* g) {  // no barrier before the copy that overwrites
  float* shared = dyn_smem<float>();
  shared[THREAD] = 1.0f;
  __syncthreads();
  const float read = shared[63 - THREAD];
  cp_async<4>(&shared[THREAD], &g[THREAD], true);
  cp_async_commit();
  cp_async_wait<0>();
  g[THREAD] = read;
}
__global__ void copy_never_waited_for(float* g) {
  float* shared = dyn_smem<float>();
  cp_async<4>(&shared[THREAD], &g[THREAD], true);
  cp_async_commit();
}
__global__ void copy_misaligned(float* g) {
  float* shared = dyn_smem<float>();
  if (THREAD == 0) cp_async<16>(shared, g + 1, true);
  cp_async_commit();
  cp_async_wait<0>();
}
__global__ void copy_overrun(float* g) {
  float* shared = dyn_smem<float>();
  if (THREAD < 16) cp_async<16>(&shared[4 * THREAD], &g[4 * THREAD + 4], true);
  cp_async_commit();
  cp_async_wait<0>();
}

// ---- barriers and warp operations ---------------------------------------------------------------
__global__ void divergent_barrier(float* g) {
  if (THREAD & 1) {
    __syncthreads();
    g[THREAD] = 1.0f;
  } else {
    __syncthreads();
  }
}
__global__ void divergent_grid_sync(float* g) {
  GridBarrier* barrier = reinterpret_cast<GridBarrier*>(g);
  if (blockIdx.x == 0) {
    grid_sync(barrier);
  } else {
    grid_sync(barrier);
  }
}
__global__ void divergent_shuffle(float* g) {
  if (THREAD & 1) {
    g[THREAD] = __shfl_xor_sync(~0u, 1.0f, 1);
  } else {
    g[THREAD] = __shfl_xor_sync(~0u, 2.0f, 1);
  }
}
__global__ void deadlock(float* g) {  // 31 lanes wait for the last, which waits for them at a barrier
  if (THREAD % 32 == 31) {
    __syncthreads();
  } else {
    g[THREAD] = __shfl_xor_sync(~0u, 1.0f, 1);
  }
}
__global__ void livelock(float* g) {
  int* flag = reinterpret_cast<int*>(g);
  while (ld_acquire(flag) != 12345) spin_yield();
}
__global__ void bad_mask(float* g) { g[THREAD] = __shfl_xor_sync(0x7fffffffu, 1.0f, 1); }
__global__ void shuffle_from_returned_lane(float* g) {
  if (THREAD % 32 == 0) return;
  g[THREAD] = __shfl_sync(~0u, 1.0f, 0);
}
__global__ void mma_in_partial_warp(float* g) {
  float d[4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  mma_bf16(d, a, b);
  g[THREAD] = d[0];
}
__global__ void misaligned_ldmatrix(float* g) {
  float* shared = dyn_smem<float>();
  uint32_t r[4];
  shared[THREAD] = 0.0f;
  __syncthreads();
  ldmatrix_x4(r, &shared[THREAD % 32]);
  g[THREAD] = static_cast<float>(r[0]);
}
__global__ void trap(float*) { __trap(); }
__global__ void static_and_dynamic_shared_memory(float* g) {
  SHARED(float[4096], table);
  table[THREAD] = dyn_smem<float>()[THREAD];
  g[THREAD] = table[THREAD];
}

// ---- launches -----------------------------------------------------------------------------------
__global__ void nothing(float*) {}
__global__ void grid_barrier(float* g) { grid_sync(reinterpret_cast<GridBarrier*>(g)); }

struct Faulty {
  const char* name;
  void (*kernel)(float*);
  int threads = kFaultyValues, blocks = 1;
  size_t smem = kFaultyValues * sizeof(float);
  bool cooperative = false;
};
#define FAULTY(name, ...) {#name, name, ##__VA_ARGS__}

const Faulty kFaulty[] = {
    FAULTY(missing_syncthreads),
    FAULTY(missing_syncwarp),
    FAULTY(shuffle_for_syncwarp),
    FAULTY(missing_second_barrier),
    FAULTY(write_race),
    FAULTY(block_race, 64, 3),
    FAULTY(flag_without_release, 32, 2, 0, true),
    FAULTY(uninitialised_shared),
    FAULTY(dynamic_shared_overrun),
    FAULTY(static_shared_overrun),
    FAULTY(global_overrun),
    FAULTY(local_overrun),
    FAULTY(misaligned_float4),
    FAULTY(copy_read_before_wait),
    FAULTY(copy_over_data_in_use),
    FAULTY(copy_never_waited_for),
    FAULTY(copy_misaligned),
    FAULTY(copy_overrun),
    FAULTY(divergent_barrier),
    FAULTY(divergent_grid_sync, 32, 2, 0, true),
    FAULTY(divergent_shuffle),
    FAULTY(deadlock),
    FAULTY(livelock, 32, 1, 0, true),
    FAULTY(bad_mask),
    FAULTY(shuffle_from_returned_lane),
    FAULTY(mma_in_partial_warp, 48),
    FAULTY(misaligned_ldmatrix),
    FAULTY(trap),
    FAULTY(static_and_dynamic_shared_memory, 32, 1, 40 << 10),
    {"too_many_threads", nothing, 1025},
    {"no_blocks", nothing, 32, 0},
    {"too_much_shared_memory", nothing, 32, 1, 228 << 10},
    {"too_many_cooperative_blocks", nothing, 32, 1000, 0, true},
    {"grid_sync_without_cooperation", grid_barrier, 32, 2},
};

}  // namespace

std::vector<std::string> faulty_names() {
  std::vector<std::string> names;
  for (const Faulty& faulty : kFaulty) names.push_back(faulty.name);
  return names;
}

void run_faulty(const std::string& name, float* values, cudaStream_t stream) {
  for (const Faulty& faulty : kFaulty) {
    if (name != faulty.name) continue;
    return launch_kernel(faulty.cooperative, faulty.kernel, faulty.blocks, faulty.threads, faulty.smem,
                         stream, values);
  }
  throw std::invalid_argument("no faulty kernel " + name);
}

}  // namespace genfast::emulation_tests
