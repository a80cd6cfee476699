// How a thread waits until a number in memory changes, and how it is woken. Its own file because WebAssembly has instructions
// for it and its C++ library does not.
#pragma once

#include <atomic>
#include <cstdint>

namespace shiftadd {

static_assert(sizeof(std::atomic<uint32_t>) == 4 && std::atomic<uint32_t>::is_always_lock_free);

#if defined(__wasm__)
#if defined(__wasm_atomics__)
inline void wait_while(const std::atomic<uint32_t>& number, uint32_t value) {
  while (number.load(std::memory_order_acquire) == value)
    __builtin_wasm_memory_atomic_wait32(reinterpret_cast<int*>(const_cast<std::atomic<uint32_t>*>(&number)), static_cast<int>(value), -1);
}
inline void wake_all(std::atomic<uint32_t>& number) { __builtin_wasm_memory_atomic_notify(reinterpret_cast<int*>(&number), ~0u); }
#else
// The build without threads never gets here.
inline void wait_while(const std::atomic<uint32_t>&, uint32_t) { __builtin_trap(); }
inline void wake_all(std::atomic<uint32_t>&) {}
#endif
#else
inline void wait_while(const std::atomic<uint32_t>& number, uint32_t value) { number.wait(value, std::memory_order_acquire); }
inline void wake_all(std::atomic<uint32_t>& number) { number.notify_all(); }
#endif

// Between two looks at a number.
inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace shiftadd
