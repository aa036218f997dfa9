// TensorRT and TensorRT-RTX. Written against the documented API of TensorRT 10 and later; NOT run
// on a GPU yet: docs/verification.md. What decides is in compatibility.cpp and profiles.cpp, which
// are tested; here are the calls.
#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <utility>

#include "backend.hpp"
#include "compatibility.hpp"
#include "processor.hpp"
#include "profiles.hpp"
#include "words.hpp"

namespace segdeploy::detail {
namespace {

#ifdef SEGDEPLOY_TENSORRT_RTX
constexpr bool IS_RTX = true;
constexpr const char* TITLE = "TensorRT-RTX";
#else
constexpr bool IS_RTX = false;
constexpr const char* TITLE = "TensorRT";
#endif

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  throw Error(std::string(call) + " failed (" + cudaGetErrorString(status) + ")");
}

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

// The device's primary context; the caller's current device is put back.
class Current {
 public:
  explicit Current(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    check(cudaSetDevice(device), "cudaSetDevice");
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;
  ~Current() { cudaSetDevice(before_); }

 private:
  int before_ = 0;
};

// Memory of the GPU and as much of the host, pinned, so that copies need not stop.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { free(); }

  void resize(std::size_t bytes) {
    if (bytes == bytes_) return;
    free();
    check(cudaMalloc(&device_, bytes), "cudaMalloc");
    check(cudaMallocHost(&host_, bytes), "cudaMallocHost");
    bytes_ = bytes;
  }

  void upload(cudaStream_t stream) const {
    check(cudaMemcpyAsync(device_, host_, bytes_, cudaMemcpyHostToDevice, stream),
          "cudaMemcpyAsync");
  }

  void download(cudaStream_t stream) const {
    check(cudaMemcpyAsync(host_, device_, bytes_, cudaMemcpyDeviceToHost, stream),
          "cudaMemcpyAsync");
  }

  void free() {
    cudaFree(device_);
    cudaFreeHost(host_);
    device_ = host_ = nullptr;
    bytes_ = 0;
  }

  void* device() const { return device_; }
  void* host() const { return host_; }

 private:
  void* device_ = nullptr;
  void* host_ = nullptr;
  std::size_t bytes_ = 0;
};

Shape shape_of(const nvinfer1::Dims& dims) { return {dims.d, dims.d + std::max(dims.nbDims, 0)}; }

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

class TensorRTModel final : public Model {
 public:
  TensorRTModel(Artifact artifact, const std::string& device);
  ~TensorRTModel() override;
  std::unique_ptr<Runner> runner() const override;

  int gpu() const { return gpu_; }
  const std::string& image_name() const { return image_; }
  const std::string& result_name() const { return result_; }
  ProfilePool& profiles() const { return *profiles_; }

 private:
  void deserialize(const Artifact& artifact);
  void read_tensors(const std::string& path);
  void read_profiles();

  int gpu_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;  // freed before its runtime
  std::unique_ptr<ProfilePool> profiles_;
  std::string image_, result_;
};

TensorRTModel::TensorRTModel(Artifact artifact, const std::string& device)
    : Model(artifact.manifest, device), gpu_(gpu_number(device)) {
  require_gpu(gpu_);  // before TensorRT's first object: without a driver that may crash
  check_compatible(artifact.path, artifact.manifest, describe_here(gpu_));
  if (artifact.manifest.build->strip) {
    throw Error(artifact.path.string() + ": has no weights, and C++ does not fill it",
                "build the engine without stripping it");
  }
  const Current current(gpu_);
  deserialize(artifact);
  read_tensors(artifact.path.string());
  read_profiles();
}

TensorRTModel::~TensorRTModel() {
  if (process().is_this()) return;
  static_cast<void>(engine_.release());  // CUDA does not live on in a forked child
  static_cast<void>(runtime_.release());
}

void TensorRTModel::deserialize(const Artifact& artifact) {
  Log::last().clear();
  runtime_.reset(nvinfer1::createInferRuntime(Log::shared()));
  if (runtime_ != nullptr) {
    engine_.reset(runtime_->deserializeCudaEngine(artifact.bytes.data(), artifact.bytes.size()));
  }
  if (engine_ != nullptr) return;
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

void TensorRTModel::read_tensors(const std::string& path) {
  std::vector<TensorInfo> inputs, outputs;
  for (int k = 0; k < engine_->getNbIOTensors(); ++k) {
    const char* name = engine_->getIOTensorName(k);
    const bool is_input = engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
    (is_input ? inputs : outputs)
        .push_back({name, numpy_name(engine_->getTensorDataType(name)),
                    shape_of(engine_->getTensorShape(name))});
  }
  const BuildRecord& build = *manifest().build;
  if (inputs != build.inputs || outputs != build.outputs) {
    throw MisfitError(
        path + ": has the tensors " + tensors_text(inputs, outputs) + ", its manifest has others",
        "the manifest belongs to another plan: build the engine again");
  }
  const std::string wanted = returns_labels() ? "uint8" : "float32";
  if (inputs.size() != 1 || inputs[0].dtype != "uint8" || outputs.size() != 1 ||
      outputs[0].dtype != wanted) {
    throw Error(path + ": has the tensors " + tensors_text(inputs, outputs) +
                    "; wanted one uint8 input and one " + wanted + " output",
                "segdeploy export makes graphs that take pixels");
  }
  image_ = inputs[0].name;
  result_ = outputs[0].name;
}

void TensorRTModel::read_profiles() {
  const int count = engine_->getNbOptimizationProfiles();
  std::vector<ShapeRange> ranges;
  ranges.reserve(static_cast<std::size_t>(count));
  using Selector = nvinfer1::OptProfileSelector;
  for (int k = 0; k < count; ++k) {
    ranges.push_back({shape_of(engine_->getProfileShape(image_.c_str(), k, Selector::kMIN)),
                      shape_of(engine_->getProfileShape(image_.c_str(), k, Selector::kMAX))});
  }
  profiles_ = std::make_unique<ProfilePool>(shape_of(engine_->getTensorShape(image_.c_str())),
                                            std::move(ranges));
}

class TensorRTRunner final : public Runner {
 public:
  TensorRTRunner(std::shared_ptr<const TensorRTModel> model,
                 std::unique_ptr<nvinfer1::IExecutionContext> context)
      : model_(std::move(model)), context_(std::move(context)) {
    check(cudaStreamCreateWithFlags(&own_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    check(cudaEventCreateWithFlags(&executed_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
  TensorRTRunner(const TensorRTRunner&) = delete;
  TensorRTRunner& operator=(const TensorRTRunner&) = delete;
  ~TensorRTRunner() override;

  void prepare(const Batch& batch) override {
    const Current current(model_->gpu());
    bind(batch);
    image_.resize(3 * batch.pixels());
    result_.resize(model_->result_bytes(batch));
  }

  std::uint8_t* images() override { return static_cast<std::uint8_t*>(image_.host()); }
  void* result() override { return result_.host(); }

  void execute() override {
    const Current current(model_->gpu());
    image_.upload(own_);
    launch(image_.device(), result_.device(), own_);
    result_.download(own_);
    check(cudaStreamSynchronize(own_), "cudaStreamSynchronize");
  }

  void enqueue(const void* images, const Batch& batch, void* result, void* stream) override {
    const Current current(model_->gpu());
    bind(batch);
    launch(images, result, static_cast<cudaStream_t>(stream));
  }

 private:
  void bind(const Batch& batch);
  void launch(const void* images, void* result, cudaStream_t stream);

  std::shared_ptr<const TensorRTModel> model_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  cudaStream_t own_ = nullptr;
  cudaEvent_t executed_ = nullptr;  // behind the last execution, on whatever stream that was
  std::optional<cudaStream_t> last_stream_;
  std::optional<int> profile_;
  Batch batch_;
  Buffer image_, result_;
};

TensorRTRunner::~TensorRTRunner() {
  if (!model_->process().is_this()) {
    static_cast<void>(context_.release());
    return;
  }
  try {
    const Current current(model_->gpu());
    cudaEventSynchronize(executed_);
    cudaStreamSynchronize(own_);
    context_.reset();
    image_.free();
    result_.free();
    cudaEventDestroy(executed_);
    cudaStreamDestroy(own_);
  } catch (const Error&) {  // the driver is gone, and the memory with it
  }
  model_->profiles().give_back(profile_);
}

// Make the context ready for this shape, once nothing of another is on its way.
void TensorRTRunner::bind(const Batch& batch) {
  if (batch == batch_) return;
  const Shape shape = {batch.count, batch.size.height, batch.size.width, 3};
  const std::optional<int> profile = model_->profiles().take(shape, profile_);
  check(cudaEventSynchronize(executed_), "cudaEventSynchronize");
  Log::last().clear();
  batch_ = {};
  bool is_done = profile == profile_ || context_->setOptimizationProfileAsync(*profile, own_);
  profile_ = profile;
  check(cudaStreamSynchronize(own_), "cudaStreamSynchronize");
  const nvinfer1::Dims4 dims(batch.count, batch.size.height, batch.size.width, 3);
  is_done = is_done && context_->setInputShape(model_->image_name().c_str(), dims);
  if (!is_done) {
    throw Error(model_->facts().model + ": the engine refuses an image batch of " +
                    shape_text(shape) + " (" + Log::reason() + ")",
                "build it with --shapes MIN,OPT,MAX around this shape");
  }
  batch_ = batch;
}

// One context has one piece of memory: two executions must not overlap.
void TensorRTRunner::launch(const void* images, void* result, cudaStream_t stream) {
  if (last_stream_ && *last_stream_ != stream) {
    check(cudaStreamWaitEvent(stream, executed_, 0), "cudaStreamWaitEvent");
  }
  Log::last().clear();
  const bool is_done = context_->setInputTensorAddress(model_->image_name().c_str(), images) &&
                       context_->setTensorAddress(model_->result_name().c_str(), result) &&
                       context_->enqueueV3(stream);
  if (!is_done) {
    throw Error(model_->facts().model + ": the engine did not run (" + Log::reason() + ")");
  }
  check(cudaEventRecord(executed_, stream), "cudaEventRecord");
  last_stream_ = stream;
}

std::unique_ptr<Runner> TensorRTModel::runner() const {
  const Current current(gpu_);
  Log::last().clear();
  // An engine makes contexts for any thread.
  std::unique_ptr<nvinfer1::IExecutionContext> context(engine_->createExecutionContext());
  if (context == nullptr) {
    throw Error(
        facts().model + ": no context could be made (" + Log::reason() + ")",
        "its activations may not fit on the GPU: build for a smaller batch or size, or open "
        "fewer sessions");
  }
  return std::make_unique<TensorRTRunner>(
      std::static_pointer_cast<const TensorRTModel>(shared_from_this()), std::move(context));
}

}  // namespace

std::shared_ptr<const Model> open_tensorrt(Artifact artifact, const std::string& device) {
  return std::make_shared<TensorRTModel>(std::move(artifact), device);
}

}  // namespace segdeploy::detail
