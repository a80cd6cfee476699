// The device of backends/cuda/device.cuh on a processor: every CUDA thread is a fiber, and the operations of a warp are
// points where fibers wait for each other. It tests indices, layouts, barriers and arithmetic where there is no GPU. It does
// not test the instructions themselves, their speed or the order of memory.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/half.h"

using half_bits = unsigned short;
using int32 = int;
using uint32 = unsigned int;
using uint64 = unsigned long long;
struct alignas(8) uint2 {
  uint32 x, y;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) uint4 {
  uint32 x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

#define KERNEL extern "C" void
#define DEVICE static inline
#define DEVICE_MEMBER inline
#define SHARED static  // blocks run one after the other
#define LAUNCH_BOUNDS(threads)
#define REGISTERS(count)

namespace emulation {

struct Thread {
  uint32 index = 0, block_threads = 0, block[3] = {}, grid_x = 0;
};
extern Thread* current;

struct Deposit {
  uint32 value[6];
  int kind;
};
// Deposits a value and waits until all 32 lanes of the warp have; returns the deposits. Stops the program when lanes meet at
// different operations or some have left.
const Deposit* meet_warp(int kind, uint32 a, uint32 b = 0, uint32 c = 0, uint32 d = 0, uint32 e = 0, uint32 f = 0);
void meet_block();
uint4* block_memory();              // the dynamic shared memory of the block
void copy_later(uint4* to, const uint4* from);
void finish_copies();

}  // namespace emulation

DEVICE uint32 thread_index() { return emulation::current->index; }
DEVICE uint32 block_threads() { return emulation::current->block_threads; }
DEVICE uint32 block_x() { return emulation::current->block[0]; }
DEVICE uint32 block_y() { return emulation::current->block[1]; }
DEVICE uint32 block_z() { return emulation::current->block[2]; }
DEVICE uint32 grid_x() { return emulation::current->grid_x; }

DEVICE void synchronize_block() { emulation::meet_block(); }
DEVICE uint32 shuffle_xor(uint32 value, uint32 mask) {
  const uint32 lane = thread_index() % 32;
  return emulation::meet_warp(1, value)[lane ^ mask].value[0];
}
DEVICE float shuffle_xor(float value, uint32 mask) {
  return std::bit_cast<float>(shuffle_xor(std::bit_cast<uint32>(value), mask));
}
DEVICE uint32 warp_max(uint32 value) {
  const emulation::Deposit* lanes = emulation::meet_warp(2, value);
  uint32 largest = 0;
  for (int i = 0; i < 32; ++i) largest = lanes[i].value[0] > largest ? lanes[i].value[0] : largest;
  return largest;
}
DEVICE int32 warp_sum(int32 value) {
  const emulation::Deposit* lanes = emulation::meet_warp(3, static_cast<uint32>(value));
  uint32 sum = 0;
  for (int i = 0; i < 32; ++i) sum += lanes[i].value[0];
  return static_cast<int32>(sum);
}

DEVICE uint32 select_bytes(uint32 a, uint32 b, uint32 selector) {
  const uint64 bytes = uint64{b} << 32 | a;
  uint32 selected = 0;
  for (uint32 i = 0; i < 4; ++i) selected |= static_cast<uint32>(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
  return selected;
}

DEVICE uint32 bits_of(float value) { return std::bit_cast<uint32>(value); }
DEVICE float float_of(uint32 bits) { return std::bit_cast<float>(bits); }
DEVICE float fused_multiply_add(float a, float b, float c) { return std::fma(a, b, c); }
DEVICE float square_root(float x) { return std::sqrt(x); }
DEVICE float divide(float a, float b) { return a / b; }
DEVICE int32 round_to_int(float x) { return static_cast<int32>(std::lrint(x)); }
DEVICE float natural_logarithm(float x) { return std::log(x); }
DEVICE float widen(half_bits half) { return shiftadd::half_to_float(half); }
DEVICE half_bits narrow(float value) { return shiftadd::float_to_half(value); }

DEVICE void and_popcount(int32 (&sums)[4], uint32 a0, uint32 a1, uint32 b) {
  const uint32 lane = thread_index() % 32, g = lane / 4, t = lane % 4;
  const emulation::Deposit* lanes = emulation::meet_warp(4, a0, a1, b);
  for (uint32 i = 0; i < 4; ++i) {
    const uint32 row = g, column = 2 * t + i % 2;
    sums[i] = 0;
    for (uint32 word = 0; word < 4; ++word)
      sums[i] += std::popcount(lanes[row * 4 + word].value[i / 2] & lanes[column * 4 + word].value[2]);
  }
}

// Rows of a and columns of b are 32 bytes: lane (row or column, t) holds bytes 4t .. 4t + 3 and 16 + 4t .. 16 + 4t + 3.
template <class ByteOfB>
DEVICE void multiply_bytes(int32 (&sum)[4], int kind, const uint32 (&a)[4], const uint32 (&b)[2]) {
  const uint32 lane = thread_index() % 32, g = lane / 4, t = lane % 4;
  const emulation::Deposit* lanes = emulation::meet_warp(kind, a[0], a[1], a[2], a[3], b[0], b[1]);
  for (uint32 i = 0; i < 4; ++i) {
    const uint32 row = g + 8 * (i / 2), column = 2 * t + i % 2;
    for (uint32 k = 0; k < 32; ++k) {
      const uint32 holder = k % 16 / 4, shift = k % 4 * 8;
      const uint32 from_a = lanes[row % 8 * 4 + holder].value[k / 16 * 2 + row / 8] >> shift & 0xff;
      const uint32 from_b = lanes[column * 4 + holder].value[4 + k / 16] >> shift & 0xff;
      sum[i] += static_cast<int32>(from_a) * static_cast<ByteOfB>(from_b);
    }
  }
}
DEVICE void multiply_signed(int32 (&sum)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1) {
  multiply_bytes<signed char>(sum, 5, {a0, a1, a2, a3}, {b0, b1});
}
DEVICE void multiply_unsigned(int32 (&sum)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1) {
  multiply_bytes<unsigned char>(sum, 6, {a0, a1, a2, a3}, {b0, b1});
}

DEVICE uint4* dynamic_shared() { return emulation::block_memory(); }
DEVICE void copy_async(uint4* to, const uint4* from) { emulation::copy_later(to, from); }
DEVICE void commit_copies() {}
DEVICE void wait_for_copies() { emulation::finish_copies(); }

DEVICE uint4 stream_load(const uint4* address) {
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0) __builtin_trap();
  return *address;
}
DEVICE uint2 load_pair(const uint2* address) { return *address; }
DEVICE void publish_results() {}
DEVICE uint32 add_one(uint32* counter) { return (*counter)++; }
DEVICE float load_shared_result(const float* address) { return *address; }
DEVICE void allow_next_kernel() {}
DEVICE void wait_for_previous_kernel() {}
