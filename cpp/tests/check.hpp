// Checks that stay in release builds: the place, and what was wrong.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include "segdeploy/segdeploy.hpp"

#define CHECK(condition) check::that(condition, #condition, __FILE__, __LINE__)
#define CHECK_EQUAL(found, wanted) check::equal(found, wanted, #found, __FILE__, __LINE__)

namespace check {

inline void that(bool holds, const char* what, const char* file, int line) {
  if (holds) return;
  std::fprintf(stderr, "%s:%d: %s does not hold\n", file, line, what);
  std::exit(1);
}

inline void equal(const std::string& found, const std::string& wanted, const char* what,
                  const char* file, int line) {
  if (found == wanted) return;
  std::fprintf(stderr, "%s:%d: %s is\n  %s\nwanted\n  %s\n", file, line, what, found.c_str(),
               wanted.c_str());
  std::exit(1);
}

// The error of some work; "" if there is none.
template <class Work>
std::string problem_of(const Work& work) {
  try {
    work();
    return "";
  } catch (const segdeploy::Error& error) {
    return error.what();
  }
}

}  // namespace check
