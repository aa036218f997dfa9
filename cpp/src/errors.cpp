#include <utility>

#include "segdeploy/segdeploy.hpp"

namespace segdeploy {

Error::Error(const std::string& problem, std::string hint)
    : std::runtime_error(problem), hint_(std::move(hint)) {}

// Out of line: a type that is thrown across a library's border has one home.
Error::~Error() = default;
MisfitError::~MisfitError() = default;

std::string Error::to_lines() const {
  const std::string line = std::string("error: ") + what();
  return hint_.empty() ? line : line + "\nhint: " + hint_;
}

const char* version() noexcept { return SEGDEPLOY_VERSION; }

}  // namespace segdeploy
