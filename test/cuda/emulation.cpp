// A libcuda.so.1 for tests: the driver functions that backends/cuda uses, over the processor's memory, and the kernels as
// fibers. SHIFTADD_EMULATION_REVERSED=1 runs warps and lanes in the opposite order: a missing barrier then changes results.
#include "test/cuda/emulation.h"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "backends/cuda/cuda_driver.h"
#include "backends/cuda/kernels.cu"

#define EXPORT extern "C" __attribute__((visibility("default")))

// Saves the callee's registers of System V on x86-64 and continues on another stack.
extern "C" void emulation_switch(void** from, void* to);
asm(R"(
.text
.globl emulation_switch
.hidden emulation_switch
emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace emulation {

Thread* current = nullptr;

namespace {

constexpr size_t kStack = 64 << 10;
enum class State { running, at_warp, at_block, done };

struct Fiber {
  Thread thread;
  State state = State::running;
  unsigned meetings = 0;  // of the warp
  void* stack_pointer = nullptr;
  std::vector<std::pair<uint4*, const uint4*>> copies;  // on their way to shared memory
};

std::vector<Fiber> fibers;
std::vector<unsigned char> stacks;
std::vector<uint4> shared_memory;
std::vector<Deposit> deposits;  // [warp][parity of the meeting][lane]
void* scheduler = nullptr;
const std::function<void()>* body = nullptr;

[[noreturn]] void stop(const char* what) {
  std::fprintf(stderr, "emulation: %s in block %u, %u, %u, thread %u\n", what, current->block[0], current->block[1],
               current->block[2], current->index);
  std::abort();
}

Fiber& self() { return fibers[current->index]; }

void pause(State state) {
  Fiber& fiber = self();
  fiber.state = state;
  emulation_switch(&fiber.stack_pointer, scheduler);
}

void start() {
  (*body)();
  pause(State::done);
  std::abort();
}

void resume(Fiber& fiber) {
  current = &fiber.thread;
  fiber.state = State::running;
  emulation_switch(&scheduler, fiber.stack_pointer);
}

// Runs the lanes of a warp until all have left or wait for the block.
void run_warp(size_t warp, bool reversed) {
  for (;;) {
    size_t meeting = 0, waiting = 0;
    for (size_t n = 0; n < 32; ++n) {
      Fiber& fiber = fibers[warp * 32 + (reversed ? 31 - n : n)];
      if (fiber.state == State::running || fiber.state == State::at_warp) resume(fiber);
      meeting += fiber.state == State::at_warp;
      waiting += fiber.state != State::at_warp;
    }
    if (meeting == 0) return;
    if (waiting > 0) stop("lanes of a warp part before an operation of the whole warp");
    const Deposit* lanes = &deposits[warp * 64 + (fibers[warp * 32].meetings % 2) * 32];
    for (size_t n = 1; n < 32; ++n)
      if (lanes[n].kind != lanes[0].kind) stop("lanes of a warp meet at different operations");
  }
}

void run_block(unsigned threads, bool reversed) {
  for (;;) {
    bool waiting = false;
    for (size_t n = 0; n < threads / 32; ++n) run_warp(reversed ? threads / 32 - 1 - n : n, reversed);
    for (unsigned i = 0; i < threads; ++i)
      if (fibers[i].state == State::at_block) {
        fibers[i].state = State::running;
        waiting = true;
      }
    if (!waiting) return;
  }
}

}  // namespace

const Deposit* meet_warp(int kind, uint32 a, uint32 b, uint32 c, uint32 d, uint32 e, uint32 f) {
  Fiber& fiber = self();
  Deposit* lanes = &deposits[fiber.thread.index / 32 * 64 + (fiber.meetings % 2) * 32];
  lanes[fiber.thread.index % 32] = {{a, b, c, d, e, f}, kind};
  pause(State::at_warp);
  ++fiber.meetings;
  return lanes;
}

void meet_block() { pause(State::at_block); }

uint4* block_memory() { return shared_memory.data(); }
// As late as a GPU may: who reads before it has waited reads what was there before.
void copy_later(uint4* to, const uint4* from) {
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0 || to < shared_memory.data() || to >= shared_memory.data() + shared_memory.size())
    stop("a copy to shared memory is out of place");
  self().copies.push_back({to, from});
}
void finish_copies() {
  for (const auto& [to, from] : self().copies) *to = *from;
  self().copies.clear();
}

void run_grid(const shiftadd::CudaLaunch& launch, const std::function<void()>& kernel) {
  const unsigned threads = launch.block_x;
  if (threads % 32 != 0 || threads > 1024) std::abort();
  const bool reversed = std::getenv("SHIFTADD_EMULATION_REVERSED") != nullptr;
  body = &kernel;
  fibers.resize(threads);
  stacks.resize(threads * kStack);
  deposits.resize(threads * 2);
  shared_memory.resize(launch.shared_bytes / sizeof(uint4));
  for (unsigned z = 0; z < launch.grid_z; ++z)
    for (unsigned y = 0; y < launch.grid_y; ++y)
      for (unsigned x = 0; x < launch.grid_x; ++x) {
        for (unsigned i = 0; i < threads; ++i) {
          fibers[i] = {{i, threads, {x, y, z}, launch.grid_x}, State::running, 0, nullptr, {}};
          void** top = reinterpret_cast<void**>(stacks.data() + (i + 1) * kStack - 64);
          top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15});
          *--top = nullptr;                               // where start() would return to; keeps the stack aligned
          *--top = reinterpret_cast<void*>(&start);
          for (int r = 0; r < 6; ++r) *--top = nullptr;
          fibers[i].stack_pointer = top;
        }
        std::memset(shared_memory.data(), 0xff, shared_memory.size() * sizeof(uint4));  // NaN, as in cuMemAlloc
        run_block(threads, reversed);
      }
}

// ---- kernels by name ----

// From a launch to something that runs it, with its own copy of the arguments.
using Entry = std::function<std::function<void()>(const shiftadd::CudaLaunch&, void**)>;

template <class... Arguments, size_t... kIndex>
Entry entry(void (*kernel)(Arguments...), std::index_sequence<kIndex...>) {
  return [kernel](const shiftadd::CudaLaunch& launch, void** arguments) {
    const std::tuple<Arguments...> copies(*static_cast<Arguments*>(arguments[kIndex])...);
    return std::function<void()>([=, copy = launch] { run_grid(copy, [&] { std::apply(kernel, copies); }); });
  };
}
template <class... Arguments>
Entry entry(void (*kernel)(Arguments...)) {
  return entry(kernel, std::index_sequence_for<Arguments...>());
}

const std::map<std::string, Entry>& kernels() {
  using namespace shiftadd_cuda;
#define PRODUCT(planes) \
  {"packed_product_" #planes "_1", entry(packed_product_##planes##_1)}, {"packed_product_" #planes "_4", entry(packed_product_##planes##_4)}, \
      {"packed_product_" #planes "_wide", entry(packed_product_##planes##_wide)}
#define KERNEL_ENTRY(name) {#name, entry(shiftadd_cuda::name)}
  static const std::map<std::string, Entry> all = {
      PRODUCT(1), PRODUCT(2), PRODUCT(3), PRODUCT(4), PRODUCT(5), PRODUCT(6), PRODUCT(7), PRODUCT(8),
      KERNEL_ENTRY(prepare_vectors), KERNEL_ENTRY(prepare_normalized), KERNEL_ENTRY(prepare_activated),
      KERNEL_ENTRY(prepare_bytes), KERNEL_ENTRY(packed_prefill_wide),
      KERNEL_ENTRY(packed_prefill_narrow), KERNEL_ENTRY(repack_planes), KERNEL_ENTRY(embed_packed), KERNEL_ENTRY(embed_dense),
      KERNEL_ENTRY(normalize), KERNEL_ENTRY(rotate), KERNEL_ENTRY(append_kv), KERNEL_ENTRY(attend_slice), KERNEL_ENTRY(attend_rows),
      KERNEL_ENTRY(append_kv_int8), KERNEL_ENTRY(attend_slice_int8), KERNEL_ENTRY(attend_rows_int8),
      KERNEL_ENTRY(find_largest), KERNEL_ENTRY(store_words), KERNEL_ENTRY(activate), KERNEL_ENTRY(add_bias), KERNEL_ENTRY(scale), KERNEL_ENTRY(soft_cap),
      KERNEL_ENTRY(add), KERNEL_ENTRY(change_basis),
      KERNEL_ENTRY(dense_product), KERNEL_ENTRY(gram), KERNEL_ENTRY(log_probabilities), KERNEL_ENTRY(read_memory)};
  return all;
}

}  // namespace emulation

// ---- the driver ----

using shiftadd::CudaAddress;

// SHIFTADD_EMULATION_FAULT="<function> <n> <code>": the n-th call of the function from then on fails with the code, and prints a line.
static int fault(const char* name) {
  static std::string wanted;
  static int left = 0, code = 0;
  const char* value = std::getenv("SHIFTADD_EMULATION_FAULT");
  if (value == nullptr) value = "";
  if (wanted != value) {
    wanted = value;
    left = code = 0;
    char function[64] = {};
    if (std::sscanf(value, "%63s %d %d", function, &left, &code) != 3) left = 0;
  }
  if (left == 0 || wanted.compare(0, std::string(name).size() + 1, std::string(name) + " ") != 0) return 0;
  if (--left > 0) return 0;
  setenv("SHIFTADD_EMULATION_FAULT_HIT", "1", 1);
  return code;
}
#define FAULT(name) \
  if (const int code = fault(name)) return code

EXPORT int cuInit(unsigned) { return fault("cuInit"); }
EXPORT int cuDriverGetVersion(int* version) { return *version = 12060, 0; }
EXPORT int cuGetErrorString(int, const char** text) { return *text = "emulated error", 0; }
EXPORT int cuDeviceGetCount(int* count) { return *count = 1, 0; }
EXPORT int cuDeviceGet(int* device, int index) { return *device = index, 0; }
EXPORT int cuDeviceGetUuid(unsigned char* bytes, int) {
  for (int i = 0; i < 16; ++i) bytes[i] = static_cast<unsigned char>(17 * i);
  return 0;
}
EXPORT int cuDeviceGetName(char* name, int size, int) { return std::snprintf(name, static_cast<size_t>(size), "emulation"), 0; }
// SHIFTADD_EMULATION_INTEGRATED=1: processor and GPU have one memory.
EXPORT int cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 18: return *value = std::getenv("SHIFTADD_EMULATION_INTEGRATED") != nullptr, 0;
    case 19: return *value = 1, 0;
    case 75: return *value = 8, 0;
    case 76: return *value = 0, 0;
    default: return *value = 4, 0;
  }
}
EXPORT int cuDevicePrimaryCtxRetain(void** context, int) { return *context = &emulation::fibers, fault("cuDevicePrimaryCtxRetain"); }
EXPORT int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
EXPORT int cuCtxSetCurrent(void*) { return 0; }

// Bytes of what is allocated, and the most they have been since they were last asked for.
struct Memory {
  std::map<const void*, size_t> blocks;
  size_t now = 0, most = 0;
  void* take(size_t bytes) {
    void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (memory == nullptr) return nullptr;
    std::memset(memory, 0xff, bytes);  // NaN: what was never written shows
    blocks[memory] = bytes;
    now += bytes;
    most = now > most ? now : most;
    return memory;
  }
  int give(void* memory) {
    const auto found = blocks.find(memory);
    if (found == blocks.end()) return 1;
    now -= found->second;
    blocks.erase(found);
    return std::free(memory), 0;
  }
};
static Memory device_memory, host_memory;
// For tests: {of the GPU now, most, of the processor now, most}.
EXPORT void emulation_memory(size_t (&bytes)[4]) {
  for (const auto& [at, memory] : {std::pair(0, &device_memory), std::pair(2, &host_memory)}) {
    bytes[at] = memory->now;
    bytes[at + 1] = std::exchange(memory->most, memory->now);
  }
}

EXPORT int cuMemAlloc_v2(CudaAddress* address, size_t bytes) {
  FAULT("cuMemAlloc_v2");
  void* memory = device_memory.take(bytes);
  *address = reinterpret_cast<CudaAddress>(memory);
  return memory == nullptr ? 2 : 0;
}
EXPORT int cuMemFree_v2(CudaAddress address) { return device_memory.give(reinterpret_cast<void*>(address)); }
EXPORT int cuMemHostAlloc(void** memory, size_t bytes, unsigned flags) {
  FAULT("cuMemHostAlloc");
  if (flags != 2) return 1;  // the GPU is to see it
  *memory = host_memory.take(bytes);
  return *memory == nullptr ? 2 : 0;
}
EXPORT int cuMemHostGetDevicePointer_v2(CudaAddress* address, void* memory, unsigned) {
  FAULT("cuMemHostGetDevicePointer_v2");
  return *address = reinterpret_cast<CudaAddress>(memory), host_memory.blocks.count(memory) == 0;
}
EXPORT int cuMemFreeHost(void* memory) { return host_memory.give(memory); }
EXPORT int cuMemsetD8Async(CudaAddress to, unsigned char value, size_t bytes, void*) {
  FAULT("cuMemsetD8Async");
  if (bytes == 0) return 1;  // whether a driver takes this is not documented
  return std::memset(reinterpret_cast<void*>(to), value, bytes), 0;
}
EXPORT int cuMemcpyHtoDAsync_v2(CudaAddress to, const void* from, size_t bytes, void*) {
  FAULT("cuMemcpyHtoDAsync_v2");
  return std::memcpy(reinterpret_cast<void*>(to), from, bytes), 0;
}
EXPORT int cuMemcpyDtoHAsync_v2(void* to, CudaAddress from, size_t bytes, void*) {
  FAULT("cuMemcpyDtoHAsync_v2");
  return std::memcpy(to, reinterpret_cast<void*>(from), bytes), 0;
}
EXPORT int cuStreamCreate(void** stream, unsigned) { return *stream = &emulation::fibers, fault("cuStreamCreate"); }
EXPORT int cuStreamSynchronize(void*) { return fault("cuStreamSynchronize"); }
EXPORT int cuStreamDestroy_v2(void*) { return 0; }
EXPORT int cuModuleLoadData(void** module, const void*) { return *module = &emulation::fibers, fault("cuModuleLoadData"); }
EXPORT int cuModuleUnload(void*) { return 0; }
EXPORT int cuModuleGetFunction(const void** function, void*, const char* name) {
  const auto found = emulation::kernels().find(name);
  FAULT("cuModuleGetFunction");
  if (found == emulation::kernels().end()) return 500;
  *function = &found->second;
  return 0;
}
EXPORT int cuFuncGetAttribute(int* value, int, void*) { return *value = 0, 0; }
EXPORT int cuFuncSetAttribute(void*, int, int) { return 0; }

// A graph is a list of launches with copies of their arguments. Events tell no time: one millisecond passes between any two.
using Graph = std::vector<std::function<void()>>;
static Graph* capture = nullptr;

EXPORT int cuLaunchKernelEx(const shiftadd::CudaLaunch* launch, const void* function, void** arguments, void**) {
  FAULT("cuLaunchKernelEx");
  std::function<void()> run = (*static_cast<const emulation::Entry*>(function))(*launch, arguments);
  if (capture != nullptr) capture->push_back(std::move(run));
  else run();
  return 0;
}
EXPORT int cuStreamBeginCapture_v2(void*, int) {
  FAULT("cuStreamBeginCapture_v2");
  return capture = new Graph(), 0;
}
EXPORT int cuStreamEndCapture(void*, Graph** graph) {
  *graph = std::exchange(capture, nullptr);
  const int code = fault("cuStreamEndCapture");
  if (code != 0) delete std::exchange(*graph, nullptr);
  return code;
}
EXPORT int cuGraphInstantiateWithFlags(Graph** exec, Graph* graph, unsigned long long) {
  FAULT("cuGraphInstantiateWithFlags");
  return *exec = new Graph(*graph), 0;
}
EXPORT int cuGraphLaunch(Graph* exec, void*) {
  FAULT("cuGraphLaunch");
  for (const auto& run : *exec) run();
  return 0;
}
EXPORT int cuGraphExecDestroy(Graph* exec) { return delete exec, 0; }
EXPORT int cuGraphDestroy(Graph* graph) { return delete graph, 0; }
EXPORT int cuEventCreate(void** event, unsigned) { return *event = &emulation::fibers, 0; }
EXPORT int cuEventRecord(void*, void*) { return 0; }
EXPORT int cuEventSynchronize(void*) { return 0; }
EXPORT int cuEventElapsedTime(float* milliseconds, void*, void*) { return *milliseconds = 1, 0; }
EXPORT int cuEventDestroy_v2(void*) { return 0; }
