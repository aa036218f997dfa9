// Picture files, by stb_image: for the tools and examples, not for pictures from strangers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "segdeploy/segdeploy.hpp"

namespace pictures {

struct Picture {
  int height = 0;
  int width = 0;
  std::vector<std::uint8_t> rgb;

  segdeploy::Image view() const { return {rgb.data(), height, width}; }
};

// PNG, JPEG or BMP. Throws a segdeploy::Error.
Picture read(const std::filesystem::path& path);

// PNG of one channel or of three, whole or not at all. Throws a segdeploy::Error.
void write(const std::filesystem::path& path, const std::vector<std::uint8_t>& pixels,
           segdeploy::Size size, int channels);

}  // namespace pictures
