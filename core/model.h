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

class Model {
 public:
  ~Model();
  static Status open(const double* spec, size_t spec_length, std::vector<MappedFile> files,
                     std::unique_ptr<Backend> backend, std::unique_ptr<Model>* out);

  const ModelSpec& spec() const { return spec_; }
  Backend& backend() const { return *backend_; }
  // Null when the model has none of this role.
  const Weights* weights(Role role, uint32_t layer = 0) const { return weights_[index(role, layer)].get(); }
  Buffer vector(Role role, uint32_t layer = 0) const { return vectors_[index(role, layer)]; }
  bool has_own_head() const { return weights(Role::head) != nullptr; }
  const Weights& embedding() const { return *weights(Role::embedding); }
  const Weights& head() const { return *weights(has_own_head() ? Role::head : Role::embedding); }
  // The dense data of a matrix in the mapped files; null when it is packed.
  const DenseMatrix* dense(Role role, uint32_t layer) const;

  // A matrix of this dense model with a rotation of the residual stream folded in, fp16, rows x columns; the gains of the
  // norm in front too, which become 1. Not of a norm.
  Status rotated(const Rotation& rotation, Role role, uint32_t layer, std::span<uint16_t> out) const;

  // Reads all weight files once with the backend's threads and returns how many bytes they have.
  double read_files() const;
  uint64_t mapped_bytes() const { return mapped_bytes_; }
  uint64_t heap_bytes() const { return heap_bytes_; }

 private:
  Model() = default;
  static size_t index(Role role, uint32_t layer) { return size_t{layer} * kRoleCount + static_cast<size_t>(role); }
  Status load(const TensorSpec& tensor);
  void give_back(const TensorSpec& tensor) const;
  Status load_vector(const TensorSpec& tensor, const DenseMatrix& matrix);
  Status check_scales(const TensorSpec& tensor, const PackedMatrix& matrix) const;
  Status bytes_of(const FileRange& range, size_t alignment, const void** out);

  ModelSpec spec_;
  std::vector<MappedFile> files_;
  std::unique_ptr<Backend> backend_;  // destroyed after the weights below, which it made
  std::vector<std::unique_ptr<Weights>> weights_;  // [layer][role], as the next two
  std::vector<Buffer> vectors_;
  std::vector<DenseMatrix> dense_;
  std::vector<std::unique_ptr<uint64_t[]>> aligned_copies_;  // on the host, whatever the backend
  uint64_t mapped_bytes_ = 0, heap_bytes_ = 0;
};

}  // namespace shiftadd
