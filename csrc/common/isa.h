// Which instruction set the CPU kernels use, and how a call reaches the copy compiled for it.
//
// Each kernel file is compiled once per level into its own namespace (genfast::baseline, ::avx2,
// ::avx512). The level is chosen once, from the CPU's features or GENFAST_CPU_ISA.
#pragma once
#include <string>
#include <vector>

namespace genfast {

enum class Isa { baseline, avx2, avx512 };

const char* name(Isa isa);
std::vector<Isa> runnable_isas();  // built into this module and executable on this CPU, ascending
Isa current_isa();
void set_isa(const std::string& name);  // throws std::invalid_argument naming what can be run

}  // namespace genfast

// GENFAST_DECLARE_CPU(void f(args)) declares f in every level's namespace;
// GENFAST_CALL_CPU(f, args...) calls the one of the current level.
#ifdef GENFAST_HAVE_X86_LEVELS
#define GENFAST_DECLARE_CPU(...) \
  namespace baseline {           \
  __VA_ARGS__;                   \
  }                              \
  namespace avx2 {               \
  __VA_ARGS__;                   \
  }                              \
  namespace avx512 {             \
  __VA_ARGS__;                   \
  }
#define GENFAST_CALL_CPU(function, ...)                                               \
  switch (::genfast::current_isa()) {                                                 \
    case ::genfast::Isa::baseline: ::genfast::baseline::function(__VA_ARGS__); break; \
    case ::genfast::Isa::avx2: ::genfast::avx2::function(__VA_ARGS__); break;         \
    case ::genfast::Isa::avx512: ::genfast::avx512::function(__VA_ARGS__); break;     \
  }
#else
#define GENFAST_DECLARE_CPU(...) \
  namespace baseline {           \
  __VA_ARGS__;                   \
  }
#define GENFAST_CALL_CPU(function, ...) ::genfast::baseline::function(__VA_ARGS__)
#endif
