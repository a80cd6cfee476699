#include "core/model.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace shiftadd {
namespace {

constexpr size_t kPlaneAlignment = 64;  // of the model file: a block never crosses a cache line

}  // namespace

Model::~Model() {
  if (backend_ == nullptr) return;
  for (Buffer vector : vectors_) backend_->release(vector);
}

Status Model::open(const double* spec, size_t spec_length, std::vector<MappedFile> files,
                   std::unique_ptr<Backend> backend, std::unique_ptr<Model>* out) {
  std::unique_ptr<Model> model(new Model());
  SHIFTADD_TRY(parse_model_spec(spec, spec_length, files.size(), &model->spec_));
  model->files_ = std::move(files);
  model->backend_ = std::move(backend);
  const size_t slots = size_t{model->spec_.layers} * kRoleCount;
  model->weights_.resize(slots);
  model->vectors_.resize(slots);
  model->dense_.resize(slots);
  bool replaced = true;
  const std::vector<TensorSpec>& tensors = model->spec_.tensors;
  for (size_t i = 0; i < tensors.size(); ++i) {
    SHIFTADD_TRY(model->load(tensors[i]));
    const Weights* weights = model->weights(tensors[i].role, tensors[i].layer);
    if (weights == nullptr) continue;  // a vector, of which the backend has floats
    replaced = replaced && weights->replaces_file();
    // Of a stored tensor with several parts, which follow each other, after the last.
    const bool again = i + 1 < tensors.size() && tensors[i + 1].data.file == tensors[i].data.file && tensors[i + 1].data.offset == tensors[i].data.offset;
    if (weights->replaces_file() && !again) model->give_back(tensors[i]);
  }
  if (replaced)
    for (const MappedFile& file : model->files_) file.give_back(0, file.size());
  *out = std::move(model);
  return ok_status();
}

const DenseMatrix* Model::dense(Role role, uint32_t layer) const {
  const DenseMatrix& matrix = dense_[index(role, layer)];
  return matrix.data == nullptr ? nullptr : &matrix;
}

Status Model::rotated(const Rotation& rotation, Role role, uint32_t layer, std::span<uint16_t> out) const {
  if (layer >= spec_.layers || (layer > 0 && !is_in_block(role))) return invalid_argument("there is no such layer");
  const DenseMatrix* matrix = dense(role, layer);
  if (!spec_.rotation.none() || matrix == nullptr || is_vector(role))
    return invalid_argument("only a dense matrix can be rotated, and only once");
  if (rotation.signs.size() != spec_.hidden_size || out.size() != size_t{matrix->rows} * matrix->columns)
    return invalid_argument("the rotation or the result does not have the size of the matrix");
  const bool to_stream = role == Role::attention_output || role == Role::down;
  if ((to_stream ? matrix->rows : matrix->columns) != spec_.hidden_size)
    return invalid_argument("the matrix does not touch the residual stream");
  SHIFTADD_TRY(rotation.check());
  const bool from_attention_norm = role == Role::query || role == Role::key || role == Role::value;
  const bool from_feed_forward_norm = role == Role::gate || role == Role::up;
  std::vector<float> gain;
  if (from_attention_norm || from_feed_forward_norm) {
    gain.resize(spec_.hidden_size);
    const Role norm = from_attention_norm ? Role::attention_norm : Role::feed_forward_norm;
    backend_->download(vector(norm, layer), gain.data(), gain.size());
  }
  return rotate_matrix(rotation, *matrix, to_stream ? RotatedSide::outputs : RotatedSide::inputs,
                       gain.empty() ? nullptr : gain.data(), *backend_, out.data());
}

double Model::read_files() const {
  volatile uint64_t sink = 0;  // keeps the reads
  double bytes = 0;
  for (const MappedFile& file : files_) {
    sink = sink + backend_->read({file.data(), static_cast<size_t>(file.size())});
    bytes += static_cast<double>(file.size());
  }
  return bytes;
}

Status Model::bytes_of(const FileRange& range, size_t alignment, const void** out) {
  const MappedFile& file = files_[range.file];
  if (range.offset > file.size() || range.bytes > file.size() - range.offset)
    return bad_format(file.path() + " ends at byte " + std::to_string(file.size()) + " but a tensor needs bytes " +
                      std::to_string(range.offset) + " to " + std::to_string(range.offset + range.bytes));
  if (range.offset % alignment != 0) {
    if (alignment == kPlaneAlignment)
      return bad_format(file.path() + ": the planes at byte " + std::to_string(range.offset) + " are not aligned to " +
                        std::to_string(alignment) + " bytes");
    // Safetensors does not promise aligned elements; such a tensor is copied to where they are.
    std::unique_ptr<uint64_t[]> copy(new (std::nothrow) uint64_t[range.bytes / sizeof(uint64_t) + 1]);
    if (copy == nullptr) return out_of_memory("cannot allocate " + std::to_string(range.bytes) + " bytes");
    std::memcpy(copy.get(), file.data() + range.offset, range.bytes);
    *out = copy.get();
    aligned_copies_.push_back(std::move(copy));
    heap_bytes_ += range.bytes;
    return ok_status();
  }
  *out = file.data() + range.offset;
  mapped_bytes_ += range.bytes;
  return ok_status();
}

Status Model::check_scales(const TensorSpec& tensor, const PackedMatrix& matrix) const {
  const bool floats = tensor.float_scales;
  for (size_t i = 0; i < tensor.shape.scale_count(); ++i)
    if (floats ? !valid_float_scale(matrix.float_scales[i]) : !valid_scale(matrix.scales[i]))
      return bad_format(files_[tensor.scales.file].path() + ": the " + name_of(tensor) + " has an invalid scale" +
                        (floats ? ", no number from 0 to 2^101," : " code") + " at byte " +
                        std::to_string(tensor.scales.offset + (floats ? sizeof(float) : sizeof(uint16_t)) * i));
  return ok_status();
}

Status Model::load_vector(const TensorSpec& tensor, const DenseMatrix& matrix) {
  std::vector<float> floats(matrix.rows);
  for (uint32_t r = 0; r < matrix.rows; ++r) {
    read_row(matrix, r, &floats[r]);
    floats[r] += tensor.added;
  }
  Buffer& vector = vectors_[index(tensor.role, tensor.layer)];
  SHIFTADD_TRY(backend_->allocate(floats.size() * sizeof(float), &vector));
  backend_->upload(floats.data(), vector, floats.size());
  heap_bytes_ += vector.bytes;
  return ok_status();
}

void Model::give_back(const TensorSpec& tensor) const {
  const auto range = [&](const FileRange& part) { files_[part.file].give_back(part.offset, part.bytes); };
  range(tensor.data);
  if (!tensor.packed) return;
  range(tensor.scales);
  if (tensor.shape.has_row_scales) range(tensor.row_scales);
}

Status Model::load(const TensorSpec& tensor) {
  Weights* weights = nullptr;
  if (tensor.packed) {
    PackedMatrix matrix{tensor.shape};
    const void *planes = nullptr, *scales = nullptr, *row_scales = nullptr;
    SHIFTADD_TRY(bytes_of(tensor.data, kPlaneAlignment, &planes));
    SHIFTADD_TRY(bytes_of(tensor.scales, tensor.float_scales ? sizeof(float) : sizeof(uint16_t), &scales));
    if (tensor.shape.has_row_scales) SHIFTADD_TRY(bytes_of(tensor.row_scales, 2, &row_scales));
    matrix.planes = static_cast<const uint8_t*>(planes);
    if (tensor.float_scales) matrix.float_scales = static_cast<const float*>(scales);
    else matrix.scales = static_cast<const uint16_t*>(scales);
    matrix.row_scales = static_cast<const uint16_t*>(row_scales);
    SHIFTADD_TRY(check_scales(tensor, matrix));
    SHIFTADD_TRY(backend_->prepare(matrix, &weights));
  } else {
    DenseMatrix matrix = tensor.dense;
    SHIFTADD_TRY(bytes_of(tensor.data, format_of(matrix.dtype).alignment, &matrix.data));
    dense_[index(tensor.role, tensor.layer)] = matrix;
    if (is_vector(tensor.role)) return load_vector(tensor, matrix);
    SHIFTADD_TRY(backend_->prepare(matrix, &weights));
  }
  heap_bytes_ += weights->heap_bytes();
  weights_[index(tensor.role, tensor.layer)].reset(weights);
  return ok_status();
}

}  // namespace shiftadd
