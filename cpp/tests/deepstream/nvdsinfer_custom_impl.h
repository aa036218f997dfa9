// What the documents of DeepStream 9.1 say of the types that a parser of label maps meets, in our
// own words and no more of them than it needs: names, order and types of the fields of nvdsinfer.h,
// and the signature in nvdsinfer_custom_impl.h. Tests compile the parser against it. It is not
// DeepStream's header: on a machine with DeepStream the real one is taken.
#pragma once

#include <string>
#include <vector>

constexpr unsigned int NVDSINFER_MAX_DIMS = 8;

struct NvDsInferDims {
  unsigned int numDims;
  unsigned int d[NVDSINFER_MAX_DIMS];
  unsigned int numElements;
};

enum NvDsInferDataType { FLOAT = 0, HALF = 1, INT8 = 2, INT32 = 3, INT64 = 4, UINT8 = 5 };

struct NvDsInferLayerInfo {
  NvDsInferDataType dataType;
  NvDsInferDims inferDims;  // without the batch; in a union with the deprecated `dims`
  int bindingIndex;
  const char* layerName;
  void* buffer;  // of one frame, on the host
  int isInput;
};

struct NvDsInferNetworkInfo {
  unsigned int width;
  unsigned int height;
  unsigned int channels;
};

using NvDsInferSemSegmentationParseCustomFunc =
    bool (*)(const std::vector<NvDsInferLayerInfo>& outputLayersInfo,
             const NvDsInferNetworkInfo& networkInfo, float segmentationThreshold,
             unsigned int numClasses, int* classificationMap, float*& classProbabilityMap);
