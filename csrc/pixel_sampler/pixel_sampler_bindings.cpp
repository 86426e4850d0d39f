#include "pixel_sampler/pixel_sampler.h"

#include <pybind11/stl.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "common/bindings.h"
#include "common/parallel.h"
#ifdef GENFAST_WITH_CUDA
#include "common/cuda_device.h"
#endif

namespace genfast {
namespace {

// Memory aligned to a cache line; if there is much of it, to a huge page, which it asks for: weights are
// read through from end to end for every pixel, and small pages then cost as much as the reading.
struct FreeAligned {
  void operator()(float* p) const { std::free(p); }
};
typedef std::unique_ptr<float[], FreeAligned> Floats;
Floats allocate(int64_t count) {
  constexpr size_t kLine = 64, kHugePage = 2 << 20;
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  const size_t alignment = bytes < 2 * kHugePage ? kLine : kHugePage;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded);
  if (!memory) throw std::bad_alloc();
#ifdef __linux__
  if (alignment == kHugePage) madvise(memory, rounded, MADV_HUGEPAGE);  // a wish: it may fail
#endif
  return Floats(static_cast<float*>(memory));
}

// Reads what genfast/sampling/packing.py writes.
class Reader {
 public:
  explicit Reader(const std::vector<int64_t>& code) : code_(code) {}
  int64_t next() {
    if (at_ >= code_.size()) throw std::invalid_argument("the packed pixel program ends too early");
    return code_[at_++];
  }
  int number() { return static_cast<int>(next()); }
  template <class T>
  T kind() {
    return static_cast<T>(number());
  }
  PixelTap tap() {
    PixelTap t;
    for (int* field : {&t.buffer, &t.channel, &t.channels, &t.row, &t.column}) *field = number();
    return t;
  }

 private:
  const std::vector<int64_t>& code_;
  size_t at_ = 0;
};

// A packed program with its weights. Immutable but for a piece of memory that samplings lend each other:
// fresh pages cost as much as the computing.
class Program {
 public:
  // Weights on a GPU (`count` = 0) stay where they are; others are copied.
  Program(const std::vector<int64_t>& code, uintptr_t weights, int64_t count)
      : weights_(reinterpret_cast<const float*>(weights)) {
    if (count) {
      copy_ = allocate(count + kPixelPad);
      std::memcpy(copy_.get(), weights_, static_cast<size_t>(count) * sizeof(float));
      weights_ = copy_.get();
    }
    Reader in(code);
    for (int* field : {&view_.colours, &view_.height, &view_.width, &view_.levels, &view_.outputs}) {
      *field = in.number();
    }
    read_buffers(in);
    read_instructions(in);
  }
  Program(const Program&) = delete;

  const PixelProgram& view() const { return view_; }
  int64_t floats() const { return floats_; }  // of memory, an image

  Floats borrow(int64_t count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (spare_ && spare_count_ >= count) return std::move(spare_);
    return allocate(count);
  }
  void give_back(Floats memory, int64_t count) {
    if (count > kKept) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (spare_ && spare_count_ >= count) return;
    spare_ = std::move(memory);
    spare_count_ = count;
  }

 private:
  static constexpr int64_t kKept = 16 << 20;  // floats

  bool on_gpu() const { return !copy_; }
  static int power_of_two(int at_least) {
    int power = 1;
    while (power < at_least) power *= 2;
    return power;
  }

  const float* address(int64_t place) const { return place < 0 ? nullptr : weights_ + place; }

  void read_buffers(Reader& in) {
    view_.buffers = in.number();
    for (int n = 0; n < view_.buffers; ++n) {
      PixelBuffer b;
      b.source = in.kind<PixelSource>();
      for (int* field : {&b.level, &b.depth, &b.left, &b.columns, &b.right, &b.channels, &b.padded}) {
        *field = in.number();
      }
      // Rows come back to the same places after as many rows as the deepest ring has, if all depths are
      // powers of two: so few graphs do for all of them.
      if (on_gpu()) b.depth = power_of_two(b.depth);
      b.offset = floats_;
      floats_ += int64_t{b.depth} * (b.left + b.columns + b.right) * b.padded;
      b.above = address(in.next());
      b.beside = address(in.next());
      if (b.source == PixelSource::image) view_.image = n;
      buffers_.push_back(b);
    }
    view_.buffer = buffers_.data();
  }

  void read_instructions(Reader& in) {
    const int count = in.number();
    std::vector<size_t> operands;  // of each instruction, where its first is
    int phase = 0;
    for (int n = 0; n < count; ++n) {
      for (const int own = in.number(); phase <= own; ++phase) view_.first[phase] = n;
      operands.push_back(taps_.size());
      instructions_.push_back(in.number() ? read_draw(in) : read_compute(in));
    }
    for (; phase <= static_cast<int>(PixelPhase::count); ++phase) view_.first[phase] = count;
    for (int n = 0; n < count; ++n) instructions_[n].operand = taps_.data() + operands[n];
    view_.instruction = instructions_.data();
    view_.operands = static_cast<int>(taps_.size());
  }

  PixelInstruction read_compute(Reader& in) {
    PixelInstruction i{};
    i.function = in.kind<PixelFunction>();
    i.target = in.tap();
    for (int* field :
         {&i.level, &i.outputs, &i.row_parity, &i.column_parity, &i.scan, &i.step, &i.cell_distance}) {
      *field = in.number();
    }
    const int64_t weight = in.next();
    i.weight = weights_ + (weight < 0 ? 0 : weight);
    i.bias = address(in.next());
    for (int* kind : {&i.taps, &i.before, &i.after, &i.cell}) {
      *kind = in.number();
      for (int n = 0; n < *kind; ++n) {
        taps_.push_back(in.tap());
        if (kind == &i.taps) i.channels += taps_.back().channels;
      }
    }
    if (i.outputs > view_.widest) view_.widest = i.outputs;
    return i;
  }

  PixelInstruction read_draw(Reader& in) {
    PixelInstruction i{};
    i.draw = true;
    i.head = in.kind<PixelHead>();
    taps_.push_back(in.tap());
    for (int* field : {&i.first_colour, &i.colours, &i.first_output}) *field = in.number();
    return i;
  }

  Floats copy_;
  const float* weights_;
  std::vector<PixelBuffer> buffers_;
  std::vector<PixelInstruction> instructions_;
  std::vector<PixelTap> taps_;
  PixelProgram view_{};
  int64_t floats_ = 0;
  std::mutex mutex_;
  Floats spare_;
  int64_t spare_count_ = 0;
};

// The images of a sampling. Python keeps the tensors alive.
class Images {
 public:
  Images(uintptr_t x, uintptr_t known, uintptr_t outputs, const std::vector<uintptr_t>& inputs,
         uintptr_t scaled, uint64_t seed, int64_t start, float temperature) {
    for (uintptr_t input : inputs) inputs_.push_back(reinterpret_cast<const float*>(input));
    batch_ = {reinterpret_cast<int64_t*>(x),
              reinterpret_cast<const uint8_t*>(known),
              reinterpret_cast<float*>(outputs),
              inputs_.data(),
              reinterpret_cast<const float*>(scaled),
              seed,
              start,
              temperature};
  }
  Images(const Images&) = delete;
  const PixelBatch& batch() const { return batch_; }

 private:
  std::vector<const float*> inputs_;
  PixelBatch batch_{};
};

// Images on their way: all that there is between two calls of run.
class Sampling {
 public:
  Sampling(std::shared_ptr<Program> program, std::shared_ptr<Images> images, int64_t count, int tiles,
           int threads, bool share_pixels)
      : program_(std::move(program)),
        images_(std::move(images)),
        threads_(usable_threads(threads)),
        share_pixels_(share_pixels) {
    cut(count, tiles);
  }
  ~Sampling() { program_->give_back(std::move(memory_), count_); }
  Sampling(const Sampling&) = delete;

  void run(int first_row, int last_row) {
    const py::gil_scoped_release release;
    const PixelProgram& program = program_->view();
    GENFAST_CALL_CPU(pixel_sampler_run_cpu, program, images_->batch(), tiles_.data(),
                     static_cast<int>(tiles_.size()), scratch_.data(), usable_threads(threads_),
                     share_pixels_, first_row, last_row);
  }

 private:
  // Memory for all tiles, zeroed: every buffer begins with zeros outside the image.
  void cut(int64_t images, int tiles) {
    const PixelProgram& program = program_->view();
    constexpr int64_t kLine = 16;
    const int64_t state = program_->floats();
    const int64_t scratch = (pixel_scratch_floats(program) + kLine - 1) / kLine * kLine;
    count_ = images * state + threads_ * scratch + kLine;  // vectors may read on into the next line
    memory_ = program_->borrow(count_);
    std::memset(memory_.get(), 0, static_cast<size_t>(count_) * sizeof(float));
    const size_t operands = static_cast<size_t>(program.operands);
    const size_t works = static_cast<size_t>(program.first[static_cast<int>(PixelPhase::count)]);
    operands_.resize(operands * static_cast<size_t>(tiles + threads_));
    works_.resize(works * static_cast<size_t>(tiles));
    const size_t buffers = static_cast<size_t>(program.buffers);
    written_.resize(buffers * static_cast<size_t>(threads_));
    float* next = memory_.get();
    PixelOperand* next_operands = operands_.data();
    for (int t = 0; t < tiles; ++t, next_operands += operands) {
      const int64_t first = images * t / tiles, size = images * (t + 1) / tiles - first;
      tiles_.push_back({first, static_cast<int>(size), next, next_operands,
                        works_.data() + static_cast<size_t>(t) * works, SpinBarrier{}});
      next += size * state;
    }
    for (int t = 0; t < threads_; ++t, next += scratch, next_operands += operands) {
      scratch_.push_back({next, next_operands, written_.data() + static_cast<size_t>(t) * buffers});
    }
  }

  std::shared_ptr<Program> program_;
  std::shared_ptr<Images> images_;
  Floats memory_;
  int64_t count_ = 0;
  std::vector<PixelOperand> operands_;
  std::vector<PixelWork> works_;
  std::vector<PixelTile> tiles_;
  std::vector<PixelScratch> scratch_;
  std::vector<int> written_;
  int threads_;
  bool share_pixels_;
};

#ifdef GENFAST_WITH_CUDA
// Images on their way on a GPU. memory: the device's, Program.floats an image and kPixelPad more,
// zeroed.
class CudaSampling {
 public:
  CudaSampling(std::shared_ptr<Program> program, std::shared_ptr<Images> images, uintptr_t memory,
               int64_t count, bool graphs)
      : program_(std::move(program)),
        images_(std::move(images)),
        sampling_(program_->view(), images_->batch(), reinterpret_cast<float*>(memory),
                  reinterpret_cast<int*>(memory) + count * program_->floats(), count, graphs) {}
  CudaSampling(const CudaSampling&) = delete;

  void run(int first_row, int last_row, int device, uintptr_t stream) {
    const py::gil_scoped_release release;
    const CudaDevice current(device);
    sampling_.run(first_row, last_row, reinterpret_cast<cudaStream_t>(stream));
  }

 private:
  std::shared_ptr<Program> program_;
  std::shared_ptr<Images> images_;
  PixelCudaSampling sampling_;
};
#endif

}  // namespace

void bind_pixel_sampler(py::module_& m) {
  // Local to the module: the emulated one for tests has the same classes.
  py::class_<Program, std::shared_ptr<Program>>(m, "PixelProgram", py::module_local())
      .def(py::init<const std::vector<int64_t>&, uintptr_t, int64_t>())
      .def_property_readonly("floats", &Program::floats);
  py::class_<Images, std::shared_ptr<Images>>(m, "PixelImages", py::module_local())
      .def(py::init<uintptr_t, uintptr_t, uintptr_t, const std::vector<uintptr_t>&, uintptr_t, uint64_t,
                    int64_t, float>());
  py::class_<Sampling>(m, "PixelSampling", py::module_local())
      .def(py::init<std::shared_ptr<Program>, std::shared_ptr<Images>, int64_t, int, int, bool>())
      .def("run", &Sampling::run);
#ifdef GENFAST_WITH_CUDA
  py::class_<CudaSampling>(m, "PixelCudaSampling", py::module_local())
      .def(py::init<std::shared_ptr<Program>, std::shared_ptr<Images>, uintptr_t, int64_t, bool>())
      .def("run", &CudaSampling::run);
#endif
}

}  // namespace genfast
