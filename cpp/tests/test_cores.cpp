// How many threads suit the cores that a process may use.
#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "check.hpp"
#include "cores.hpp"

using namespace segdeploy::detail;
namespace fs = std::filesystem;

namespace {

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text << "\n";
}

// Eight logical cores, two of each physical one.
fs::path make_topology(const fs::path& folder) {
  for (int core = 0; core < 8; ++core) {
    const std::string first = std::to_string(core % 4), second = std::to_string(core % 4 + 4);
    write(folder / ("cpu" + std::to_string(core)) / "topology/thread_siblings_list",
          first + "," + second);
  }
  return folder;
}

}  // namespace

int main() {
  const fs::path folder =
      fs::temp_directory_path() / ("segdeploy-cores-" + std::to_string(getpid()));
  const std::string topology = make_topology(folder / "cpus"), none = folder / "none";
  const std::vector<int> all = {0, 1, 2, 3, 4, 5, 6, 7};

  CHECK(default_threads(all, topology, none) == 4);
  CHECK(default_threads({0, 4}, topology, none) == 1);
  CHECK(default_threads({1, 2, 5}, topology, none) == 2);
  CHECK(default_threads(all, none, none) == 8);

  const std::string v2 = folder / "v2", v1 = folder / "v1";
  const std::pair<const char*, int> quotas[] = {
      {"200000 100000", 2}, {"150000 100000", 2}, {"50000 100000", 1}, {"max 100000", 4}};
  for (const auto& [quota, threads] : quotas) {
    write(fs::path(v2) / "cpu.max", quota);
    CHECK(default_threads(all, topology, v2) == threads);
  }
  write(fs::path(v1) / "cpu/cpu.cfs_period_us", "100000");
  write(fs::path(v1) / "cpu/cpu.cfs_quota_us", "300000");
  CHECK(default_threads(all, topology, v1) == 3);
  write(fs::path(v1) / "cpu/cpu.cfs_quota_us", "-1");
  CHECK(default_threads(all, topology, v1) == 4);

  cpu_set_t before, one;
  CHECK(sched_getaffinity(0, sizeof before, &before) == 0);
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(default_threads() == 1);
  CHECK(sched_setaffinity(0, sizeof before, &before) == 0);
  fs::remove_all(folder);
}
