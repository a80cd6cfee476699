// What the kernels need of the device, in small wrappers, so that the same kernels also run on a processor
// (test/cuda/emulation.h) where there is no GPU to test on. No headers: NVRTC compiles this without a toolkit.
#pragma once

#ifdef SHIFTADD_EMULATED
#include "test/cuda/emulation.h"
#else

typedef unsigned short half_bits;
typedef signed int int32;
typedef unsigned int uint32;
typedef unsigned long long uint64;

#define KERNEL extern "C" __global__ void
#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#define SHARED __shared__
#define LAUNCH_BOUNDS(threads) __launch_bounds__(threads)
#define REGISTERS(count) __maxnreg__(count)

DEVICE uint32 thread_index() { return threadIdx.x; }
DEVICE uint32 block_threads() { return blockDim.x; }
DEVICE uint32 block_x() { return blockIdx.x; }
DEVICE uint32 block_y() { return blockIdx.y; }
DEVICE uint32 block_z() { return blockIdx.z; }
DEVICE uint32 grid_x() { return gridDim.x; }

DEVICE void synchronize_block() { __syncthreads(); }
DEVICE uint32 shuffle_xor(uint32 value, uint32 mask) { return __shfl_xor_sync(~0u, value, mask); }
DEVICE float shuffle_xor(float value, uint32 mask) { return __shfl_xor_sync(~0u, value, mask); }
DEVICE uint32 warp_max(uint32 value) { return __reduce_max_sync(~0u, value); }
DEVICE int32 warp_sum(int32 value) { return __reduce_add_sync(~0u, value); }

// Byte i of the result is byte n of (a, b), a first, for digit i of the selector, the lowest digit first.
DEVICE uint32 select_bytes(uint32 a, uint32 b, uint32 selector) { return __byte_perm(a, b, selector); }

DEVICE uint32 bits_of(float value) { return __float_as_uint(value); }
DEVICE float float_of(uint32 bits) { return __uint_as_float(bits); }
DEVICE float fused_multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE float square_root(float x) { return __fsqrt_rn(x); }
DEVICE float divide(float a, float b) { return __fdiv_rn(a, b); }
DEVICE int32 round_to_int(float x) { return __float2int_rn(x); }
DEVICE float natural_logarithm(float x) { return logf(x); }

DEVICE float widen(half_bits half) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
  return value;
}
DEVICE half_bits narrow(float value) {
  half_bits half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
  return half;
}

// sums[i] = popcount(a & b) of 16 rows x 128 bits and 128 bits x 8, in the fragments of mma.m16n8k128 (PTX ISA 9.7.14):
// with g = lane / 4 and t = lane % 4, a0 and a1 are word t of rows g and g + 8, b is word t of column g, and the sums are
// those of (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). Volatile, as the loads below: the compiler would else sink the
// loads of the next units behind the work on this one, to save registers.
DEVICE void and_popcount(int32 (&sums)[4], uint32 a0, uint32 a1, uint32 b) {
  asm volatile(
      "mma.sync.aligned.m16n8k128.row.col.s32.b1.b1.s32.and.popc {%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %7, %7, %7};"
      : "=r"(sums[0]), "=r"(sums[1]), "=r"(sums[2]), "=r"(sums[3])
      : "r"(a0), "r"(a1), "r"(b), "r"(0));
}

// sum += a * b of 16 x 32 and 32 x 8 bytes, in the fragments of mma.m16n8k32 (PTX ISA 9.7.14): with g = lane / 4 and
// t = lane % 4, a0 holds bytes 4t .. 4t + 3 of row g, a1 of row g + 8, a2 and a3 bytes 16 + 4t .. of the same rows, b0 and b1 the
// same bytes of column g; sums as above. The bytes of a are unsigned, those of b signed in one and unsigned in the other.
DEVICE void multiply_signed(int32 (&sum)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
DEVICE void multiply_unsigned(int32 (&sum)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Shared memory of the size that the launch names.
DEVICE uint4* dynamic_shared() {
  extern __shared__ uint4 dynamic_memory[];
  return dynamic_memory;
}
// Copies 16 bytes to shared memory on the side, past the first cache: each is read there once. A thread waits for its own
// committed copies; a barrier behind it makes those of all visible.
DEVICE void copy_async(uint4* to, const uint4* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((uint32)__cvta_generic_to_shared(to)), "l"(from) : "memory");
}
DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
DEVICE void wait_for_copies() { asm volatile("cp.async.wait_group 0;" ::: "memory"); }

// Weights are read once: they must not push activations out of the first cache.
DEVICE uint4 stream_load(const uint4* address) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address));
  return value;
}

// What a kernel before has written; not through the read-only path, which may not see it.
DEVICE uint2 load_pair(const uint2* address) {
  uint2 value;
  asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(value.x), "=r"(value.y) : "l"(address) : "memory");
  return value;
}

// Results of other blocks of the same launch: `publish_results` orders them with add_one, which counts the blocks; they must not
// come from the first cache.
DEVICE void publish_results() { __threadfence(); }
DEVICE uint32 add_one(uint32* counter) { return atomicAdd(counter, 1u); }
DEVICE float load_shared_result(const float* address) {
  float value;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(value) : "l"(address) : "memory");
  return value;
}

// Programmatic launch: every kernel lets the next one of the stream start at once, which hides the time to start it, and waits
// for all results before it touches what another kernel writes or reads. Only weights may be read before.
DEVICE void allow_next_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
DEVICE void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

#endif  // SHIFTADD_EMULATED

DEVICE void begin_kernel() {
  allow_next_kernel();
  wait_for_previous_kernel();
}
