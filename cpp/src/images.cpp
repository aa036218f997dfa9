#include "images.hpp"

#include <cmath>
#include <cstring>

namespace segdeploy {
namespace detail {
namespace {

std::ptrdiff_t row_bytes(const Image& image) {
  return static_cast<std::ptrdiff_t>(image.width) * image.channels;
}

std::ptrdiff_t row_bytes(const LabelMap& labels) {
  return static_cast<std::ptrdiff_t>(labels.width) * (labels.type == LabelMap::Type::u8 ? 1 : 4);
}

template <class View>
std::ptrdiff_t stride_of(const View& view) {
  return view.stride == 0 ? row_bytes(view) : view.stride;
}

std::string size_text(int height, int width) {
  return std::to_string(height) + "x" + std::to_string(width);
}

// A negative stride reads an image upside down, which some cameras give.
template <class View>
void check_view(const View& view, const std::string& what) {
  if (view.data == nullptr) throw Error(what + ": has no memory");
  if (view.height < 1 || view.width < 1 || view.height > MAX_SIDE || view.width > MAX_SIDE) {
    throw Error(what + ": is " + size_text(view.height, view.width) + "; wanted 1 to " +
                std::to_string(MAX_SIDE) + " a side");
  }
  const std::ptrdiff_t row = row_bytes(view);  // and not the stride is negated: the least cannot be
  if (view.stride != 0 && -row < view.stride && view.stride < row) {
    throw Error(what + ": has rows of " + std::to_string(row) + " bytes and a stride of " +
                std::to_string(view.stride));
  }
}

void check_alignment(const LabelMap& labels, const std::string& what) {
  if (labels.type == LabelMap::Type::u8) return;
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(labels.data) % 4 == 0;
  if (is_aligned && labels.stride % 4 == 0) return;
  throw Error(what + ": its rows do not begin at whole int32 values");
}

void check_image(const Image& image, const std::string& what) {
  if (image.channels != 3 && image.channels != 4) {
    throw Error(what + ": has " + std::to_string(image.channels) + " channels; wanted 3 or 4",
                "a grey image is given by its one value three times");
  }
  if (image.order != ColorOrder::rgb && image.order != ColorOrder::bgr) {
    throw Error(what + ": has an unknown colour order; wanted RGB or BGR");
  }
  check_view(image, what);
}

std::string name_of(const char* what, std::size_t index, std::size_t count) {
  return count == 1 ? what : std::string(what) + " " + std::to_string(index);
}

void copy_row(const std::uint8_t* from, const Image& image, std::uint8_t* to) {
  const int red = image.order == ColorOrder::rgb ? 0 : 2;
  for (int x = 0; x < image.width; ++x, from += image.channels, to += 3) {
    to[0] = from[red];
    to[1] = from[1];
    to[2] = from[2 - red];
  }
}

}  // namespace

std::size_t area(Size size) {
  return static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width);
}

std::size_t Batch::pixels() const { return static_cast<std::size_t>(count) * area(size); }

std::string Batch::text() const {
  return std::to_string(count) + "x" + size_text(size.height, size.width) + "x3";
}

void check_count(std::size_t count) {
  if (count == 0) throw Error("images: there are none; wanted 1 or more");
  if (count <= static_cast<std::size_t>(MAX_BATCH)) return;
  throw Error("images: are " + std::to_string(count) + "; wanted up to " +
              std::to_string(MAX_BATCH));
}

Batch check_packed(const void* images, std::size_t count, Size size) {
  check_count(count);
  check_image({static_cast<const std::uint8_t*>(images), size.height, size.width}, "images");
  return {static_cast<int>(count), size};
}

Batch check_images(const Image* images, std::size_t count) {
  check_count(images == nullptr ? 0 : count);
  for (std::size_t k = 0; k < count; ++k) check_image(images[k], name_of("image", k, count));
  const Size size{images[0].height, images[0].width};
  for (std::size_t k = 1; k < count; ++k) {
    if (images[k].height == size.height && images[k].width == size.width) continue;
    throw Error("images: are " + size_text(size.height, size.width) + " and " +
                    size_text(images[k].height, images[k].width),
                "images of one batch have one size");
  }
  return {static_cast<int>(count), size};
}

void check_labels(const LabelMap* labels, const Batch& batch) {
  if (labels == nullptr) throw Error("result: has no memory");
  for (std::size_t k = 0; k < static_cast<std::size_t>(batch.count); ++k) {
    const std::string what = name_of("result", k, static_cast<std::size_t>(batch.count));
    check_view(labels[k], what);
    check_alignment(labels[k], what);
    if (labels[k].height == batch.size.height && labels[k].width == batch.size.width) continue;
    throw Error(what + ": is " + size_text(labels[k].height, labels[k].width) +
                "; these images give " + size_text(batch.size.height, batch.size.width));
  }
}

void copy_image(const Image& image, std::uint8_t* rgb) {
  const std::size_t bytes = 3 * static_cast<std::size_t>(image.width);
  const bool is_plain = image.channels == 3 && image.order == ColorOrder::rgb;
  const std::uint8_t* row = image.data;
  for (int y = 0; y < image.height; ++y, row += stride_of(image), rgb += bytes) {
    if (is_plain) {
      std::memcpy(rgb, row, bytes);
    } else {
      copy_row(row, image, rgb);
    }
  }
}

void copy_labels(const std::uint8_t* labels, const LabelMap& to) {
  const auto width = static_cast<std::size_t>(to.width);
  auto* row = static_cast<std::uint8_t*>(to.data);
  for (int y = 0; y < to.height; ++y, row += stride_of(to), labels += width) {
    if (to.type == LabelMap::Type::u8) {
      std::memcpy(row, labels, width);
      continue;
    }
    auto* wide = reinterpret_cast<std::int32_t*>(row);
    for (std::size_t x = 0; x < width; ++x) wide[x] = labels[x];
  }
}

}  // namespace detail

namespace {

int label_at(const std::uint8_t* row, int x, LabelMap::Type type) {
  if (type == LabelMap::Type::u8) return row[x];
  return reinterpret_cast<const std::int32_t*>(row)[x];
}

std::uint8_t blend(std::uint8_t image, std::uint8_t paint, double opacity) {
  const float sum = static_cast<float>(image) * static_cast<float>(1 - opacity) +
                    static_cast<float>(paint) * static_cast<float>(opacity);
  return static_cast<std::uint8_t>(std::lrint(sum));  // half to even, as OpenCV rounds
}

}  // namespace

void overlay(const Image& image, const LabelMap& labels, const ClassSet& classes, std::uint8_t* rgb,
             double opacity) {
  const detail::Batch batch = detail::check_images(&image, 1);
  detail::check_labels(&labels, batch);
  if (rgb == nullptr) throw Error("overlay: has no memory");
  if (!(opacity >= 0 && opacity <= 1)) throw Error("overlay: opacity is not from 0 to 1");
  detail::copy_image(image, rgb);
  const auto* row = static_cast<const std::uint8_t*>(labels.data);
  for (int y = 0; y < labels.height; ++y, row += detail::stride_of(labels)) {
    for (int x = 0; x < labels.width; ++x, rgb += 3) {
      const int label = label_at(row, x, labels.type);
      const bool is_known = label >= 0 && static_cast<std::size_t>(label) < classes.palette.size();
      const Rgb paint = is_known ? classes.palette[static_cast<std::size_t>(label)] : Rgb{};
      for (std::size_t c = 0; c < 3; ++c) rgb[c] = blend(rgb[c], paint[c], opacity);
    }
  }
}

}  // namespace segdeploy
