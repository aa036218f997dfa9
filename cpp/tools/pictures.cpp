#include "pictures.hpp"

#include <memory>
#include <system_error>

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_MAX_DIMENSIONS 8192  // a side, as in a manifest
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image.h>
#include <stb_image_write.h>
#pragma GCC diagnostic pop

namespace pictures {

Picture read(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) {
    throw segdeploy::Error(path.string() + ": no such file");
  }
  Picture picture;
  int channels = 0;
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load(path.c_str(), &picture.width, &picture.height, &channels, 3), stbi_image_free);
  if (pixels == nullptr) {
    throw segdeploy::Error(
        path.string() + ": not an image, or a damaged one (" + stbi_failure_reason() + ")",
        "wanted PNG, JPEG, BMP");
  }
  const auto bytes =
      3 * static_cast<std::size_t>(picture.height) * static_cast<std::size_t>(picture.width);
  picture.rgb.assign(pixels.get(), pixels.get() + bytes);
  return picture;
}

void write(const std::filesystem::path& path, const std::vector<std::uint8_t>& pixels,
           segdeploy::Size size, int channels) {
  const int row = size.width * channels;
  if (size.height < 1 || row < 1 || pixels.size() != row * static_cast<std::size_t>(size.height)) {
    throw segdeploy::Error(path.string() + ": has other pixels than its size says");
  }
  const auto temporary = path.parent_path() / ("." + path.filename().string() + ".part");
  std::error_code error;
  if (!path.parent_path().empty()) std::filesystem::create_directories(path.parent_path(), error);
  if (!error && stbi_write_png(temporary.c_str(), size.width, size.height, channels, pixels.data(),
                               row) != 0) {
    std::filesystem::rename(temporary, path, error);
    if (!error) return;
  }
  throw segdeploy::Error(path.string() + ": cannot be written" +
                         (error ? " (" + error.message() + ")" : ""));
}

}  // namespace pictures
