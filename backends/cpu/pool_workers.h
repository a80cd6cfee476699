// The threads behind a pool: started by the system, or lent by the page or the program in WebAssembly.
#pragma once

#include <functional>
#include <memory>

namespace shiftadd {

class PoolWorkers {
 public:
  // Up to `wanted` threads that each call loop(thread), thread from 1 on; fewer where there are no more.
  PoolWorkers(int wanted, std::function<void(int thread)> loop);
  // Waits until every loop has returned.
  ~PoolWorkers();
  PoolWorkers(const PoolWorkers&) = delete;
  PoolWorkers& operator=(const PoolWorkers&) = delete;

  int count() const { return count_; }
  // How many threads can run at once.
  static int processors();

 private:
  struct State;
  std::unique_ptr<State> state_;
  int count_ = 0;
};

}  // namespace shiftadd
