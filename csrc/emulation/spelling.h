// CUDA's own names under g++: keywords, built-in variables, barriers, warp operations, atomics,
// intrinsics. Part of emulation.h. Only what the project's kernels use or may well use; a missing name
// does not compile.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulation/runtime.h"

// Plain __shared__ could not be per block here, so it must not compile.
#undef __shared__
#define __shared__ use_SHARED_or_dyn_smem_instead_of___shared__
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __forceinline__
#define __forceinline__ inline __attribute__((always_inline))
#define threadIdx (::genfast::emulation::current_indices->thread)
#define blockIdx (::genfast::emulation::current_indices->block)
#define blockDim (::genfast::emulation::block_dim)
#define gridDim (::genfast::emulation::grid_dim)
#define warpSize 32

// ---- barriers and fences ------------------------------------------------------------------------
inline void __syncthreads(GENFAST_CALLER) {
  ::genfast::emulation::block_barrier(GENFAST_SITE("__syncthreads"));
}
inline void __syncwarp(unsigned mask = ~0u, GENFAST_CALLER) {
  ::genfast::emulation::warp_sync(mask, GENFAST_SITE("__syncwarp"));
}
inline void __threadfence() {}  // fibers share one OS thread: memory is always consistent
inline void __threadfence_block() {}
[[noreturn]] inline void __trap(GENFAST_CALLER) {
  ::genfast::emulation::fail("trap", GENFAST_SITE("__trap"));
}

// ---- warp operations
// ------------------------------------------------------------------------------------ A shuffle whose
// source lies outside the lane's segment of `width` lanes returns the lane's own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, GENFAST_CALLER) {
  const int first = ::genfast::emulation::lane() & ~(width - 1);
  ::genfast::emulation::shuffle(mask, &value, sizeof(T), first | (source & (width - 1)),
                                GENFAST_SITE("__shfl_sync"));
  return value;
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, GENFAST_CALLER) {
  const int lane = ::genfast::emulation::lane(), source = lane ^ lane_mask;
  ::genfast::emulation::shuffle(mask, &value, sizeof(T), source > (lane | (width - 1)) ? lane : source,
                                GENFAST_SITE("__shfl_xor_sync"));
  return value;
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, GENFAST_CALLER) {
  const int lane = ::genfast::emulation::lane(), source = lane - static_cast<int>(delta);
  ::genfast::emulation::shuffle(mask, &value, sizeof(T), source < (lane & ~(width - 1)) ? lane : source,
                                GENFAST_SITE("__shfl_up_sync"));
  return value;
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, GENFAST_CALLER) {
  const int lane = ::genfast::emulation::lane(), source = lane + static_cast<int>(delta);
  ::genfast::emulation::shuffle(mask, &value, sizeof(T), source > (lane | (width - 1)) ? lane : source,
                                GENFAST_SITE("__shfl_down_sync"));
  return value;
}
inline unsigned __ballot_sync(unsigned mask, int vote, GENFAST_CALLER) {
  return ::genfast::emulation::ballot(mask, vote != 0, GENFAST_SITE("__ballot_sync"));
}
inline int __any_sync(unsigned mask, int vote, GENFAST_CALLER) {
  return ::genfast::emulation::ballot(mask, vote != 0, GENFAST_SITE("__any_sync")) != 0;
}
inline int __all_sync(unsigned mask, int vote, GENFAST_CALLER) {
  return ::genfast::emulation::ballot(mask, vote == 0, GENFAST_SITE("__all_sync")) == 0;
}

// ---- atomics: relaxed, as on the device ---------------------------------------------------------
template <class T>
T atomicCAS(T* p, T expected, T desired) {
  __atomic_compare_exchange(p, &expected, &desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}
namespace genfast::emulation {
template <class T, class Update>
T read_modify_write(T* p, Update update) {
  T old, updated;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  do {
    updated = update(old);
  } while (!__atomic_compare_exchange(p, &old, &updated, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}
}  // namespace genfast::emulation
template <class T, class U>
T atomicAdd(T* p, U value) {
  return ::genfast::emulation::read_modify_write(p, [=](T old) { return T(old + T(value)); });
}
template <class T, class U>
T atomicMax(T* p, U value) {
  return ::genfast::emulation::read_modify_write(p,
                                                 [=](T old) { return old < T(value) ? T(value) : old; });
}
template <class T, class U>
T atomicMin(T* p, U value) {
  return ::genfast::emulation::read_modify_write(p,
                                                 [=](T old) { return T(value) < old ? T(value) : old; });
}
template <class T, class U>
T atomicExch(T* p, U value) {
  return ::genfast::emulation::read_modify_write(p, [=](T) { return T(value); });
}

// ---- memory with cache hints --------------------------------------------------------------------
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T value) {
  *p = value;
}

// ---- arithmetic ---------------------------------------------------------------------------------
inline float __expf(float x) { return exp2f(x * 1.44269504f); }
inline float __logf(float x) { return log2f(x) * 0.693147181f; }
inline float __fdividef(float a, float b) {  // 0 where 1 / b is denormal, as documented
  return fabsf(b) > 0x1p126f && fabsf(b) < INFINITY ? 0.0f : a / b;
}
inline float genfast_emulated_rsqrtf(float x) {
  return 1.0f / sqrtf(x);
}  // some C libraries have a rsqrtf
#define rsqrtf genfast_emulated_rsqrtf

inline float __uint_as_float(unsigned u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}
inline unsigned __float_as_uint(float f) {
  unsigned u;
  memcpy(&u, &f, 4);
  return u;
}
inline float __int_as_float(int i) { return __uint_as_float(static_cast<unsigned>(i)); }
inline int __float_as_int(float f) { return static_cast<int>(__float_as_uint(f)); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }

// Two values of one type only: nvcc's mixed overloads convert in ways that surprise.
#define GENFAST_MIN_MAX(T)                         \
  inline T min(T a, T b) { return b < a ? b : a; } \
  inline T max(T a, T b) { return a < b ? b : a; }
GENFAST_MIN_MAX(int)
GENFAST_MIN_MAX(unsigned)
GENFAST_MIN_MAX(long)
GENFAST_MIN_MAX(unsigned long)
GENFAST_MIN_MAX(long long)
GENFAST_MIN_MAX(unsigned long long)
GENFAST_MIN_MAX(float)
GENFAST_MIN_MAX(double)
#undef GENFAST_MIN_MAX
