#include <algorithm>
#include <chrono>
#include <utility>

#include "backend.hpp"
#include "masks.hpp"
#include "words.hpp"

namespace segdeploy {
namespace detail {

bool Model::returns_labels() const {
  return facts().output == Output::labels && !facts().mask_on_host;
}

Size Model::logits_size(Size image) const {
  const int stride = facts().logits_stride();
  return {(image.height + stride - 1) / stride, (image.width + stride - 1) / stride};
}

std::vector<std::int64_t> Model::result_shape(const Batch& batch) const {
  if (returns_labels()) return {batch.count, batch.size.height, batch.size.width};
  const Size sides = logits_size(batch.size);
  const auto classes = static_cast<std::int64_t>(facts().classes.names.size());
  return {batch.count, classes, sides.height, sides.width};
}

std::size_t Model::result_elements(const Batch& batch) const {
  if (returns_labels()) return batch.pixels();
  const std::size_t places = area(logits_size(batch.size));
  return static_cast<std::size_t>(batch.count) * facts().classes.names.size() * places;
}

std::size_t Model::result_bytes(const Batch& batch) const {
  return result_elements(batch) * (returns_labels() ? 1 : sizeof(float));
}

void Model::check_batch(const Batch& batch) const {
  const Size size = facts().size.value_or(batch.size);
  const Batch wanted{facts().batch.value_or(batch.count), size};
  if (batch == wanted) return;
  const Size taken = facts().size.value_or(Size{-1, -1});
  throw Error("an image batch is " + batch.text() + "; the engine takes " +
                  shape_text({facts().batch.value_or(-1), taken.height, taken.width, 3}),
              "build an engine of this size, or of any size: export --dynamic");
}

struct SessionState {
  explicit SessionState(std::shared_ptr<const Model> opened)
      : model(std::move(opened)),
        what("a session of " + model->facts().model),
        runner(model->runner()) {}

  std::shared_ptr<const Model> model;
  std::string what;
  std::unique_ptr<Runner> runner;
  Lease lease;
  Mask mask;
  Size mask_size;                    // that it is made for
  std::vector<std::uint8_t> labels;  // of one image, where the caller's have gaps or four bytes

  void prepare_mask(Size size) {
    if (size == mask_size) return;
    mask_size = {};  // where memory runs out, the next call begins again
    const auto classes = static_cast<int>(model->facts().classes.names.size());
    mask = Mask(classes, model->logits_size(size), size);
    labels.resize(area(size));
    mask_size = size;
  }
};

namespace {

using Clock = std::chrono::steady_clock;

constexpr int MAX_THREADS = 1024;  // as in segdeploy/runtime/session.py

double milliseconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

std::string device_for(const Artifact& artifact, const std::string& asked) {
  const std::string& runtime = artifact.manifest.facts.runtime;
  const bool is_for_gpu =
      !artifact.is_graph() && (runtime == "tensorrt" || runtime == "tensorrt-rtx");
  if (asked.empty()) return is_for_gpu ? "cuda:0" : "cpu";
  std::string device = asked == "cuda" ? "cuda:0" : asked;
  const bool is_cpu = device == "cpu";
  if (!is_cpu && gpu_number(device) < 0) {
    throw Error("device " + first_code_points(in_quotes(asked), 60) +
                "; wanted cpu, cuda or cuda:N");
  }
  if (is_for_gpu && is_cpu) {
    throw Error(artifact.path.string() + ": runs on a GPU, asked for cpu",
                "take the device cuda:0");
  }
  if (artifact.is_graph() && !is_cpu) {
    throw Error(artifact.path.string() + ": a graph runs on the CPU in C++, asked for " + device,
                "build an engine for the GPU: segdeploy build-engine --target tensorrt");
  }
  if (!is_for_gpu && !is_cpu) {
    throw Error(artifact.path.string() + ": is optimized for the CPU, asked for " + device,
                "run the .onnx graph with --device cuda");
  }
  return device;
}

void check_options(const RunOptions& options) {
  if (options.threads >= 0 && options.threads <= MAX_THREADS) return;
  throw Error("threads: are " + std::to_string(options.threads) + "; wanted 0 to " +
              std::to_string(MAX_THREADS));
}

std::shared_ptr<const Model> open_model(Artifact artifact, const RunOptions& options) {
  const std::string device = device_for(artifact, options.device);
  const std::string path = artifact.path.string();
  const std::string runtime = artifact.manifest.facts.runtime;
  if (device != "cpu") {
#ifdef SEGDEPLOY_TENSORRT
    return open_tensorrt(artifact, device, options.lean_runtime);
#else
    throw Error(path + ": is made for " + runtime + ", which this library was built without",
                "build it with -DSEGDEPLOY_TENSORRT=ON");
#endif
  }
  if (!artifact.is_graph() && runtime != "onnxruntime") {
    throw Error(path + ": is made for " + (runtime.empty() ? "no runtime" : runtime) +
                    "; wanted an engine of tensorrt or tensorrt-rtx",
                "segdeploy build-engine makes one");
  }
#ifdef SEGDEPLOY_ONNXRUNTIME
  return open_onnxruntime(std::move(artifact), options);
#else
  throw Error(path + ": is made for onnxruntime, which this library was built without",
              "build it with -DSEGDEPLOY_ONNXRUNTIME=ON");
#endif
}

void check_output(const Manifest& facts, Output wanted) {
  if (facts.output == wanted) return;
  const bool is_labels = facts.output == Output::labels;
  throw Error(facts.model + ": returns " + (is_labels ? "labels" : "logits") + ", asked for " +
                  (is_labels ? "logits" : "labels"),
              is_labels ? "call run, or export it with --output logits"
                        : "call run_logits, or export it with --output labels");
}

double copy_in(SessionState& state, const Image* images, const Batch& batch) {
  const auto begin = Clock::now();
  state.runner->prepare(batch);
  const std::size_t bytes = 3 * area(batch.size);
  for (std::size_t k = 0; k < static_cast<std::size_t>(batch.count); ++k) {
    copy_image(images[k], state.runner->images() + k * bytes);
  }
  return milliseconds(begin, Clock::now());
}

double execute(Runner& runner) {
  const auto begin = Clock::now();
  runner.execute();
  return milliseconds(begin, Clock::now());
}

bool is_plain(const LabelMap& labels) {
  return labels.type == LabelMap::Type::u8 && (labels.stride == 0 || labels.stride == labels.width);
}

// Image `index` of a batch of logits, to where the caller wants its labels.
void make_labels(SessionState& state, std::size_t index, const LabelMap& to) {
  const std::size_t floats = state.model->result_elements({1, state.mask_size});
  const auto* logits = static_cast<const float*>(state.runner->result()) + index * floats;
  if (is_plain(to)) {
    state.mask.label(logits, static_cast<std::uint8_t*>(to.data));
    return;
  }
  state.mask.label(logits, state.labels.data());
  copy_labels(state.labels.data(), to);
}

double copy_out(SessionState& state, const Batch& batch, const LabelMap* labels) {
  const auto begin = Clock::now();
  if (state.model->facts().mask_on_host) state.prepare_mask(batch.size);
  const std::size_t pixels = area(batch.size);
  for (std::size_t k = 0; k < static_cast<std::size_t>(batch.count); ++k) {
    if (state.model->facts().mask_on_host) {
      make_labels(state, k, labels[k]);
    } else {
      copy_labels(static_cast<const std::uint8_t*>(state.runner->result()) + k * pixels, labels[k]);
    }
  }
  return milliseconds(begin, Clock::now());
}

Batch checked_batch(const SessionState& state, const Image* images, std::size_t count) {
  const Batch batch = check_images(images, count);
  state.model->check_batch(batch);
  return batch;
}

}  // namespace

int gpu_number(const std::string& device) {
  const std::string number = device.compare(0, 5, "cuda:") == 0 ? device.substr(5) : "";
  const bool is_number = !number.empty() && number.size() < 4 &&
                         number.find_first_not_of("0123456789") == std::string::npos;
  return is_number ? std::stoi(number) : -1;
}

}  // namespace detail

Engine Engine::open(const std::filesystem::path& path, const RunOptions& options) {
  detail::check_options(options);
  return Engine(detail::open_model(detail::read_artifact(path), options));
}

std::vector<std::string> Engine::backends() {
  return {
#ifdef SEGDEPLOY_ONNXRUNTIME
      "onnxruntime",
#endif
#ifdef SEGDEPLOY_TENSORRT
      "tensorrt",
#endif
  };
}

Engine::Engine(std::shared_ptr<const detail::Model> model) : model_(std::move(model)) {}
const Manifest& Engine::manifest() const { return model_->facts(); }
const std::string& Engine::device() const { return model_->device(); }

Session Engine::session() const {
  model_->process().check("the engine of " + model_->facts().model);
  return Session(std::make_unique<detail::SessionState>(model_));
}

Session::Session(std::unique_ptr<detail::SessionState> state) : state_(std::move(state)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;
const Manifest& Session::manifest() const { return state_->model->facts(); }

Timing Session::run(const Image& image, const LabelMap& labels) { return run(&image, 1, &labels); }

Timing Session::run(const Image* images, std::size_t count, const LabelMap* labels) {
  const detail::Lease::Use use(state_->lease, state_->what);
  detail::check_output(manifest(), Output::labels);
  const detail::Batch batch = detail::checked_batch(*state_, images, count);
  detail::check_labels(labels, batch);
  Timing timing;
  timing.copy_in_ms = detail::copy_in(*state_, images, batch);
  timing.network_ms = detail::execute(*state_->runner);
  timing.labels_ms = detail::copy_out(*state_, batch, labels);
  return timing;
}

Timing Session::run_logits(const Image* images, std::size_t count, float* logits,
                           std::size_t size) {
  const detail::Lease::Use use(state_->lease, state_->what);
  detail::check_output(manifest(), Output::logits);
  const detail::Batch batch = detail::checked_batch(*state_, images, count);
  const std::size_t wanted = state_->model->result_elements(batch);
  if (logits == nullptr || size != wanted) {
    throw Error("result: has " + std::to_string(logits == nullptr ? 0 : size) +
                " floats; these images give " +
                detail::shape_text(state_->model->result_shape(batch)));
  }
  Timing timing;
  timing.copy_in_ms = detail::copy_in(*state_, images, batch);
  timing.network_ms = detail::execute(*state_->runner);
  const auto begin = detail::Clock::now();
  const auto* found = static_cast<const float*>(state_->runner->result());
  std::copy(found, found + wanted, logits);
  timing.labels_ms = detail::milliseconds(begin, detail::Clock::now());
  return timing;
}

void Session::enqueue(const void* images, std::size_t count, Size size, void* result,
                      void* stream) {
  const detail::Lease::Use use(state_->lease, state_->what);
  const detail::Batch batch = detail::check_packed(images, count, size);
  state_->model->check_batch(batch);
  if (result == nullptr) throw Error("result: has no memory");
  if (!manifest().mask_on_host) {
    state_->runner->enqueue(images, batch, result, stream);
    return;
  }
  if (state_->model->device() != "cpu") {
    throw Error(manifest().model + ": its labels are made on the host, which enqueue cannot",
                "export it for a GPU: segdeploy export --for gpu");
  }
  state_->runner->prepare(batch);
  state_->runner->enqueue(images, batch, state_->runner->result(), stream);
  state_->prepare_mask(batch.size);
  const std::size_t pixels = detail::area(size);
  for (std::size_t k = 0; k < count; ++k) {
    detail::make_labels(*state_, k,
                        {static_cast<std::uint8_t*>(result) + k * pixels, size.height, size.width});
  }
}

}  // namespace segdeploy
