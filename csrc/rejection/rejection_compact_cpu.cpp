// The accepted rows of a batch moved together, on the CPU: counted in ranges first, then every range is
// moved to where it belongs.
#include "rejection/rejection.h"

namespace genfast::GENFAST_ISA {
namespace {

constexpr int kMaxRanges = 256;

struct bytes16 {
  uint64_t half[2];
};

int64_t count(const RejectionCompact& p, int64_t begin, int64_t end) {
  int64_t accepted = 0;
  const uint8_t* const accept = p.accept + begin * p.accept_stride;
  if (p.accept_stride == 1) {
    for (int64_t i = 0; i < end - begin; ++i) accepted += accept[i] != 0;
  } else {
    for (int64_t i = 0; i < end - begin; ++i) accepted += accept[i * p.accept_stride] != 0;
  }
  return accepted;
}

// Rows that are one element, contiguous from row to row: written without a branch, and overwritten where
// the row was not accepted. Stops at the last accepted one, so as to write nothing of the next range.
template <class E>
void move_elements(const RejectionCompact& p, int64_t from, int64_t to, int64_t end) {
  const E* in = static_cast<const E*>(p.samples) + from;
  E* const out = static_cast<E*>(p.out);
  for (const uint8_t* accept = p.accept + from * p.accept_stride; to < end; accept += p.accept_stride) {
    out[to] = *in++;
    to += *accept != 0;
  }
}

// Rows of one contiguous run of `size` bytes; neighbours are moved together where they are contiguous
// too.
void move_runs(const RejectionCompact& p, int64_t size, int64_t from, int64_t to, int64_t end) {
  const int64_t in_step = p.sample_stride * p.element_size, out_step = p.out_stride * p.element_size;
  const bool together = in_step == size && out_step == size;
  const char* const in = static_cast<const char*>(p.samples);
  char* const out = static_cast<char*>(p.out);
  while (to < end) {
    while (!p.accept[from * p.accept_stride]) ++from;
    int64_t n = 1;
    while (together && to + n < end && p.accept[(from + n) * p.accept_stride]) ++n;
    __builtin_memcpy(out + to * out_step, in + from * in_step, static_cast<size_t>(n * size));
    from += n;
    to += n;
  }
}

// Calls body(out offset, samples offset) on every element of a row, in elements.
template <class Body>
GENFAST_INLINE void over_row(const RejectionCompact& p, const Body& body) {
  const int inner = p.row.dims - 1;
  int64_t rows = 1;
  for (int d = 0; d < inner; ++d) rows *= p.row.size[d];
  Row<2> row(p.row, 0);
  for (int64_t i = 0; i < rows; ++i, row.next()) {
    for (int64_t j = 0; j < p.row.size[inner]; ++j) {
      body(row.offset[0] + j * p.row.stride[0][inner], row.offset[1] + j * p.row.stride[1][inner]);
    }
  }
}

// Rows of any strides.
template <class E>
void move_rows(const RejectionCompact& p, int64_t from, int64_t to, int64_t end) {
  for (; to < end; ++from) {
    if (!p.accept[from * p.accept_stride]) continue;
    const E* const in = static_cast<const E*>(p.samples) + from * p.sample_stride;
    E* const out = static_cast<E*>(p.out) + to * p.out_stride;
    over_row(p, [&](int64_t target, int64_t source) { out[target] = in[source]; });
    ++to;
  }
}

template <class E>
void clear_rows(const RejectionCompact& p, int64_t to, int64_t end) {
  for (; to < end; ++to) {
    E* const out = static_cast<E*>(p.out) + to * p.out_stride;
    over_row(p, [&](int64_t target, int64_t) { out[target] = E{}; });
  }
}

// The accepted rows from row `from` on go to rows to ... end - 1; then rows clear ... clear_end - 1 are
// set to zero.
struct Part {
  int64_t from, to, end, clear, clear_end;
};

template <class E>
void move(const RejectionCompact& p, const Part& part) {
  const int64_t size = p.row.size[0], bytes = size * p.element_size;
  const bool run =
      p.row.dims == 1 && (size == 1 || (p.row.stride[0][0] == 1 && p.row.stride[1][0] == 1));
  if (run && size == 1 && p.sample_stride == 1 && p.out_stride == 1) {
    move_elements<E>(p, part.from, part.to, part.end);
  } else if (run) {
    move_runs(p, bytes, part.from, part.to, part.end);
  } else {
    move_rows<E>(p, part.from, part.to, part.end);
  }
  if (run && p.out_stride == size) {
    char* const out = static_cast<char*>(p.out);
    __builtin_memset(out + part.clear * bytes, 0,
                     static_cast<size_t>((part.clear_end - part.clear) * bytes));
  } else {
    clear_rows<E>(p, part.clear, part.clear_end);
  }
}

void move_part(const RejectionCompact& p, const Part& part) {
  switch (p.element_size) {
    case 1: move<uint8_t>(p, part); break;
    case 2: move<uint16_t>(p, part); break;
    case 4: move<uint32_t>(p, part); break;
    case 8: move<uint64_t>(p, part); break;
    case 16: move<bytes16>(p, part); break;
  }
}

}  // namespace

void rejection_compact_fwd_cpu(const RejectionCompact& p) {
  int64_t elements = p.count, before[kMaxRanges + 1];
  for (int d = 0; d < p.row.dims; ++d) elements *= p.row.size[d];
  int64_t ranges = elements / kGrain;
  if (ranges > p.threads) ranges = p.threads;
  if (ranges > kMaxRanges) ranges = kMaxRanges;
  if (ranges > p.count) ranges = p.count;
  if (ranges < 1) ranges = 1;
  const auto cut = [&](int64_t r) { return p.count * r / ranges; };
  const int threads = static_cast<int>(ranges);
  parallel_for(threads, ranges, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) before[r + 1] = count(p, cut(r), cut(r + 1));
  });
  before[0] = 0;
  for (int64_t r = 0; r < ranges; ++r) before[r + 1] += before[r];
  *p.accepted = before[ranges];
  if (elements == 0) return;
  parallel_for(threads, ranges, 1, [&](int64_t begin, int64_t end) {
    const int64_t accepted = before[ranges], rest = p.clear ? p.count - accepted : 0;
    for (int64_t r = begin; r < end; ++r) {
      move_part(p, {cut(r), before[r], before[r + 1], accepted + rest * r / ranges,
                    accepted + rest * (r + 1) / ranges});
    }
  });
}

}  // namespace genfast::GENFAST_ISA
