// What this processor is, as ONNX Runtime engines are tied to it.
#pragma once

#include <string>
#include <string_view>

namespace segdeploy::detail {

struct Processor {
  std::string kind;       // architecture and vector units: "x86_64 avx512f avx512_vnni"
  bool has_vnni = false;  // sums int8 products exactly
};

const Processor& this_processor();  // found out once: /proc/cpuinfo is long where cores are many
Processor describe_processor(std::string_view machine, std::string_view cpuinfo);
std::string system_name();  // "Linux x86_64"

}  // namespace segdeploy::detail
