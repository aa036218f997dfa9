// How values are written in sentences: as the Python package writes them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace segdeploy::detail {

std::string shape_text(const std::vector<std::int64_t>& shape);  // 1x512x1024x3; ? for -1

// In quotes, with escapes for all that would not be seen or would move the cursor.
std::string in_quotes(std::string_view text);

bool is_printable(std::string_view text);

std::string first_code_points(const std::string& text, std::size_t count);

std::string first_line(std::string_view text);

}  // namespace segdeploy::detail
