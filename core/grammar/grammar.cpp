#include "core/grammar/grammar.h"

#include <algorithm>
#include <string>
#include <utility>

namespace shiftadd {
namespace {

Status bad(const std::string& what) { return bad_format("the grammar is damaged: " + what); }

// Edges by the node, or the rule, that they lead to.
struct Incoming {
  std::vector<uint32_t> first, edges;
  std::span<const uint32_t> of(uint32_t key) const { return std::span(edges).subspan(first[key], first[key + 1] - first[key]); }
};

template <class KeyOf>
Incoming index_edges(size_t keys, std::span<const Grammar::Edge> edges, KeyOf key_of) {
  Incoming incoming;
  incoming.first.assign(keys + 2, 0);
  for (const Grammar::Edge& edge : edges)
    if (const uint32_t key = key_of(edge); key < keys) ++incoming.first[key + 2];
  for (size_t i = 2; i < incoming.first.size(); ++i) incoming.first[i] += incoming.first[i - 1];
  incoming.edges.resize(incoming.first.back());
  for (uint32_t i = 0; i < edges.size(); ++i)
    if (const uint32_t key = key_of(edges[i]); key < keys) incoming.edges[incoming.first[key + 1]++] = i;
  return incoming;
}

}  // namespace

Status Grammar::load(std::span<const int32_t> numbers, Grammar* out) {
  Grammar grammar;
  SHIFTADD_TRY(grammar.read(numbers));
  grammar.measure();
  for (uint32_t start : grammar.starts_)
    if (grammar.distance_[start] == 0) return bad("a rule can be empty");
  if (grammar.distance_[grammar.root_start()] >= kNever) return invalid_argument("no text of finite length satisfies the schema");
  SHIFTADD_TRY(grammar.check_recursion());
  grammar.classify();
  *out = std::move(grammar);
  return ok_status();
}

Status Grammar::read(std::span<const int32_t> numbers) {
  constexpr size_t kHead = 5;
  if (numbers.size() < kHead) return bad("it has no head");
  if (numbers[0] != static_cast<int32_t>(kFormat)) return bad("its format is not known");
  const auto in = [](int32_t number, uint64_t limit) { return number >= 0 && static_cast<uint64_t>(number) < limit; };
  if (!in(numbers[1], kMaxNodes) || !in(numbers[3], kMaxNodes) || !in(numbers[4], kMaxEdges)) return unsupported("the grammar is too large");
  const size_t rules = static_cast<size_t>(numbers[1]), nodes = static_cast<size_t>(numbers[3]), edges = static_cast<size_t>(numbers[4]);
  if (numbers.size() != kHead + rules + nodes + 1 + nodes + 3 * edges) return bad("its length is wrong");
  if (!in(numbers[2], rules)) return bad("its root is no rule");
  root_ = static_cast<uint32_t>(numbers[2]);
  size_t at = kHead;
  for (size_t i = 0; i < rules; ++i, ++at) {
    if (!in(numbers[at], nodes)) return bad("a rule starts outside");
    starts_.push_back(static_cast<uint32_t>(numbers[at]));
  }
  for (size_t i = 0; i <= nodes; ++i, ++at) {
    if (!in(numbers[at], edges + 1) || (i > 0 && numbers[at] < numbers[at - 1])) return bad("edges are out of order");
    first_.push_back(static_cast<uint32_t>(numbers[at]));
  }
  if (first_.front() != 0 || first_.back() != edges) return bad("edges belong to no node");
  for (size_t i = 0; i < nodes; ++i, ++at) {
    if (!in(numbers[at], 2)) return bad("an end is neither 0 nor 1");
    ends_.push_back(static_cast<uint8_t>(numbers[at]));
  }
  for (size_t i = 0; i < edges; ++i, at += 3) {
    const int32_t kind = numbers[at], value = numbers[at + 1], target = numbers[at + 2];
    if (!in(kind, 3) || !in(target, nodes)) return bad("an edge leads outside");
    Edge edge{static_cast<EdgeKind>(kind), 0, 0, 0, static_cast<uint32_t>(target)};
    if (edge.kind == EdgeKind::bytes) {
      if (!in(value, 1 << 16)) return bad("an edge has no bytes");
      edge.low = static_cast<uint8_t>(value & 255);
      edge.high = static_cast<uint8_t>(value >> 8);
      if (edge.low > edge.high) return bad("an edge has no bytes");
    } else if (edge.kind == EdgeKind::call) {
      if (!in(value, rules)) return bad("an edge calls no rule");
      edge.rule = static_cast<uint32_t>(value);
    }
    edges_.push_back(edge);
  }
  return ok_status();
}

// Knuth's generalisation of Dijkstra's algorithm (1977): distances become final in ascending order.
void Grammar::measure() {
  const size_t nodes = ends_.size();
  distance_.assign(nodes, kNever);
  std::vector<uint32_t> sources(edges_.size());
  for (uint32_t node = 0; node < nodes; ++node)
    for (uint32_t edge = first_[node]; edge < first_[node + 1]; ++edge) sources[edge] = node;
  const Incoming to_node = index_edges(nodes, edges_, [](const Edge& edge) { return edge.target; });
  const Incoming to_rule = index_edges(starts_.size(), edges_, [](const Edge& edge) { return edge.kind == EdgeKind::call ? edge.rule : UINT32_MAX; });
  std::vector<std::vector<uint32_t>> rules_at(nodes);
  for (uint32_t rule = 0; rule < starts_.size(); ++rule) rules_at[starts_[rule]].push_back(rule);

  using Entry = std::pair<uint32_t, uint32_t>;  // distance, node
  std::vector<Entry> heap;
  const auto later = [](const Entry& a, const Entry& b) { return a > b; };
  std::vector<uint8_t> done(nodes, 0);
  const auto offer = [&](uint32_t edge) {
    const Edge& e = edges_[edge];
    uint32_t distance = distance_[e.target];
    if (e.kind == EdgeKind::bytes) distance += 1;
    if (e.kind == EdgeKind::call) {
      if (!done[starts_[e.rule]] || !done[e.target]) return;
      distance += distance_[starts_[e.rule]];
    }
    distance = std::min(distance, kNever);
    if (distance >= distance_[sources[edge]]) return;
    distance_[sources[edge]] = distance;
    heap.emplace_back(distance, sources[edge]);
    std::push_heap(heap.begin(), heap.end(), later);
  };
  for (uint32_t node = 0; node < nodes; ++node)
    if (ends_[node]) distance_[node] = 0, heap.emplace_back(0, node);
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const uint32_t node = heap.back().second;
    heap.pop_back();
    if (done[node]) continue;
    done[node] = 1;
    for (uint32_t edge : to_node.of(node)) offer(edge);
    for (uint32_t rule : rules_at[node])
      for (uint32_t edge : to_rule.of(rule)) offer(edge);
  }
}

Status Grammar::check_recursion() const {
  std::vector<uint8_t> colour(ends_.size(), 0);  // 0 new, 1 on the path, 2 done
  std::vector<std::pair<uint32_t, uint32_t>> path;  // node, next edge
  for (uint32_t root = 0; root < ends_.size(); ++root) {
    if (colour[root] != 0) continue;
    colour[root] = 1;
    path.emplace_back(root, first_[root]);
    while (!path.empty()) {
      const uint32_t node = path.back().first;
      if (path.back().second == first_[node + 1]) {
        colour[node] = 2;
        path.pop_back();
        continue;
      }
      const Edge& edge = edges_[path.back().second++];
      if (edge.kind == EdgeKind::bytes) continue;
      const uint32_t next = edge.kind == EdgeKind::call ? starts_[edge.rule] : edge.target;
      if (colour[next] == 1) return invalid_argument("a part of the schema refers to itself without anything in between");
      if (colour[next] == 2) continue;
      colour[next] = 1;
      path.emplace_back(next, first_[next]);
    }
  }
  return ok_status();
}

void Grammar::classify() {
  std::array<bool, 257> begins{};
  begins[0] = true;
  for (const Edge& edge : edges_)
    if (edge.kind == EdgeKind::bytes) begins[edge.low] = begins[edge.high + 1u] = true;
  uint32_t current = 0;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    if (byte > 0 && begins[byte]) ++current;
    classes_[byte] = static_cast<uint8_t>(current);
  }
  class_count_ = current + 1;
}

}  // namespace shiftadd
