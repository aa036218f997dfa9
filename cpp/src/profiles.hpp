// Which optimization profile each context has: contexts in use at the same time need one each.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace segdeploy::detail {

using Shape = std::vector<std::int64_t>;

struct ShapeRange {  // of one profile: every axis from `min` to `max`
  Shape min, max;
  bool covers(const Shape& shape) const;
  std::string text() const;
};

// The profiles of an engine, lent to its contexts. One of fixed shape has none to lend.
class ProfilePool {
 public:
  ProfilePool(Shape image, std::vector<ShapeRange> profiles);

  // A profile for a batch of this shape: the one that is held if it will do, or another beside it,
  // until one of both is given back; none: no need.
  // Throws an Error: the engine takes no such shape, or other contexts have its profiles.
  std::optional<int> take(const Shape& shape, std::optional<int> held);

  void give_back(std::optional<int> held);

 private:
  void check_fixed(const Shape& shape) const;
  std::string ranges() const;

  Shape image_;
  std::vector<ShapeRange> profiles_;
  std::vector<bool> is_free_;
  std::mutex mutex_;
};

}  // namespace segdeploy::detail
