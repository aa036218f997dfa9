/* The part of CUDA's runtime that segdeploy calls, simulated: work is done at once. */
#pragma once

#include <cstdlib>
#include <cstring>

#include "cuda.h"

#define CUDART_VERSION 13000

enum cudaError_t { cudaSuccess = 0, cudaErrorUnknown = 999 };
enum { cudaEnableDefault = 0, cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
struct CUstream_st {
  int number;
};
struct CUevent_st {};
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;
struct cudaDeviceProp {
  char name[256];
  int major, minor;
};

inline const char* cudaGetErrorString(cudaError_t /*status*/) { return "simulated"; }

inline cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** found, unsigned,
                                                    unsigned long long) {
  const std::string wanted = name;
  *found = nullptr;
  if (wanted == "cuDeviceGet") *found = reinterpret_cast<void*>(cuDeviceGet);
  if (wanted == "cuDevicePrimaryCtxRetain") {
    *found = reinterpret_cast<void*>(cuDevicePrimaryCtxRetain);
  }
  if (wanted == "cuCtxPushCurrent") *found = reinterpret_cast<void*>(cuCtxPushCurrent);
  if (wanted == "cuCtxPopCurrent") *found = reinterpret_cast<void*>(cuCtxPopCurrent);
  return cudaSuccess;
}

inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = world::GPUS;
  return cudaSuccess;
}

inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* facts, int /*device*/) {
  std::strcpy(facts->name, "NVIDIA A100");
  facts->major = 8, facts->minor = 0;
  return cudaSuccess;
}

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (world::fails("cudaStreamCreateWithFlags")) return cudaErrorUnknown;
  world::make("stream");
  *stream = new CUstream_st{0};
  return cudaSuccess;
}

inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  world::free("stream");
  delete stream;
  return cudaSuccess;
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t /*stream*/) {
  return world::fails("cudaStreamSynchronize") ? cudaErrorUnknown : cudaSuccess;
}

inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t, unsigned) {
  world::say("stream " + std::to_string(stream->number) + " waits");
  return cudaSuccess;
}

inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (world::fails("cudaEventCreateWithFlags")) return cudaErrorUnknown;
  world::make("event");
  *event = new CUevent_st;
  return cudaSuccess;
}

inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  world::free("event");
  delete event;
  return cudaSuccess;
}

inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t stream) {
  world::say("record on stream " + std::to_string(stream->number));
  return cudaSuccess;
}

inline cudaError_t cudaEventSynchronize(cudaEvent_t /*event*/) {
  if (world::fails("cudaEventSynchronize")) return cudaErrorUnknown;
  world::say("wait for the executions");
  return cudaSuccess;
}

inline cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  if (world::fails("cudaMalloc")) return cudaErrorUnknown;
  world::make("memory");
  *memory = std::malloc(bytes);
  return cudaSuccess;
}

inline cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  if (world::fails("cudaMallocHost")) return cudaErrorUnknown;
  world::make("memory of the host");
  *memory = std::malloc(bytes);
  return cudaSuccess;
}

inline cudaError_t cudaFree(void* memory) {
  world::free("memory");
  std::free(memory);
  return cudaSuccess;
}

inline cudaError_t cudaFreeHost(void* memory) {
  world::free("memory of the host");
  std::free(memory);
  return cudaSuccess;
}

inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                                   cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
