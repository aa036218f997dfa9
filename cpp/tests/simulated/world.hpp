// A machine with two GPUs, simulated: what is asked of it is written down, and can be made to fail.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace world {

constexpr int GPUS = 2;
using Shape = std::vector<std::int64_t>;

struct World {
  std::vector<std::string> calls;  // whose order matters
  std::string failing;             // the call that fails next, once
  std::vector<int> contexts;       // of this thread; primary ones are numbered as their GPU
  int open = 0;                    // parts that were made and not freed
  Shape image = {-1, -1, -1, 3};   // of the engine's input
  Shape result = {-1, -1, -1};     // of its output
  int scale = 1;                   // of an open output: its rows for each of the input
  std::uint64_t reasons = 0;       // why a plan is not accepted
  std::vector<std::string> lean;   // runtimes that were loaded
};
inline World now;

inline void say(const std::string& call) { now.calls.push_back(call); }

inline bool fails(const std::string& call) {
  if (now.failing != call) return false;
  now.failing.clear();
  return true;
}

// A part is made and freed while the primary context of a GPU is current.
inline void count(int change, const char* part) {
  if (now.contexts.empty() || now.contexts.back() >= GPUS) {
    std::fprintf(stderr, "%s: made or freed while no GPU was current\n", part);
    std::_Exit(1);
  }
  now.open += change;
}

inline void make(const char* part) { count(+1, part); }
inline void free(const char* part) { count(-1, part); }

// What was said since the last time.
inline std::vector<std::string> said() { return std::exchange(now.calls, {}); }

}  // namespace world
