// Whether a TensorRT plan can be loaded here, decided before a byte of it is deserialized.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "manifest.hpp"

namespace segdeploy::detail {

// What a plan meets.
struct Here {
  std::string version;             // of the library, as in "10.9.0.34"
  std::string os;                  // "Linux x86_64"
  std::string gpu;                 // its name
  std::string compute_capability;  // "8.9"
  bool is_rtx = false;             // the library is TensorRT-RTX
};

// Throws a MisfitError in one line: built with X, this is Y; and what to do.
void check_compatible(const std::filesystem::path& path, const FullManifest& manifest,
                      const Here& here);

// The reasons that TensorRT-RTX gives, as bits, why it does not accept a plan.
std::string invalidity_text(std::uint64_t reasons);

}  // namespace segdeploy::detail
