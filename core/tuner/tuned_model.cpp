#include "core/tuner/tuned_model.h"

#include <algorithm>
#include <string>

namespace shiftadd {
namespace {

Factor factor_of(const DenseMatrix& matrix) {
  const size_t first = size_t{matrix.map.first} * row_bytes(matrix.dtype, matrix.columns);
  return {static_cast<const uint8_t*>(matrix.data) + first, matrix.columns, false, matrix.dtype};
}

// Whether the product can read it: rows one after the other, no blocks.
bool is_plain(const DenseMatrix& matrix) {
  return format_of(matrix.dtype).values == 1 && !matrix.transposed && matrix.map.inner == 1 && matrix.map.middle == 1 &&
         matrix.map.outer_stride == 1;
}

}  // namespace

Status TunedModel::open(const Model& dense, std::unique_ptr<TunedModel>* out) {
  for (const TensorSpec& tensor : dense.spec().tensors) {
    if (tensor.packed) return unsupported("the model is packed already: tuning compares with its dense checkpoint");
    if (!is_vector(tensor.role) && !is_plain(tensor.dense))
      return unsupported("the " + name_of(tensor) + " is not stored row by row in floats: tune with the rotation on");
  }
  if (!dense.spec().llama_like()) return unsupported("tuning knows the gradients of blocks like Llama's alone");
  std::unique_ptr<TunedModel> tuned(new TunedModel(dense));
  const uint32_t layers = dense.spec().layers;
  tuned->matrices_.resize(size_t{layers} * kBlockMatrices);
  for (uint32_t layer = 0; layer < layers; ++layer) {
    tuned->load_norm(dense.vector(Role::attention_norm, layer));
    tuned->load_norm(dense.vector(Role::feed_forward_norm, layer));
  }
  tuned->load_norm(dense.vector(Role::final_norm));
  *out = std::move(tuned);
  return ok_status();
}

void TunedModel::load_norm(Buffer gains) {
  Norm norm;
  norm.base.resize(spec().hidden_size);
  backend().download(gains, norm.base.data(), norm.base.size());
  norm.values = norm.base;
  norms_.push_back(std::move(norm));
}

std::unique_ptr<TunedMatrix>* TunedModel::slot(Role role, uint32_t layer) {
  if (role == Role::embedding) return layer == 0 ? &embedding_ : nullptr;
  if (role == Role::head) return layer == 0 && model_.has_own_head() ? &head_ : nullptr;
  const auto* index = std::find(std::begin(kMatrixRoles), std::end(kMatrixRoles), role);
  if (index == std::end(kMatrixRoles) || layer >= spec().layers) return nullptr;
  return &matrices_[size_t{layer} * kBlockMatrices + static_cast<size_t>(index - kMatrixRoles)];
}

TunedModel::Norm* TunedModel::norm(Role role, uint32_t layer) {
  if (role == Role::final_norm) return layer == 0 ? &norms_.back() : nullptr;
  if ((role != Role::attention_norm && role != Role::feed_forward_norm) || layer >= spec().layers) return nullptr;
  return &norms_[2 * size_t{layer} + (role == Role::feed_forward_norm)];
}

Status TunedModel::set_matrix(Role role, uint32_t layer, PackedWeights weights) {
  if (started_) return invalid_argument("set every matrix before the first step");
  std::unique_ptr<TunedMatrix>* target = slot(role, layer);
  if (target == nullptr) return invalid_argument("the model has no such matrix to tune");
  if (*target != nullptr) return invalid_argument("this matrix is set already");
  SHIFTADD_TRY(weights.shape.check());
  const DenseMatrix& dense = *model_.dense(role, layer);
  if (weights.shape.rows != dense.rows || weights.shape.columns != dense.columns)
    return invalid_argument("the packed matrix is " + std::to_string(weights.shape.rows) + " x " +
                            std::to_string(weights.shape.columns) + " but the dense one " + std::to_string(dense.rows) +
                            " x " + std::to_string(dense.columns));
  if (weights.planes.size() != weights.shape.plane_bytes() || weights.scales.size() != weights.shape.scale_count() ||
      weights.row_scales.size() != (weights.shape.has_row_scales ? weights.shape.rows : 0))
    return invalid_argument("the planes or scales of the packed matrix do not have the size of its shape");
  if (!std::all_of(weights.scales.begin(), weights.scales.end(), valid_scale))
    return invalid_argument("the packed matrix has an invalid scale code");
  *target = std::make_unique<TunedMatrix>(std::move(weights));
  return ok_status();
}

void TunedModel::start() {
  if (started_) return;
  started_ = true;
  for (const auto& matrix : matrices_)
    if (matrix != nullptr) matrix->attach(&parameters_);
  for (Norm& each : norms_) each.range = parameters_.add(ParameterFamily::gain, each.base.size());
}

void TunedModel::refresh(bool rounded) {
  for (const auto& matrix : matrices_)
    if (matrix != nullptr) matrix->refresh(backend(), parameters_, rounded);
  for (Norm& each : norms_)
    for (size_t i = 0; i < each.base.size(); ++i)
      each.values[i] = each.base[i] * (1 + parameters_.deltas(each.range)[i]);
}

void TunedModel::embed_dense(std::span<const int32_t> tokens, float* out) const {
  const DenseMatrix& matrix = *model_.dense(Role::embedding, 0);
  for (size_t i = 0; i < tokens.size(); ++i)
    read_row(matrix, static_cast<uint32_t>(tokens[i]), out + i * matrix.columns);
}

void TunedModel::embed_packed(std::span<const int32_t> tokens, float* out) const {
  if (embedding_ == nullptr) return embed_dense(tokens, out);
  backend().parallel(tokens.size(), [&](size_t i) {
    unpack_row(embedding_->weights().view(), static_cast<uint32_t>(tokens[i]), out + i * spec().hidden_size);
  });
}

BlockWeights TunedModel::dense_block(uint32_t layer) const {
  BlockWeights weights;
  for (size_t i = 0; i < kBlockMatrices; ++i) weights.matrices[i] = factor_of(*model_.dense(kMatrixRoles[i], layer));
  weights.attention_norm = norms_[2 * size_t{layer}].base.data();
  weights.feed_forward_norm = norms_[2 * size_t{layer} + 1].base.data();
  return weights;
}

BlockWeights TunedModel::packed_block(uint32_t layer) {
  BlockWeights weights = dense_block(layer);
  for (size_t i = 0; i < kBlockMatrices; ++i) {
    const TunedMatrix* matrix = matrices_[size_t{layer} * kBlockMatrices + i].get();
    if (matrix == nullptr) continue;
    const PackedShape& shape = matrix->weights().shape;
    decoded_[i].resize(size_t{shape.rows} * shape.columns);
    matrix->decode(backend(), decoded_[i].data());
    weights.matrices[i] = {decoded_[i].data(), shape.columns};
  }
  weights.attention_norm = norms_[2 * size_t{layer}].values.data();
  weights.feed_forward_norm = norms_[2 * size_t{layer} + 1].values.data();
  return weights;
}

Factor TunedModel::dense_head() const {
  return factor_of(*model_.dense(model_.has_own_head() ? Role::head : Role::embedding, 0));
}

Factor TunedModel::packed_head() {
  const TunedMatrix* matrix = model_.has_own_head() ? head_.get() : embedding_.get();
  if (matrix == nullptr) return dense_head();
  const PackedShape& shape = matrix->weights().shape;
  if (decoded_head_.empty()) {
    decoded_head_.resize(size_t{shape.rows} * shape.columns);
    matrix->decode(backend(), decoded_head_.data());
  }
  return {decoded_head_.data(), shape.columns};
}

void TunedModel::tuned_matrices(uint32_t layer, bool wanted[kBlockMatrices]) const {
  for (size_t i = 0; i < kBlockMatrices; ++i) wanted[i] = matrices_[size_t{layer} * kBlockMatrices + i] != nullptr;
}

void TunedModel::project_matrix(uint32_t layer, size_t index, const float* d_weights) {
  matrices_[size_t{layer} * kBlockMatrices + index]->project(backend(), d_weights, &parameters_);
}

void TunedModel::project_norm(Role role, uint32_t layer, const float* d_gain) {
  const Norm& target = *norm(role, layer);
  for (size_t i = 0; i < target.base.size(); ++i) parameters_.gradients(target.range)[i] = d_gain[i] * target.base[i];
}

std::vector<ParameterRange> TunedModel::block_parameters(uint32_t layer) const {
  std::vector<ParameterRange> ranges;
  for (size_t i = 0; i < kBlockMatrices; ++i)
    if (const TunedMatrix* matrix = matrices_[size_t{layer} * kBlockMatrices + i].get()) {
      ranges.push_back(matrix->scales());
      ranges.push_back(matrix->row_scales());
    }
  ranges.push_back(norms_[2 * size_t{layer}].range);
  ranges.push_back(norms_[2 * size_t{layer} + 1].range);
  return ranges;
}

Status TunedModel::matrix(Role role, uint32_t layer, PackedWeights* out) const {
  const std::unique_ptr<TunedMatrix>* source = const_cast<TunedModel*>(this)->slot(role, layer);
  if (source == nullptr || *source == nullptr) return not_found("this matrix was not set");
  *out = (*source)->tuned(parameters_);
  return ok_status();
}

Status TunedModel::gains(Role role, uint32_t layer, std::span<float> out) const {
  const Norm* source = const_cast<TunedModel*>(this)->norm(role, layer);
  if (source == nullptr) return not_found("the model has no such norm");
  if (out.size() != source->base.size()) return invalid_argument("the gains of a norm need room for hidden_size numbers");
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = source->base[i] * (1 + (started_ ? parameters_.deltas(source->range)[i] : 0));
  return ok_status();
}

}  // namespace shiftadd
