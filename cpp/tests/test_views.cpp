// The caller's memory: rows with gaps, upside down, four channels, BGR; and what is refused.
#include <cmath>
#include <limits>
#include <vector>

#include "check.hpp"
#include "images.hpp"

using namespace segdeploy;
using namespace segdeploy::detail;

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes copied(const Image& image) {
  Bytes rgb(static_cast<std::size_t>(image.height * image.width) * 3);
  copy_image(image, rgb.data());
  return rgb;
}

std::string refusal(const Image& image) {
  return check::problem_of([&] { check_images(&image, 1); });
}

std::string refusal(const LabelMap& labels) {
  return check::problem_of([&] { check_labels(&labels, {1, {2, 2}}); });
}

void test_copies() {
  const Bytes plain = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  CHECK(copied({plain.data(), 2, 2}) == plain);
  const Bytes gaps = {1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 9, 10, 11, 12};
  CHECK(copied({gaps.data(), 2, 2, 3, ColorOrder::rgb, 8}) == plain);
  const Bytes upside_down = {7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6};
  CHECK(copied({upside_down.data() + 6, 2, 2, 3, ColorOrder::rgb, -6}) == plain);
  const Bytes bgr = {3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10};
  CHECK(copied({bgr.data(), 2, 2, 3, ColorOrder::bgr}) == plain);
  const Bytes bgra = {3, 2, 1, 0, 6, 5, 4, 0, 9, 8, 7, 0, 12, 11, 10, 0};
  CHECK(copied({bgra.data(), 2, 2, 4, ColorOrder::bgr}) == plain);
}

void test_labels() {
  const Bytes labels = {1, 2, 3, 255};
  Bytes narrow(6, 9);
  copy_labels(labels.data(), {narrow.data(), 2, 2, 4});
  CHECK(narrow == Bytes({1, 2, 9, 9, 3, 255}));
  std::vector<std::int32_t> wide(5, 9);
  copy_labels(labels.data(), {wide.data(), 2, 2, 12});
  CHECK(wide == std::vector<std::int32_t>({1, 2, 9, 3, 255}));
}

void test_refusals() {
  const Bytes pixels(64);
  CHECK_EQUAL(refusal(Image{nullptr, 2, 2}), "image: has no memory");
  CHECK_EQUAL(refusal(Image{pixels.data(), 0, 2}), "image: is 0x2; wanted 1 to 8192 a side");
  CHECK_EQUAL(refusal(Image{pixels.data(), 2, 9000}), "image: is 2x9000; wanted 1 to 8192 a side");
  CHECK_EQUAL(refusal(Image{pixels.data(), 2, 2, 1}), "image: has 1 channels; wanted 3 or 4");
  CHECK_EQUAL(refusal(Image{pixels.data(), 2, 2, 3, ColorOrder::rgb, -5}),
              "image: has rows of 6 bytes and a stride of -5");
  for (const std::ptrdiff_t huge :
       {std::numeric_limits<std::ptrdiff_t>::min(), std::numeric_limits<std::ptrdiff_t>::max()}) {
    CHECK_EQUAL(refusal(Image{pixels.data(), 2, 2, 3, ColorOrder::rgb, huge}), "");
  }
  CHECK_EQUAL(refusal(Image{pixels.data(), 2, 2, 3, static_cast<ColorOrder>(7)}),
              "image: has an unknown colour order; wanted RGB or BGR");
  const Image two[] = {{pixels.data(), 2, 2}, {pixels.data(), 2, 3}};
  CHECK_EQUAL(check::problem_of([&] { check_images(two, 2); }), "images: are 2x2 and 2x3");
  CHECK_EQUAL(check::problem_of([&] { check_images(two, 0); }),
              "images: there are none; wanted 1 or more");
  CHECK_EQUAL(check::problem_of([&] { check_images(two, 65); }), "images: are 65; wanted up to 64");

  std::int32_t labels[5] = {};
  CHECK_EQUAL(refusal(LabelMap(labels, 2, 1)), "result: is 2x1; these images give 2x2");
  CHECK_EQUAL(refusal(LabelMap(labels, 2, 2, 9)),
              "result: its rows do not begin at whole int32 values");
  CHECK_EQUAL(refusal(LabelMap(static_cast<std::uint8_t*>(nullptr), 2, 2)),
              "result: has no memory");
  CHECK_EQUAL(refusal(LabelMap(labels, 2, 2)), "");
}

void test_overlay() {
  const Bytes pixels = {0, 0, 0, 10, 20, 30, 200, 100, 0, 255, 255, 255};
  const Image image{pixels.data(), 2, 2};
  std::int32_t labels[] = {0, 1, 7, -1};  // the last two are no classes: black
  const LabelMap map(labels, 2, 2);
  const ClassSet classes{{"a", "b"}, {{10, 20, 30}, {90, 0, 255}}};
  Bytes rgb(12);
  overlay(image, map, classes, rgb.data());
  CHECK(rgb == Bytes({5, 10, 15, 50, 10, 142, 100, 50, 0, 128, 128, 128}));
  const auto problem = [&](std::uint8_t* to, double opacity) {
    return check::problem_of([&] { overlay(image, map, classes, to, opacity); });
  };
  CHECK_EQUAL(problem(nullptr, 0.5), "overlay: has no memory");
  for (const double wrong : {-0.1, 1.1, std::nan("")}) {
    CHECK_EQUAL(problem(rgb.data(), wrong), "overlay: opacity is not from 0 to 1");
  }
}

}  // namespace

int main() {
  test_copies();
  test_labels();
  test_refusals();
  test_overlay();
}
