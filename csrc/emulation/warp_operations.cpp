// Shuffles and votes. They read and write other lanes' stacks by plain loops, never by memcpy: its
// sanitizer interceptors would take a lane's answer for a data race. (Compiled with
// -fno-tree-loop-distribute-patterns, so that the compiler makes no memcpy of the loops.)
#include "emulation/runtime.h"

namespace genfast::emulation {

namespace {

struct Shuffle {
  unsigned char* value;
  unsigned char sent[16];
  int bytes, source;
};

void run_shuffle(void* const (&lanes)[32]) {
  for (void* receiver : lanes) {
    if (receiver == nullptr) continue;
    const Shuffle& mine = *static_cast<const Shuffle*>(receiver);
    const auto* theirs = static_cast<const Shuffle*>(lanes[mine.source]);
    for (int i = 0; i < mine.bytes; ++i) mine.value[i] = theirs ? theirs->sent[i] : 0xff;
  }
}

struct Vote {
  bool vote;
  unsigned result;
};

void run_ballot(void* const (&lanes)[32]) {
  unsigned votes = 0;
  for (unsigned i = 0; i < 32; ++i) {
    if (lanes[i] != nullptr && static_cast<const Vote*>(lanes[i])->vote) votes |= 1u << i;
  }
  for (void* lane : lanes) {
    if (lane != nullptr) static_cast<Vote*>(lane)->result = votes;
  }
}

void run_nothing(void* const (&)[32]) {}

}  // namespace

void warp_sync(unsigned mask, Site site) {
  warp_operation(mask, nullptr, run_nothing, site, /*orders_memory=*/true);
}

unsigned ballot(unsigned mask, bool vote, Site site) {
  Vote argument{vote, 0};
  warp_operation(mask, &argument, run_ballot, site, /*orders_memory=*/false);
  return argument.result;
}

void shuffle(unsigned mask, void* value, int bytes, int source, Site site) {
  Shuffle argument{static_cast<unsigned char*>(value), {}, bytes, source & 31};
  if (bytes > static_cast<int>(sizeof argument.sent)) fail("shuffle of more than 16 bytes", site);
  for (int i = 0; i < bytes; ++i) argument.sent[i] = argument.value[i];
  warp_operation(mask, &argument, run_shuffle, site, /*orders_memory=*/false);
}

}  // namespace genfast::emulation
