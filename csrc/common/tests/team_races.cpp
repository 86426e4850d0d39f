// Teams of parallel.h under ThreadSanitizer: `team_races right` has to pass, `team_races faulty`, where
// no one waits for the others, to be reported. Built by tests/test_teams.py, with openmp_on_threads.cpp.
#include <cstdio>
#include <cstring>
#include <vector>

#include "common/parallel.h"

using namespace genfast;
using namespace genfast::GENFAST_ISA;

namespace {
constexpr int kWidth = 100, kSteps = 500, kThreads = 5;

// One line after the other, each from both neighbours in the one before, as an LSTM scan does.
void next_line(const unsigned* before, unsigned* now, int64_t first, int64_t last) {
  for (int64_t i = first; i < last; ++i) {
    now[i] = 3 * before[i] + before[(i + 1) % kWidth] + before[(i + kWidth - 1) % kWidth];
  }
}

struct Job {
  SpinBarrier barrier;
  std::vector<unsigned> lines[2] = {std::vector<unsigned>(kWidth, 1), std::vector<unsigned>(kWidth)};
};
}  // namespace

int main(int count, char** arguments) {
  const bool faulty = count > 1 && std::strcmp(arguments[1], "faulty") == 0;
  std::vector<unsigned> lines[2] = {std::vector<unsigned>(kWidth, 1), std::vector<unsigned>(kWidth)};
  for (int s = 0; s < kSteps; ++s) next_line(lines[s % 2].data(), lines[(s + 1) % 2].data(), 0, kWidth);
  // A team of 2 and one of 3; then all 5 in one; then a thread a job, without meetings.
  for (const int jobs : {2, 1, 4}) {
    std::vector<Job> work(jobs);
    in_teams(
        kThreads, jobs, kThreads, [&](int job) { return &work[job].barrier; },
        [&](int job, int, Team team) {
          for (int s = 0; s < kSteps; ++s) {
            const unsigned* before = work[job].lines[s % 2].data();
            unsigned* now = work[job].lines[(s + 1) % 2].data();
            next_line(before, now, team.first(kWidth), team.last(kWidth));
            if (!faulty) team.meet();
          }
        });
    for (const Job& job : work) {
      if (!faulty && job.lines[kSteps % 2] != lines[kSteps % 2]) return std::puts("a wrong sum"), 1;
    }
  }
  return 0;
}
