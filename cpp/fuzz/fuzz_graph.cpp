// Whatever is in an .onnx file ends in a manifest or in an Error.
#include <cstddef>
#include <cstdint>

#include "artifact.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    segdeploy::detail::read_graph(std::string_view(reinterpret_cast<const char*>(data), size),
                                  "m.onnx");
  } catch (const segdeploy::Error&) {
  }
  return 0;
}
