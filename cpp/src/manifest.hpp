// A manifest, read back from a file: docs/manifest.md has its keys. Nothing in it is trusted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "segdeploy/segdeploy.hpp"

namespace segdeploy::detail {

struct TensorInfo {
  std::string name;
  std::string dtype;                // as NumPy names it
  std::vector<std::int64_t> shape;  // -1: an open axis

  bool operator==(const TensorInfo& other) const {
    return name == other.name && dtype == other.dtype && shape == other.shape;
  }
};

// Of the record of a TensorRT build, what decides whether the plan can be loaded.
struct BuildRecord {
  std::string os;
  std::string gpu;
  std::string compute_capability;
  std::vector<TensorInfo> inputs;
  std::vector<TensorInfo> outputs;
  std::vector<std::string> compute_capabilities;  // that were asked for
  std::string hardware;
  bool version_compatible = false;
  bool strip = false;
};

struct FullManifest {
  Manifest facts;
  std::optional<BuildRecord> build;
};

// The JSON beside an engine; `where` names it in an error.
FullManifest read_manifest(std::string_view json, const std::filesystem::path& where);

// The properties of an ONNX file, one JSON text for each key.
FullManifest read_manifest(const std::map<std::string, std::string>& properties,
                           const std::filesystem::path& where);

}  // namespace segdeploy::detail
