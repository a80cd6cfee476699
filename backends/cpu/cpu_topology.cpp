#include "backends/cpu/cpu_topology.h"

#include <algorithm>
#include <cstdio>
#include <set>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace shiftadd {

int physical_cores(std::span<const int> processors, const std::string& system) {
  std::set<int> first_of_core;
  for (int processor : processors) {
    int first = processor;
    const std::string folder = system + "/devices/system/cpu/cpu" + std::to_string(processor) + "/topology/";
    for (const char* name : {"core_cpus_list", "thread_siblings_list"}) {  // the second is the name before Linux 5.2
      std::FILE* file = std::fopen((folder + name).c_str(), "r");
      if (file == nullptr) continue;
      if (std::fscanf(file, "%d", &first) != 1) first = processor;
      std::fclose(file);
      break;
    }
    first_of_core.insert(first);
  }
  return static_cast<int>(first_of_core.size());
}

int quota_cores(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "r");
  if (file == nullptr) return 0;
  long long quota = 0, period = 0;
  const bool limited = std::fscanf(file, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0;
  std::fclose(file);
  return limited ? static_cast<int>(std::min<long long>(1 << 16, (quota + period - 1) / period)) : 0;
}

int allowed_cores() {
  int cores = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    std::vector<int> processors;
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) processors.push_back(i);
    cores = physical_cores(processors, "/sys");
  }
  const int quota = quota_cores("/sys/fs/cgroup/cpu.max");
  if (quota > 0) cores = std::min(cores, quota);
#endif
  return std::max(cores, 1);
}

}  // namespace shiftadd
