#include "core/grammar/vocabulary.h"

#include <algorithm>
#include <string>
#include <utility>

namespace shiftadd {

Status Vocabulary::make(std::span<const uint8_t> bytes, std::span<const uint32_t> ends, std::span<const int32_t> end_tokens, Vocabulary* out) {
  Vocabulary vocabulary;
  uint32_t begin = 0;
  for (uint32_t end : ends) {
    if (end < begin || end > bytes.size()) return invalid_argument("the bytes of a token end before they begin, or outside");
    if (end - begin > kMaxTokenBytes) return unsupported("a token has more than " + std::to_string(kMaxTokenBytes) + " bytes");
    begin = end;
  }
  if (begin != bytes.size()) return invalid_argument("there are bytes that belong to no token");
  for (int32_t token : end_tokens)
    if (token < 0 || static_cast<size_t>(token) >= ends.size()) return invalid_argument("an end token is outside the vocabulary");
  vocabulary.bytes_.assign(bytes.begin(), bytes.end());
  vocabulary.ends_.assign(ends.begin(), ends.end());
  vocabulary.end_tokens_.assign(end_tokens.begin(), end_tokens.end());
  // Not std::less: that sort is in the C++ library, which the WebAssembly modules do without.
  std::sort(vocabulary.end_tokens_.begin(), vocabulary.end_tokens_.end(), [](int32_t a, int32_t b) { return a < b; });

  std::vector<int32_t>& ids = vocabulary.ids_;
  for (int32_t token = 0; static_cast<size_t>(token) < ends.size(); ++token)
    if (!vocabulary.bytes(token).empty() && !vocabulary.is_end(token)) ids.push_back(token);
  std::sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
    const auto x = vocabulary.bytes(a), y = vocabulary.bytes(b);
    if (std::lexicographical_compare(x.begin(), x.end(), y.begin(), y.end())) return true;
    return std::equal(x.begin(), x.end(), y.begin(), y.end()) && a < b;
  });
  vocabulary.roots_.fill(UINT32_MAX);
  std::vector<Node>& nodes = vocabulary.nodes_;
  std::vector<uint32_t> path;  // the node of each depth
  std::span<const uint8_t> last;
  for (uint32_t i = 0; i < ids.size(); ++i) {
    const std::span<const uint8_t> text = vocabulary.bytes(ids[i]);
    size_t shared = 0;
    while (shared < last.size() && shared < text.size() && last[shared] == text[shared]) ++shared;
    const uint32_t here = static_cast<uint32_t>(nodes.size());
    for (size_t depth = shared; depth < path.size(); ++depth) nodes[path[depth]].next = here;
    path.resize(shared);
    for (size_t depth = shared; depth < text.size(); ++depth) {
      if (depth == 0) vocabulary.roots_[text[0]] = static_cast<uint32_t>(nodes.size());
      path.push_back(static_cast<uint32_t>(nodes.size()));
      // Places on the way to this token hold none: their tokens begin and end where those of this one begin.
      nodes.push_back({0, i, static_cast<uint16_t>(depth + 1), text[depth]});
    }
    vocabulary.deepest_ = std::max(vocabulary.deepest_, static_cast<uint32_t>(text.size()));
    last = text;
  }
  for (uint32_t node : path) nodes[node].next = static_cast<uint32_t>(nodes.size());
  nodes.push_back({0, static_cast<uint32_t>(ids.size()), 0, 0});
  *out = std::move(vocabulary);
  return ok_status();
}

bool Vocabulary::is_end(int32_t token) const { return std::binary_search(end_tokens_.begin(), end_tokens_.end(), token); }

size_t Vocabulary::longest(std::span<const uint8_t> text) const {
  size_t found = 0;
  if (text.empty() || roots_[text[0]] == UINT32_MAX) return 0;
  uint32_t node = roots_[text[0]];
  for (size_t depth = 1;; ++depth) {
    if (!ids(node).empty()) found = depth;
    if (depth == text.size()) return found;
    const uint32_t end = nodes_[node].next;
    uint32_t child = node + 1;
    while (child < end && nodes_[child].byte != text[depth]) child = nodes_[child].next;
    if (child >= end) return found;
    node = child;
  }
}

}  // namespace shiftadd
