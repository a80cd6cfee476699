#include "core/grammar/constraint.h"

#include <string>

namespace shiftadd {

Status Constraint::begin(uint32_t budget) {
  text_.clear();
  budget_ = budget;
  automaton_->tidy();
  epoch_ = automaton_->epoch();
  const int32_t state = automaton_->start();
  if (state < 0) return automaton_->failure();
  const uint32_t least = automaton_->tokens_to_end(state);
  if (least > TokenAutomaton::kNever) return automaton_->failure();
  if (least == TokenAutomaton::kNever) return unsupported("the vocabulary of this model cannot write what the schema demands");
  if (least > budget) return invalid_argument("the shortest answer has " + std::to_string(least) + " tokens but only " + std::to_string(budget) + " are allowed");
  return arrive(state);
}

Status Constraint::prepare() {
  automaton_->tidy();
  if (epoch_ == automaton_->epoch()) return ok_status();
  epoch_ = automaton_->epoch();
  state_ = automaton_->start();
  if (state_ >= 0) state_ = automaton_->advance(state_, text_);
  return state_ >= 0 ? ok_status() : automaton_->failure();
}

Status Constraint::allows(int32_t token, bool* allowed) {
  *allowed = false;
  const Vocabulary& vocabulary = automaton_->vocabulary();
  if (token < 0 || static_cast<size_t>(token) >= vocabulary.size()) return ok_status();
  if (vocabulary.is_end(token)) {
    *allowed = accepts_;
    return ok_status();
  }
  const std::span<const uint8_t> bytes = vocabulary.bytes(token);
  if (bytes.empty() || budget_ == 0) return ok_status();
  const int32_t next = automaton_->advance(state_, bytes);
  if (next == Automaton::kFailed) return automaton_->failure();
  if (next == Automaton::kDead) return ok_status();
  const uint32_t rest = automaton_->tokens_to_end(next);
  if (rest > TokenAutomaton::kNever) return automaton_->failure();
  *allowed = rest < budget_ && rest < TokenAutomaton::kNever;
  return ok_status();
}

Status Constraint::advance(int32_t token) {
  const Vocabulary& vocabulary = automaton_->vocabulary();
  if (vocabulary.is_end(token)) {
    complete_ = true;
    return ok_status();
  }
  const std::span<const uint8_t> bytes = vocabulary.bytes(token);
  const int32_t next = automaton_->advance(state_, bytes);
  if (next == Automaton::kFailed) return automaton_->failure();
  if (next == Automaton::kDead || budget_ == 0) return invalid_argument("token " + std::to_string(token) + " is not allowed here");
  text_.insert(text_.end(), bytes.begin(), bytes.end());
  --budget_;
  return arrive(next);
}

Status Constraint::arrive(int32_t state) {
  state_ = state;
  accepts_ = automaton_->accepts(state);
  complete_ = accepts_ && (budget_ == 0 || automaton_->is_final(state));
  return ok_status();
}

}  // namespace shiftadd
