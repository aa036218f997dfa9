/* The part of TensorRT that segdeploy calls, simulated. The "network" returns the red channel. */
#pragma once

#include "cuda_runtime_api.h"

namespace nvinfer1 {

struct ILogger {
  enum class Severity { kINTERNAL_ERROR, kERROR, kWARNING };
  virtual ~ILogger() = default;
  virtual void log(Severity severity, const char* text) noexcept = 0;
};

enum class DataType { kFLOAT, kHALF, kINT8, kINT32, kBOOL, kUINT8, kINT64 };
enum class TensorIOMode { kINPUT, kOUTPUT };
enum class OptProfileSelector { kMIN, kOPT, kMAX };

struct Dims {
  int nbDims = -1;
  std::int64_t d[8] = {};
};

struct Dims4 : Dims {
  Dims4(std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t e) {
    nbDims = 4;
    d[0] = a, d[1] = b, d[2] = c, d[3] = e;
  }
};

inline Dims dims_of(const world::Shape& shape) {
  Dims dims;
  dims.nbDims = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), dims.d);
  return dims;
}

class IExecutionContext {
 public:
  IExecutionContext() { world::make("context"); }
  ~IExecutionContext() { world::free("context"); }

  bool setOptimizationProfileAsync(int profile, cudaStream_t) {
    if (world::fails("setOptimizationProfileAsync")) return false;
    world::say("profile " + std::to_string(profile));
    return true;
  }

  bool setInputShape(const char*, const Dims& dims) {
    shape_ = dims;
    return true;
  }

  Dims getTensorShape(const char*) const {
    const auto& result = world::now.result;
    if (std::count(result.begin(), result.end(), -1) == 0) return dims_of(result);
    return dims_of({shape_.d[0], shape_.d[1] * world::now.scale, shape_.d[2]});
  }

  bool setInputTensorAddress(const char*, const void* memory) {
    image_ = static_cast<const std::uint8_t*>(memory);
    return true;
  }

  bool setTensorAddress(const char*, void* memory) {
    labels_ = static_cast<std::uint8_t*>(memory);
    return true;
  }

  bool enqueueV3(cudaStream_t stream) {
    world::say("execute on stream " + std::to_string(stream->number));
    const Dims shape = getTensorShape("labels");
    for (std::int64_t k = 0; k < shape.d[0] * shape.d[1] * shape.d[2]; ++k) {
      labels_[k] = image_[3 * k];
    }
    return true;
  }

 private:
  Dims shape_;
  const std::uint8_t* image_ = nullptr;
  std::uint8_t* labels_ = nullptr;
};

// Two profiles: up to 16 and up to 64 pixels a side.
class ICudaEngine {
 public:
  ICudaEngine() { world::make("engine"); }
  ~ICudaEngine() {
    world::free("engine");
    world::say("engine freed");
  }

  int getNbIOTensors() const { return 2; }
  const char* getIOTensorName(int index) const { return index == 0 ? "image" : "labels"; }
  TensorIOMode getTensorIOMode(const char* name) const {
    return name[0] == 'i' ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
  }
  DataType getTensorDataType(const char*) const { return DataType::kUINT8; }
  Dims getTensorShape(const char* name) const {
    return dims_of(name[0] == 'i' ? world::now.image : world::now.result);
  }
  int getNbOptimizationProfiles() const { return 2; }
  Dims getProfileShape(const char*, int profile, OptProfileSelector selector) const {
    const int side = profile == 0 ? 16 : 64;
    return selector == OptProfileSelector::kMIN ? Dims4(1, 8, 8, 3) : Dims4(4, side, side, 3);
  }
  IExecutionContext* createExecutionContext() { return new IExecutionContext; }
};

#ifdef TRT_MAJOR_RTX
enum class EngineValidity { kVALID, kSUBOPTIMAL, kINVALID };
#endif

class IRuntime {
 public:
  IRuntime() { world::make("runtime"); }
  ~IRuntime() {
    world::free("runtime");
    world::say("runtime freed");
  }

  ICudaEngine* deserializeCudaEngine(const void*, std::size_t) { return new ICudaEngine; }

  IRuntime* loadRuntime(const char* path) {
    if (world::fails("loadRuntime")) return nullptr;
    world::now.lean.emplace_back(path);
    return new IRuntime;
  }

#ifdef TRT_MAJOR_RTX
  EngineValidity getEngineValidity(const void*, std::int64_t, std::uint64_t* reasons) const {
    *reasons = world::now.reasons;
    return *reasons == 0 ? EngineValidity::kVALID : EngineValidity::kINVALID;
  }
#endif
};

inline IRuntime* createInferRuntime(ILogger&) { return new IRuntime; }

}  // namespace nvinfer1

inline int getInferLibMajorVersion() { return 10; }
inline int getInferLibMinorVersion() { return 9; }
inline int getInferLibPatchVersion() { return 0; }
inline int getInferLibBuildVersion() { return 34; }
