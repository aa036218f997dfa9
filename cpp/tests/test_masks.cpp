// The mask against every class resized and compared, bit for bit: noise, ties, near ties, any size.
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "masks.hpp"

using segdeploy::Size;
using segdeploy::detail::Axis;
using segdeploy::detail::Mask;

namespace {

std::size_t area(Size size) {
  return static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width);
}

// low and high of each pixel, without runs.
std::vector<std::array<int, 2>> sources(const Axis& axis) {
  std::vector<std::array<int, 2>> found;
  for (const auto& run : axis.runs)
    found.insert(found.end(), static_cast<std::size_t>(run.count), {run.low, run.high});
  return found;
}

std::vector<std::uint8_t> plain_labels(const std::vector<float>& logits, int classes, Size from,
                                       Size to) {
  const Axis rows(from.height, to.height, 1000), columns(from.width, to.width, 1000);
  const auto ys = sources(rows), xs = sources(columns);
  std::vector<std::uint8_t> labels(area(to));
  for (std::size_t y = 0; y < ys.size(); ++y) {
    for (std::size_t x = 0; x < xs.size(); ++x) {
      float best = -std::numeric_limits<float>::infinity();
      for (int k = 0; k < classes; ++k) {
        const float* plane = logits.data() + static_cast<std::size_t>(k) * area(from);
        const auto along = [&](int row) {
          const float* line = plane + row * from.width;
          return line[xs[x][0]] * columns.keep[x] + line[xs[x][1]] * columns.take[x];
        };
        const float score = along(ys[y][0]) * rows.keep[y] + along(ys[y][1]) * rows.take[y];
        if (score > best) best = score, labels[y * xs.size() + x] = static_cast<std::uint8_t>(k);
      }
    }
  }
  return labels;
}

using Draw = float (*)(std::mt19937&);
const Draw DRAWS[] = {
    [](std::mt19937& dice) { return std::normal_distribution<float>()(dice); },
    [](std::mt19937& dice) { return static_cast<float>(dice() % 3); },                 // ties
    [](std::mt19937& dice) { return 1 + 0x1p-23f * static_cast<float>(dice() % 5); },  // near ties
    [](std::mt19937& dice) {
      return dice() % 9 == 0 ? -8e37f : 1e-42f * static_cast<float>(dice() % 4);
    },
};

void compare(Size from, Size to, int classes, Draw draw, std::mt19937& dice) {
  std::vector<float> logits(static_cast<std::size_t>(classes) * area(from));
  for (float& score : logits) score = draw(dice);
  std::vector<std::uint8_t> labels(area(to), 99);
  Mask(classes, from, to).label(logits.data(), labels.data());
  CHECK(labels == plain_labels(logits, classes, from, to));
}

}  // namespace

int main() {
  std::mt19937 dice(0);
  const Size sizes[][2] = {{{8, 12}, {64, 96}},   {{16, 24}, {64, 96}}, {{9, 13}, {65, 97}},
                           {{1, 1}, {33, 50}},    {{5, 7}, {5, 7}},     {{64, 3}, {512, 17}},
                           {{4, 128}, {32, 1021}}};
  for (const auto& [from, to] : sizes) {
    for (const Draw draw : DRAWS) {
      for (const int classes : {2, 19, 150}) compare(from, to, classes, draw, dice);
    }
  }
  for (const float wrong : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    std::vector<float> logits(2 * 6, 1.0f);
    logits[11] = wrong;
    std::vector<std::uint8_t> labels(area({16, 24}));
    Mask mask(2, {2, 3}, {16, 24});
    CHECK_EQUAL(check::problem_of([&] { mask.label(logits.data(), labels.data()); }),
                "the network's scores are not finite numbers");
    logits[11] = 0;
    mask.label(logits.data(), labels.data());  // the next image is labelled as ever
    CHECK(labels == plain_labels(logits, 2, {2, 3}, {16, 24}));
  }
}
