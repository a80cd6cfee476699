// The parts of the core that differ in WebAssembly: there are no files to map, and threads are lent by JavaScript, each a worker
// that has called shiftadd_lend_thread().
#include <atomic>
#include <cstdint>

#include "backends/cpu/cpu_topology.h"
#include "backends/cpu/parking.h"
#include "backends/cpu/pool_workers.h"
#include "backends/cuda/cuda_library.h"
#include "core/mapped_file.h"

namespace shiftadd {

MappedFile::~MappedFile() = default;
MappedFile::MappedFile(MappedFile&& other) noexcept : data_(other.data_), size_(other.size_), path_(std::move(other.path_)) {}
Status MappedFile::open_all(const std::vector<std::string>&, std::vector<MappedFile>*) {
  return unsupported("WebAssembly has no files; pass their bytes");
}
MappedFile MappedFile::view(std::string path, const uint8_t* data, uint64_t size) {
  MappedFile file;
  file.data_ = data;
  file.size_ = size;
  file.path_ = std::move(path);
  return file;
}

void MappedFile::give_back(uint64_t, uint64_t) const {}

Status describe_cuda_device(const char*, int32_t, CudaDeviceInfo*) { return unsupported("WebAssembly reaches no GPU"); }
Status open_cuda_library(const char*, const CudaOptions&, std::unique_ptr<Backend>*) {
  return unsupported("WebAssembly reaches no GPU");
}

namespace {

constexpr int kSeats = 64;

// A lent thread. It waits until `called` changes, runs the loop and reports by `done`.
struct Seat {
  std::atomic<uint32_t> called{0}, done{0};
  std::atomic<bool> taken{false};
  const std::function<void(int)>* loop = nullptr;
  int thread = 0;
};

Seat g_seats[kSeats];
std::atomic<uint32_t> g_lent{0};

}  // namespace

struct PoolWorkers::State {
  std::function<void(int)> loop;
  Seat* seats[kSeats] = {};
};

PoolWorkers::PoolWorkers(int wanted, std::function<void(int)> loop) : state_(new State{std::move(loop), {}}) {
  const int lent = static_cast<int>(g_lent.load());
  for (int i = 0; i < lent && i < kSeats && count_ < wanted; ++i) {
    Seat& seat = g_seats[i];
    if (seat.taken.exchange(true)) continue;
    state_->seats[count_++] = &seat;
    seat.loop = &state_->loop;
    seat.thread = count_;
    seat.called.fetch_add(1);
    wake_all(seat.called);
  }
}

PoolWorkers::~PoolWorkers() {
  for (int i = 0; i < count_; ++i) {
    Seat& seat = *state_->seats[i];
    while (seat.done.load() != seat.called.load()) wait_while(seat.done, seat.called.load() - 1);
    seat.taken.store(false);
  }
}

int PoolWorkers::processors() { return allowed_cores(); }

int allowed_cores() { return static_cast<int>(g_lent.load()) + 1; }

}  // namespace shiftadd

// Lends the calling thread for good: it works for one pool after another and never comes back.
extern "C" __attribute__((visibility("default"))) void shiftadd_lend_thread() {
  using namespace shiftadd;
  const uint32_t index = g_lent.fetch_add(1);
  if (index >= kSeats) return;
  Seat& seat = g_seats[index];
  for (uint32_t seen = 0;; ++seen) {
    wait_while(seat.called, seen);
    (*seat.loop)(seat.thread);
    seat.done.fetch_add(1);
    wake_all(seat.done);
  }
}

extern "C" __attribute__((visibility("default"))) uint32_t shiftadd_lent_threads() { return shiftadd::g_lent.load(); }
