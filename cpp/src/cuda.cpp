#include "cuda.hpp"

#include <string>

#include "segdeploy/segdeploy.hpp"

namespace segdeploy::detail {
namespace {

// Of the driver, which the runtime loads; a program that links it does not start without one.
template <class Call>
Call* driver_call(const char* name) {
  void* found = nullptr;
#if CUDART_VERSION >= 12050
  check(cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault), name);
#else
  check(cudaGetDriverEntryPoint(name, &found, cudaEnableDefault), name);
#endif
  if (found == nullptr) throw Error(std::string("the NVIDIA driver has no ") + name);
  return reinterpret_cast<Call*>(found);
}

struct Driver {
  decltype(cuDeviceGet)* device = driver_call<decltype(cuDeviceGet)>("cuDeviceGet");
  decltype(cuDevicePrimaryCtxRetain)* retain =
      driver_call<decltype(cuDevicePrimaryCtxRetain)>("cuDevicePrimaryCtxRetain");
  decltype(cuCtxPushCurrent)* push = driver_call<decltype(cuCtxPushCurrent)>("cuCtxPushCurrent");
  decltype(cuCtxPopCurrent)* pop = driver_call<decltype(cuCtxPopCurrent)>("cuCtxPopCurrent");
};

const Driver& driver() {
  static const Driver calls;
  return calls;
}

void check(CUresult status, const char* call) {
  if (status == CUDA_SUCCESS) return;
  throw Error(std::string(call) + " failed (CUDA error " + std::to_string(status) + ")");
}

}  // namespace

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  throw Error(std::string(call) + " failed (" + cudaGetErrorString(status) + ")");
}

Gpu::Gpu(int number) {
  CUdevice device{};
  check(driver().device(&device, number), "cuDeviceGet");
  check(driver().retain(&context_, device), "cuDevicePrimaryCtxRetain");
}

Current::Current(const Gpu& gpu) { check(driver().push(gpu.context()), "cuCtxPushCurrent"); }

Current::~Current() {
  CUcontext popped = nullptr;
  driver().pop(&popped);
}

Stream make_stream() {
  cudaStream_t made = nullptr;
  check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return Stream(made);
}

Event make_event() {
  cudaEvent_t made = nullptr;
  check(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  return Event(made);
}

void Buffer::resize(std::size_t bytes) {
  if (bytes == bytes_) return;
  bytes_ = 0;  // where memory runs out, the next call begins again
  device_.reset();
  host_.reset();
  void* made = nullptr;
  check(cudaMalloc(&made, bytes), "cudaMalloc");
  device_.reset(made);
  check(cudaMallocHost(&made, bytes), "cudaMallocHost");
  host_.reset(made);
  bytes_ = bytes;
}

void Buffer::upload(cudaStream_t stream) const {
  check(cudaMemcpyAsync(device(), host(), bytes_, cudaMemcpyHostToDevice, stream),
        "cudaMemcpyAsync");
}

void Buffer::download(cudaStream_t stream) const {
  check(cudaMemcpyAsync(host(), device(), bytes_, cudaMemcpyDeviceToHost, stream),
        "cudaMemcpyAsync");
}

}  // namespace segdeploy::detail
