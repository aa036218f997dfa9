#include "cores.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <set>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace segdeploy::detail {
namespace {

std::vector<int> usable_cores() {
  std::vector<int> found;
#ifdef __linux__
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &mask)) found.push_back(core);
    }
    return found;
  }
#endif
  // Another system, or more cores than the mask has room for.
  const int count = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  for (int core = 0; core < count; ++core) found.push_back(core);
  return found;
}

// Of a container: microseconds that it may compute, and in what time (cgroup v2, then v1).
double container_cores(const std::string& cgroup) {
  long long quota = 0, period = 0;
  std::ifstream file(cgroup + "/cpu.max");  // "200000 100000", or "max 100000"
  if (file) {
    file >> quota >> period;
  } else {
    std::ifstream(cgroup + "/cpu/cpu.cfs_quota_us") >> quota;  // or "-1"
    std::ifstream(cgroup + "/cpu/cpu.cfs_period_us") >> period;
  }
  if (quota <= 0 || period <= 0) return std::numeric_limits<double>::infinity();
  return static_cast<double>(quota) / static_cast<double>(period);
}

}  // namespace

int default_threads(const std::vector<int>& cores, const std::string& topology,
                    const std::string& cgroup) {
  std::set<std::string> physical;
  for (const int core : cores) {
    std::string siblings;
    std::getline(
        std::ifstream(topology + "/cpu" + std::to_string(core) + "/topology/thread_siblings_list"),
        siblings);
    physical.insert(siblings.empty() ? "core " + std::to_string(core) : siblings);
  }
  return static_cast<int>(
      std::ceil(std::min(static_cast<double>(physical.size()), container_cores(cgroup))));
}

int default_threads() {
  return default_threads(usable_cores(), "/sys/devices/system/cpu", "/sys/fs/cgroup");
}

}  // namespace segdeploy::detail
