/* The part of CUDA's driver that segdeploy calls, simulated. */
#pragma once

#include "world.hpp"

enum CUresult { CUDA_SUCCESS = 0, CUDA_ERROR_UNKNOWN = 999 };
using CUdevice = int;
using CUcontext = int*;

inline CUresult cuDeviceGet(CUdevice* device, int number) {
  *device = number;
  return CUDA_SUCCESS;
}

inline CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  static int primary[world::GPUS] = {0, 1};
  *context = &primary[device];
  return CUDA_SUCCESS;
}

inline CUresult cuCtxPushCurrent(CUcontext context) {
  if (world::fails("cuCtxPushCurrent")) return CUDA_ERROR_UNKNOWN;
  world::now.contexts.push_back(*context);
  return CUDA_SUCCESS;
}

inline CUresult cuCtxPopCurrent(CUcontext* /*context*/) {
  world::now.contexts.pop_back();
  return CUDA_SUCCESS;
}
