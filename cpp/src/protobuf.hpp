// The little of ONNX's protobuf that is needed before a runtime is trusted with a file.
#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <string_view>

namespace segdeploy::detail {

class ProtobufError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct OnnxFacts {
  std::map<std::string, std::string> properties;  // ModelProto.metadata_props
  bool has_external_data = false;  // weights in another file, which it may name freely
};

// Nothing in `bytes` is trusted. Throws a ProtobufError.
OnnxFacts read_onnx(std::string_view bytes);

}  // namespace segdeploy::detail
