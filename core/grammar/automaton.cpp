#include "core/grammar/automaton.h"

#include <algorithm>
#include <string>
#include <utility>

namespace shiftadd {

using EdgeKind = Grammar::EdgeKind;

Automaton::Automaton(Grammar grammar) : grammar_(std::move(grammar)), classes_(grammar_.class_count()) { clear(); }

void Automaton::clear() {
  frames_.assign(1, {0, 0, 0});
  frame_index_.clear();
  bool added;
  frame_index_.find_or_add(0, [](uint32_t) { return true; }, &added);  // the empty stack
  state_index_.clear();
  configurations_.clear();
  states_.clear();
  transitions_.clear();
  failure_ = ok_status();
}

int32_t Automaton::start() {
  if (!states_.empty()) return 0;
  reach(grammar_.root_start(), 0);
  return close();
}

uint32_t Automaton::push(uint32_t parent, uint32_t node) {
  bool added;
  const uint64_t hash = mix_hash(mix_hash(1, parent), node);
  const uint32_t frame = frame_index_.find_or_add(hash, [&](uint32_t i) { return frames_[i].parent == parent && frames_[i].node == node; }, &added);
  if (added) frames_.push_back({parent, node, std::min(Grammar::kNever, grammar_.distance(node) + frames_[parent].distance)});
  return frame;
}

void Automaton::reach(uint32_t node, uint32_t stack) {
  if (grammar_.distance(node) >= Grammar::kNever) return;
  bool added;
  seen_index_.find_or_add(mix_hash(mix_hash(2, node), stack), [&](uint32_t i) { return seen_[i] == Configuration{node, stack}; }, &added);
  if (added) seen_.push_back({node, stack});
}

int32_t Automaton::close() {
  bool accepts = false;
  set_.clear();
  for (size_t i = 0; i < seen_.size() && seen_.size() <= kMaxConfigurations; ++i) {
    const Configuration at = seen_[i];
    if (grammar_.ends(at.node)) {
      if (at.stack == 0) accepts = true;
      else reach(frames_[at.stack].node, frames_[at.stack].parent);
    }
    bool has_bytes = false;
    for (const Grammar::Edge& edge : grammar_.edges(at.node)) {
      if (edge.kind == EdgeKind::bytes) {
        has_bytes = has_bytes || grammar_.distance(edge.target) < Grammar::kNever;
      } else if (edge.kind == EdgeKind::empty) {
        reach(edge.target, at.stack);
      } else if (grammar_.distance(edge.target) < Grammar::kNever && grammar_.distance(grammar_.rule_start(edge.rule)) < Grammar::kNever) {
        // Nothing to come back for: the callee returns where this rule does.
        reach(grammar_.rule_start(edge.rule), grammar_.only_ends(edge.target) ? at.stack : push(at.stack, edge.target));
      }
    }
    if (has_bytes) set_.push_back(at);
  }
  const bool too_many = seen_.size() > kMaxConfigurations;
  seen_.clear();
  seen_index_.clear();
  if (too_many) {
    failure_ = unsupported("the schema is too ambiguous: it leaves more than " + std::to_string(kMaxConfigurations) + " possibilities open at once");
    return kFailed;
  }
  if (set_.empty() && !accepts) return kDead;
  std::sort(set_.begin(), set_.end());
  return intern(accepts);
}

int32_t Automaton::intern(bool accepts) {
  uint64_t hash = mix_hash(3, accepts);
  for (const Configuration& configuration : set_) hash = mix_hash(mix_hash(hash, configuration.node), configuration.stack);
  bool added;
  const uint32_t number = state_index_.find_or_add(hash, [&](uint32_t i) {
    const State& state = states_[i];
    return state.accepts == accepts && state.count == set_.size() && std::equal(set_.begin(), set_.end(), configurations_.begin() + state.first);
  }, &added);
  if (!added) return static_cast<int32_t>(number);
  State state{static_cast<uint32_t>(configurations_.size()), static_cast<uint32_t>(set_.size()), accepts ? 0 : Grammar::kNever, accepts};
  for (const Configuration& configuration : set_) state.distance = std::min(state.distance, distance_of(configuration));
  configurations_.insert(configurations_.end(), set_.begin(), set_.end());
  states_.push_back(state);
  transitions_.resize(transitions_.size() + classes_, kUnknown);
  return static_cast<int32_t>(number);
}

uint32_t Automaton::distance_of(const Configuration& configuration) const {
  uint32_t least = Grammar::kNever;
  for (const Grammar::Edge& edge : grammar_.edges(configuration.node))
    if (edge.kind == EdgeKind::bytes) least = std::min(least, grammar_.distance(edge.target) + 1);
  return std::min(Grammar::kNever, least + frames_[configuration.stack].distance);
}

uint8_t Automaton::shortest_byte(int32_t number) const {
  const State& state = states_[static_cast<size_t>(number)];
  uint32_t byte = 256;
  for (uint32_t i = state.first; i < state.first + state.count; ++i) {
    const Configuration& at = configurations_[i];
    for (const Grammar::Edge& edge : grammar_.edges(at.node))
      if (edge.kind == EdgeKind::bytes && grammar_.distance(edge.target) + 1 + frames_[at.stack].distance == state.distance)
        byte = std::min<uint32_t>(byte, edge.low);
  }
  return static_cast<uint8_t>(byte);
}

int32_t Automaton::make_transition(int32_t from, uint8_t byte) {
  if (states_.size() >= kMaxStates || configurations_.size() >= kMaxStored) {
    failure_ = unsupported("the schema is too ambiguous: one step needs more than " + std::to_string(kMaxStates) + " states");
    return kFailed;
  }
  const State& state = states_[static_cast<size_t>(from)];
  for (uint32_t i = state.first; i < state.first + state.count; ++i) {
    const Configuration at = configurations_[i];
    for (const Grammar::Edge& edge : grammar_.edges(at.node))
      if (edge.kind == EdgeKind::bytes && edge.low <= byte && byte <= edge.high) reach(edge.target, at.stack);
  }
  const int32_t next = close();
  if (next != kFailed) transitions_[static_cast<size_t>(from) * classes_ + grammar_.byte_class(byte)] = next;
  return next;
}

size_t Automaton::bytes() const {
  return grammar_.bytes() + frames_.capacity() * sizeof(Frame) + configurations_.capacity() * sizeof(Configuration) +
         states_.capacity() * sizeof(State) + transitions_.capacity() * sizeof(int32_t) + frame_index_.bytes() + state_index_.bytes();
}

}  // namespace shiftadd
