// The caller's views: checked, copied in and out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "segdeploy/segdeploy.hpp"

namespace segdeploy::detail {

constexpr int MAX_SIDE = 8192;  // pixels
constexpr int MAX_BATCH = 64;

std::size_t area(Size size);  // in pixels

inline bool operator==(Size a, Size b) { return a.height == b.height && a.width == b.width; }

struct Batch {
  int count = 0;
  Size size;

  bool operator==(const Batch& other) const { return count == other.count && size == other.size; }
  std::size_t pixels() const;
  std::string text() const;  // of the images: 1x512x1024x3
};

// Throws an Error: there are none, or more than MAX_BATCH.
void check_count(std::size_t count);

// Throws an Error: a view cannot be read, or the images are not of one size.
Batch check_images(const Image* images, std::size_t count);

// The same of images that lie one behind the other without gaps.
Batch check_packed(const void* images, std::size_t count, Size size);

// Throws an Error: a view cannot be written, or is not as large as its image.
void check_labels(const LabelMap* labels, const Batch& batch);

void copy_image(const Image& image, std::uint8_t* rgb);  // without gaps
void copy_labels(const std::uint8_t* labels, const LabelMap& to);

}  // namespace segdeploy::detail
