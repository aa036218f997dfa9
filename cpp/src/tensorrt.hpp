// What the two files of the TensorRT backend share: the plan that is loaded, and its log.
#pragma once

#include <NvInferRuntime.h>

#include <algorithm>
#include <memory>
#include <string>

#include "backend.hpp"
#include "cuda.hpp"
#include "profiles.hpp"
#include "words.hpp"

namespace segdeploy::detail {

inline constexpr const char* OTHER_PLAN =
    "the manifest belongs to another plan: build the engine again";

// TensorRT reports most failures by null or false; the reason is only in the log. One for the
// process: while any TensorRT object lives, the library ignores every logger but the first.
class Log final : public nvinfer1::ILogger {
 public:
  static Log& shared() {
    static Log log;
    return log;
  }

  void log(Severity severity, const char* text) noexcept override {
    if (severity <= Severity::kERROR) last() = first_line(text);
  }

  // The last error that this thread made it say.
  static std::string& last() {
    thread_local std::string text;
    return text;
  }

  static std::string reason() { return last().empty() ? "TensorRT gave no reason" : last(); }
};

inline Shape shape_of(const nvinfer1::Dims& dims) {
  return {dims.d, dims.d + std::max(dims.nbDims, 0)};
}

// Free what lies on a GPU. In a forked child, or where the driver is gone, there is nothing left.
template <class Parts>
void free_on(const Gpu& gpu, const Process& process, std::unique_ptr<Parts>& parts) {
  if (process.is_this()) {
    try {
      const Current current(gpu);
      parts.reset();
    } catch (const Error&) {
    }
  }
  static_cast<void>(parts.release());
}

struct LoadedPlan {  // each is freed before what it was made with
  std::unique_ptr<nvinfer1::IRuntime> runtime, lean_runtime;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;
};

// A plan on one GPU, of either flavour.
class TensorRTModel final : public Model {
 public:
  TensorRTModel(const Artifact& artifact, const std::string& device,
                const std::string& lean_runtime);
  ~TensorRTModel() override { free_on(gpu_, process(), plan_); }
  std::unique_ptr<Runner> runner() const override;

  const Gpu& gpu() const { return gpu_; }
  const std::string& image_name() const { return image_; }
  const std::string& result_name() const { return result_; }
  ProfilePool& profiles() const { return *profiles_; }

 private:
  void read_tensors(const nvinfer1::ICudaEngine& engine, const std::string& path);
  void check_facts(const std::string& path, const TensorInfo& image,
                   const TensorInfo& result) const;
  void read_profiles(const nvinfer1::ICudaEngine& engine);

  Gpu gpu_;
  std::unique_ptr<LoadedPlan> plan_;
  std::unique_ptr<ProfilePool> profiles_;
  std::string image_, result_;
};

}  // namespace segdeploy::detail
