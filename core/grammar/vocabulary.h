// The bytes of every token as a trie, for walks over all tokens that may come next.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/status.h"

namespace shiftadd {

class Vocabulary {
 public:
  static constexpr uint32_t kMaxTokenBytes = 4096;

  // One place of the trie below the root. The places lie in preorder: the children of i begin at i + 1, its next sibling is
  // at `next`, and so are the tokens by their bytes.
  struct Node {
    uint32_t next;
    uint32_t tokens;  // where the tokens that end here begin in ids(); they end where those of i + 1 begin
    uint16_t depth;   // 1 for children of the root
    uint8_t byte;
  };

  // `ends[i]` is where the bytes of token i end and those of i + 1 begin. A token without bytes is never allowed in an answer.
  static Status make(std::span<const uint8_t> bytes, std::span<const uint32_t> ends, std::span<const int32_t> end_tokens, Vocabulary* out);

  size_t size() const { return ends_.size(); }
  std::span<const uint8_t> bytes(int32_t token) const {
    const size_t i = static_cast<size_t>(token), begin = i == 0 ? 0 : ends_[i - 1];
    return std::span(bytes_).subspan(begin, ends_[i] - begin);
  }
  // Ascending.
  std::span<const int32_t> end_tokens() const { return end_tokens_; }
  bool is_end(int32_t token) const;
  std::span<const Node> nodes() const { return std::span(nodes_).first(nodes_.size() - 1); }
  std::span<const int32_t> ids(uint32_t node) const { return std::span(ids_).subspan(nodes_[node].tokens, nodes_[node + 1].tokens - nodes_[node].tokens); }
  uint32_t deepest() const { return deepest_; }
  // The length in bytes of the longest token that `text` begins with; 0 without any.
  size_t longest(std::span<const uint8_t> text) const;

 private:
  std::vector<uint8_t> bytes_;
  std::vector<uint32_t> ends_;
  std::vector<int32_t> end_tokens_, ids_;
  std::vector<Node> nodes_;  // and one behind the last
  std::array<uint32_t, 256> roots_{};  // nodes of depth 1; UINT32_MAX without any
  uint32_t deepest_ = 0;
};

}  // namespace shiftadd
