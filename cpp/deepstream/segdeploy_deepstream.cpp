// Hands the label map of a segdeploy network to Gst-nvinfer: what `segdeploy export-deepstream`
// names as parse-segmentation-func-name. The Makefile beside its configuration compiles it.
//
// nvinfer (source of 9.1) attaches the map to the frame even where a parser returned false, and
// does not clear it before. So a map that is refused says "no class" in every pixel, as nvinfer's
// own parser does where no class passes its threshold.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <vector>

#include "nvdsinfer_custom_impl.h"

namespace {

constexpr const char* LAYER = "labels";
constexpr int NO_CLASS = -1;
// UINT8 of NvDsInferDataType, a name that headers before DeepStream 8.0 lack.
constexpr int UINT8_TYPE = 5;

template <class Id>
bool copy_ids(const void* buffer, std::size_t pixels, unsigned int classes, int* map) {
  const auto* ids = static_cast<const Id*>(buffer);
  for (std::size_t k = 0; k < pixels; ++k) {
    const std::int64_t id = ids[k];
    if (id < 0 || id >= classes) {
      std::fprintf(stderr, "segdeploy: layer %s: pixel %zu has class %d, not one of %u\n", LAYER, k,
                   static_cast<int>(id), classes);
      return false;
    }
    map[k] = static_cast<int>(id);
  }
  return true;
}

bool copy_labels(const std::vector<NvDsInferLayerInfo>& layers, const NvDsInferNetworkInfo& network,
                 unsigned int classes, int* map) {
  const auto found = std::find_if(layers.begin(), layers.end(), [](const auto& layer) {
    return layer.layerName != nullptr && std::strcmp(layer.layerName, LAYER) == 0;
  });
  if (found == layers.end() || found->buffer == nullptr) {
    std::fprintf(stderr, "segdeploy: the network returns no layer %s\n", LAYER);
    return false;
  }
  const NvDsInferDims& dims = found->inferDims;  // without the batch
  if (dims.numDims != 2 || dims.d[0] != network.height || dims.d[1] != network.width) {
    std::fprintf(stderr, "segdeploy: layer %s has %u dims, %ux%u; wanted 2, %ux%u\n", LAYER,
                 dims.numDims, dims.d[0], dims.d[1], network.height, network.width);
    return false;
  }
  const std::size_t pixels = std::size_t{network.height} * network.width;
  switch (static_cast<int>(found->dataType)) {
    case INT32: return copy_ids<std::int32_t>(found->buffer, pixels, classes, map);
    case UINT8_TYPE: return copy_ids<std::uint8_t>(found->buffer, pixels, classes, map);
    default:
      std::fprintf(stderr, "segdeploy: layer %s has data type %d; wanted INT32 or UINT8\n", LAYER,
                   static_cast<int>(found->dataType));
      return false;
  }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) bool SegdeployParseLabels(
    const std::vector<NvDsInferLayerInfo>& outputLayersInfo,
    const NvDsInferNetworkInfo& networkInfo, float /*segmentationThreshold*/,
    unsigned int numClasses, int* classificationMap, float*& classProbabilityMap) {
  classProbabilityMap = nullptr;  // a label map has no probabilities
  if (classificationMap == nullptr) return false;
  if (copy_labels(outputLayersInfo, networkInfo, numClasses, classificationMap)) return true;
  std::fill_n(classificationMap, std::size_t{networkInfo.height} * networkInfo.width, NO_CLASS);
  return false;
}

static_assert(
    std::is_same_v<decltype(&SegdeployParseLabels), NvDsInferSemSegmentationParseCustomFunc>,
    "nvinfer calls its parsers in another way in this version of DeepStream");
