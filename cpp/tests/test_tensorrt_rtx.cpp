// As test_tensorrt_calls.cpp, compiled as with the headers of TensorRT-RTX.
#include "check.hpp"
#include "plan.hpp"

using namespace segdeploy::detail;

int main() {
  Artifact artifact = plan();
  const auto open = [&] { open_tensorrt(artifact, "cuda:0", ""); };
  CHECK_EQUAL(check::problem_of(open),
              "m.plan: is made for TensorRT, this library was built with TensorRT-RTX");

  artifact.manifest.facts.runtime = "tensorrt-rtx";
  CHECK_EQUAL(check::problem_of(open), "");

  world::now.reasons = 6;
  CHECK_EQUAL(check::problem_of(open),
              "m.plan: TensorRT-RTX does not accept it on this GPU (UNSUPPORTED_CC, "
              "OLD_CUDA_DRIVER)");
}
