// overhead ARTIFACT libonnxruntime.so [CALLS [THREADS]]: what a session costs over the bare call.
//
// The bare call is ONNX Runtime's Run on prepared tensors, with the options that segdeploy sets.
// Both are called in turn, so that a busy machine slows both alike, and the first three of each are
// left out. Allocations are those by `new` in this process, whichever library makes them; ONNX
// Runtime now and then needs some more in one call or another, so the median of a call is shown, as
// of the times. added_ms is all that a session does but its own call of ONNX Runtime. Prints JSON.
// With 0 calls it is the time of opening, the first thing that the process does, the loading of the
// library with it.
#include <dlfcn.h>
#include <onnxruntime_c_api.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <new>
#include <segdeploy/segdeploy.hpp>
#include <string>
#include <vector>

namespace {
std::atomic<long> allocations{0};
}

// All other forms of new and delete call these two.
void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

constexpr int WARMUP = 3;
using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

void must(const OrtApi* api, OrtStatus* status) {
  if (status == nullptr) return;
  std::fprintf(stderr, "error: %s\n", api->GetErrorMessage(status));
  std::exit(1);
}

class Bare {
 public:
  Bare(const char* artifact, const char* library, const segdeploy::Manifest& manifest, int threads);
  void run() {
    must(api_, api_->Run(session_, nullptr, &input_name_, &input_, 1, &output_name_, 1, &output_));
  }

 private:
  const OrtApi* api_;
  OrtSession* session_ = nullptr;
  OrtValue* input_ = nullptr;
  OrtValue* output_ = nullptr;
  char* input_name_ = nullptr;
  char* output_name_ = nullptr;
  std::vector<std::uint8_t> image_, result_;
};

Bare::Bare(const char* artifact, const char* library, const segdeploy::Manifest& manifest,
           int threads) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  auto get_base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(handle, "OrtGetApiBase"));
  api_ = get_base()->GetApi(20);
  std::ifstream file(artifact, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  OrtEnv* environment = nullptr;
  OrtSessionOptions* options = nullptr;
  OrtMemoryInfo* memory = nullptr;
  OrtAllocator* allocator = nullptr;
  must(api_, api_->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bare", &environment));
  must(api_, api_->CreateSessionOptions(&options));
  must(api_, api_->SetIntraOpNumThreads(options, threads));
  must(api_, api_->AddSessionConfigEntry(options, "session.force_spinning_stop", "1"));
  must(api_, api_->AddSessionConfigEntry(options, "optimization.disable_specified_optimizers",
                                         "WeightBiasQuantization"));
  must(api_, api_->SetSessionGraphOptimizationLevel(
                 options, manifest.runtime.empty() ? ORT_ENABLE_ALL : ORT_DISABLE_ALL));
  must(api_,
       api_->CreateSessionFromArray(environment, bytes.data(), bytes.size(), options, &session_));
  must(api_, api_->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory));
  must(api_, api_->GetAllocatorWithDefaultOptions(&allocator));
  must(api_, api_->SessionGetInputName(session_, 0, allocator, &input_name_));
  must(api_, api_->SessionGetOutputName(session_, 0, allocator, &output_name_));
  const std::int64_t height = manifest.size->height, width = manifest.size->width;
  const std::int64_t stride = manifest.logits_stride();
  const bool is_labels = manifest.output == segdeploy::Output::labels && !manifest.mask_on_host;
  std::vector<std::int64_t> shape = {1, height, width};
  if (!is_labels) {
    shape = {1, static_cast<std::int64_t>(manifest.classes.names.size()),
             (height + stride - 1) / stride, (width + stride - 1) / stride};
  }
  std::size_t elements = 1;
  for (const std::int64_t axis : shape) elements *= static_cast<std::size_t>(axis);
  image_.assign(static_cast<std::size_t>(height * width) * 3, 128);
  result_.resize(elements * (is_labels ? 1 : sizeof(float)));
  const std::int64_t input_shape[] = {1, height, width, 3};
  must(api_, api_->CreateTensorWithDataAsOrtValue(memory, image_.data(), image_.size(), input_shape,
                                                  4, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &input_));
  must(api_,
       api_->CreateTensorWithDataAsOrtValue(
           memory, result_.data(), result_.size(), shape.data(), shape.size(),
           is_labels ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
           &output_));
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

struct Costs {
  std::vector<double> bare_ms, total_ms, added_ms, copy_in_ms, network_ms, labels_ms;
  std::vector<double> bare_allocations, session_allocations;
};

Costs measure(Bare& bare, segdeploy::Session& session, const segdeploy::Image& image,
              const segdeploy::LabelMap& labels, int calls) {
  Costs costs;
  for (auto* values :
       {&costs.bare_ms, &costs.total_ms, &costs.added_ms, &costs.copy_in_ms, &costs.network_ms,
        &costs.labels_ms, &costs.bare_allocations, &costs.session_allocations}) {
    values->reserve(static_cast<std::size_t>(calls));
  }
  for (int k = -WARMUP; k < calls; ++k) {
    const long before = allocations;
    const auto begin = Clock::now();
    bare.run();
    const double bare_ms = milliseconds_since(begin);
    const long between = allocations;
    const auto middle = Clock::now();
    const segdeploy::Timing timing = session.run(image, labels);
    const double total_ms = milliseconds_since(middle);
    const long after = allocations;
    if (k < 0) continue;
    costs.bare_ms.push_back(bare_ms);
    costs.total_ms.push_back(total_ms);
    costs.copy_in_ms.push_back(timing.copy_in_ms);
    costs.network_ms.push_back(timing.network_ms);
    costs.labels_ms.push_back(timing.labels_ms);
    costs.added_ms.push_back(total_ms - timing.network_ms);
    costs.bare_allocations.push_back(static_cast<double>(between - before));
    costs.session_allocations.push_back(static_cast<double>(after - between));
  }
  return costs;
}

void show(const Costs& costs, const segdeploy::Manifest& manifest, int threads) {
  std::printf(
      "{\"model\": \"%s\", \"precision\": \"%s\", \"mask\": \"%s\", \"height\": %d, \"width\": "
      "%d,\n"
      " \"threads\": %d, \"calls\": %zu,\n"
      " \"bare_ms\": %.3f, \"session_ms\": %.3f, \"copy_in_ms\": %.4f, \"network_ms\": %.3f,\n"
      " \"labels_ms\": %.4f, \"added_ms\": %.4f,\n \"bare_allocations\": %.0f, "
      "\"session_allocations\": %.0f}\n",
      manifest.model.c_str(), manifest.precision.c_str(), manifest.mask_on_host ? "host" : "graph",
      manifest.size->height, manifest.size->width, threads, costs.bare_ms.size(),
      median(costs.bare_ms), median(costs.total_ms), median(costs.copy_in_ms),
      median(costs.network_ms), median(costs.labels_ms), median(costs.added_ms),
      median(costs.bare_allocations), median(costs.session_allocations));
}

}  // namespace

int main(int count, char** arguments) try {
  if (count < 3) return 2;
  const int calls = count > 3 ? std::atoi(arguments[3]) : 20;
  segdeploy::RunOptions options;
  options.threads = count > 4 ? std::atoi(arguments[4]) : 1;
  options.onnxruntime_library = arguments[2];
  const std::clock_t cpu_begin = std::clock();
  const auto begin = Clock::now();
  const auto engine = segdeploy::Engine::open(arguments[1], options);
  auto session = engine.session();
  if (calls == 0) {
    const double open_ms = milliseconds_since(begin);
    const auto cpu = static_cast<double>(std::clock() - cpu_begin);  // of all threads
    std::printf("{\"cold_open_ms\": %.1f, \"cold_open_cpu_ms\": %.1f}\n", open_ms,
                1e3 * cpu / CLOCKS_PER_SEC);
    return 0;
  }
  const segdeploy::Manifest& manifest = engine.manifest();
  if (!manifest.size || manifest.batch != 1 || manifest.output != segdeploy::Output::labels) {
    throw segdeploy::Error("wanted an artifact of one size, batch 1, that returns labels");
  }
  Bare bare(arguments[1], arguments[2], manifest, options.threads);
  const auto [height, width] = *manifest.size;
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(height * width) * 3);
  for (std::size_t k = 0; k < pixels.size(); ++k) {
    pixels[k] = static_cast<std::uint8_t>(k / 90 % 61 * 4);
  }
  std::vector<std::uint8_t> labels(pixels.size() / 3);
  const Costs costs =
      measure(bare, session, {pixels.data(), height, width}, {labels.data(), height, width}, calls);
  show(costs, manifest, options.threads);
} catch (const segdeploy::Error& error) {
  std::fprintf(stderr, "%s\n", error.to_lines().c_str());
  return 1;
}
