// Labels of logits: a bilinear resize to the image's size, and the best class of each pixel.
//
// Equal to resizing every class and taking the best, bit for bit, without doing so where one class
// alone can win: docs/masks.md says why.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "segdeploy/segdeploy.hpp"

namespace segdeploy::detail {

// Pixels of one axis that lie between the same two logits.
struct Run {
  int start, count;
  int low, high;  // the two logits
};

// One axis resized, as torch's bilinear interpolate(align_corners=False) does it.
struct Axis {
  int logits = 0;
  std::vector<Run> runs;
  std::vector<float> keep, take;  // weights of the first and the second logit, by pixel

  Axis() = default;
  Axis(int logits, int pixels, int most);  // runs of at most `most` pixels
};

// Tables and scratch memory of one size; makes the labels of one image after the other.
class Mask {
 public:
  Mask() = default;
  Mask(int classes, Size logits, Size image);

  // Logits (classes, h, w) -> labels (H, W) without gaps.
  // Throws an Error: a score is infinite or not a number.
  void label(const float* logits, std::uint8_t* labels);

 private:
  void find_winners(const float* logits);
  void fill(const Run& rows, std::uint8_t* labels) const;
  void find_contenders(const float* logits, const Run& rows, const Run& columns);
  void interpolate(const float* logits, const Run& rows, const Run& columns, std::uint8_t* labels);
  template <int LANES>
  void interpolate_rows(const float* logits, const Run& rows, const Run& columns, int first,
                        int count, std::uint8_t* labels) const;
  bool is_agreed(const Run& rows, const Run& columns) const;

  int classes_ = 0;
  Size logits_, image_;
  Axis rows_, columns_;
  float margin_ = 0;                // within which rounding could change an order
  std::vector<std::uint8_t> keys_;  // the best class of each logit, or MIXED
  std::vector<float> best_, earlier_, lead_;
  std::vector<std::int32_t> winner_;
  std::vector<int> contenders_;
  int contender_count_ = 0;
};

}  // namespace segdeploy::detail
