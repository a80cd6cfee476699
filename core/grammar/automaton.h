// A grammar as a deterministic automaton over bytes whose states are made when they are first reached. A state is a set of
// configurations: a node of the grammar and the stack of nodes to return to. Every state can still reach the end.
#pragma once

#include <cstdint>
#include <vector>

#include "core/grammar/flat_index.h"
#include "core/grammar/grammar.h"

namespace shiftadd {

class Automaton {
 public:
  static constexpr int32_t kDead = -1;    // no text goes on like this
  static constexpr int32_t kFailed = -2;  // failure() says why
  static constexpr size_t kMaxConfigurations = 4096;  // of one state
  static constexpr size_t kMaxStates = 1 << 17;       // at most 128 MiB of transitions with 256 classes
  static constexpr size_t kMaxStored = 1 << 22;       // configurations of all states: 32 MiB

  explicit Automaton(Grammar grammar);

  // Forgets all states; the numbers of states have no meaning any more.
  void clear();
  // The state before the first byte, or kFailed.
  int32_t start();
  int32_t step(int32_t state, uint8_t byte) {
    const int32_t next = transitions_[static_cast<size_t>(state) * classes_ + grammar_.byte_class(byte)];
    return next != kUnknown ? next : make_transition(state, byte);
  }
  bool accepts(int32_t state) const { return states_[static_cast<size_t>(state)].accepts; }
  // No byte may follow.
  bool is_final(int32_t state) const { return states_[static_cast<size_t>(state)].count == 0; }
  // The fewest bytes to an accepting state.
  uint32_t distance(int32_t state) const { return states_[static_cast<size_t>(state)].distance; }
  // The first byte of the shortest continuation, the smallest where several are; the state must not accept.
  uint8_t shortest_byte(int32_t state) const;
  size_t state_count() const { return states_.size(); }
  size_t bytes() const;
  Status failure() const { return failure_; }

 private:
  static constexpr int32_t kUnknown = -3;

  struct Frame {
    uint32_t parent, node;  // frame 0 is the empty stack
    uint32_t distance;      // to the end of the whole text, from `node` on
  };
  struct Configuration {
    uint32_t node, stack;
    auto operator<=>(const Configuration&) const = default;
  };
  struct State {
    uint32_t first, count;  // of configurations_
    uint32_t distance;
    bool accepts;
  };

  int32_t make_transition(int32_t state, uint8_t byte);
  uint32_t push(uint32_t parent, uint32_t node);
  void reach(uint32_t node, uint32_t stack);
  // The state of everything that `reach` was told, without a byte; kDead when there is nothing.
  int32_t close();
  int32_t intern(bool accepts);
  uint32_t distance_of(const Configuration& configuration) const;

  Grammar grammar_;
  size_t classes_;
  std::vector<Frame> frames_;
  FlatIndex frame_index_, state_index_;
  std::vector<Configuration> configurations_;
  std::vector<State> states_;
  std::vector<int32_t> transitions_;  // states x classes
  // Of the transition that is made:
  std::vector<Configuration> seen_, set_;
  FlatIndex seen_index_;
  Status failure_;
};

}  // namespace shiftadd
