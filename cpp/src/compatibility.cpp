#include "compatibility.hpp"

#include <algorithm>
#include <array>

namespace segdeploy::detail {
namespace {

constexpr const char* OLDEST_RTX = "8.0";  // of a TensorRT-RTX plan where nothing was asked for
constexpr const char* AMPERE = "8.0";
// By bit, of EngineInvalidityDiagnostics in TensorRT-RTX 1.7.
constexpr std::array REASONS = {"VERSION_MISMATCH", "UNSUPPORTED_CC",          "OLD_CUDA_DRIVER",
                                "OLD_CUDA_RUNTIME", "INSUFFICIENT_GPU_MEMORY", "MALFORMED_ENGINE",
                                "CUDA_ERROR"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::vector<long> numbers(const std::string& version) {
  std::vector<long> found;
  for (std::size_t at = 0; at < version.size(); ++at) {
    if (!is_digit(version[at])) continue;
    if (at == 0 || !is_digit(version[at - 1])) found.push_back(0);
    found.back() = std::min(found.back() * 10 + (version[at] - '0'), 1'000'000'000L);
  }
  return found.empty() ? std::vector<long>{0} : found;
}

// Version-compatible plans of 10 load in 11; no others load across a major version.
bool version_fits(const std::string& built, const std::string& here, bool is_compatible) {
  if (built == here || !is_compatible) return built == here;
  const auto first = numbers(built), second = numbers(here);
  if (first[0] == second[0]) return first <= second;
  return first[0] == 10 && second[0] == 11;
}

std::string oldest_of(const std::vector<std::string>& capabilities) {
  if (capabilities.empty()) return OLDEST_RTX;
  return *std::min_element(
      capabilities.begin(), capabilities.end(),
      [](const std::string& a, const std::string& b) { return numbers(a) < numbers(b); });
}

// What the GPU would have to have, in words; "" if it has it.
std::string wanted_capability(const Manifest& facts, const BuildRecord& build,
                              const std::string& found) {
  const auto at_least = [&](const std::string& oldest) {
    return numbers(found) >= numbers(oldest) ? "" : oldest + " or later";
  };
  if (facts.runtime == "tensorrt-rtx") return at_least(oldest_of(build.compute_capabilities));
  if (build.hardware == "ampere-plus") return at_least(AMPERE);
  if (found == build.compute_capability) return "";
  return build.compute_capability.empty() ? "unknown" : build.compute_capability;
}

}  // namespace

void check_compatible(const std::filesystem::path& path, const FullManifest& manifest,
                      const Here& here) {
  const Manifest& facts = manifest.facts;
  const std::string where = path.string() + ": ";
  const std::string rebuild = "build it here: --rebuild, or segdeploy build-engine " + facts.model +
                              " --target " + facts.runtime;
  const bool is_rtx = facts.runtime == "tensorrt-rtx";
  const std::string title = is_rtx ? "TensorRT-RTX" : "TensorRT";
  if (is_rtx != here.is_rtx) {
    throw MisfitError(where + "is made for " + title + ", this library was built with " +
                          (here.is_rtx ? "TensorRT-RTX" : "TensorRT"),
                      "build it with the other, -DTensorRT_ROOT=FOLDER");
  }
  if (!manifest.build) {
    throw MisfitError(where + "its manifest has no record of the build: an older segdeploy made it",
                      rebuild);
  }
  const BuildRecord& build = *manifest.build;
  if (!version_fits(facts.runtime_version, here.version, build.version_compatible)) {
    throw MisfitError(
        where + "built with " + title + " " + facts.runtime_version + ", this is " + here.version +
            "; " +
            (build.version_compatible ? "it loads in later versions"
                                      : "a plan loads only in the version that built it"),
        "install " + title + " " + facts.runtime_version + ", or " + rebuild);
  }
  if (build.os != here.os && !is_rtx) {  // NVIDIA: RTX plans serve any system
    throw MisfitError(where + "built on " + build.os + ", this is " + here.os, rebuild);
  }
  const std::string wanted = wanted_capability(facts, build, here.compute_capability);
  if (wanted.empty()) return;
  const std::string on = build.gpu.empty() ? "" : " on " + build.gpu;
  throw MisfitError(where + "built" + on + " for compute capability " + wanted + ", this is " +
                        here.gpu + " with " + here.compute_capability,
                    rebuild);
}

std::string invalidity_text(std::uint64_t reasons) {
  std::string text;
  for (std::size_t bit = 0; bit < REASONS.size(); ++bit) {
    if ((reasons >> bit & 1) != 0) text += (text.empty() ? "" : ", ") + std::string(REASONS[bit]);
  }
  return text.empty() ? "no reason was given" : text;
}

}  // namespace segdeploy::detail
