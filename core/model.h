// A model: hyperparameters and weights on a backend. Immutable once open, shared by its sessions.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/mapped_file.h"
#include "core/model_spec.h"

namespace shiftadd {

struct Block {
  Buffer attention_norm, feed_forward_norm;  // gains, hidden_size
  std::unique_ptr<Weights> query, key, value, attention_output, gate, up, down;
};

class Model {
 public:
  ~Model();
  static Status open(const double* spec, size_t spec_length, const std::vector<std::string>& paths,
                     std::unique_ptr<Backend> backend, std::unique_ptr<Model>* out);

  const ModelSpec& spec() const { return spec_; }
  Backend& backend() const { return *backend_; }
  const Weights& embedding() const { return *embedding_; }
  const Weights& head() const { return head_ ? *head_ : *embedding_; }
  bool has_own_head() const { return head_ != nullptr; }
  Buffer final_norm() const { return final_norm_; }
  const Block& block(uint32_t layer) const { return blocks_[layer]; }
  // The dense data of a matrix in the mapped files; null when it is packed.
  const DenseMatrix* dense(Role role, uint32_t layer) const;

  // A matrix of this dense model with a rotation of the residual stream folded in, fp16, rows x columns; the gains of the
  // norm in front too, which become 1. Not of a norm.
  Status rotated(const Rotation& rotation, Role role, uint32_t layer, std::span<uint16_t> out) const;

  // Bytes per second at which the weight files can be read by the backend's threads: the best of several passes.
  double measure_read() const;
  uint64_t mapped_bytes() const { return mapped_bytes_; }
  uint64_t heap_bytes() const { return heap_bytes_; }

 private:
  Model() = default;
  Status load(const TensorSpec& tensor);
  Status check_scales(const TensorSpec& tensor, const PackedMatrix& matrix) const;
  Status bytes_of(const FileRange& range, size_t alignment, const void** out);

  ModelSpec spec_;
  std::vector<MappedFile> files_;
  std::unique_ptr<Backend> backend_;  // destroyed after the weights below, which it made
  std::unique_ptr<Weights> embedding_, head_;
  Buffer final_norm_;
  std::vector<Block> blocks_;
  std::vector<DenseMatrix> dense_;  // [layer][role]
  std::vector<Buffer> aligned_copies_;
  uint64_t mapped_bytes_ = 0, heap_bytes_ = 0;
};

}  // namespace shiftadd
