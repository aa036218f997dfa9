// The parser of label maps, called as nvinfer calls it; compiled against deepstream/ beside this
// file, which says what the documents say. It has not run in DeepStream.
#include <cstdint>
#include <vector>

#include "check.hpp"
#include "nvdsinfer_custom_impl.h"

extern "C" bool SegdeployParseLabels(const std::vector<NvDsInferLayerInfo>&,
                                     const NvDsInferNetworkInfo&, float, unsigned int, int*,
                                     float*&);

namespace {

constexpr unsigned int HEIGHT = 2, WIDTH = 3, PIXELS = 6, CLASSES = 4;
const std::vector<int> NO_CLASS(PIXELS, -1);

template <class Id>
NvDsInferLayerInfo layer(NvDsInferDataType type, std::vector<Id>& ids) {
  return {type, {2, {HEIGHT, WIDTH}, PIXELS}, 1, "labels", ids.data(), 0};
}

// Whether it was parsed, and the class map: before, 99 in every pixel.
struct Parsed {
  bool is_good;
  std::vector<int> map;
};

Parsed parsed(const std::vector<NvDsInferLayerInfo>& layers) {
  Parsed result{false, std::vector<int>(PIXELS, 99)};
  float number = 0;
  float* probabilities = &number;
  result.is_good = SegdeployParseLabels(layers, {WIDTH, HEIGHT, 3}, 0.5F, CLASSES,
                                        result.map.data(), probabilities);
  CHECK(probabilities == nullptr);
  return result;
}

void refuses(const std::vector<NvDsInferLayerInfo>& layers) {
  const Parsed result = parsed(layers);
  CHECK(!result.is_good);
  CHECK(result.map == NO_CLASS);
}

void test_labels_are_copied() {
  std::vector<std::int32_t> wide = {0, 1, 2, 3, 2, 1};
  std::vector<std::uint8_t> narrow = {3, 3, 0, 0, 1, 1};
  std::vector<float> scores(PIXELS);
  auto other = layer(FLOAT, scores);
  other.layerName = "scores";

  const Parsed of_wide = parsed({other, layer(INT32, wide)});
  const Parsed of_narrow = parsed({layer(UINT8, narrow)});

  CHECK(of_wide.is_good && of_wide.map == std::vector<int>({0, 1, 2, 3, 2, 1}));
  CHECK(of_narrow.is_good && of_narrow.map == std::vector<int>({3, 3, 0, 0, 1, 1}));
}

void test_what_is_no_label_map_leaves_no_class() {
  std::vector<std::int32_t> ids = {0, 1, 2, 3, 2, 1};
  auto named = layer(INT32, ids), unnamed = named, empty = named, half = named, turned = named,
       deep = named;
  named.layerName = "logits";
  unnamed.layerName = nullptr;
  empty.buffer = nullptr;
  half.dataType = HALF;
  turned.inferDims = {2, {WIDTH, HEIGHT}, PIXELS};
  deep.inferDims = {3, {HEIGHT, WIDTH, 1}, PIXELS};

  for (const auto& wrong : {named, unnamed, empty, half, turned, deep}) refuses({wrong});
  refuses({});
}

void test_a_class_beyond_the_last_is_refused() {
  std::vector<std::int32_t> beyond = {0, 1, 4, 3, 2, 1}, below = {0, 1, 2, 3, 2, -1};
  std::vector<std::uint8_t> ignore = {0, 255, 0, 0, 0, 0};

  refuses({layer(INT32, beyond)});
  refuses({layer(INT32, below)});
  refuses({layer(UINT8, ignore)});
}

void test_no_map_is_refused() {
  std::vector<std::int32_t> ids(PIXELS);
  float* probabilities = nullptr;
  CHECK(!SegdeployParseLabels({layer(INT32, ids)}, {WIDTH, HEIGHT, 3}, 0, CLASSES, nullptr,
                              probabilities));
}

}  // namespace

int main() {
  test_labels_are_copied();
  test_what_is_no_label_map_leaves_no_class();
  test_a_class_beyond_the_last_is_refused();
  test_no_map_is_refused();
}
