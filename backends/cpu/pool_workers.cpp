#include "backends/cpu/pool_workers.h"

#include <system_error>
#include <thread>
#include <vector>

namespace shiftadd {

struct PoolWorkers::State {
  std::function<void(int)> loop;
  std::vector<std::thread> threads;
};

PoolWorkers::PoolWorkers(int wanted, std::function<void(int)> loop) : state_(new State{std::move(loop), {}}) {
  if (wanted > 0) state_->threads.reserve(static_cast<size_t>(wanted));
  // std::thread can only report failure by throwing; this file alone is compiled with exceptions.
  try {
    for (int thread = 1; thread <= wanted; ++thread)
      state_->threads.emplace_back([state = state_.get(), thread] { state->loop(thread); });
  } catch (const std::system_error&) {
    // The system refuses more threads: go on with those that run.
  }
  count_ = static_cast<int>(state_->threads.size());
}

PoolWorkers::~PoolWorkers() {
  for (std::thread& thread : state_->threads) thread.join();
}

int PoolWorkers::processors() { return static_cast<int>(std::thread::hardware_concurrency()); }

}  // namespace shiftadd
