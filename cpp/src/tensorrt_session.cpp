// One context of a TensorRT engine with its stream and buffers: what a thread runs images on. NOT
// run on a GPU yet: docs/verification.md.
#include <utility>

#include "tensorrt.hpp"

namespace segdeploy::detail {
namespace {

constexpr std::uintptr_t ALIGNMENT = 256;  // of tensors: setTensorAddress in NvInferRuntime.h

// What a session has on the GPU; it is freed once nothing of it is on its way.
struct SessionParts {
  explicit SessionParts(std::unique_ptr<nvinfer1::IExecutionContext> made)
      : context(std::move(made)) {}
  SessionParts(const SessionParts&) = delete;
  SessionParts& operator=(const SessionParts&) = delete;
  ~SessionParts() {
    cudaEventSynchronize(executed.get());
    cudaStreamSynchronize(stream.get());
  }

  Stream stream = make_stream();
  Event executed = make_event();  // behind the last execution, on whatever stream that was
  Buffer image, result;
  std::unique_ptr<nvinfer1::IExecutionContext> context;
};

class TensorRTRunner final : public Runner {
 public:
  TensorRTRunner(std::shared_ptr<const TensorRTModel> model,
                 std::unique_ptr<nvinfer1::IExecutionContext> context)
      : model_(std::move(model)), parts_(std::make_unique<SessionParts>(std::move(context))) {}
  TensorRTRunner(const TensorRTRunner&) = delete;
  TensorRTRunner& operator=(const TensorRTRunner&) = delete;
  ~TensorRTRunner() override;

  void prepare(const Batch& batch) override {
    const Current current(model_->gpu());
    bind(batch);
    parts_->image.resize(3 * batch.pixels());
    parts_->result.resize(model_->result_bytes(batch));
  }

  std::uint8_t* images() override { return static_cast<std::uint8_t*>(parts_->image.host()); }
  void* result() override { return parts_->result.host(); }

  void execute() override {
    const Current current(model_->gpu());
    cudaStream_t stream = parts_->stream.get();
    parts_->image.upload(stream);
    launch(parts_->image.device(), parts_->result.device(), stream);
    parts_->result.download(stream);
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  }

  void enqueue(const void* images, const Batch& batch, void* result, void* stream) override {
    check_address(images, "images");
    check_address(result, "result");
    const Current current(model_->gpu());
    bind(batch);
    launch(images, result, static_cast<cudaStream_t>(stream));
  }

 private:
  static void check_address(const void* memory, const char* what);
  void bind(const Batch& batch);
  bool take_profile(const Shape& shape);
  void check_result(const Batch& batch, const Shape& shape) const;
  void launch(const void* images, void* result, cudaStream_t stream);

  std::shared_ptr<const TensorRTModel> model_;
  std::unique_ptr<SessionParts> parts_;
  std::optional<int> profile_;
  Batch batch_;
};

TensorRTRunner::~TensorRTRunner() {
  free_on(model_->gpu(), model_->process(), parts_);
  if (model_->process().is_this()) model_->profiles().give_back(profile_);
}

void TensorRTRunner::check_address(const void* memory, const char* what) {
  if (reinterpret_cast<std::uintptr_t>(memory) % ALIGNMENT == 0) return;
  throw Error(std::string(what) + ": begins at no multiple of " + std::to_string(ALIGNMENT) +
                  " bytes, which TensorRT needs",
              "memory from cudaMalloc does; copy what is a part of other memory");
}

// Make the context ready for this shape, once nothing of another is on its way.
void TensorRTRunner::bind(const Batch& batch) {
  if (batch == batch_) return;
  const Shape shape = {batch.count, batch.size.height, batch.size.width, 3};
  check(cudaEventSynchronize(parts_->executed.get()), "cudaEventSynchronize");
  batch_ = {};
  Log::last().clear();
  const nvinfer1::Dims4 dims(batch.count, batch.size.height, batch.size.width, 3);
  const bool is_done =
      take_profile(shape) && parts_->context->setInputShape(model_->image_name().c_str(), dims);
  if (!is_done) {
    throw Error(model_->facts().model + ": the engine refuses an image batch of " +
                    shape_text(shape) + " (" + Log::reason() + ")",
                "build it with --shapes MIN,OPT,MAX around this shape");
  }
  check_result(batch, shape);
  batch_ = batch;
}

// The old profile is free for others once the context has the new one, and not before.
bool TensorRTRunner::take_profile(const Shape& shape) {
  ProfilePool& pool = model_->profiles();
  const std::optional<int> wanted = pool.take(shape, profile_);
  cudaStream_t stream = parts_->stream.get();
  bool is_done = true;
  if (wanted != profile_) {
    is_done = parts_->context->setOptimizationProfileAsync(*wanted, stream);
    pool.give_back(is_done ? std::exchange(profile_, wanted) : wanted);
  }
  // Or an execution on another stream may come before the profile.
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  return is_done;
}

// The buffers and the caller's memory have the size that the manifest gives them.
void TensorRTRunner::check_result(const Batch& batch, const Shape& shape) const {
  const Shape found = shape_of(parts_->context->getTensorShape(model_->result_name().c_str()));
  const Shape wanted = model_->result_shape(batch);
  if (found == wanted) return;
  throw MisfitError(model_->facts().model + ": the engine returns " + shape_text(found) +
                        " for an image batch of " + shape_text(shape) + ", its manifest says " +
                        shape_text(wanted),
                    OTHER_PLAN);
}

// One context has one piece of memory: two executions must not overlap.
void TensorRTRunner::launch(const void* images, void* result, cudaStream_t stream) {
  check(cudaStreamWaitEvent(stream, parts_->executed.get(), 0), "cudaStreamWaitEvent");
  Log::last().clear();
  nvinfer1::IExecutionContext& context = *parts_->context;
  const bool is_done = context.setInputTensorAddress(model_->image_name().c_str(), images) &&
                       context.setTensorAddress(model_->result_name().c_str(), result) &&
                       context.enqueueV3(stream);
  if (!is_done) {
    throw Error(model_->facts().model + ": the engine did not run (" + Log::reason() + ")");
  }
  check(cudaEventRecord(parts_->executed.get(), stream), "cudaEventRecord");
}

}  // namespace

std::unique_ptr<Runner> TensorRTModel::runner() const {
  const Current current(gpu_);
  Log::last().clear();
  // An engine makes contexts for any thread.
  std::unique_ptr<nvinfer1::IExecutionContext> context(plan_->engine->createExecutionContext());
  if (context == nullptr) {
    throw Error(
        facts().model + ": no context could be made (" + Log::reason() + ")",
        "its activations may not fit on the GPU: build for a smaller batch or size, or open "
        "fewer sessions");
  }
  return std::make_unique<TensorRTRunner>(
      std::static_pointer_cast<const TensorRTModel>(shared_from_this()), std::move(context));
}

}  // namespace segdeploy::detail
