// The constants of a GPU that every prediction starts from: constants [NAME...], all or those named.
//
// Prints lines of JSON, each as soon as it is known: {"gpu": ..., "sm": ..., "clock_mhz": ...}, then
// lines of {"constant": ..., "value": ..., "unit": ...}. Kernels go through the portable header, so
// these are the rates that this project's kernels can reach; rates are of the whole device. A figure is
// the median of kRounds rounds after a warm-up, timed with events unless it is the host's time that is
// asked for.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/cuda.h"
#include "constant_kernels.h"
#include "constants_sm90.h"

namespace genfast::constants {
namespace {

constexpr int kRounds = 9;

// ---- timing --------------------------------------------------------------------------------------

struct Event {
  cudaEvent_t event{};
  Event() { check(cudaEventCreate(&event), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
};

double median(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  return samples[samples.size() / 2];
}

// Seconds on the device that `work` takes.
double device_seconds(cudaStream_t stream, const std::function<void()>& work) {
  const Event start, stop;
  std::vector<double> samples;
  for (int round = -2; round < kRounds; ++round) {
    check(cudaEventRecord(start.event, stream), "cudaEventRecord");
    work();
    check(cudaEventRecord(stop.event, stream), "cudaEventRecord");
    check(cudaEventSynchronize(stop.event), "kernel");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start.event, stop.event), "cudaEventElapsedTime");
    if (round >= 0) samples.push_back(milliseconds * 1e-3);
  }
  return median(samples);
}

// Seconds of the host's time until `work` returns, begun on an idle device.
double host_seconds(const std::function<void()>& work) {
  std::vector<double> samples;
  for (int round = -2; round < kRounds; ++round) {
    check(cudaDeviceSynchronize(), "kernel");
    const auto start = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    if (round >= 0) samples.push_back(passed.count());
  }
  check(cudaDeviceSynchronize(), "kernel");
  return median(samples);
}

class Memory {
 public:
  explicit Memory(size_t bytes) {
    check(cudaMalloc(&data_, bytes), "cudaMalloc");
    check(cudaMemset(data_, 1, bytes), "cudaMemset");
  }
  ~Memory() { cudaFree(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

// ---- the constants -------------------------------------------------------------------------------

struct Device {
  cudaDeviceProp properties{};
  cudaStream_t stream{};
  int processors() const { return properties.multiProcessorCount; }
};

double copy_bandwidth(const Device& d) {
  const int64_t bytes = int64_t{2} << 30;
  const Memory from(bytes), to(bytes);
  const double seconds = device_seconds(d.stream, [&] {
    launch(copy_kernel, d.processors() * 16, kThreads, 0, d.stream, from.as<uint4>(), to.as<uint4>(),
           bytes / 16);
  });
  return 2 * static_cast<double>(bytes) / seconds / 1e12;
}

double memcpy_bandwidth(const Device& d) {
  const size_t bytes = size_t{2} << 30;
  const Memory from(bytes), to(bytes);
  const double seconds = device_seconds(d.stream, [&] {
    check(cudaMemcpyAsync(to.as<void>(), from.as<void>(), bytes, cudaMemcpyDeviceToDevice, d.stream),
          "cudaMemcpyAsync");
  });
  return 2 * static_cast<double>(bytes) / seconds / 1e12;
}

double l2_bandwidth(const Device& d) {
  const int pieces = (8 << 20) / 16, times = 50;
  const Memory from(size_t{8} << 20), to(size_t{8} << 20);
  const double seconds = device_seconds(d.stream, [&] {
    launch(read_kernel, d.processors() * 4, kThreads, 0, d.stream, from.as<uint4>(), to.as<uint4>(),
           pieces, times);
  });
  return 16.0 * pieces * times / seconds / 1e12;
}

template <Product product>
double mma_rate(const Device& d) {
  const int blocks = d.processors() * 4, times = 4096;
  const Memory out(sizeof(float) * blocks * kThreads);
  const double seconds = device_seconds(d.stream, [&] {
    launch(mma_kernel<product>, blocks, kThreads, 0, d.stream, out.as<float>(), 12345u, times);
  });
  const double flops = 2.0 * 16 * 8 * (product == Product::tf32 ? 8 : 16);
  return flops * kChains * times * (kThreads / 32) * blocks / seconds / 1e12;
}

template <Function function>
double function_rate(const Device& d) {
  const int blocks = d.processors() * 8, times = 2048;
  const Memory out(sizeof(float) * blocks * kThreads);
  const double seconds = device_seconds(d.stream, [&] {
    launch(function_kernel<function>, blocks, kThreads, 0, d.stream, out.as<float>(), 1e-3f, times);
  });
  return static_cast<double>(kChains) * times * kThreads * blocks / seconds / 1e12;
}

double wgmma_rate(const Device& d, bool bf16) {
  const int blocks = d.processors(), times = 2048;
  const Memory out(sizeof(float) * blocks * kThreads);
  double flops = 0;
  const double seconds = device_seconds(
      d.stream, [&] { flops = launch_wgmma(bf16, blocks, times, out.as<float>(), d.stream).flops; });
  return flops / seconds / 1e12;
}

double cluster_barrier(const Device& d, int cluster) {
  const int times = 4000;
  const double seconds = device_seconds(
      d.stream, [&] { launch_cluster_barriers(cluster, d.processors(), times, d.stream); });
  return seconds / times * 1e9;
}

// Nanoseconds a barrier, with one block on every multiprocessor.
double block_barrier(const Device& d, int threads) {
  const int times = 4000;
  const double seconds = device_seconds(
      d.stream, [&] { launch(block_barrier_kernel, d.processors(), threads, 0, d.stream, times); });
  return seconds / times * 1e9;
}

double grid_barrier(const Device& d, int threads) {
  const int times = 1000;
  const Memory barrier(sizeof(GridBarrier));
  check(cudaMemset(barrier.as<void>(), 0, sizeof(GridBarrier)), "cudaMemset");
  check(cudaDeviceSynchronize(), "cudaMemset");
  const double seconds = device_seconds(d.stream, [&] {
    launch_coop(grid_barrier_kernel, d.processors(), threads, 0, d.stream, barrier.as<GridBarrier>(),
                times);
  });
  return seconds / times * 1e9;
}

// Nanoseconds until one block sees what another has released.
double flag_hop(const Device& d) {
  const int times = 2000;
  const Memory turn(sizeof(unsigned));
  const double seconds = device_seconds(d.stream, [&] {
    check(cudaMemsetAsync(turn.as<void>(), 0, sizeof(unsigned), d.stream), "cudaMemsetAsync");
    launch_coop(turns_kernel, 2, 32, 0, d.stream, turn.as<unsigned>(), times);
  });
  return seconds / (2 * times) * 1e9;
}

constexpr int kLaunches = 500;

void launch_empty(cudaStream_t stream) {
  for (int i = 0; i < kLaunches; ++i) launch(empty_kernel, 1, 32, 0, stream);
}

double launch_overhead(const Device& d) {
  return host_seconds([&] { launch_empty(d.stream); }) / kLaunches * 1e6;
}

double stream_period(const Device& d) {
  return device_seconds(d.stream, [&] { launch_empty(d.stream); }) / kLaunches * 1e6;
}

struct Graph {
  cudaGraphExec_t executable{};
  explicit Graph(cudaStream_t stream) {
    cudaGraph_t graph{};
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "cudaStreamBeginCapture");
    launch_empty(stream);
    check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
    cudaGraphDestroy(graph);
  }
  ~Graph() { cudaGraphExecDestroy(executable); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
};

double graph_period(const Device& d) {
  const Graph graph(d.stream);
  const double seconds = device_seconds(
      d.stream, [&] { check(cudaGraphLaunch(graph.executable, d.stream), "cudaGraphLaunch"); });
  return seconds / kLaunches * 1e6;
}

struct Constant {
  const char *name, *unit;
  std::function<double(const Device&)> measure;
  bool hopper = false;  // of sm_90a alone
};

std::vector<Constant> constants() {
  return {
      {"copy", "TB/s, read and written", copy_bandwidth},
      {"memcpy", "TB/s, read and written", memcpy_bandwidth},
      {"l2 read", "TB/s", l2_bandwidth},
      {"mma bf16", "TFLOP/s, mma.sync", mma_rate<Product::bf16>},
      {"mma fp16", "TFLOP/s, mma.sync", mma_rate<Product::fp16>},
      {"mma tf32", "TFLOP/s, mma.sync", mma_rate<Product::tf32>},
      {"fma", "T/s", function_rate<Function::fma>},
      {"exp2_fast", "T/s", function_rate<Function::exp2_fast>},
      {"exp_fast", "T/s", function_rate<Function::exp_fast>},
      {"expf", "T/s", function_rate<Function::expf>},
      {"tanh_approx", "T/s", function_rate<Function::tanh_approx>},
      {"tanh_fast", "T/s", function_rate<Function::tanh_fast>},
      {"tanhf", "T/s", function_rate<Function::tanhf>},
      {"sigmoid_fast", "T/s", function_rate<Function::sigmoid_fast>},
      {"block barrier, 128 threads", "ns", [](const Device& d) { return block_barrier(d, 128); }},
      {"block barrier, 256 threads", "ns", [](const Device& d) { return block_barrier(d, 256); }},
      {"block barrier, 1024 threads", "ns", [](const Device& d) { return block_barrier(d, 1024); }},
      {"grid barrier, 256 threads", "ns", [](const Device& d) { return grid_barrier(d, 256); }},
      {"flag to another block", "ns", flag_hop},
      {"wgmma bf16", "TFLOP/s", [](const Device& d) { return wgmma_rate(d, true); }, true},
      {"wgmma tf32", "TFLOP/s", [](const Device& d) { return wgmma_rate(d, false); }, true},
      {"cluster barrier, 2 blocks", "ns", [](const Device& d) { return cluster_barrier(d, 2); }, true},
      {"cluster barrier, 4 blocks", "ns", [](const Device& d) { return cluster_barrier(d, 4); }, true},
      {"cluster barrier, 8 blocks", "ns", [](const Device& d) { return cluster_barrier(d, 8); }, true},
      {"launch, host", "us", launch_overhead},
      {"kernel period, stream", "us", stream_period},
      {"kernel period, graph", "us", graph_period},
  };
}

int run(const std::vector<std::string>& wanted) {
  Device device;
  int current = 0, clock = 0;
  check(cudaGetDevice(&current), "cudaGetDevice");
  check(cudaGetDeviceProperties(&device.properties, current), "cudaGetDeviceProperties");
  check(cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, current), "cudaDevAttrClockRate");
  check(cudaStreamCreateWithFlags(&device.stream, cudaStreamNonBlocking), "cudaStreamCreate");
  printf("{\"gpu\": \"%s\", \"sm\": %d, \"clock_mhz\": %d}\n", device.properties.name,
         device.processors(), clock / 1000);
  const bool hopper = has_sm90();
  for (const Constant& c : constants()) {
    const bool named = std::find(wanted.begin(), wanted.end(), c.name) != wanted.end();
    if ((!wanted.empty() && !named) || (c.hopper && !hopper)) continue;
    printf("{\"constant\": \"%s\", \"value\": %.4g, \"unit\": \"%s\"}\n", c.name, c.measure(device),
           c.unit);
    fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace genfast::constants

int main(int argc, char** argv) {
  try {
    return genfast::constants::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    fflush(stdout);
    fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
