#include "pictures.hpp"

#include <stb_image.h>
#include <stb_image_write.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <system_error>

#include "orientation.hpp"

namespace pictures {

namespace {

namespace fs = std::filesystem;

using Bytes = std::vector<std::uint8_t>;

std::string reason(int number) {  // of errno
  return " (" + std::generic_category().message(number) + ")";
}

struct Closing {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

Bytes read_file(const fs::path& path) {
  std::error_code error;
  const auto kind = fs::status(path, error).type();
  if (kind == fs::file_type::not_found) throw segdeploy::Error(path.string() + ": no such file");
  if (kind == fs::file_type::directory) throw segdeploy::Error(path.string() + ": is a folder");
  const std::unique_ptr<std::FILE, Closing> file(std::fopen(path.c_str(), "rbe"));
  Bytes bytes;
  if (file != nullptr) {
    std::array<std::uint8_t, 1 << 16> block{};
    while (const auto size = std::fread(block.data(), 1, block.size(), file.get())) {
      bytes.insert(bytes.end(), block.begin(), block.begin() + size);
    }
    if (std::ferror(file.get()) == 0) return bytes;
  }
  throw segdeploy::Error(path.string() + ": cannot be read" + reason(errno));
}

// A file for stb, which takes what is missing at its end for zeros and says nothing.
struct Source {
  const Bytes& bytes;
  std::size_t at = 0;
  bool is_cut = false;
};

constexpr stbi_io_callbacks SOURCE = {
    [](void* user, char* place, int size) {
      auto& source = *static_cast<Source*>(user);
      const std::size_t left = source.bytes.size() - source.at;
      const std::size_t taken = std::min(static_cast<std::size_t>(size), left);
      if (taken == 0) {
        source.is_cut = true;
      } else {
        std::memcpy(place, source.bytes.data() + source.at, taken);
      }
      source.at += taken;
      return static_cast<int>(taken);
    },
    [](void* user, int size) {  // a negative size goes back
      auto& source = *static_cast<Source*>(user);
      const auto at = static_cast<std::ptrdiff_t>(source.at) + size;
      const auto end = static_cast<std::ptrdiff_t>(source.bytes.size());
      source.at = static_cast<std::size_t>(std::clamp(at, std::ptrdiff_t{0}, end));
    },
    [](void* user) {
      const auto& source = *static_cast<Source*>(user);
      return static_cast<int>(source.at == source.bytes.size());
    },
};

// What Exif's orientation says has to be done to see it as it was.
Picture turned(Picture picture, int orientation) {
  if (orientation == 1) return picture;
  const bool is_transposed = orientation >= 5;
  const bool is_mirrored =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool is_flipped =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Picture result{picture.height, picture.width, Bytes(picture.rgb.size())};
  if (is_transposed) std::swap(result.height, result.width);
  auto target = result.rgb.begin();
  for (int y = 0; y < result.height; ++y) {
    for (int x = 0; x < result.width; ++x) {
      int row = is_transposed ? x : y, column = is_transposed ? y : x;
      if (is_flipped) row = picture.height - 1 - row;
      if (is_mirrored) column = picture.width - 1 - column;
      const auto pixel = static_cast<std::ptrdiff_t>(row) * picture.width + column;
      target = std::copy_n(picture.rgb.begin() + 3 * pixel, 3, target);
    }
  }
  return result;
}

// 0, or why the bytes are not all there.
int write_file(const fs::path& path, const Bytes& bytes) {
  std::FILE* file = std::fopen(path.c_str(), "wbe");
  if (file == nullptr) return errno;
  int error = 0;
  if (std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size()) error = errno;
  if (std::fclose(file) != 0 && error == 0) error = errno;  // which writes what is left
  return error;
}

Bytes png_of(const Bytes& pixels, segdeploy::Size size, int channels) {
  const auto append = [](void* user, void* data, int count) {
    const auto* first = static_cast<const std::uint8_t*>(data);
    static_cast<Bytes*>(user)->assign(first, first + count);
  };
  Bytes png;
  if (stbi_write_png_to_func(append, &png, size.width, size.height, channels, pixels.data(),
                             size.width * channels) == 0) {
    throw std::bad_alloc();  // nothing else makes it fail
  }
  return png;
}

}  // namespace

Picture read(const fs::path& path) {
  const Bytes file = read_file(path);
  Source source{file};
  Picture picture;
  int channels = 0;
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_callbacks(&SOURCE, &source, &picture.width, &picture.height, &channels, 3),
      stbi_image_free);
  if (pixels == nullptr || source.is_cut) {
    throw segdeploy::Error(path.string() + ": not an image, or a damaged one (" +
                               (source.is_cut ? "it ends early" : stbi_failure_reason()) + ")",
                           "wanted PNG, JPEG, BMP");
  }
  const auto bytes =
      3 * static_cast<std::size_t>(picture.height) * static_cast<std::size_t>(picture.width);
  picture.rgb.assign(pixels.get(), pixels.get() + bytes);
  return turned(std::move(picture), orientation_of(file));
}

void write(const fs::path& path, const Bytes& pixels, segdeploy::Size size, int channels) {
  const int row = size.width * channels;
  if (size.height < 1 || row < 1 || pixels.size() != row * static_cast<std::size_t>(size.height)) {
    throw segdeploy::Error(path.string() + ": has other pixels than its size says");
  }
  const Bytes png = png_of(pixels, size, channels);
  const auto temporary = path.parent_path() / ("." + path.filename().string() + ".part");
  std::error_code error;
  if (!path.parent_path().empty()) fs::create_directories(path.parent_path(), error);
  if (!error) error.assign(write_file(temporary, png), std::generic_category());
  if (!error) fs::rename(temporary, path, error);
  if (!error) return;
  std::error_code ignored;
  fs::remove(temporary, ignored);
  throw segdeploy::Error(path.string() + ": cannot be written" + reason(error.value()));
}

}  // namespace pictures
