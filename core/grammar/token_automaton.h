// A grammar over the tokens of a vocabulary: which tokens may come next, and how many the shortest way to the end takes.
// States and masks are kept for later, and forgotten all at once when they fill their room.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/grammar/automaton.h"
#include "core/grammar/vocabulary.h"

namespace shiftadd {

class TokenAutomaton {
 public:
  static constexpr uint32_t kNever = UINT32_MAX - 1;  // tokens to the end: no tokens of the vocabulary make that text
  static constexpr uint32_t kFarthest = 1u << 16;     // bytes to the end: what needs more is not allowed
  static constexpr size_t kRoomBytes = 32u << 20;     // of states and masks; a state seldom has more than 400 bytes

  // `vocabulary` outlives it.
  TokenAutomaton(Grammar grammar, const Vocabulary& vocabulary);

  // Several constraints share one automaton; the last owner deletes it.
  void retain() { ++owners_; }
  static void release(TokenAutomaton* automaton);

  // Call between steps: frees the room when it is full, and then all states are others.
  void tidy();
  uint64_t epoch() const { return epoch_; }
  int32_t start() { return automaton_.start(); }
  // The state after the bytes of a token or text; Automaton::kDead or kFailed.
  int32_t advance(int32_t state, std::span<const uint8_t> bytes);
  bool accepts(int32_t state) const { return automaton_.accepts(state); }
  bool is_final(int32_t state) const { return automaton_.is_final(state); }
  // Tokens to an accepting state along its shortest text, cut greedily: enough, if not always fewest. After each of these
  // tokens the rest takes one fewer. kNever, or UINT32_MAX when the automaton failed.
  uint32_t tokens_to_end(int32_t state);
  // One bit per token: those after which the end is at most `budget` - 1 tokens away, and the end tokens where the state accepts.
  // Valid until the next call.
  Status mask(int32_t state, uint32_t budget, std::span<const uint32_t>* out);
  Status failure() const { return automaton_.failure(); }
  const Vocabulary& vocabulary() const { return vocabulary_; }
  size_t bytes() const;

 private:
  struct Mask {
    uint32_t farthest;  // the most tokens to the end after any of its tokens
    std::vector<uint32_t> bits;
  };

  Status fill(int32_t state, uint32_t budget, Mask* out);

  Automaton automaton_;
  const Vocabulary& vocabulary_;
  std::vector<uint32_t> to_end_;      // by state; kUnknown
  std::vector<int32_t> mask_of_;      // by state; -1
  std::vector<Mask> masks_;
  Mask budgeted_;
  std::vector<int32_t> path_;         // the state after each byte of a walk
  std::vector<uint8_t> text_;         // a shortest continuation
  std::vector<int32_t> states_;       // along it
  uint64_t epoch_ = 0;
  int owners_ = 1;
};

}  // namespace shiftadd
