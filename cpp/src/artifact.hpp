// A file along the line, and its manifest: read and checked before a runtime sees it.
#pragma once

#include <filesystem>
#include <string>

#include "manifest.hpp"

namespace segdeploy::detail {

struct Artifact {
  std::filesystem::path path;
  FullManifest manifest;
  std::string bytes;  // the file itself: what was hashed is what is loaded

  bool is_graph() const { return path.extension() == ".onnx"; }  // otherwise an engine
};

// A graph or an engine, by its suffix; an engine has to be the file that its manifest describes.
Artifact read_artifact(const std::filesystem::path& path);

// The same of a graph whose bytes are there already.
FullManifest read_graph(std::string_view bytes, const std::filesystem::path& where);

}  // namespace segdeploy::detail
