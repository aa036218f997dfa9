// Prints what it linked; the public headers come first, so that they stand alone.
#include <segdeploy.h>

#include <cstdio>
#include <segdeploy/segdeploy.hpp>

int main() {
  for (const auto& name : segdeploy::Engine::backends()) std::printf("%s ", name.c_str());
  std::printf("%s\n", segdeploy_version());
}
