#include "artifact.hpp"

#include "files.hpp"
#include "protobuf.hpp"
#include "sha256.hpp"

namespace segdeploy::detail {
namespace {

Artifact read_graph_file(const std::filesystem::path& path) {
  std::string bytes = read_file(path);
  FullManifest manifest = read_graph(bytes, path);
  return {path, std::move(manifest), std::move(bytes)};
}

FullManifest read_manifest_beside(const std::filesystem::path& path) {
  const std::filesystem::path beside = path.string() + ".json";
  if (!is_file(beside)) {
    throw Error(path.string() + ": its manifest " + beside.filename().string() + " is missing",
                "keep both files together");
  }
  return read_manifest(read_file(beside), beside);
}

Artifact read_engine_file(const std::filesystem::path& path) {
  if (!is_file(path))
    throw Error(path.string() + ": no such file", "segdeploy build-engine writes it");
  FullManifest manifest = read_manifest_beside(path);
  std::string bytes = read_file(path);
  const std::string found = sha256_hex(bytes), &wanted = manifest.facts.sha256;
  if (found != wanted) {
    throw MisfitError(path.string() + ": sha256 is " + found.substr(0, 12) +
                          ", its manifest says " + wanted.substr(0, 12),
                      "the file is damaged or was replaced: build the engine again, or --rebuild");
  }
  return {path, std::move(manifest), std::move(bytes)};
}

}  // namespace

FullManifest read_graph(std::string_view bytes, const std::filesystem::path& where) {
  OnnxFacts facts;
  try {
    facts = read_onnx(bytes);
  } catch (const ProtobufError& error) {
    throw Error(where.string() + ": is not a valid ONNX file (" + error.what() + ")");
  }
  if (facts.has_external_data) {
    throw Error(where.string() + ": keeps weights in another file; wanted one file",
                "onnx.save(onnx.load(path), path, save_as_external_data=False) puts them in");
  }
  return read_manifest(facts.properties, where);
}

Artifact read_artifact(const std::filesystem::path& path) {
  const std::filesystem::path suffix = path.extension();
  if (suffix == ".onnx") return read_graph_file(path);
  if (suffix == ".ort" || suffix == ".plan") return read_engine_file(path);
  throw Error(path.string() + ": is not an artifact; wanted .onnx, .ort or .plan",
              "segdeploy export and segdeploy build-engine write them");
}

}  // namespace segdeploy::detail
