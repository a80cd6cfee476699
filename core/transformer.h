// The forward pass, written once for every family and backend: rows of tokens in, hidden states and logits out.
// Prefill and decode are the same code with a different number of rows.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model.h"

namespace shiftadd {

// Keys and values of every layer: [layer][key/value head][position][head size].
class KvCache {
 public:
  KvCache() = default;
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;
  // `layers` caches of `capacity` positions; pages are touched as positions fill.
  Status allocate(const Model& model, uint32_t layers, uint32_t capacity);
  KvView layer(uint32_t index) const;
  // Bytes of one position, as saved: layer by layer what Backend::kv_position_bytes says.
  uint64_t position_bytes() const;
  // Positions [first, first + count) to or from the host.
  void read(uint32_t first, uint32_t count, uint8_t* host) const;
  void write(uint32_t first, uint32_t count, const uint8_t* host);
  uint32_t capacity() const { return capacity_; }
  size_t bytes() const { return keys_.bytes + values_.bytes; }

 private:
  Backend* backend_ = nullptr;
  Buffer keys_, values_;
  uint32_t capacity_ = 0, layers_ = 0, kv_heads_ = 0, head_size_ = 0;
  uint64_t layer_bytes_ = 0;
};

// The input of one or more linear layers, as calibration sees it.
enum class LinearInput : uint32_t { attention = 0, attention_output = 1, feed_forward = 2, down = 3 };

class LinearObserver {
 public:
  virtual ~LinearObserver() = default;
  virtual void observe(LinearInput input, Buffer x, uint32_t rows, uint32_t columns) = 0;
};

// Scratch of one forward pass and the operations on it. Belongs to one session.
class Transformer {
 public:
  static constexpr uint32_t kMaxRows = 128;  // tokens of one step; longer prefills are split

  explicit Transformer(const Model& model) : model_(model) {}
  ~Transformer();
  Transformer(const Transformer&) = delete;
  Transformer& operator=(const Transformer&) = delete;
  Status allocate();
  size_t scratch_bytes() const;

  // Steps: load embeddings or given hidden states, run blocks, then compute logits. `position`: of the first row.
  void embed(const int32_t* tokens, uint32_t position, uint32_t rows);
  void set_hidden(const float* hidden, uint32_t rows);   // rows x hidden size, host
  void get_hidden(float* hidden, uint32_t rows) const;   // host
  // Around the blocks of one step, where a device may replay it: nothing but run_block between the two.
  void begin_step(uint32_t position, uint32_t rows);
  void end_step();
  // The cache must hold position + rows positions.
  void run_block(uint32_t layer, KvView cache, uint32_t position, uint32_t rows, LinearObserver* observer = nullptr);
  // Whether sequences are longer than the model's rotary switch; cached keys must be of the same kind.
  void set_beyond_switch(bool beyond);
  // From now on `replacement` works in the place of `original`, a matrix of the model; null for both ends it.
  void substitute(const Weights* original, const Weights* replacement) {
    original_ = original;
    replacement_ = replacement;
  }
  // Rows [first, rows) after the final norm, in the basis of the checkpoint, and with the width of the embedding: what the layers
  // of other programs call the last hidden states. Valid until the next call.
  Buffer output_states(uint32_t first, uint32_t rows);
  void read_states(Buffer states, float* out, size_t floats) const { model_.backend().download(states, out, floats); }
  // What the head reads of rows [first, rows), embedding size numbers each; valid until the next call.
  Buffer final_hidden(uint32_t first, uint32_t rows);
  // Logits of rows [first, rows) on the host: (rows - first) x vocabulary size.
  void logits(uint32_t first, uint32_t rows, float* out);
  // The same for the last row, on the device until they are read or others are computed.
  void compute_last_logits(uint32_t rows);
  // Index of the largest of them, -1 where one is not finite.
  int32_t largest_logit();
  void read_logits(float* out) const;
  // ln softmax(logits of row m)[targets[m - first]] of rows [first, rows); NaN where a logit is not finite.
  void log_probabilities(uint32_t first, uint32_t rows, const int32_t* targets, float* out);

 private:
  const Weights* used(const Weights& weights) const { return &weights == original_ ? replacement_ : &weights; }
  // Nothing where the model has no such bias.
  void add_bias(Role bias, uint32_t layer, Buffer x, uint32_t rows, uint32_t columns);
  // Nothing where the model has no such norm.
  void normalize(Buffer gain, Buffer bias, Buffer x, uint32_t rows, Buffer out);
  void attend(uint32_t layer, Buffer x, KvView cache, uint32_t position, uint32_t rows, LinearObserver* observer);
  void feed_forward(uint32_t layer, Buffer x, uint32_t rows, LinearObserver* observer);
  void compute_logits(uint32_t first, uint32_t rows);
  Buffer rows_from(uint32_t first) const;
  Buffer narrow(Buffer states, uint32_t rows);
  void set_angles(uint32_t position, uint32_t rows);

  const Model& model_;
  // rows x hidden, rows x hidden, rows x heads * head size (twice), rows x kv heads * head size (twice), ...
  Buffer hidden_, normed_, query_, key_, value_, attended_, gate_, up_, projected_, embedded_, angles_, logits_;
  std::vector<float> angle_table_;  // host copy for the current step: [rotary set][row][rotary size]
  bool beyond_switch_ = false;
  const Weights *original_ = nullptr, *replacement_ = nullptr;
  uint32_t angles_position_ = 0, angles_rows_ = 0;
};

}  // namespace shiftadd
