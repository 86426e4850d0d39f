#include "common/isa.h"

#include <cstdlib>
#include <stdexcept>

namespace genfast {

const char* name(Isa isa) {
  switch (isa) {
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    default: return "baseline";
  }
}

std::vector<Isa> runnable_isas() {
  std::vector<Isa> isas{Isa::baseline};
#ifdef GENFAST_HAVE_X86_LEVELS
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
  avx2 = avx2 && __builtin_cpu_supports("f16c");
#endif
  if (avx2) isas.push_back(Isa::avx2);
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    isas.push_back(Isa::avx512);
  }
#endif
  return isas;
}

namespace {

Isa parse(const std::string& wanted) {
  std::string runnable;
  for (Isa isa : runnable_isas()) {
    if (wanted == name(isa)) return isa;
    runnable += std::string(runnable.empty() ? "" : ", ") + name(isa);
  }
  throw std::invalid_argument("GENFAST_CPU_ISA=" + wanted +
                              " cannot be used here; this module and CPU run: " + runnable);
}

Isa& chosen() {
  static Isa isa = [] {
    const char* forced = std::getenv("GENFAST_CPU_ISA");
    return forced && *forced ? parse(forced) : runnable_isas().back();
  }();
  return isa;
}

}  // namespace

Isa current_isa() { return chosen(); }
void set_isa(const std::string& wanted) { chosen() = parse(wanted); }

}  // namespace genfast
