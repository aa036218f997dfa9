#include "profiles.hpp"

#include <algorithm>

#include "segdeploy/segdeploy.hpp"
#include "words.hpp"

namespace segdeploy::detail {
namespace {

bool is_dynamic(const Shape& shape) {
  return std::find(shape.begin(), shape.end(), -1) != shape.end();
}

double volume(const Shape& shape) {
  double product = 1;
  for (const std::int64_t size : shape) product *= static_cast<double>(size);
  return product;
}

}  // namespace

bool ShapeRange::covers(const Shape& shape) const {
  if (shape.size() != min.size() || shape.size() != max.size()) return false;
  for (std::size_t k = 0; k < shape.size(); ++k) {
    if (shape[k] < min[k] || shape[k] > max[k]) return false;
  }
  return true;
}

std::string ShapeRange::text() const {
  return min == max ? shape_text(min) : shape_text(min) + " to " + shape_text(max);
}

ProfilePool::ProfilePool(Shape image, std::vector<ShapeRange> profiles)
    : image_(std::move(image)), profiles_(std::move(profiles)) {
  if (!is_dynamic(image_)) profiles_.clear();
  is_free_.assign(profiles_.size(), true);
}

std::optional<int> ProfilePool::take(const Shape& shape, std::optional<int> held) {
  if (profiles_.empty()) {
    check_fixed(shape);
    return std::nullopt;
  }
  if (held && profiles_[static_cast<std::size_t>(*held)].covers(shape)) return held;
  const std::lock_guard<std::mutex> lock(mutex_);
  std::optional<std::size_t> chosen;  // the smallest that is free
  int fitting = 0;
  for (std::size_t k = 0; k < profiles_.size(); ++k) {
    if (!profiles_[k].covers(shape)) continue;
    ++fitting;
    const bool is_smaller = !chosen || volume(profiles_[k].max) < volume(profiles_[*chosen].max);
    if (is_free_[k] && is_smaller) chosen = k;
  }
  if (fitting == 0) {
    throw Error("an image batch is " + shape_text(shape) + "; the engine takes " + ranges(),
                "build it with --shapes MIN,OPT,MAX around this shape");
  }
  if (!chosen) {
    throw Error("all " + std::to_string(fitting) + " profiles for " + shape_text(shape) +
                    " are in use by other sessions; each session needs its own",
                "build the engine with --shapes once for each session, or share sessions by "
                "SessionPool");
  }
  is_free_[*chosen] = false;
  return static_cast<int>(*chosen);
}

void ProfilePool::give_back(std::optional<int> held) {
  if (!held) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  is_free_[static_cast<std::size_t>(*held)] = true;
}

void ProfilePool::check_fixed(const Shape& shape) const {
  if (shape == image_) return;
  throw Error("an image batch is " + shape_text(shape) + "; the engine takes " + shape_text(image_),
              "build an engine of this size, or of any size: export --dynamic");
}

std::string ProfilePool::ranges() const {
  std::vector<std::string> texts;
  for (const ShapeRange& profile : profiles_) {
    const std::string text = profile.text();
    if (std::find(texts.begin(), texts.end(), text) == texts.end()) texts.push_back(text);
  }
  std::string all;
  for (const std::string& text : texts) all += (all.empty() ? "" : ", or ") + text;
  return all;
}

}  // namespace segdeploy::detail
