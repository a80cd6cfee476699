// Where one answer stands in the automaton that constrains it, and how many tokens it may still have. The tokens it allows always
// leave enough of them to reach the end.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/grammar/token_automaton.h"

namespace shiftadd {

class Constraint {
 public:
  // Keeps the automaton until it is destroyed.
  explicit Constraint(TokenAutomaton* automaton) : automaton_(automaton) { automaton_->retain(); }
  ~Constraint() { TokenAutomaton::release(automaton_); }
  Constraint(const Constraint&) = delete;
  Constraint& operator=(const Constraint&) = delete;

  // At the beginning, with room for `budget` tokens besides the end token. Fails when not even the shortest text fits.
  Status begin(uint32_t budget);
  // Before each choice; fails only when the automaton does.
  Status prepare();
  Status allows(int32_t token, bool* allowed);
  // One bit per token; valid until the next call.
  Status mask(std::span<const uint32_t>* out) { return automaton_->mask(state_, budget_, out); }
  // The token must be allowed. An end token completes the answer.
  Status advance(int32_t token);
  // What there is can be the whole answer.
  bool accepts() const { return accepts_; }
  // Nothing may follow.
  bool complete() const { return complete_; }

 private:
  Status arrive(int32_t state);

  TokenAutomaton* automaton_;
  int32_t state_ = Automaton::kDead;
  uint64_t epoch_ = 0;
  uint32_t budget_ = 0;
  bool accepts_ = false, complete_ = false;
  std::vector<uint8_t> text_;  // so far: the way to its state when the automaton has forgotten it
};

}  // namespace shiftadd
