// Launches that are written down once and replayed, each after the one before it: a CUDA graph.
//
//   Graph graph;
//   graph.add(kernel, grid, block, bytes of dynamic shared memory, arguments...);
//   graph.launch(stream);  // as often as one likes; from the first time on nothing can be added
//
// Arguments are copied when a launch is added. A graph is built node by node, not captured from a
// stream: no stream of the caller's is touched, whatever it is capturing. It may be destroyed while it
// runs. In the emulation a replay runs the launches at once. Part of cuda.h.
#pragma once
#include <functional>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "common/cuda_launch.h"

namespace genfast::cuda {

// Whether launches on the stream now only become part of a graph that the caller captures.
inline bool is_capturing(cudaStream_t stream) {
#ifdef CUDA_HOST_EMU
  (void)stream;
  return ::genfast::emulation::config.capturing;
#else
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
#endif
}

class Graph {
 public:
  Graph() = default;
  Graph(const Graph&) = delete;

  template <class... Parameters, class... Arguments>
  void add(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t smem,
           const Arguments&... arguments) {
    if (launched_) throw std::logic_error("a graph that has been launched takes no more launches");
    std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
#ifdef CUDA_HOST_EMU
    launches_.push_back([=] {
      ::genfast::emulation::launch(false, grid, block, smem, [&] { std::apply(kernel, values); });
    });
#else
    std::apply(
        [&](auto&... value) {
          void* pointers[] = {&value...};
          add_node(reinterpret_cast<void*>(kernel), grid, block, smem, pointers);
        },
        values);
#endif
  }

#ifdef CUDA_HOST_EMU
  void launch(cudaStream_t stream) {
    (void)stream;
    launched_ = true;
    ++::genfast::emulation::graph_launches;
    for (const std::function<void()>& one : launches_) one();
  }

 private:
  std::vector<std::function<void()>> launches_;
#else
  ~Graph() {
    if (graph_) cudaGraphDestroy(graph_);
    if (executable_) cudaGraphExecDestroy(executable_);  // once it has run, if it is running
  }

  void launch(cudaStream_t stream) {
    launched_ = true;
    if (!graph_) return;
    if (!executable_) check(cudaGraphInstantiate(&executable_, graph_, 0), "cudaGraphInstantiate");
    check(cudaGraphLaunch(executable_, stream), "cudaGraphLaunch");
  }

 private:
  void add_node(void* kernel, dim3 grid, dim3 block, size_t smem, void** arguments) {
    if (!graph_) check(cudaGraphCreate(&graph_, 0), "cudaGraphCreate");
    allow_shared_memory(kernel, smem);
    cudaKernelNodeParams node{};
    node.func = kernel;
    node.gridDim = grid;
    node.blockDim = block;
    node.sharedMemBytes = static_cast<unsigned>(smem);
    node.kernelParams = arguments;  // copied
    const cudaGraphNode_t before = last_;
    check(cudaGraphAddKernelNode(&last_, graph_, &before, before ? 1 : 0, &node),
          "cudaGraphAddKernelNode");
  }

  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
  cudaGraphNode_t last_ = nullptr;
#endif
  bool launched_ = false;
};

// Where launches go: to a stream, at once, or into a graph.
struct Launcher {
  cudaStream_t stream;
  Graph* graph;

  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t smem,
              const Arguments&... arguments) const {
    if (graph) {
      graph->add(kernel, grid, block, smem, arguments...);
    } else {
      cuda::launch(kernel, grid, block, smem, stream, arguments...);
    }
  }
};

}  // namespace genfast::cuda
