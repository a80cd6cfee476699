// The launches of one step, collected so that a step that launches the same again is replayed as one graph. What differs from
// step to step (position, token, angles) therefore lies in memory of the device, not in the arguments of kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backends/cuda/cuda_driver.h"

namespace shiftadd {

struct Grid {
  size_t x = 1, y = 1, z = 1;
  bool operator==(const Grid&) const = default;
};

// Launches in their order, with copies of their arguments.
class LaunchList {
 public:
  void add(CudaFunction function, Grid grid, unsigned threads, unsigned shared_bytes, void* const* arguments, const size_t* sizes, size_t count);
  void clear();
  size_t size() const { return launches_.size(); }
  bool same_as(const LaunchList& other) const {
    return launches_ == other.launches_ && offsets_ == other.offsets_ && bytes_ == other.bytes_;
  }
  // start(function, grid, threads, shared bytes, arguments) for every launch.
  template <class Start>
  void each(const Start& start) {
    std::vector<void*> pointers;
    for (const Launch& launch : launches_) {
      pointers.clear();
      for (size_t i = 0; i < launch.arguments; ++i) pointers.push_back(bytes_.data() + offsets_[launch.first + i]);
      start(launch.function, launch.grid, launch.threads, launch.shared_bytes, pointers.data());
    }
  }

 private:
  struct Launch {
    CudaFunction function;
    Grid grid;
    unsigned threads, shared_bytes;
    size_t first, arguments;  // offsets_[first] .. : where the arguments lie in bytes_
    bool operator==(const Launch&) const = default;
  };
  std::vector<Launch> launches_;
  std::vector<size_t> offsets_;
  std::vector<unsigned char> bytes_;
};

// Graphs of steps that came before.
class StepGraphs {
 public:
  ~StepGraphs() = default;
  // The graph of a list that came before, or null; the second time, `capture` must start the launches of the list while the
  // stream records them. Null too when the driver cannot make a graph: the caller starts the launches itself.
  template <class Capture>
  CudaGraphExec find(const CudaDriver& driver, CudaStream stream, const LaunchList& list, const Capture& capture) {
    Step& step = step_of(driver, list);
    step.used = ++clock_;
    if (step.exec == nullptr && ++step.seen == kWorthGraph && begin(driver, stream)) {
      capture();
      step.exec = end(driver, stream);
    }
    return step.exec;
  }
  void clear(const CudaDriver& driver);

 private:
  static constexpr size_t kKept = 8;         // steps: several sessions, a new number of attention slices every 128 positions
  static constexpr unsigned kWorthGraph = 2;  // times that a step has been seen
  struct Step {
    LaunchList list;
    CudaGraphExec exec = nullptr;
    unsigned seen = 0;
    uint64_t used = 0;
  };
  Step& step_of(const CudaDriver& driver, const LaunchList& list);
  bool begin(const CudaDriver& driver, CudaStream stream);
  CudaGraphExec end(const CudaDriver& driver, CudaStream stream);

  std::vector<Step> steps_;
  uint64_t clock_ = 0;
};

}  // namespace shiftadd
