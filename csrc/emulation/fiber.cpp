#include "emulation/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#ifdef GENFAST_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef GENFAST_EMULATION_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* p);
void __tsan_release(void* p);
}
#endif

namespace genfast::emulation {

#ifdef GENFAST_EMULATION_ASAN
namespace {
const void* thread_stack = nullptr;  // the OS thread's, learnt when a launch enters its first fiber
size_t thread_stack_bytes = 0;
}  // namespace
#endif

#ifndef GENFAST_EMULATION_UCONTEXT
// Saves what a called function must preserve, and the stack pointer in *save; goes on where `to` was
// saved.
extern "C" void genfast_emulation_switch(void** save, void* to);
asm(R"(
.text
.weak genfast_emulation_switch
.type genfast_emulation_switch, @function
genfast_emulation_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size genfast_emulation_switch, . - genfast_emulation_switch
)");
#endif

void create_fiber(Context& fiber, bool guard_page) {
  constexpr size_t kPage = 4096;
  void* p = mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  if (guard_page) mprotect(p, kPage, PROT_NONE);
  fiber.stack = static_cast<char*>(p) + kPage;
#ifdef GENFAST_EMULATION_TSAN
  fiber.tsan_fiber = __tsan_create_fiber(0);
#endif
}

void arm_fiber(Context& fiber, void (*entry)()) {
#ifdef GENFAST_EMULATION_ASAN
  __asan_unpoison_memory_region(fiber.stack, kStackBytes);  // an abandoned run's locals
#endif
  fiber.asan_fake_stack = nullptr;
#ifdef GENFAST_EMULATION_UCONTEXT
  getcontext(&fiber.ucontext);
  fiber.ucontext.uc_stack.ss_sp = fiber.stack;
  fiber.ucontext.uc_stack.ss_size = kStackBytes;
  fiber.ucontext.uc_link = nullptr;
  makecontext(&fiber.ucontext, entry, 0);
#else
  // As if genfast_emulation_switch had been called at the start of `entry`: six registers, then where to
  // return to; above it a word, so that the stack is aligned as at a function's start.
  void** top = reinterpret_cast<void**>(fiber.stack + kStackBytes) - 2;
  *top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
#endif
}

void adopt_thread(Context& thread) {
  thread.stack = nullptr;
#ifdef GENFAST_EMULATION_ASAN
  thread_stack = nullptr;  // another thread than at the last launch, perhaps
#endif
#ifdef GENFAST_EMULATION_TSAN
  thread.tsan_fiber = __tsan_get_current_fiber();
#endif
}

void switch_fiber(Context& from, Context& to, bool from_ends) {
#ifdef GENFAST_EMULATION_ASAN
  __sanitizer_start_switch_fiber(from_ends ? nullptr : &from.asan_fake_stack,
                                 to.stack ? to.stack : thread_stack,
                                 to.stack ? kStackBytes : thread_stack_bytes);
#endif
#ifdef GENFAST_EMULATION_TSAN
  __tsan_switch_to_fiber(to.tsan_fiber, 1);  // 1: a switch alone orders nothing
#endif
#ifdef GENFAST_EMULATION_UCONTEXT
  swapcontext(&from.ucontext, &to.ucontext);
#else
  genfast_emulation_switch(&from.stack_pointer, to.stack_pointer);
#endif
#ifdef GENFAST_EMULATION_ASAN
  const void* old_stack;
  size_t old_bytes;
  __sanitizer_finish_switch_fiber(from.asan_fake_stack, &old_stack, &old_bytes);
#endif
  (void)from_ends;
}

void fiber_entered() {
#ifdef GENFAST_EMULATION_ASAN
  const bool from_thread = thread_stack == nullptr;
  __sanitizer_finish_switch_fiber(nullptr, from_thread ? &thread_stack : nullptr,
                                  from_thread ? &thread_stack_bytes : nullptr);
#endif
}

void acquire(void* p) {
#ifdef GENFAST_EMULATION_TSAN
  __tsan_acquire(p);
#endif
  (void)p;
}

void release(void* p) {
#ifdef GENFAST_EMULATION_TSAN
  __tsan_release(p);
#endif
  (void)p;
}

}  // namespace genfast::emulation
