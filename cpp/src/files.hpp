// Files, read whole: what was checked is then what is loaded.
#pragma once

#include <filesystem>
#include <string>

namespace segdeploy::detail {

// Throws an Error: there is no such file (with `hint`), or it cannot be read.
std::string read_file(const std::filesystem::path& path, const std::string& hint = "");

bool is_file(const std::filesystem::path& path);

}  // namespace segdeploy::detail
