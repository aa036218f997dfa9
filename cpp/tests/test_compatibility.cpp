// Which TensorRT plans are refused, and in which words.
#include "check.hpp"
#include "compatibility.hpp"

using namespace segdeploy::detail;

namespace {

FullManifest plan() {
  FullManifest manifest;
  manifest.facts.model = "demo";
  manifest.facts.runtime = "tensorrt";
  manifest.facts.runtime_version = "10.9.0.34";
  manifest.build = BuildRecord{};
  manifest.build->os = "Linux x86_64";
  manifest.build->gpu = "NVIDIA A100";
  manifest.build->compute_capability = "8.0";
  manifest.build->hardware = "same";
  return manifest;
}

Here here() { return {"10.9.0.34", "Linux x86_64", "NVIDIA A100", "8.0", false}; }

std::string problem(const FullManifest& manifest, const Here& met) {
  return check::problem_of([&] { check_compatible("m.plan", manifest, met); });
}

void test_tensorrt() {
  CHECK_EQUAL(problem(plan(), here()), "");
  FullManifest manifest = plan();
  Here met = here();
  met.version = "10.10.0.1";
  CHECK_EQUAL(problem(manifest, met),
              "m.plan: built with TensorRT 10.9.0.34, this is 10.10.0.1; a plan loads only in the "
              "version that built it");
  manifest.build->version_compatible = true;
  CHECK_EQUAL(problem(manifest, met), "");
  met.version = "11.1.0.2";
  CHECK_EQUAL(problem(manifest, met), "");
  met.version = "10.8.5";
  CHECK_EQUAL(problem(manifest, met),
              "m.plan: built with TensorRT 10.9.0.34, this is 10.8.5; it loads in later versions");
  met = here();
  met.os = "Linux aarch64";
  CHECK_EQUAL(problem(plan(), met), "m.plan: built on Linux x86_64, this is Linux aarch64");
  met = here();
  met.gpu = "NVIDIA L4", met.compute_capability = "8.9";
  CHECK_EQUAL(
      problem(plan(), met),
      "m.plan: built on NVIDIA A100 for compute capability 8.0, this is NVIDIA L4 with 8.9");
  manifest = plan();
  manifest.build->hardware = "ampere-plus";
  CHECK_EQUAL(problem(manifest, met), "");
  met.is_rtx = true;
  CHECK_EQUAL(problem(manifest, met),
              "m.plan: is made for TensorRT, this library was built with TensorRT-RTX");
  manifest.build.reset();
  CHECK_EQUAL(problem(manifest, here()),
              "m.plan: its manifest has no record of the build: an older segdeploy made it");
}

void test_rtx() {
  FullManifest manifest = plan();
  manifest.facts.runtime = "tensorrt-rtx";
  Here met = here();
  met.is_rtx = true;
  met.os = "Windows AMD64";
  met.compute_capability = "12.0";
  CHECK_EQUAL(problem(manifest, met), "");
  manifest.build->compute_capabilities = {"9.0", "8.9"};
  met.compute_capability = "8.6";
  CHECK_EQUAL(problem(manifest, met),
              "m.plan: built on NVIDIA A100 for compute capability 8.9 or later, this is NVIDIA "
              "A100 with 8.6");
}

void test_reasons() {
  CHECK_EQUAL(invalidity_text(0), "no reason was given");
  CHECK_EQUAL(invalidity_text(1 | 64 | 1 << 7), "VERSION_MISMATCH, CUDA_ERROR");
}

}  // namespace

int main() {
  test_tensorrt();
  test_rtx();
  test_reasons();
}
