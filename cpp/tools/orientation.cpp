#include "orientation.hpp"

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace pictures {

namespace {

// Bytes of a file, which may end or lie anywhere: what is beyond them reads as 0.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  std::size_t size() const { return size_; }

  std::uint8_t operator[](std::size_t at) const { return at < size_ ? data_[at] : std::uint8_t{0}; }

  std::size_t big(std::size_t at, int width) const {
    std::size_t value = 0;
    for (int k = 0; k < width; ++k) value = value << 8 | (*this)[at + static_cast<std::size_t>(k)];
    return value;
  }

  std::size_t little(std::size_t at, int width) const {
    std::size_t value = 0;
    for (int k = width; k-- > 0;) value = value << 8 | (*this)[at + static_cast<std::size_t>(k)];
    return value;
  }

  bool has(std::size_t at, std::string_view word) const {
    return at < size_ && word.size() <= size_ - at &&
           std::equal(word.begin(), word.end(), data_ + at,
                      [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; });
  }

  Bytes part(std::size_t at, std::size_t size) const {
    at = std::min(at, size_);
    return {data_ + at, std::min(size, size_ - at)};
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

// Exif is a TIFF without pixels: a header, and a table of entries of 12 bytes.
int orientation_of_exif(const Bytes& exif) {
  const bool is_little = exif.has(0, "II");
  if (!is_little && !exif.has(0, "MM")) return 1;
  const auto number = [&](std::size_t at, int width) {
    return is_little ? exif.little(at, width) : exif.big(at, width);
  };
  if (number(2, 2) != 42) return 1;
  const std::size_t table = number(4, 4), entries = number(table, 2);
  for (std::size_t entry = 0; entry < entries; ++entry) {
    const std::size_t at = table + 2 + 12 * entry;
    if (number(at, 2) != 0x0112) continue;
    const std::size_t value = number(at + 8, 2);  // of whatever type, as OpenCV reads it
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

int orientation_of_jpeg(const Bytes& file) {
  using namespace std::string_view_literals;
  constexpr std::size_t APP1 = 0xe1, START_OF_SCAN = 0xda;
  std::size_t at = 2;
  while (at < file.size() && file[at] == 0xff) {
    const std::size_t marker = file[at + 1], size = file.big(at + 2, 2);
    if (marker == 0xff) {  // one of several that may stand before a marker
      ++at;
      continue;
    }
    if (marker == START_OF_SCAN || size < 2) break;
    if (marker == APP1 && file.has(at + 4, "Exif\0\0"sv)) {
      return orientation_of_exif(file.part(at + 10, size - 8));
    }
    at += 2 + size;
  }
  return 1;
}

int orientation_of_png(const Bytes& file) {
  for (std::size_t at = 8; at < file.size();) {
    const std::size_t size = file.big(at, 4);
    if (file.has(at + 4, "eXIf")) return orientation_of_exif(file.part(at + 8, size));
    at += 12 + size;
  }
  return 1;
}

}  // namespace

int orientation_of(const std::vector<std::uint8_t>& file) {
  const Bytes bytes(file.data(), file.size());
  if (bytes.has(0, "\xff\xd8")) return orientation_of_jpeg(bytes);
  if (bytes.has(0, "\x89PNG")) return orientation_of_png(bytes);
  return 1;
}

}  // namespace pictures
