#include "core/grammar/token_automaton.h"

#include <algorithm>
#include <utility>

namespace shiftadd {
namespace {

constexpr uint32_t kUnknown = UINT32_MAX - 2;
constexpr uint32_t kFailure = UINT32_MAX;

}  // namespace

TokenAutomaton::TokenAutomaton(Grammar grammar, const Vocabulary& vocabulary) : automaton_(std::move(grammar)), vocabulary_(vocabulary) {
  path_.resize(size_t{vocabulary.deepest()} + 1);
}

void TokenAutomaton::release(TokenAutomaton* automaton) {
  if (automaton != nullptr && --automaton->owners_ == 0) delete automaton;
}

size_t TokenAutomaton::bytes() const {
  return automaton_.bytes() + masks_.size() * (sizeof(Mask) + (vocabulary_.size() + 31) / 32 * sizeof(uint32_t)) + to_end_.size() * 8;
}

void TokenAutomaton::tidy() {
  if (bytes() < kRoomBytes && automaton_.failure().ok()) return;
  automaton_.clear();
  to_end_.clear();
  mask_of_.clear();
  masks_.clear();
  ++epoch_;
}

int32_t TokenAutomaton::advance(int32_t state, std::span<const uint8_t> bytes) {
  for (size_t i = 0; i < bytes.size() && state >= 0; ++i) state = automaton_.step(state, bytes[i]);
  return state;
}

uint32_t TokenAutomaton::tokens_to_end(int32_t state) {
  const size_t index = static_cast<size_t>(state);
  if (index < to_end_.size() && to_end_[index] != kUnknown) return to_end_[index];
  to_end_.resize(std::max(to_end_.size(), automaton_.state_count()), kUnknown);
  if (automaton_.distance(state) > kFarthest) return to_end_[index] = kNever;
  text_.clear();
  states_.assign(1, state);
  while (!automaton_.accepts(states_.back())) {
    text_.push_back(automaton_.shortest_byte(states_.back()));
    const int32_t next = automaton_.step(states_.back(), text_.back());
    if (next < 0) return kFailure;
    states_.push_back(next);
  }
  to_end_.resize(std::max(to_end_.size(), automaton_.state_count()), kUnknown);
  std::vector<size_t> cuts;  // where tokens begin
  size_t at = 0;
  while (at < text_.size()) {
    const size_t length = vocabulary_.longest(std::span<const uint8_t>(text_).subspan(at));
    if (length == 0) return to_end_[index] = kNever;
    cuts.push_back(at);
    at += length;
  }
  to_end_[static_cast<size_t>(states_.back())] = 0;
  for (size_t i = 0; i < cuts.size(); ++i) to_end_[static_cast<size_t>(states_[cuts[i]])] = static_cast<uint32_t>(cuts.size() - i);
  return to_end_[index];
}

Status TokenAutomaton::fill(int32_t state, uint32_t budget, Mask* out) {
  const std::span<const Vocabulary::Node> nodes = vocabulary_.nodes();
  out->bits.assign((vocabulary_.size() + 31) / 32, 0);
  out->farthest = 0;
  path_[0] = state;
  for (uint32_t i = 0; i < nodes.size();) {
    const Vocabulary::Node& node = nodes[i];
    const int32_t next = automaton_.step(path_[node.depth - 1u], node.byte);
    if (next < 0) {
      if (next == Automaton::kFailed) return automaton_.failure();
      i = node.next;
      continue;
    }
    path_[node.depth] = next;
    if (const std::span<const int32_t> ids = vocabulary_.ids(i); !ids.empty()) {
      const uint32_t rest = tokens_to_end(next);
      if (rest == kFailure) return automaton_.failure();
      if (rest < budget && rest < kNever) {
        out->farthest = std::max(out->farthest, rest);
        for (int32_t id : ids) out->bits[static_cast<size_t>(id) >> 5] |= 1u << (id & 31);
      }
    }
    ++i;
  }
  if (automaton_.accepts(state))
    for (int32_t id : vocabulary_.end_tokens()) out->bits[static_cast<size_t>(id) >> 5] |= 1u << (id & 31);
  return ok_status();
}

Status TokenAutomaton::mask(int32_t state, uint32_t budget, std::span<const uint32_t>* out) {
  const size_t index = static_cast<size_t>(state);
  if (index >= mask_of_.size()) mask_of_.resize(automaton_.state_count(), -1);
  if (mask_of_[index] < 0) {
    Mask made;
    SHIFTADD_TRY(fill(state, kNever, &made));
    mask_of_[index] = static_cast<int32_t>(masks_.size());
    masks_.push_back(std::move(made));
  }
  const Mask& whole = masks_[static_cast<size_t>(mask_of_[index])];
  if (whole.farthest < budget) {
    *out = whole.bits;
    return ok_status();
  }
  SHIFTADD_TRY(fill(state, budget, &budgeted_));
  *out = budgeted_.bits;
  return ok_status();
}

}  // namespace shiftadd
