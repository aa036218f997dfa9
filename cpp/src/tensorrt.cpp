// TensorRT and TensorRT-RTX. Written against the documented API of TensorRT 10 and later; NOT run
// on a GPU yet: docs/verification.md. What decides is in compatibility.cpp and profiles.cpp, which
// are tested; here are the calls.
#include "tensorrt.hpp"

#include <utility>

#include "compatibility.hpp"
#include "processor.hpp"

namespace segdeploy::detail {
namespace {

#ifdef TRT_MAJOR_RTX  // which the headers of TensorRT-RTX alone define
constexpr bool IS_RTX = true;
constexpr const char* TITLE = "TensorRT-RTX";
#else
constexpr bool IS_RTX = false;
constexpr const char* TITLE = "TensorRT";
#endif

std::string numpy_name(nvinfer1::DataType type) {
  switch (type) {
    case nvinfer1::DataType::kUINT8: return "uint8";
    case nvinfer1::DataType::kINT8: return "int8";
    case nvinfer1::DataType::kINT32: return "int32";
    case nvinfer1::DataType::kINT64: return "int64";
    case nvinfer1::DataType::kBOOL: return "bool";
    case nvinfer1::DataType::kHALF: return "float16";
    case nvinfer1::DataType::kFLOAT: return "float32";
    default: return "type " + std::to_string(static_cast<int>(type));
  }
}

std::string library_version() {
  std::string text;
  for (const int part : {getInferLibMajorVersion(), getInferLibMinorVersion(),
                         getInferLibPatchVersion(), getInferLibBuildVersion()}) {
    text += (text.empty() ? "" : ".") + std::to_string(part);
  }
  return text;
}

void require_gpu(int device) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    throw Error(std::string("running a ") + TITLE + " engine needs an NVIDIA GPU, but " +
                    cudaGetErrorString(status),
                "use a machine with an NVIDIA GPU and driver; segdeploy doctor shows what is here");
  }
  if (device >= count) {
    throw Error("there is no GPU cuda:" + std::to_string(device) + "; there are " +
                std::to_string(count));
  }
}

Here describe_here(int device) {
  cudaDeviceProp facts{};
  check(cudaGetDeviceProperties(&facts, device), "cudaGetDeviceProperties");
  return {library_version(), system_name(), facts.name,
          std::to_string(facts.major) + "." + std::to_string(facts.minor), IS_RTX};
}

// Of a plan that fits it.
Gpu gpu_for(const Artifact& artifact, const std::string& device) {
  const int number = gpu_number(device);
  require_gpu(number);  // before TensorRT's first object: without a driver that may crash
  check_compatible(artifact.path, artifact.manifest, describe_here(number));
  if (artifact.manifest.build->strip) {
    throw Error(artifact.path.string() + ": has no weights, and C++ does not fill it",
                "build the engine without stripping it");
  }
  return Gpu(number);
}

// The runtime of the version that built the plan, which its own file brings.
std::unique_ptr<nvinfer1::IRuntime> load_lean_runtime(nvinfer1::IRuntime& runtime,
                                                      const Artifact& artifact,
                                                      const std::string& file) {
  const std::string& wanted = artifact.manifest.facts.runtime_version;
  if (file.empty()) {
    throw MisfitError(artifact.path.string() +
                          ": another TensorRT loads it with the lean runtime of " + wanted +
                          " only",
                      "pip download tensorrt-lean==" + wanted +
                          ", unpack libnvinfer_lean, and name the file in "
                          "RunOptions::lean_runtime; or --rebuild");
  }
  std::unique_ptr<nvinfer1::IRuntime> loaded(runtime.loadRuntime(file.c_str()));
  if (loaded == nullptr) throw Error(file + ": is no lean runtime that this TensorRT loads");
  return loaded;
}

void check_validity([[maybe_unused]] const nvinfer1::IRuntime& runtime,
                    [[maybe_unused]] const Artifact& artifact) {
#ifdef TRT_MAJOR_RTX  // which alone can be asked
  std::uint64_t reasons = 0;
  const auto size = static_cast<std::int64_t>(artifact.bytes.size());
  const auto found = runtime.getEngineValidity(artifact.bytes.data(), size, &reasons);
  if (found != nvinfer1::EngineValidity::kINVALID) return;
  throw MisfitError(artifact.path.string() + ": TensorRT-RTX does not accept it on this GPU (" +
                        invalidity_text(reasons) + ")",
                    "--rebuild builds it here");
#endif
}

std::unique_ptr<LoadedPlan> load_plan(const Artifact& artifact, const std::string& lean_runtime) {
  auto plan = std::make_unique<LoadedPlan>();
  Log::last().clear();
  plan->runtime.reset(nvinfer1::createInferRuntime(Log::shared()));
  if (nvinfer1::IRuntime* runtime = plan->runtime.get(); runtime != nullptr) {
    if (artifact.manifest.facts.runtime_version != library_version()) {  // version-compatible
      plan->lean_runtime = load_lean_runtime(*runtime, artifact, lean_runtime);
      runtime = plan->lean_runtime.get();
    }
    check_validity(*runtime, artifact);
    plan->engine.reset(
        runtime->deserializeCudaEngine(artifact.bytes.data(), artifact.bytes.size()));
  }
  if (plan->engine != nullptr) return plan;
  throw MisfitError(artifact.path.string() + ": cannot be loaded (" + Log::reason() + ")",
                    "build the engine again on this machine");
}

std::string tensors_text(const std::vector<TensorInfo>& inputs,
                         const std::vector<TensorInfo>& outputs) {
  std::string text;
  for (const auto* tensors : {&inputs, &outputs}) {
    for (const TensorInfo& tensor : *tensors) {
      text += (text.empty() ? "" : ", ") + tensor.name + " " + tensor.dtype + " " +
              shape_text(tensor.shape);
    }
  }
  return text.empty() ? "none" : text;
}

// Whether two shapes may be the same: an open axis, -1, has any size.
bool agree(const Shape& first, const Shape& second) {
  const auto is_same = [](std::int64_t a, std::int64_t b) { return a == b || a == -1 || b == -1; };
  return std::equal(first.begin(), first.end(), second.begin(), second.end(), is_same);
}

}  // namespace

TensorRTModel::TensorRTModel(const Artifact& artifact, const std::string& device,
                             const std::string& lean_runtime)
    : Model(artifact.manifest, device), gpu_(gpu_for(artifact, device)) {
  const Current current(gpu_);
  auto plan = load_plan(artifact, lean_runtime);  // freed while its GPU is current
  read_tensors(*plan->engine, artifact.path.string());
  read_profiles(*plan->engine);
  plan_ = std::move(plan);
}

void TensorRTModel::read_tensors(const nvinfer1::ICudaEngine& engine, const std::string& path) {
  std::vector<TensorInfo> inputs, outputs;
  for (int k = 0; k < engine.getNbIOTensors(); ++k) {
    const char* name = engine.getIOTensorName(k);
    const bool is_input = engine.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
    (is_input ? inputs : outputs)
        .push_back({name, numpy_name(engine.getTensorDataType(name)),
                    shape_of(engine.getTensorShape(name))});
  }
  const BuildRecord& build = *manifest().build;
  if (inputs != build.inputs || outputs != build.outputs) {
    throw MisfitError(
        path + ": has the tensors " + tensors_text(inputs, outputs) + ", its manifest has others",
        OTHER_PLAN);
  }
  const std::string wanted = returns_labels() ? "uint8" : "float32";
  if (inputs.size() != 1 || inputs[0].dtype != "uint8" || outputs.size() != 1 ||
      outputs[0].dtype != wanted) {
    throw Error(path + ": has the tensors " + tensors_text(inputs, outputs) +
                    "; wanted one uint8 input and one " + wanted + " output",
                "segdeploy export makes graphs that take pixels");
  }
  check_facts(path, inputs[0], outputs[0]);
  image_ = inputs[0].name;
  result_ = outputs[0].name;
}

// The manifest says twice what the plan takes and returns; sessions go by its facts.
void TensorRTModel::check_facts(const std::string& path, const TensorInfo& image,
                                const TensorInfo& result) const {
  const Size size = facts().size.value_or(Size{-1, -1});
  const std::int64_t count = facts().batch.value_or(-1);
  Shape returned = result_shape({1, facts().size.value_or(Size{1, 1})});
  returned.front() = count;
  if (!facts().size) std::fill(returned.end() - 2, returned.end(), -1);
  const Shape taken = {count, size.height, size.width, 3};
  if (agree(image.shape, taken) && agree(result.shape, returned)) return;
  throw MisfitError(path + ": has the tensors " + tensors_text({image}, {result}) +
                        ", its manifest says " + shape_text(taken) + " and " + shape_text(returned),
                    OTHER_PLAN);
}

void TensorRTModel::read_profiles(const nvinfer1::ICudaEngine& engine) {
  const int count = engine.getNbOptimizationProfiles();
  std::vector<ShapeRange> ranges;
  ranges.reserve(static_cast<std::size_t>(count));
  using Selector = nvinfer1::OptProfileSelector;
  for (int k = 0; k < count; ++k) {
    ranges.push_back({shape_of(engine.getProfileShape(image_.c_str(), k, Selector::kMIN)),
                      shape_of(engine.getProfileShape(image_.c_str(), k, Selector::kMAX))});
  }
  profiles_ = std::make_unique<ProfilePool>(shape_of(engine.getTensorShape(image_.c_str())),
                                            std::move(ranges));
}

std::shared_ptr<const Model> open_tensorrt(const Artifact& artifact, const std::string& device,
                                           const std::string& lean_runtime) {
  return std::make_shared<TensorRTModel>(artifact, device, lean_runtime);
}

}  // namespace segdeploy::detail
