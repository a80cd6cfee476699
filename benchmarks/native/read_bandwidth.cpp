// Read bandwidth of memory with N threads: `read_bandwidth --threads 2` prints {"threads": 2, "readGBs": ...}.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/read_stream.h"

using namespace shiftadd;

int main(int count, char** arguments) {
  CpuOptions options;
  options.threads = 1;
  for (int i = 1; i < count; ++i)
    if (std::strcmp(arguments[i], "--threads") == 0 && i + 1 < count) options.threads = std::atoi(arguments[++i]);
  std::unique_ptr<Backend> backend;
  const Status status = make_cpu_backend(options, &backend);
  if (!status.ok()) {
    std::fprintf(stderr, "read_bandwidth: %s\n", status.message.c_str());
    return 1;
  }
  constexpr size_t kBytes = size_t{512} << 20;
  const std::vector<uint8_t> buffer(kBytes, 1);
  const size_t threads = static_cast<size_t>(backend->threads()), part = kBytes / threads / 128 * 128;
  std::vector<double> rates;
  std::vector<uint64_t> sums(threads);
  for (int round = 0; round < 9; ++round) {
    const auto start = std::chrono::steady_clock::now();
    backend->parallel(threads, [&](size_t t) { sums[t] += read_stream(buffer.data() + t * part, part); });
    const double time = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    rates.push_back(static_cast<double>(part * threads) / time / 1e9);
  }
  std::sort(rates.begin(), rates.end());
  std::printf("{\"threads\": %zu, \"readGBs\": %.2f}\n", threads, rates[rates.size() / 2]);
  return sums[0] == 0;
}
