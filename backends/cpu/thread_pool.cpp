#include "backends/cpu/thread_pool.h"

#include "backends/cpu/parking.h"

namespace shiftadd {
namespace {

// A worker looks for the next run this often before it sleeps: about the gap between two operations of a step, so that
// an idle pool costs nothing and a busy one does not pay a wake-up per operation. With more threads than cores, spinning
// would keep the working threads off the cores, so nobody spins.
constexpr int kSpins = 4000;

}  // namespace

ThreadPool::ThreadPool(int threads)
    : spins_(threads <= PoolWorkers::processors() ? kSpins : 0),
      ranges_(std::make_unique<Range[]>(static_cast<size_t>(threads > 1 ? threads : 1))),
      workers_(std::make_unique<PoolWorkers>(threads - 1, [this](int thread) { work_loop(thread); })) {}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  generation_.fetch_add(1);
  wake_all(generation_);
  workers_.reset();
}

void ThreadPool::run(size_t count, FunctionRef<void(size_t, int)> work) {
  if (workers_->count() == 0 || count <= 1) {
    for (size_t item = 0; item < count; ++item) work(item, 0);
    return;
  }
  work_ = &work;
  const size_t threads = static_cast<size_t>(this->threads());
  for (size_t t = 0; t < threads; ++t) {
    ranges_[t].end = count * (t + 1) / threads;
    ranges_[t].next.store(count * t / threads, std::memory_order_relaxed);
  }
  inside_.store(kOpen, std::memory_order_release);
  generation_.fetch_add(1);
  wake_all(generation_);
  take_items(0);
  // All items are taken: only workers that took some are waited for, not those that the system has not let run.
  inside_.fetch_and(~kOpen, std::memory_order_acq_rel);
  for (int spin = 0; uint32_t left = inside_.load(std::memory_order_acquire); ++spin) {
    if (spin < spins_) pause();
    else wait_while(inside_, left);
  }
}

void ThreadPool::take_items(int thread) {
  const size_t threads = static_cast<size_t>(this->threads()), first = static_cast<size_t>(thread);
  for (size_t n = 0; n < threads; ++n) {
    Range& range = ranges_[(first + n) % threads];
    for (size_t item; (item = range.next.fetch_add(1)) < range.end;) (*work_)(item, thread);
  }
}

void ThreadPool::work_loop(int thread) {
  uint32_t seen = 0;
  for (;;) {
    for (int spin = 0; spin < spins_ && generation_.load(std::memory_order_acquire) == seen; ++spin) pause();
    wait_while(generation_, seen);
    seen = generation_.load(std::memory_order_acquire);
    if (stop_.load()) return;
    uint32_t inside = inside_.load(std::memory_order_relaxed);
    while ((inside & kOpen) &&
           !inside_.compare_exchange_weak(inside, inside + 1, std::memory_order_acq_rel, std::memory_order_relaxed)) {
    }
    if (!(inside & kOpen)) continue;  // the run ended without this thread
    take_items(thread);
    if (inside_.fetch_sub(1, std::memory_order_acq_rel) == 1) wake_all(inside_);
  }
}

}  // namespace shiftadd
