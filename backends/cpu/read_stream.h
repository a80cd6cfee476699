// Reads bytes as fast as memory delivers them: the limit that a decode kernel is measured against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace shiftadd {

constexpr size_t kReadAhead = 4096;

#if defined(__x86_64__)

__attribute__((target("avx2"))) inline uint64_t read_stream_avx2(const uint8_t* bytes, size_t count) {
  __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
  for (size_t i = 0; i + 128 <= count; i += 128) {
    _mm_prefetch(reinterpret_cast<const char*>(bytes + i + kReadAhead), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(bytes + i + kReadAhead + 64), _MM_HINT_T0);
    for (size_t l = 0; l < 4; ++l)
      sum[l] = _mm256_add_epi64(sum[l], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + i + 32 * l)));
  }
  const __m256i all = _mm256_add_epi64(_mm256_add_epi64(sum[0], sum[1]), _mm256_add_epi64(sum[2], sum[3]));
  uint64_t lanes[4];
  std::memcpy(lanes, &all, sizeof lanes);
  return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}
#endif

inline uint64_t read_stream(const uint8_t* bytes, size_t count) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return read_stream_avx2(bytes, count);
#endif
  uint64_t sum[8] = {};
  for (size_t i = 0; i + 64 <= count; i += 64) {
    __builtin_prefetch(bytes + i + kReadAhead);
    uint64_t words[8];
    std::memcpy(words, bytes + i, sizeof words);
    for (size_t l = 0; l < 8; ++l) sum[l] += words[l];
  }
  return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

}  // namespace shiftadd
