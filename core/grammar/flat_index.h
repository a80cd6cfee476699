// From a hash to the numbers of things that have it: what interning needs. The caller compares the things themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace shiftadd {

inline uint64_t mix_hash(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15;
  return hash ^ (hash >> 29);
}

class FlatIndex {
 public:
  FlatIndex() { clear(); }
  void clear() {
    slots_.assign(64, kEmpty);
    hashes_.clear();
  }
  // The number that `equal(number)` accepts, or that of a new thing: one more than the last. `added` says which.
  template <class Equal>
  uint32_t find_or_add(uint64_t hash, Equal equal, bool* added) {
    size_t at = hash & (slots_.size() - 1);
    for (; slots_[at] != kEmpty; at = (at + 1) & (slots_.size() - 1))
      if (hashes_[slots_[at]] == hash && equal(slots_[at])) return *added = false, slots_[at];
    const uint32_t number = static_cast<uint32_t>(hashes_.size());
    hashes_.push_back(hash);
    slots_[at] = number;
    if (hashes_.size() * 2 > slots_.size()) grow();
    *added = true;
    return number;
  }
  size_t bytes() const { return slots_.capacity() * sizeof(uint32_t) + hashes_.capacity() * sizeof(uint64_t); }

 private:
  static constexpr uint32_t kEmpty = UINT32_MAX;
  void grow() {
    slots_.assign(slots_.size() * 2, kEmpty);
    for (uint32_t number = 0; number < hashes_.size(); ++number) {
      size_t at = hashes_[number] & (slots_.size() - 1);
      while (slots_[at] != kEmpty) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = number;
    }
  }

  std::vector<uint32_t> slots_;   // a power of two; at most half are taken
  std::vector<uint64_t> hashes_;  // by number
};

}  // namespace shiftadd
