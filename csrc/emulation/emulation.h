// Runs CUDA kernels on the CPU. This header is force-included (g++ -x c++ -include
// emulation/emulation.h) into every .cu file of an emulated build, before anything else; nvcc never sees
// it.
//
// How it works: every CUDA thread is a fiber (fiber.h), all fibers share one OS thread. A block's fibers
// live at once, blocks run one after another; in a cooperative launch all blocks live at once. A fiber
// runs until it reaches a barrier, a warp operation or a spin_yield; the scheduler (scheduler.h) then
// picks the next one: in thread order, in reverse, or at random by a seed. A kernel that is properly
// synchronised gives equal results under all of them; one that is not is found because results differ,
// because shared memory starts as NaN, or because the scheduler itself notices (EmulatorError, with file
// and line).
//
// What it cannot show: registers, occupancy, bank conflicts, the last bits of approximate instructions,
// and a mistake about fragment layouts made equally here and in a kernel.
#pragma once
#ifdef __CUDACC__
#error "emulation.h is for g++; nvcc compiles the .cu files as they are"
#endif
#define CUDA_HOST_EMU 1
#include "emulation/runtime.h"
#include "emulation/spelling.h"
