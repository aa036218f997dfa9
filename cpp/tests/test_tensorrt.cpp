// Up to deserialization TensorRT runs without a GPU: it links, starts, and says what it refuses.
#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include "backend.hpp"
#include "check.hpp"

namespace {

struct Log final : nvinfer1::ILogger {
  std::string said;
  void log(Severity severity, const char* text) noexcept override {
    if (severity <= Severity::kERROR) said += text;
  }
};

void test_the_library_refuses_what_is_no_plan() {
  Log log;
  const std::unique_ptr<nvinfer1::IRuntime> runtime(nvinfer1::createInferRuntime(log));
  CHECK(runtime != nullptr);
  const char bytes[64] = {};
  CHECK(runtime->deserializeCudaEngine(bytes, sizeof bytes) == nullptr);
  CHECK(!log.said.empty());
  std::printf("headers %ld, library %ld: %s\n", static_cast<long>(NV_TENSORRT_VERSION),
              static_cast<long>(getInferLibVersion()), log.said.c_str());
}

void test_a_machine_without_a_gpu_is_described() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return;
  const auto problem = check::problem_of([] {
    segdeploy::detail::open_tensorrt({"m.plan", {}, ""}, "cuda:0", "");
  });
  std::printf("%s\n", problem.c_str());
  CHECK(problem.find("engine needs an NVIDIA GPU, but ") != std::string::npos);
}

}  // namespace

int main() {
  test_the_library_refuses_what_is_no_plan();
  test_a_machine_without_a_gpu_is_described();
}
