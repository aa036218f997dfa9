// An engine and the JSON beside it, as files: "@" in the JSON stands for the engine's true sha256.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <fstream>

#include "artifact.hpp"
#include "sha256.hpp"

namespace {

void write(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string with_hash(std::string_view json, std::string_view engine) {
  std::string text;
  for (const char c : json)
    text += c == '@' ? segdeploy::detail::sha256_hex(engine) : std::string(1, c);
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 4096) return 0;
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const std::string_view json = all.substr(0, all.find('\0'));
  const std::string_view engine = all.substr(json.size());
  static const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("fuzz-" + std::to_string(getpid()) + ".ort");
  write(path, engine);
  write(path.string() + ".json", with_hash(json, engine));
  try {
    segdeploy::detail::read_artifact(path);
  } catch (const segdeploy::Error&) {
  }
  return 0;
}
