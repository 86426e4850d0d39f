// Fibers: stacks of their own on one OS thread, with an explicit switch between them. Knows nothing of
// CUDA.
//
// The switch is a few instructions of x86-64, and ucontext (ten times slower) on other CPUs or with
// -DGENFAST_EMULATION_UCONTEXT. Sanitizers are told of every switch: the runtime is compiled without
// instrumentation, and with -DGENFAST_EMULATION_ASAN or _TSAN where the kernels have it.
#pragma once
#include <cstddef>
#if !defined(__x86_64__) && !defined(GENFAST_EMULATION_UCONTEXT)
#define GENFAST_EMULATION_UCONTEXT
#endif
#ifdef GENFAST_EMULATION_UCONTEXT
#include <ucontext.h>
#endif

namespace genfast::emulation {

constexpr size_t kStackBytes = 64 << 10;

// The point where a fiber stopped. The OS thread's own stack has one too, with `stack` null.
struct Context {
  char* stack = nullptr;
  void* stack_pointer = nullptr;
  void* asan_fake_stack = nullptr;
  void* tsan_fiber = nullptr;
#ifdef GENFAST_EMULATION_UCONTEXT
  ucontext_t ucontext;
#endif
};

void create_fiber(Context& fiber, bool guard_page);  // gets a stack, for ever
void arm_fiber(Context& fiber, void (*entry)());     // the next switch to it calls `entry`
void adopt_thread(Context& thread);                  // the OS thread that is about to switch to fibers
void switch_fiber(Context& from, Context& to, bool from_ends);
void fiber_entered();  // first call of every `entry`

// Order between threads, for ThreadSanitizer: what happened before release(p) is seen after acquire(p).
void acquire(void* p);
void release(void* p);

}  // namespace genfast::emulation
