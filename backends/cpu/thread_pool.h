// A persistent pool: run() spreads independent items over the threads and returns when all are done. Which thread takes
// which item is not fixed, so work must not depend on it. One run at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

#include "backends/cpu/pool_workers.h"
#include "core/function_ref.h"

namespace shiftadd {

class ThreadPool {
 public:
  // `threads` includes the calling thread. Where the system refuses a thread, the pool is smaller.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return workers_->count() + 1; }

  // Calls work(item, thread) for every item in [0, count); thread is in [0, threads()).
  void run(size_t count, FunctionRef<void(size_t item, int thread)> work);

 private:
  void work_loop(int thread);
  void take_items(int thread);

  const int spins_;  // looks for the next run before a thread sleeps
  const FunctionRef<void(size_t, int)>* work_ = nullptr;
  // Every thread has a contiguous part of the items, so that it reads one stream; who is done early helps the others.
  struct alignas(64) Range {
    std::atomic<size_t> next{0};
    size_t end = 0;
  };
  std::unique_ptr<Range[]> ranges_;
  std::atomic<uint32_t> generation_{0};  // changes with every run, and once to stop
  static constexpr uint32_t kOpen = 1u << 31;
  std::atomic<uint32_t> inside_{0};  // workers that take items of the current run, and kOpen while more may enter
  std::atomic<bool> stop_{false};
  std::unique_ptr<PoolWorkers> workers_;  // the last to be made: its threads use the others
};

}  // namespace shiftadd
