// One token sequence on a model: KV cache, position, the logits of the last position and a sampler.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/grammar/constraint.h"
#include "core/model.h"
#include "core/sampler.h"
#include "core/transformer.h"

namespace shiftadd {

// Reads a flag that another thread may set; null: never cancelled.
class Cancel {
 public:
  explicit Cancel(const int32_t* flag = nullptr) : flag_(flag) {}
  bool requested() const {
    return flag_ != nullptr && std::atomic_ref<int32_t>(*const_cast<int32_t*>(flag_)).load(std::memory_order_relaxed) != 0;
  }

 private:
  const int32_t* flag_;
};

// How the states of a text's tokens become one vector.
enum class Pooling : int32_t { mean = 0, last = 1, first = 2 };

class Session {
 public:
  static constexpr uint32_t kMaxDraft = 7;  // few enough for the products of single steps

  static Status open(const Model& model, uint32_t context_size, std::unique_ptr<Session>* out);

  // Appends tokens and computes the logits of the last. On any failure the position is what it was before, or 0 when the
  // call was cancelled while it read everything again beyond the rotary switch; the logits are what they were too, unless
  // the new ones were not finite.
  Status prefill(std::span<const int32_t> tokens, Cancel cancel);
  // The same without the logits, for the parts of a long prompt.
  Status append(std::span<const int32_t> tokens, Cancel cancel);
  // The same, and writes the logits of every token: tokens x vocabulary size.
  Status prefill_logits(std::span<const int32_t> tokens, std::span<float> out, Cancel cancel);
  // With a constraint: one of the tokens that it allows, and moves it past that token.
  Status sample(const Sampling& sampling, int32_t* token);
  // From now on at most `budget` sampled tokens, besides the end token, that make a text of the automaton. Null ends that.
  Status constrain(TokenAutomaton* automaton, uint32_t budget);
  // The constrained answer is whole: nothing may follow.
  bool is_complete() const { return constraint_ != nullptr && constraint_->complete(); }
  // Appends `token` and as many of the draft (at most kMaxDraft) as greedy sampling picks too; out[0 .. *count - 1] are
  // the accepted tokens and the one after them.
  Status decode_draft(int32_t token, std::span<const int32_t> draft, int32_t* out, int32_t* count, Cancel cancel);
  Status rewind(uint32_t position);
  Status logits(std::span<float> out);
  Status evaluate(std::span<const int32_t> tokens, std::span<float> log_probabilities, Cancel cancel);
  void seed(uint64_t seed) { sampler_.seed(seed); }

  // Rewinds to 0, reads the tokens and writes the states after the final norm (Transformer::output_states) as one vector.
  Status embed(std::span<const int32_t> tokens, Pooling pooling, std::span<float> out, Cancel cancel);

  // The KV cache of positions [first, first + count), position_bytes() each (KvCache).
  Status save(uint32_t first, uint32_t count, std::span<uint8_t> out) const;
  // Appends tokens whose part of the KV cache was saved before, by a session of the same model, options and kind of rotary
  // positions. The logits are gone until the next prefill.
  Status restore(std::span<const int32_t> tokens, std::span<const uint8_t> saved, bool beyond_switch);
  // Takes over `tokens`, with which `from`, another session of the model, must begin, in the place of what there was.
  Status copy(const Session& from, std::span<const int32_t> tokens);
  uint64_t position_bytes() const { return cache_.position_bytes(); }
  // Which rotary frequencies the cached keys have, where the model has two.
  bool beyond_switch() const { return beyond_switch_; }

  uint32_t position() const { return static_cast<uint32_t>(tokens_.size()); }
  uint32_t context_size() const { return cache_.capacity(); }
  size_t kv_cache_bytes() const { return cache_.bytes(); }
  size_t scratch_bytes() const { return transformer_.scratch_bytes() + (logits_.size() + draft_logits_.size()) * sizeof(float); }

 private:
  explicit Session(const Model& model) : model_(model), transformer_(model) {}
  Status sample_free(const Sampling& sampling, int32_t* token);
  Status sample_constrained(const Sampling& sampling, int32_t* token);
  void take_kind(bool beyond_switch);
  Status check_prefill(std::span<const int32_t> tokens) const;
  Status check_tokens(std::span<const int32_t> tokens) const;
  // Before a sequence becomes `length` long: when that crosses the model's rotary switch, reads all tokens again.
  Status reach(size_t length, Cancel cancel);
  // Runs all blocks over `tokens` (at most Transformer::kMaxRows) at `position`.
  // All tokens in steps; last_rows: of the last step.
  Status run_steps(std::span<const int32_t> tokens, Cancel cancel, uint32_t* last_rows);
  Status run_step(std::span<const int32_t> tokens, uint32_t position, Cancel cancel);

  // logits_ holds those of the last position.
  void keep_host_logits();
  // Reads them from the device where that has not happened yet: greedy sampling never needs them here.
  std::span<const float> host_logits();

  const Model& model_;
  Transformer transformer_;
  KvCache cache_;
  Sampler sampler_;
  std::unique_ptr<Constraint> constraint_;
  std::vector<int32_t> tokens_;
  std::vector<float> logits_, draft_logits_;
  bool has_logits_ = false, logits_on_host_ = false;
  int32_t largest_ = 0;  // index of the largest logit, where there are logits
  bool beyond_switch_ = false;
};

}  // namespace shiftadd
