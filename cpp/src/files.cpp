#include "files.hpp"

#include <exception>
#include <fstream>
#include <system_error>

#include "segdeploy/segdeploy.hpp"

namespace segdeploy::detail {

bool is_file(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

std::string read_file(const std::filesystem::path& path, const std::string& hint) {
  if (!is_file(path)) throw Error(path.string() + ": no such file", hint);
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
  if (size < 0) throw Error(path.string() + ": cannot be read");
  std::string bytes;
  try {
    bytes.resize(static_cast<std::size_t>(size));
  } catch (const std::exception&) {  // there is no such memory, or no string is as long
    throw Error(path.string() + ": has " + std::to_string(size) +
                " bytes, more than there is memory");
  }
  file.seekg(0);
  if (!file.read(bytes.data(), size)) throw Error(path.string() + ": cannot be read");
  return bytes;
}

}  // namespace segdeploy::detail
