// The CUDA that a TensorRT engine needs: the context of a GPU, streams, events and memory.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

namespace segdeploy::detail {

void check(cudaError_t status, const char* call);  // throws an Error that names the call

// The primary context of a GPU, the one of the CUDA runtime, which keeps it as long as the process.
class Gpu {
 public:
  explicit Gpu(int number);
  CUcontext context() const { return context_; }

 private:
  CUcontext context_ = nullptr;
};

// Makes it this thread's GPU and gives the thread its own back, a context of the driver's API too.
class Current {
 public:
  explicit Current(const Gpu& gpu);
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;
  ~Current();
};

// Made and freed while their GPU is current.
struct Freed {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
using Stream = std::unique_ptr<CUstream_st, Freed>;
using Event = std::unique_ptr<CUevent_st, Freed>;

Stream make_stream();
Event make_event();

// Memory of the GPU and as much of the host, pinned, so that copies need not stop.
class Buffer {
 public:
  void resize(std::size_t bytes);
  void upload(cudaStream_t stream) const;
  void download(cudaStream_t stream) const;
  void* device() const { return device_.get(); }
  void* host() const { return host_.get(); }

 private:
  struct FreedOnDevice {
    void operator()(void* memory) const { cudaFree(memory); }
  };
  struct FreedOnHost {
    void operator()(void* memory) const { cudaFreeHost(memory); }
  };
  std::unique_ptr<void, FreedOnDevice> device_;
  std::unique_ptr<void, FreedOnHost> host_;
  std::size_t bytes_ = 0;
};

}  // namespace segdeploy::detail
