// ONNX Runtime on a CPU. The library is opened at run time, so one binary serves many versions.
#include <dlfcn.h>
#include <onnxruntime_c_api.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "backend.hpp"
#include "cores.hpp"
#include "processor.hpp"
#include "words.hpp"

namespace segdeploy::detail {
namespace {

constexpr std::uint32_t API = 20;  // of ONNX Runtime 1.20, the oldest that segdeploy takes
static_assert(ORT_API_VERSION >= API, "segdeploy needs the headers of ONNX Runtime 1.20 or later");
constexpr int LOG_ERRORS = 3;
constexpr const char* USUAL_LIBRARY = "libonnxruntime.so.1";

// Options that segdeploy sets wherever it runs ONNX Runtime; segdeploy/runtime/onnxruntime.py has
// the measurements behind them.
constexpr const char* DISABLED[] = {"optimization.disable_specified_optimizers",
                                    "WeightBiasQuantization"};
constexpr const char* EXACT_INT8[] = {"session.x64quantprecision", "1"};
constexpr const char* NO_IDLE_LOOP[] = {"session.force_spinning_stop", "1"};
// Told by the file's name, not by its bytes: a graph that is called an engine would not have been
// searched for weights in other files.
constexpr const char* GRAPH_FORMAT[] = {"session.load_model_format", "ONNX"};
constexpr const char* ENGINE_FORMAT[] = {"session.load_model_format", "ORT"};

struct Library {
  const OrtApi* api = nullptr;
  std::string version;
};

// Throws an Error that quotes what ONNX Runtime says.
void check(const OrtApi* api, OrtStatus* status, const std::string& before,
           const std::string& hint = "") {
  if (status == nullptr) return;
  const std::string reason = first_line(api->GetErrorMessage(status));
  api->ReleaseStatus(status);
  throw Error(before + " (" + reason + ")", hint);
}

// Stays loaded for good: its threads may outlive the last session by a moment.
Library load_library(const std::string& named) {
  const std::string file = named.empty() ? USUAL_LIBRARY : named;
  void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) {
    const char* reason = dlerror();  // of this thread. NOLINT(concurrency-mt-unsafe)
    throw Error(std::string("ONNX Runtime cannot be loaded (") + reason + ")",
                "name the file by RunOptions::onnxruntime_library; pip install onnxruntime brings "
                "one, in onnxruntime/capi");
  }
  using GetBase = const OrtApiBase* (*)();
  const auto get_base = reinterpret_cast<GetBase>(dlsym(handle, "OrtGetApiBase"));
  if (get_base == nullptr) throw Error(file + ": is not ONNX Runtime (it has no OrtGetApiBase)");
  const OrtApiBase* base = get_base();
  const OrtApi* api = base->GetApi(API);
  if (api == nullptr) {
    throw Error(std::string("ONNX Runtime ") + base->GetVersionString() +
                    " is too old; wanted 1.20 or newer",
                "pip install --upgrade onnxruntime");
  }
  return {api, base->GetVersionString()};
}

// One deleter for all of ONNX Runtime's objects.
struct Release {
  const OrtApi* api = nullptr;
  void operator()(OrtEnv* object) const { api->ReleaseEnv(object); }
  void operator()(OrtSession* object) const { api->ReleaseSession(object); }
  void operator()(OrtSessionOptions* object) const { api->ReleaseSessionOptions(object); }
  void operator()(OrtMemoryInfo* object) const { api->ReleaseMemoryInfo(object); }
  void operator()(OrtValue* object) const { api->ReleaseValue(object); }
  void operator()(OrtTypeInfo* object) const { api->ReleaseTypeInfo(object); }
};

template <class T>
using Owned = std::unique_ptr<T, Release>;

struct Tensor {
  std::string name;
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::vector<std::int64_t> shape;  // -1: open
};

std::string type_text(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8: return "uint8";
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return "float32";
    default: return "type " + std::to_string(type);
  }
}

// What a manifest says must be what the file has: an open axis is -1 in both.
bool is_same(const std::vector<std::int64_t>& wanted, const std::vector<std::int64_t>& found) {
  return wanted.size() == found.size() &&
         std::equal(wanted.begin(), wanted.end(), found.begin(),
                    [](std::int64_t a, std::int64_t b) { return a == b || b == -1; });
}

class OnnxRuntimeModel final : public Model {
 public:
  OnnxRuntimeModel(Artifact artifact, Library library, int threads);
  ~OnnxRuntimeModel() override;
  std::unique_ptr<Runner> runner() const override;

  const OrtApi* api() const { return library_.api; }
  Owned<OrtValue> tensor(void* data, std::size_t bytes, const std::vector<std::int64_t>& shape,
                         ONNXTensorElementDataType type) const;
  void run(const OrtValue* images, OrtValue* result, const Batch& batch) const;

 private:
  Owned<OrtSessionOptions> session_options(int threads, bool is_optimized) const;
  Tensor describe(bool is_input) const;
  void check_tensors(const std::string& path) const;

  Library library_;
  Owned<OrtEnv> environment_;
  Owned<OrtMemoryInfo> memory_;
  Owned<OrtSession> session_;
  Tensor image_, result_;
};

OnnxRuntimeModel::OnnxRuntimeModel(Artifact artifact, Library library, int threads)
    : Model(std::move(artifact.manifest), "cpu"), library_(std::move(library)) {
  const Release release{api()};
  const std::string path = artifact.path.string();
  const std::string problem = path + ": ONNX Runtime " + library_.version + " cannot load it";
  OrtEnv* environment = nullptr;
  check(api(), api()->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "segdeploy", &environment), problem);
  environment_ = {environment, release};
  OrtMemoryInfo* memory = nullptr;
  check(api(), api()->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory), problem);
  memory_ = {memory, release};
  const auto options =
      session_options(threads == 0 ? default_threads() : threads, !artifact.is_graph());
  // The bytes are copied, and the copy freed when the session is made. That is spared by
  // session.use_ort_model_bytes_directly, which wants them for as long as the session: of 229 MB
  // that saves 0.2 of 0.8 s, once, and holds 469 instead of 250 MB for good.
  OrtSession* session = nullptr;
  check(api(),
        api()->CreateSessionFromArray(environment, artifact.bytes.data(), artifact.bytes.size(),
                                      options.get(), &session),
        problem);
  session_ = {session, release};
  check_tensors(path);
}

OnnxRuntimeModel::~OnnxRuntimeModel() {
  if (process().is_this()) return;
  // In a forked child the threads are not there, and freeing would wait for them.
  static_cast<void>(session_.release());
  static_cast<void>(environment_.release());
  static_cast<void>(memory_.release());
}

Owned<OrtSessionOptions> OnnxRuntimeModel::session_options(int threads, bool is_optimized) const {
  const std::string problem = "ONNX Runtime refuses an option";
  OrtSessionOptions* made = nullptr;
  check(api(), api()->CreateSessionOptions(&made), problem);
  Owned<OrtSessionOptions> options(made, Release{api()});
  const auto set = [&](const char* const(&entry)[2]) {
    check(api(), api()->AddSessionConfigEntry(made, entry[0], entry[1]), problem);
  };
  check(api(), api()->SetIntraOpNumThreads(made, threads), problem);
  check(api(), api()->SetSessionLogSeverityLevel(made, LOG_ERRORS), problem);
  check(api(),
        api()->SetSessionGraphOptimizationLevel(made,
                                                is_optimized ? ORT_DISABLE_ALL : ORT_ENABLE_ALL),
        problem);
  if (!this_processor().has_vnni) set(EXACT_INT8);
  set(is_optimized ? ENGINE_FORMAT : GRAPH_FORMAT);
  set(NO_IDLE_LOOP);
  set(DISABLED);
  return options;
}

Tensor OnnxRuntimeModel::describe(bool is_input) const {
  const std::string problem = "ONNX Runtime cannot describe the model";
  OrtAllocator* allocator = nullptr;
  check(api(), api()->GetAllocatorWithDefaultOptions(&allocator), problem);
  char* name = nullptr;
  check(api(),
        is_input ? api()->SessionGetInputName(session_.get(), 0, allocator, &name)
                 : api()->SessionGetOutputName(session_.get(), 0, allocator, &name),
        problem);
  Tensor tensor;
  tensor.name = name;
  check(api(), api()->AllocatorFree(allocator, name), problem);
  OrtTypeInfo* made = nullptr;
  check(api(),
        is_input ? api()->SessionGetInputTypeInfo(session_.get(), 0, &made)
                 : api()->SessionGetOutputTypeInfo(session_.get(), 0, &made),
        problem);
  const Owned<OrtTypeInfo> info(made, Release{api()});
  const OrtTensorTypeAndShapeInfo* facts = nullptr;
  check(api(), api()->CastTypeInfoToTensorInfo(info.get(), &facts), problem);
  if (facts == nullptr) return tensor;  // a sequence or a map
  std::size_t axes = 0;
  check(api(), api()->GetTensorElementType(facts, &tensor.type), problem);
  check(api(), api()->GetDimensionsCount(facts, &axes), problem);
  tensor.shape.resize(axes);
  check(api(), api()->GetDimensions(facts, tensor.shape.data(), axes), problem);
  return tensor;
}

void OnnxRuntimeModel::check_tensors(const std::string& path) const {
  std::size_t inputs = 0, outputs = 0;
  check(api(), api()->SessionGetInputCount(session_.get(), &inputs), path);
  check(api(), api()->SessionGetOutputCount(session_.get(), &outputs), path);
  if (inputs != 1 || outputs < 1) {
    throw Error(path + ": has " + std::to_string(inputs) + " inputs and " +
                    std::to_string(outputs) + " outputs; wanted one uint8 input and one output",
                "segdeploy export makes graphs that take pixels");
  }
  auto& self = const_cast<OnnxRuntimeModel&>(*this);  // still being constructed
  self.image_ = describe(true);
  self.result_ = describe(false);
  const Size size = facts().size.value_or(Size{-1, -1});
  const std::vector<std::int64_t> wanted = {facts().batch.value_or(-1), size.height, size.width, 3};
  const auto wanted_type =
      returns_labels() ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  if (image_.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 && is_same(wanted, image_.shape) &&
      result_.type == wanted_type) {
    return;
  }
  throw MisfitError(path + ": has the tensors " + image_.name + " " + type_text(image_.type) + " " +
                        shape_text(image_.shape) + ", " + result_.name + " " +
                        type_text(result_.type) + " " + shape_text(result_.shape) +
                        ", its manifest has others",
                    "the manifest belongs to another file: build the engine again");
}

Owned<OrtValue> OnnxRuntimeModel::tensor(void* data, std::size_t bytes,
                                         const std::vector<std::int64_t>& shape,
                                         ONNXTensorElementDataType type) const {
  OrtValue* made = nullptr;
  check(api(),
        api()->CreateTensorWithDataAsOrtValue(memory_.get(), data, bytes, shape.data(),
                                              shape.size(), type, &made),
        "ONNX Runtime refuses memory");
  return {made, Release{api()}};
}

void OnnxRuntimeModel::run(const OrtValue* images, OrtValue* result, const Batch& batch) const {
  const char* input = image_.name.c_str();
  const char* output = result_.name.c_str();
  OrtStatus* status = api()->Run(session_.get(), nullptr, &input, &images, 1, &output, 1, &result);
  if (status == nullptr) return;
  check(api(), status, "an image batch of shape " + batch.text() + " was refused",
        "segdeploy inspect shows what it takes; export --dynamic takes any size");
}

// Tensors over memory of its own, which `run` copies to and from: less than 0.1 ms at 512x1024.
class OnnxRuntimeRunner final : public Runner {
 public:
  explicit OnnxRuntimeRunner(std::shared_ptr<const OnnxRuntimeModel> model)
      : model_(std::move(model)) {}

  ~OnnxRuntimeRunner() override {
    if (model_->process().is_this()) return;
    static_cast<void>(input_.release());
    static_cast<void>(output_.release());
  }

  void prepare(const Batch& batch) override {
    if (batch == batch_) return;
    batch_ = {};
    input_.reset();
    output_.reset();
    images_.resize(3 * batch.pixels());
    result_.resize(model_->result_bytes(batch));
    input_ = image_tensor(images_.data(), batch);
    output_ = result_tensor(result_.data(), batch);
    batch_ = batch;
  }

  std::uint8_t* images() override { return images_.data(); }
  void execute() override { model_->run(input_.get(), output_.get(), batch_); }
  void* result() override { return result_.data(); }

  void enqueue(const void* images, const Batch& batch, void* result, void* stream) override {
    if (stream != nullptr) throw Error("a session on the CPU has no stream", "leave it out");
    // ONNX Runtime does not write to its inputs.
    const auto input = image_tensor(const_cast<void*>(images), batch);
    const auto output = result_tensor(result, batch);
    model_->run(input.get(), output.get(), batch);
  }

 private:
  Owned<OrtValue> image_tensor(void* data, const Batch& batch) const {
    return model_->tensor(data, 3 * batch.pixels(),
                          {batch.count, batch.size.height, batch.size.width, 3},
                          ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8);
  }

  Owned<OrtValue> result_tensor(void* data, const Batch& batch) const {
    return model_->tensor(data, model_->result_bytes(batch), model_->result_shape(batch),
                          model_->returns_labels() ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8
                                                   : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  }

  std::shared_ptr<const OnnxRuntimeModel> model_;
  Batch batch_;
  std::vector<std::uint8_t> images_;
  std::vector<std::uint8_t> result_;  // from operator new: aligned for float
  Owned<OrtValue> input_, output_;
};

std::unique_ptr<Runner> OnnxRuntimeModel::runner() const {
  return std::make_unique<OnnxRuntimeRunner>(
      std::static_pointer_cast<const OnnxRuntimeModel>(shared_from_this()));
}

// An engine's layout depends on the vector units, its operators on the version.
void check_engine(const Artifact& artifact, const std::string& version) {
  const Manifest& facts = artifact.manifest.facts;
  const std::string& kind = this_processor().kind;
  if (facts.runtime_version == version && facts.machine == kind) return;
  throw MisfitError(
      artifact.path.string() + ": built with ONNX Runtime " + facts.runtime_version + " on " +
          facts.machine + ", this is " + version + " on " + kind,
      "--rebuild, or segdeploy build-engine " + facts.model + " --target onnxruntime");
}

}  // namespace

std::shared_ptr<const Model> open_onnxruntime(Artifact artifact, const RunOptions& options) {
  Library library = load_library(options.onnxruntime_library);
  if (!artifact.is_graph()) check_engine(artifact, library.version);
  return std::make_shared<OnnxRuntimeModel>(std::move(artifact), std::move(library),
                                            options.threads);
}

}  // namespace segdeploy::detail
