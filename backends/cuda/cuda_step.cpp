#include "backends/cuda/cuda_step.h"

#include <algorithm>
#include <cstring>

namespace shiftadd {
namespace {

constexpr size_t kArgumentAlignment = 16;
constexpr int kCaptureThreadLocal = 1;  // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL

}  // namespace

void LaunchList::add(CudaFunction function, Grid grid, unsigned threads, unsigned shared_bytes, void* const* arguments, const size_t* sizes, size_t count) {
  launches_.push_back({function, grid, threads, shared_bytes, offsets_.size(), count});
  for (size_t i = 0; i < count; ++i) {
    const size_t offset = (bytes_.size() + kArgumentAlignment - 1) / kArgumentAlignment * kArgumentAlignment;
    bytes_.resize(offset + sizes[i]);
    std::memcpy(bytes_.data() + offset, arguments[i], sizes[i]);
    offsets_.push_back(offset);
  }
}

void LaunchList::clear() {
  launches_.clear();
  offsets_.clear();
  bytes_.clear();
}

StepGraphs::Step& StepGraphs::step_of(const CudaDriver& driver, const LaunchList& list) {
  for (Step& step : steps_)
    if (step.list.same_as(list)) return step;
  if (steps_.size() == kKept) {
    const auto oldest = std::min_element(steps_.begin(), steps_.end(), [](const Step& a, const Step& b) { return a.used < b.used; });
    if (oldest->exec != nullptr) driver.graph_exec_destroy(oldest->exec);
    steps_.erase(oldest);
  }
  steps_.push_back({list, nullptr, 0, 0});
  return steps_.back();
}

bool StepGraphs::begin(const CudaDriver& driver, CudaStream stream) {
  return driver.capture_begin(stream, kCaptureThreadLocal) == 0;
}

CudaGraphExec StepGraphs::end(const CudaDriver& driver, CudaStream stream) {
  CudaGraph graph = nullptr;
  CudaGraphExec exec = nullptr;
  if (driver.capture_end(stream, &graph) != 0 || graph == nullptr) return nullptr;
  if (driver.graph_instantiate(&exec, graph, 0) != 0) exec = nullptr;
  driver.graph_destroy(graph);
  return exec;
}

void StepGraphs::clear(const CudaDriver& driver) {
  for (Step& step : steps_)
    if (step.exec != nullptr) driver.graph_exec_destroy(step.exec);
  steps_.clear();
}

}  // namespace shiftadd
