// Counting cores: hardware threads, affinity and quotas, on folders that look like those of Linux.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "backends/cpu/cpu_topology.h"
#include "test/native/tap.h"

using namespace shiftadd;
namespace fs = std::filesystem;

int main() {
  char name[] = "/tmp/shiftadd-topology-XXXXXX";
  const fs::path root = mkdtemp(name);
  const auto describe = [&](int processor, const char* file, const char* siblings) {
    const fs::path folder = root / "devices/system/cpu" / ("cpu" + std::to_string(processor)) / "topology";
    fs::create_directories(folder);
    std::ofstream(folder / file) << siblings << "\n";
  };
  for (int i : {0, 4}) describe(i, "core_cpus_list", "0,4");
  for (int i : {1, 5}) describe(i, "core_cpus_list", "1,5");
  for (int i : {2, 3}) describe(i, "thread_siblings_list", "2-3");
  describe(6, "core_cpus_list", "?");
  const auto count = [&](std::vector<int> processors) { return physical_cores(processors, root.string()); };
  tap::check(count({0, 1, 4, 5}) == 2, "two threads of a core count once");
  tap::check(count({4, 5}) == 2, "second threads alone are cores");
  tap::check(count({2, 3}) == 1, "the older name of the file, and a range");
  tap::check(count({6, 7}) == 2, "what is not described counts for itself");
  const auto quota = [&](const char* text) {
    std::ofstream(root / "cpu.max") << text;
    return quota_cores((root / "cpu.max").string());
  };
  tap::check(quota("max 100000\n") == 0 && quota("") == 0 && quota("-1 0") == 0, "no limit");
  tap::check(quota("150000 100000\n") == 2 && quota("50000 100000\n") == 1, "a quota is rounded up to whole cores");
  tap::check(quota_cores((root / "missing").string()) == 0, "a missing file is no limit");
  tap::check(allowed_cores() >= 1, "this machine has a core");
  fs::remove_all(root);
  return tap::finish();
}
