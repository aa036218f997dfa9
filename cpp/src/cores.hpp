// Cores of the CPU that this process may use, and how many threads suit them; as
// segdeploy/cores.py.
#pragma once

#include <string>
#include <vector>

namespace segdeploy::detail {

// A thread for each physical core of this process, as far as its container may compute. Left to
// itself ONNX Runtime makes one for each core of the machine and ties it there.
int default_threads();
int default_threads(const std::vector<int>& cores, const std::string& topology,
                    const std::string& cgroup);

}  // namespace segdeploy::detail
