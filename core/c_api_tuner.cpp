// The tuner's part of the C ABI.
#include <algorithm>
#include <cmath>
#include <memory>

#include "core/c_api_handles.h"
#include "core/tuner/tuner.h"

using namespace shiftadd;

struct sa_tuner {
  std::unique_ptr<Tuner> tuner;
};

namespace {

// Of a negative number nothing that the tuner accepts.
uint32_t natural(int32_t value) { return value < 0 ? UINT32_MAX : static_cast<uint32_t>(value); }

std::span<const int32_t> tokens_of(const int32_t* tokens, int32_t windows, int32_t window) {
  return {tokens, windows < 0 || window < 0 ? 0 : static_cast<size_t>(windows) * static_cast<size_t>(window)};
}

TuneRates rates_from(const sa_tune_rates& rates) { return {{rates.scales, rates.row_scales, rates.gains}}; }

}  // namespace

sa_status sa_tuner_open(sa_model* model, sa_tuner** out) {
  if (model == nullptr || out == nullptr) return null_argument();
  auto handle = std::make_unique<sa_tuner>();
  if (Status status = Tuner::open(*model->model, &handle->tuner); !status.ok()) return finish(status);
  *out = handle.release();
  return 0;
}

void sa_tuner_close(sa_tuner* tuner) { delete tuner; }

sa_status sa_tuner_set(sa_tuner* tuner, int32_t role, int32_t layer, const sa_packed_matrix* matrix) {
  if (tuner == nullptr || matrix == nullptr || matrix->plane_data == nullptr || matrix->scales == nullptr ||
      (matrix->row_scales == nullptr && matrix->row_scale_count > 0))
    return null_argument();
  PackedWeights weights;
  weights.shape = {natural(matrix->rows), natural(matrix->columns), natural(matrix->planes), natural(matrix->group_rows),
                   natural(matrix->group_columns), matrix->scale_exponent, matrix->row_scales != nullptr};
  weights.planes.assign(matrix->plane_data, matrix->plane_data + matrix->plane_bytes);
  weights.scales.assign(matrix->scales, matrix->scales + matrix->scale_count);
  if (matrix->row_scales != nullptr)
    weights.row_scales.assign(matrix->row_scales, matrix->row_scales + matrix->row_scale_count);
  return finish(tuner->tuner->set_matrix(static_cast<Role>(natural(role)), natural(layer), std::move(weights)));
}

sa_status sa_tuner_step(sa_tuner* tuner, const int32_t* tokens, int32_t windows, int32_t window,
                        const sa_tune_rates* rates, double* loss, const int32_t* cancel) {
  if (tuner == nullptr || tokens == nullptr || rates == nullptr || loss == nullptr) return null_argument();
  return finish(tuner->tuner->step(tokens_of(tokens, windows, window), natural(windows), natural(window),
                                   rates_from(*rates), loss, Cancel(cancel)));
}

sa_status sa_tuner_loss(sa_tuner* tuner, const int32_t* tokens, int32_t windows, int32_t window, double* loss,
                        const int32_t* cancel) {
  if (tuner == nullptr || tokens == nullptr || loss == nullptr) return null_argument();
  return finish(tuner->tuner->loss(tokens_of(tokens, windows, window), natural(windows), natural(window), loss,
                                   Cancel(cancel)));
}

sa_status sa_tuner_begin_blocks(sa_tuner* tuner, const int32_t* tokens, int32_t windows, int32_t window) {
  if (tuner == nullptr || tokens == nullptr) return null_argument();
  return finish(tuner->tuner->begin_blocks(tokens_of(tokens, windows, window), natural(windows), natural(window)));
}

sa_status sa_tuner_block_step(sa_tuner* tuner, const uint32_t* chosen, size_t count, const sa_tune_rates* rates,
                              double* loss, const int32_t* cancel) {
  if (tuner == nullptr || chosen == nullptr || rates == nullptr || loss == nullptr) return null_argument();
  return finish(tuner->tuner->block_step({chosen, count}, rates_from(*rates), loss, Cancel(cancel)));
}

sa_status sa_tuner_next_block(sa_tuner* tuner, const int32_t* cancel) {
  if (tuner == nullptr) return null_argument();
  return finish(tuner->tuner->next_block(Cancel(cancel)));
}

sa_status sa_tuner_describe(const sa_tuner* tuner, int32_t role, int32_t layer, sa_packed_info* out) {
  if (tuner == nullptr || out == nullptr) return null_argument();
  PackedWeights weights;
  if (Status status = tuner->tuner->matrix(static_cast<Role>(natural(role)), natural(layer), &weights); !status.ok())
    return finish(status);
  const PackedShape& shape = weights.shape;
  const auto integer = [](uint32_t value) { return static_cast<int32_t>(value); };
  *out = {integer(shape.rows), integer(shape.columns), integer(shape.planes), integer(shape.group_rows),
          integer(shape.group_columns), shape.scale_exponent, shape.has_row_scales ? 1 : 0,
          static_cast<double>(weights.planes.size()), static_cast<double>(weights.scales.size()),
          static_cast<double>(weights.row_scales.size()), NAN, NAN, NAN, 0, 0, 0};
  return 0;
}

sa_status sa_tuner_copy(const sa_tuner* tuner, int32_t role, int32_t layer, uint16_t* scales, uint16_t* row_scales) {
  if (tuner == nullptr || scales == nullptr) return null_argument();
  PackedWeights weights;
  if (Status status = tuner->tuner->matrix(static_cast<Role>(natural(role)), natural(layer), &weights); !status.ok())
    return finish(status);
  std::copy(weights.scales.begin(), weights.scales.end(), scales);
  if (row_scales != nullptr) std::copy(weights.row_scales.begin(), weights.row_scales.end(), row_scales);
  return 0;
}

sa_status sa_tuner_gains(const sa_tuner* tuner, int32_t role, int32_t layer, float* out, size_t count) {
  if (tuner == nullptr || out == nullptr) return null_argument();
  return finish(tuner->tuner->gains(static_cast<Role>(natural(role)), natural(layer), {out, count}));
}

size_t sa_tuner_state_size(sa_tuner* tuner) { return tuner == nullptr ? 0 : tuner->tuner->state_size(); }

sa_status sa_tuner_save_state(sa_tuner* tuner, float* out, size_t count) {
  if (tuner == nullptr || out == nullptr) return null_argument();
  return finish(tuner->tuner->save_state({out, count}));
}

sa_status sa_tuner_load_state(sa_tuner* tuner, const float* state, size_t count) {
  if (tuner == nullptr || state == nullptr) return null_argument();
  return finish(tuner->tuner->load_state({state, count}));
}
