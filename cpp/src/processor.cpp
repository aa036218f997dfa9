#include "processor.hpp"

#include <sys/utsname.h>

#include <array>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

namespace segdeploy::detail {
namespace {

constexpr std::array WIDTHS = {"avx512f", "avx2", "avx"};  // the first that there is
constexpr std::array VNNI = {"avx512_vnni", "avx_vnni"};   // all that there are

utsname system_names() {
  utsname names{};
  uname(&names);
  return names;
}

std::set<std::string> words_of(std::string_view text) {
  std::istringstream stream{std::string(text)};
  return {std::istream_iterator<std::string>(stream), {}};
}

}  // namespace

Processor describe_processor(std::string_view machine, std::string_view cpuinfo) {
  const auto flags = words_of(cpuinfo);
  Processor found{std::string(machine)};
  for (const char* name : WIDTHS) {
    if (flags.count(name) == 0) continue;
    found.kind += std::string(" ") + name;
    break;
  }
  for (const char* name : VNNI) {
    if (flags.count(name) == 0) continue;
    found.kind += std::string(" ") + name;
    found.has_vnni = true;
  }
  return found;
}

const Processor& this_processor() {
  static const Processor found = [] {
    std::ifstream file("/proc/cpuinfo");  // Linux only; elsewhere nothing is known
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    return describe_processor(system_names().machine, text);
  }();
  return found;
}

std::string system_name() {
  const utsname names = system_names();
  return std::string(names.sysname) + " " + names.machine;
}

}  // namespace segdeploy::detail
