// Whatever stands beside an engine ends in a manifest or in an Error.
#include <cstddef>
#include <cstdint>

#include "manifest.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    segdeploy::detail::read_manifest(std::string_view(reinterpret_cast<const char*>(data), size),
                                     "m.json");
  } catch (const segdeploy::Error&) {
  }
  return 0;
}
