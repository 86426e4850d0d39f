// Instructions of sm_90a alone: wgmma and clusters. On other GPUs there is nothing to measure.
#include "constants_sm90.h"

#include "common/cuda.h"

namespace genfast::constants {

using namespace genfast::cuda;

namespace {

// Two warpgroups, each of 64 rows x 256 columns of accumulators: what a multiprocessor's registers hold.
constexpr int kWarpgroups = 2, kGroupThreads = 128, kColumns = 256, kStepBytes = 32;
constexpr int kBytesOfA = 64 * kStepBytes, kBytesOfB = kColumns * kStepBytes;

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
// PTX ISA, "Asynchronous warpgroup level matrix": an operand in shared memory, K-major, not swizzled:
// blocks of 8 rows x 16 bytes, the two of a step along K 128 bytes apart, those of the next 8 rows 256.
__device__ __forceinline__ uint64_t operand(const void* shared) {
  const uint64_t address = shared_address(shared) >> 4 & 0x3fff;
  return address | uint64_t{128 >> 4} << 16 | uint64_t{256 >> 4} << 32;
}

#define GENFAST_8(d, i)                                                                       \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define GENFAST_32(d, i) GENFAST_8(d, i), GENFAST_8(d, i + 8), GENFAST_8(d, i + 16), GENFAST_8(d, i + 24)
// D += A B of a warpgroup; the last immediates: operands are not negated (and, of 16 bits, not
// transposed).
#define GENFAST_WGMMA(SHAPE_AND_TYPES, IMMEDIATES, d, a, b)                                        \
  asm volatile(                                                                                    \
      "wgmma.mma_async.sync.aligned." SHAPE_AND_TYPES                                              \
      " {"                                                                                         \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
      "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, " \
      "%38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, " \
      "%56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, " \
      "%74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, " \
      "%92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, "   \
      "%108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, " \
      "%123, %124, %125, %126, %127"                                                               \
      "}, %128, %129, " IMMEDIATES ";"                                                             \
      : GENFAST_32(d, 0), GENFAST_32(d, 32), GENFAST_32(d, 64), GENFAST_32(d, 96)                  \
      : "l"(a), "l"(b))
#endif

template <bool kBf16>
__global__ void __launch_bounds__(kWarpgroups* kGroupThreads, 1) wgmma_kernel(float* out, int times) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  unsigned char* shared = dyn_smem<unsigned char>();
  const int thread = static_cast<int>(threadIdx.x), group = thread / kGroupThreads;
  // Numbers that differ, of either sign: the unit's power, and with it the clock, depends on the data.
  for (int i = thread; i < (kWarpgroups * kBytesOfA + kBytesOfB) / 4; i += kWarpgroups * kGroupThreads) {
    const uint32_t mixed = static_cast<uint32_t>(i) * 2654435761u;
    const float x = 1.0f / static_cast<float>(1 + mixed % 61);
    reinterpret_cast<uint32_t*>(shared)[i] = kBf16 ? pack_bf16(x, -x) : round_tf32(mixed & 64 ? x : -x);
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // wgmma reads what was stored
  __syncthreads();
  const uint64_t a = operand(shared + group * kBytesOfA);
  const uint64_t b = operand(shared + kWarpgroups * kBytesOfA);
  float sum[128] = {};
  for (int t = 0; t < times; ++t) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kBf16) {
        GENFAST_WGMMA("m64n256k16.f32.bf16.bf16", "1, 1, 1, 0, 0", sum, a, b);
      } else {
        GENFAST_WGMMA("m64n256k8.f32.tf32.tf32", "1, 1, 1", sum, a, b);
      }
    }
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  }
  float total = 0;
#pragma unroll
  for (int i = 0; i < 128; ++i) total += sum[i];
  out[static_cast<size_t>(blockIdx.x) * (kWarpgroups * kGroupThreads) + threadIdx.x] = total;
#else
  (void)out, (void)times;
#endif
}

__global__ void __launch_bounds__(256) cluster_barrier_kernel(int times) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#pragma unroll 1
  for (int t = 0; t < times; ++t) {
    asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
  }
#else
  (void)times;
#endif
}

}  // namespace

bool has_sm90() {
  int device = 0, major = 0, minor = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "major");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "minor");
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, cluster_barrier_kernel), "cudaFuncGetAttributes");
  return major == 9 && minor == 0 && attributes.ptxVersion >= 90;
}

WgmmaWork launch_wgmma(bool bf16, int blocks, int times, float* out, cudaStream_t stream) {
  launch(bf16 ? wgmma_kernel<true> : wgmma_kernel<false>, blocks, kWarpgroups * kGroupThreads,
         kWarpgroups * kBytesOfA + kBytesOfB, stream, out, times);
  const double of_one = 2.0 * 64 * kColumns * (bf16 ? 16 : 8);
  return {of_one * 4 * times * kWarpgroups * blocks, kWarpgroups * kGroupThreads};
}

void launch_cluster_barriers(int cluster, int blocks, int times, cudaStream_t stream) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = static_cast<unsigned>(cluster);
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks / cluster * cluster));
  config.blockDim = dim3(256);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, cluster_barrier_kernel, times), "cudaLaunchKernelEx");
}

}  // namespace genfast::constants
