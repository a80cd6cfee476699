// How many cores this process may use.
#pragma once

#include <span>
#include <string>

namespace shiftadd {

// Physical cores among the processors that this process may run on, at most the quota of its control group; at least 1.
int allowed_cores();

// Physical cores among `processors` (numbers of the system): hardware threads of one core count once. `system` is the
// mount point of sysfs. Processors that it does not describe count as cores of their own.
int physical_cores(std::span<const int> processors, const std::string& system);

// Cores that a cgroup v2 cpu.max file grants, rounded up; 0 when it sets no limit or cannot be read.
int quota_cores(const std::string& path);

}  // namespace shiftadd
