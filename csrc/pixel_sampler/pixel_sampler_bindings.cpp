#include <pybind11/stl.h>

#include <cstring>

#include "common/bindings.h"
#include "common/parallel.h"
#include "pixel_sampler/packed_program.h"
#ifdef GENFAST_WITH_CUDA
#include "common/cuda_device.h"
#endif

namespace genfast {
namespace {

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
  Sampling(std::shared_ptr<PackedProgram> program, std::shared_ptr<Images> images, int64_t count,
           int tiles, int threads, bool share_pixels)
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

  std::shared_ptr<PackedProgram> program_;
  std::shared_ptr<Images> images_;
  AlignedFloats memory_;
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
// Images on their way on a GPU. memory: the device's, PackedProgram::floats an image and kPixelPad more,
// zeroed.
class CudaSampling {
 public:
  CudaSampling(std::shared_ptr<PackedProgram> program, std::shared_ptr<Images> images, uintptr_t memory,
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
  std::shared_ptr<PackedProgram> program_;
  std::shared_ptr<Images> images_;
  PixelCudaSampling sampling_;
};
#endif

}  // namespace

void bind_pixel_sampler(py::module_& m) {
  // Local to the module: the emulated one for tests has the same classes.
  py::class_<PackedProgram, std::shared_ptr<PackedProgram>>(m, "PixelProgram", py::module_local())
      .def(py::init<const std::vector<int64_t>&, uintptr_t, int64_t>())
      .def_property_readonly("floats", &PackedProgram::floats);
  py::class_<Images, std::shared_ptr<Images>>(m, "PixelImages", py::module_local())
      .def(py::init<uintptr_t, uintptr_t, uintptr_t, const std::vector<uintptr_t>&, uintptr_t, uint64_t,
                    int64_t, float>());
  py::class_<Sampling>(m, "PixelSampling", py::module_local())
      .def(py::init<std::shared_ptr<PackedProgram>, std::shared_ptr<Images>, int64_t, int, int, bool>())
      .def("run", &Sampling::run);
#ifdef GENFAST_WITH_CUDA
  py::class_<CudaSampling>(m, "PixelCudaSampling", py::module_local())
      .def(py::init<std::shared_ptr<PackedProgram>, std::shared_ptr<Images>, uintptr_t, int64_t, bool>())
      .def("run", &CudaSampling::run);
#endif
}

}  // namespace genfast
