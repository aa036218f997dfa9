#include "masks.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

// Built with -ffp-contract=off: a fused multiply-add rounds once where torch rounds twice.

namespace segdeploy::detail {
namespace {

constexpr std::uint8_t MIXED = 255;  // in place of a class: no single one wins; classes end at 254
constexpr float CLEAR = 0x1p-19f;    // of the largest magnitude; twice the bound in docs/masks.md
constexpr float TINY = 0x1p-100f;    // magnitude below which products could lose more by underflow
constexpr std::int32_t NOT_FINITE = 0x7F800000;  // bits of infinity; NaN is above it
constexpr std::int32_t SIGNLESS = 0x7FFFFFFF;
constexpr float LOWEST = -std::numeric_limits<float>::infinity();
constexpr int WIDE = 8, NARROW = 4;  // pixels computed together: of stride 8 and of stride 4
constexpr int ROWS = 16;             // at a time; a cell of stride 8 has 8

std::int32_t bits_of(float value) {
  std::int32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

void add_run(std::vector<Run>& runs, int pixel, int low, int high, int most) {
  if (!runs.empty() && runs.back().low == low && runs.back().count < most) {
    ++runs.back().count;
  } else {
    runs.push_back({pixel, 1, low, high});
  }
}

}  // namespace

Axis::Axis(int old, int pixels, int most) : logits(old), keep(), take() {
  const auto scale = static_cast<double>(static_cast<float>(old) / static_cast<float>(pixels));
  for (int pixel = 0; pixel < pixels; ++pixel) {
    // One rounding to float, as the fused multiply-add in torch: (x + 1/2) * scale - 1/2.
    const float at = std::max(static_cast<float>((pixel + 0.5) * scale - 0.5), 0.0f);
    const int low = std::min(static_cast<int>(at), old - 1);
    const int high = old == pixels ? low : std::min(low + 1, old - 1);
    take.push_back(at - static_cast<float>(low));
    keep.push_back(1 - take.back());
    add_run(runs, pixel, low, high, most);
  }
}

Mask::Mask(int classes, Size logits, Size image)
    : classes_(classes),
      logits_(logits),
      image_(image),
      rows_(logits.height, image.height, std::numeric_limits<int>::max()),
      columns_(logits.width, image.width, WIDE) {
  const auto width = static_cast<std::size_t>(logits.width);
  const auto places = width * static_cast<std::size_t>(logits.height);
  keys_.resize(places);
  lead_.resize(places);
  best_.resize(width);
  earlier_.resize(width);
  winner_.resize(width);
  contenders_.resize(static_cast<std::size_t>(classes));
}

void Mask::label(const float* logits, std::uint8_t* labels) {
  find_winners(logits);
  for (const Run& rows : rows_.runs) {
    fill(rows, labels);
    for (const Run& columns : columns_.runs) {
      if (!is_agreed(rows, columns)) interpolate(logits, rows, columns, labels);
    }
  }
}

// Of equal scores the first class wins. A winner has to be clearly ahead of earlier classes; later
// ones that rounding makes equal lose all the same.
void Mask::find_winners(const float* logits) {
  const int width = logits_.width;
  const std::size_t plane = keys_.size();
  std::int32_t peak = 0;
  for (int y = 0; y < logits_.height; ++y) {
    std::fill(best_.begin(), best_.end(), LOWEST);
    std::fill(earlier_.begin(), earlier_.end(), LOWEST);
    std::fill(winner_.begin(), winner_.end(), 0);
    float* best = best_.data();
    float* earlier = earlier_.data();
    std::int32_t* winner = winner_.data();
    const std::size_t line = static_cast<std::size_t>(y) * static_cast<std::size_t>(width);
    for (int k = 0; k < classes_; ++k) {
      const float* scores = logits + static_cast<std::size_t>(k) * plane + line;
      for (int x = 0; x < width; ++x) peak = std::max(peak, bits_of(scores[x]) & SIGNLESS);
      for (int x = 0; x < width; ++x) {
        const bool is_better = scores[x] > best[x];
        earlier[x] = is_better ? best[x] : earlier[x];
        best[x] = is_better ? scores[x] : best[x];
        winner[x] = is_better ? k : winner[x];
      }
    }
    for (int x = 0; x < width; ++x) {
      lead_[line + static_cast<std::size_t>(x)] = best[x] - earlier[x];
      keys_[line + static_cast<std::size_t>(x)] = static_cast<std::uint8_t>(winner[x]);
    }
  }
  if (peak >= NOT_FINITE) {
    throw Error("the network's scores are not finite numbers",
                "in fp16 this is an overflow: try fp32");
  }
  float largest;
  std::memcpy(&largest, &peak, sizeof largest);
  margin_ = std::max(largest, TINY) * CLEAR;
  for (std::size_t k = 0; k < plane; ++k) keys_[k] = lead_[k] > margin_ ? keys_[k] : MIXED;
}

bool Mask::is_agreed(const Run& rows, const Run& columns) const {
  const std::uint8_t* above = keys_.data() + static_cast<std::size_t>(rows.low) * logits_.width;
  const std::uint8_t* below = keys_.data() + static_cast<std::size_t>(rows.high) * logits_.width;
  const std::uint8_t key = above[columns.low];
  return key != MIXED && key == above[columns.high] && key == below[columns.low] &&
         key == below[columns.high];
}

// Rows between the same logits are alike where their corners agree; elsewhere they are written
// again.
void Mask::fill(const Run& rows, std::uint8_t* labels) const {
  const auto width = static_cast<std::size_t>(image_.width);
  const std::uint8_t* keys = keys_.data() + static_cast<std::size_t>(rows.low) * logits_.width;
  std::uint8_t* first = labels + static_cast<std::size_t>(rows.start) * width;
  for (const Run& columns : columns_.runs) {
    std::memset(first + columns.start, keys[columns.low], static_cast<std::size_t>(columns.count));
  }
  for (int y = 1; y < rows.count; ++y) {
    std::memcpy(first + static_cast<std::size_t>(y) * width, first, width);
  }
}

// A class cannot win where its best logit is worse than the worst logit of some other class.
void Mask::find_contenders(const float* logits, const Run& rows, const Run& columns) {
  const std::size_t plane = keys_.size();
  const float* above = logits + static_cast<std::size_t>(rows.low) * logits_.width;
  const float* below = logits + static_cast<std::size_t>(rows.high) * logits_.width;
  float floor = LOWEST;
  for (int k = 0; k < classes_; ++k, above += plane, below += plane) {
    floor = std::max(floor, std::min(std::min(above[columns.low], above[columns.high]),
                                     std::min(below[columns.low], below[columns.high])));
  }
  above -= plane * static_cast<std::size_t>(classes_);
  below -= plane * static_cast<std::size_t>(classes_);
  contender_count_ = 0;
  for (int k = 0; k < classes_; ++k, above += plane, below += plane) {
    const float highest = std::max(std::max(above[columns.low], above[columns.high]),
                                   std::max(below[columns.low], below[columns.high]));
    contenders_[static_cast<std::size_t>(contender_count_)] = k;
    contender_count_ += highest >= floor - margin_;
  }
}

void Mask::interpolate(const float* logits, const Run& rows, const Run& columns,
                       std::uint8_t* labels) {
  find_contenders(logits, rows, columns);
  for (int first = 0; first < rows.count; first += ROWS) {
    const int count = std::min(ROWS, rows.count - first);
    if (columns.count > NARROW) {
      interpolate_rows<WIDE>(logits, rows, columns, rows.start + first, count, labels);
    } else {
      interpolate_rows<NARROW>(logits, rows, columns, rows.start + first, count, labels);
    }
  }
}

// Along the row, then down the column, as torch does.
template <int LANES>
void Mask::interpolate_rows(const float* logits, const Run& rows, const Run& columns, int first,
                            int count, std::uint8_t* labels) const {
  float keep[LANES] = {}, take[LANES] = {}, upper[LANES], lower[LANES];
  float best[ROWS][LANES];
  std::int32_t winner[ROWS][LANES];
  for (int x = 0; x < columns.count; ++x) {
    keep[x] = columns_.keep.data()[columns.start + x];
    take[x] = columns_.take.data()[columns.start + x];
  }
  for (int y = 0; y < count; ++y) {
    for (int x = 0; x < LANES; ++x) best[y][x] = LOWEST, winner[y][x] = 0;
  }
  for (int j = 0; j < contender_count_; ++j) {
    const int k = contenders_[static_cast<std::size_t>(j)];
    const float* plane = logits + static_cast<std::size_t>(k) * keys_.size();
    const float* above = plane + static_cast<std::size_t>(rows.low) * logits_.width;
    const float* below = plane + static_cast<std::size_t>(rows.high) * logits_.width;
    for (int x = 0; x < LANES; ++x) {
      upper[x] = above[columns.low] * keep[x] + above[columns.high] * take[x];
      lower[x] = below[columns.low] * keep[x] + below[columns.high] * take[x];
    }
    for (int y = 0; y < count; ++y) {
      const float keep_row = rows_.keep.data()[first + y];
      const float take_row = rows_.take.data()[first + y];
      for (int x = 0; x < LANES; ++x) {
        const float score = upper[x] * keep_row + lower[x] * take_row;
        const bool is_better = score > best[y][x];
        best[y][x] = is_better ? score : best[y][x];
        winner[y][x] = is_better ? k : winner[y][x];
      }
    }
  }
  for (int y = 0; y < count; ++y) {
    std::uint8_t* line =
        labels + static_cast<std::size_t>(first + y) * image_.width + columns.start;
    for (int x = 0; x < columns.count; ++x) line[x] = static_cast<std::uint8_t>(winner[y][x]);
  }
}

}  // namespace segdeploy::detail
