// How a camera was held, which Exif in a JPEG or a PNG says.
#pragma once

#include <cstdint>
#include <vector>

namespace pictures {

// 1 to 8, as Exif counts them; 1, upright, where the file says nothing or something else.
int orientation_of(const std::vector<std::uint8_t>& file);

}  // namespace pictures
