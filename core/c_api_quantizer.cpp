// The part of the C ABI that quantizes.
#include <algorithm>
#include <memory>
#include <vector>

#include "core/c_api_handles.h"
#include "core/quantizer/model_quantizer.h"

using namespace shiftadd;

struct sa_quantizer {
  std::unique_ptr<ModelQuantizer> quantizer;
};

namespace {

QuantizeSettings settings_from(const sa_quantize_settings& s) {
  QuantizeSettings settings;
  settings.planes = static_cast<uint32_t>(s.planes);
  settings.group_rows = static_cast<uint32_t>(s.group_rows);
  settings.group_columns = static_cast<uint32_t>(s.group_columns);
  settings.row_scales = s.row_scales != 0;
  settings.scale_terms = static_cast<uint32_t>(s.scale_terms);
  settings.fit_rounds = static_cast<uint32_t>(s.fit_rounds);
  settings.refits = static_cast<uint32_t>(s.refits);
  settings.sweeps = static_cast<uint32_t>(s.sweeps);
  settings.damping = s.damping;
  settings.identity = s.identity;
  return settings;
}

Status check_settings(const sa_quantize_settings& s) {
  if (s.planes < 1 || s.planes > 8) return invalid_argument("planes must be 1 to 8");
  if (s.group_rows < 1) return invalid_argument("group_rows must be at least 1");
  if (s.group_columns != 1 && s.group_columns != 8) return invalid_argument("group_columns must be 8 or 1");
  if (s.scale_terms < 1 || s.scale_terms > 4) return invalid_argument("scale_terms must be 1 to 4");
  if (s.fit_rounds < 0 || s.fit_rounds > 1000 || s.refits < 0 || s.refits > 100 || s.sweeps < 0 || s.sweeps > 100)
    return invalid_argument("fit_rounds, refits or sweeps is out of range");
  if (!(s.damping >= 0 && s.damping <= 10) || !(s.identity >= 0 && s.identity <= 1e6))
    return invalid_argument("damping or identity is out of range");
  return ok_status();
}

using QuantizeStep = Status (ModelQuantizer::*)(std::span<const QuantizeSettings>, const ModelQuantizer::Report&, Cancel);

sa_status run_quantizer(sa_quantizer* quantizer, const sa_quantize_settings* settings, size_t matrices,
                        int32_t candidates, QuantizeStep step, sa_progress progress, void* user, const int32_t* cancel) {
  if (quantizer == nullptr || settings == nullptr) return null_argument();
  if (candidates < 1 || candidates > 8) return finish(invalid_argument("candidates must be 1 to 8"));
  const size_t count = matrices * static_cast<size_t>(candidates);
  std::vector<QuantizeSettings> converted;
  for (size_t i = 0; i < count; ++i) {
    if (Status status = check_settings(settings[i]); !status.ok()) return finish(status);
    converted.push_back(settings_from(settings[i]));
  }
  const ModelQuantizer::Report report = [&](double done) {
    if (progress != nullptr) progress(user, done);
  };
  return finish((quantizer->quantizer.get()->*step)(converted, report, Cancel(cancel)));
}

const QuantizedMatrix* result_at(const sa_quantizer* quantizer, int32_t index) {
  if (quantizer == nullptr || index < 0) return nullptr;
  const auto results = quantizer->quantizer->results();
  return static_cast<size_t>(index) < results.size() ? &results[static_cast<size_t>(index)] : nullptr;
}

}  // namespace

sa_status sa_quantizer_open(sa_model* model, const int32_t* tokens, int32_t windows, int32_t window,
                            sa_quantizer** out) {
  if (model == nullptr || tokens == nullptr || out == nullptr) return null_argument();
  if (windows < 1 || window < 1) return finish(invalid_argument("windows and window must be at least 1"));
  auto handle = std::make_unique<sa_quantizer>();
  const size_t count = static_cast<size_t>(windows) * static_cast<size_t>(window);
  if (Status status = ModelQuantizer::open(*model->model, {tokens, count}, static_cast<uint32_t>(windows),
                                           static_cast<uint32_t>(window), &handle->quantizer);
      !status.ok())
    return finish(status);
  *out = handle.release();
  return 0;
}

void sa_quantizer_close(sa_quantizer* quantizer) { delete quantizer; }

sa_status sa_quantizer_open_sensitivity(sa_quantizer* quantizer, int32_t windows, int32_t window, const int32_t* cancel) {
  if (quantizer == nullptr) return null_argument();
  if (windows < 1 || window < 1) return finish(invalid_argument("windows and window must be at least 1"));
  return finish(quantizer->quantizer->open_sensitivity(static_cast<uint32_t>(windows), static_cast<uint32_t>(window),
                                                       Cancel(cancel)));
}

sa_status sa_quantizer_block(sa_quantizer* quantizer, const sa_quantize_settings* settings, int32_t candidates,
                             sa_progress progress, void* user, const int32_t* cancel) {
  if (quantizer == nullptr) return null_argument();
  return run_quantizer(quantizer, settings, quantizer->quantizer->block_roles().size(), candidates, &ModelQuantizer::block,
                       progress, user, cancel);
}

sa_status sa_quantizer_skip(sa_quantizer* quantizer, sa_progress progress, void* user, const int32_t* cancel) {
  if (quantizer == nullptr) return null_argument();
  const ModelQuantizer::Report report = [&](double done) {
    if (progress != nullptr) progress(user, done);
  };
  return finish(quantizer->quantizer->skip(report, Cancel(cancel)));
}

sa_status sa_quantizer_head(sa_quantizer* quantizer, const sa_quantize_settings* settings, int32_t candidates,
                            sa_progress progress, void* user, const int32_t* cancel) {
  if (quantizer == nullptr) return null_argument();
  return run_quantizer(quantizer, settings, quantizer->quantizer->head_matrices(), candidates, &ModelQuantizer::head,
                       progress, user, cancel);
}

sa_status sa_quantizer_measure(sa_quantizer* quantizer, int32_t index, double* kl, const int32_t* cancel) {
  if (quantizer == nullptr || kl == nullptr) return null_argument();
  if (index < 0) return finish(invalid_argument("there is no such quantized matrix"));
  return finish(quantizer->quantizer->measure(static_cast<size_t>(index), Cancel(cancel), kl));
}

int32_t sa_quantizer_count(const sa_quantizer* quantizer) {
  return quantizer == nullptr ? 0 : static_cast<int32_t>(quantizer->quantizer->results().size());
}

sa_status sa_quantizer_describe(const sa_quantizer* quantizer, int32_t index, sa_packed_info* out) {
  const QuantizedMatrix* result = result_at(quantizer, index);
  if (result == nullptr || out == nullptr) return finish(invalid_argument("there is no such quantized matrix"));
  const PackedShape& shape = result->weights.shape;
  const auto integer = [](uint32_t value) { return static_cast<int32_t>(value); };
  *out = {integer(shape.rows), integer(shape.columns), integer(shape.planes), integer(shape.group_rows),
          integer(shape.group_columns), shape.scale_exponent, shape.has_row_scales ? 1 : 0,
          static_cast<double>(result->weights.planes.size()), static_cast<double>(result->weights.scales.size()),
          static_cast<double>(result->weights.row_scales.size()), result->report.weight_error,
          result->report.output_error, result->report.criterion, result->report.damping_used,
          integer(result->report.dead_columns), result->report.plain_fit ? 1 : 0};
  return 0;
}

sa_status sa_quantizer_copy(const sa_quantizer* quantizer, int32_t index, uint8_t* planes, uint16_t* scales,
                            uint16_t* row_scales) {
  const QuantizedMatrix* result = result_at(quantizer, index);
  if (result == nullptr || planes == nullptr || scales == nullptr)
    return finish(invalid_argument("there is no such quantized matrix"));
  const PackedWeights& weights = result->weights;
  std::copy(weights.planes.begin(), weights.planes.end(), planes);
  std::copy(weights.scales.begin(), weights.scales.end(), scales);
  if (row_scales != nullptr) std::copy(weights.row_scales.begin(), weights.row_scales.end(), row_scales);
  return 0;
}
