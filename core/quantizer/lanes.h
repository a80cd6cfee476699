// Eight floats or four doubles at a time for the quantizer's inner loops, in the vector extension that GCC and Clang
// lower to whatever the target has.
#pragma once

#include <cstddef>
#include <cstring>

namespace shiftadd {

constexpr size_t kLaneBytes = 32;
constexpr size_t kPanelAlign = 16;  // panels are padded to this many rows, so that loops over rows need no tail

template <typename T>
struct LaneType;
template <>
struct LaneType<float> {
  typedef float type __attribute__((vector_size(32)));
};
template <>
struct LaneType<double> {
  typedef double type __attribute__((vector_size(32)));
};
template <typename T>
using Lanes = typename LaneType<T>::type;

template <typename T>
constexpr size_t kLanes = kLaneBytes / sizeof(T);

inline size_t padded_rows(size_t rows) { return (rows + kPanelAlign - 1) / kPanelAlign * kPanelAlign; }

// Inner product; `count` is a multiple of kPanelAlign.
inline float dot(const float* a, const float* b, size_t count) {
  Lanes<float> first{}, second{}, x, y;
  for (size_t i = 0; i < count; i += 16) {
    std::memcpy(&x, a + i, sizeof x);
    std::memcpy(&y, b + i, sizeof y);
    first += x * y;
    std::memcpy(&x, a + i + 8, sizeof x);
    std::memcpy(&y, b + i + 8, sizeof y);
    second += x * y;
  }
  first += second;
  float sum = 0;
  for (size_t i = 0; i < 8; ++i) sum += first[i];
  return sum;
}

}  // namespace shiftadd
