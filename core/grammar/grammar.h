// The rules of a constrained answer: automata over bytes that call each other, as sdk/src/structured makes them of a JSON
// schema. Immutable after loading, which checks everything that the automaton then trusts.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/status.h"

namespace shiftadd {

// The numbers: format (1), rules R, root rule, nodes N, edges E; the start node of each rule (R); the first edge of each node
// and the count of all edges (N + 1); whether a rule may end at a node, 0 or 1 (N); kind, value and target of each edge (3 E).
class Grammar {
 public:
  static constexpr uint32_t kFormat = 1;
  static constexpr uint32_t kMaxNodes = 1u << 20, kMaxEdges = 1u << 21;
  static constexpr uint32_t kNever = 1u << 30;  // a distance: no text of finite length

  enum class EdgeKind : uint8_t { bytes = 0, call = 1, empty = 2 };
  struct Edge {
    EdgeKind kind;
    uint8_t low, high;  // bytes: both included
    uint32_t rule;      // call
    uint32_t target;
  };

  // Refuses numbers out of range, rules that can be empty or call themselves before any byte, and a root without any text.
  static Status load(std::span<const int32_t> numbers, Grammar* out);

  uint32_t root_start() const { return starts_[root_]; }
  uint32_t rule_start(uint32_t rule) const { return starts_[rule]; }
  std::span<const Edge> edges(uint32_t node) const { return std::span(edges_).subspan(first_[node], first_[node + 1] - first_[node]); }
  bool ends(uint32_t node) const { return ends_[node] != 0; }
  // Nothing but the end of the rule comes after this node.
  bool only_ends(uint32_t node) const { return ends_[node] != 0 && first_[node] == first_[node + 1]; }
  // The fewest bytes from a node to the end of its rule; kNever without any.
  uint32_t distance(uint32_t node) const { return distance_[node]; }
  // Bytes of one class lie on the same edges.
  uint32_t byte_class(uint8_t byte) const { return classes_[byte]; }
  uint32_t class_count() const { return class_count_; }
  size_t bytes() const { return edges_.capacity() * sizeof(Edge) + (first_.capacity() + distance_.capacity() + starts_.capacity()) * 4 + ends_.capacity(); }

 private:
  Status read(std::span<const int32_t> numbers);
  void measure();
  Status check_recursion() const;
  void classify();

  uint32_t root_ = 0, class_count_ = 0;
  std::vector<uint32_t> starts_, first_, distance_;
  std::vector<uint8_t> ends_;
  std::vector<Edge> edges_;
  std::array<uint8_t, 256> classes_{};
};

}  // namespace shiftadd
