#include "core/c_api.h"

#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/cpu_features.h"
#include "backends/cpu/cpu_topology.h"
#include "backends/cuda/cuda_library.h"
#include "core/c_api_handles.h"
#include "core/quantizer/model_quantizer.h"
#include "core/session.h"

using namespace shiftadd;

struct sa_session {
  std::unique_ptr<Session> session;
};
struct sa_quantizer {
  std::unique_ptr<ModelQuantizer> quantizer;
};

namespace {

thread_local std::string last_error;

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

Status open_backend(const char* name, const CpuOptions& cpu, std::unique_ptr<Backend>* out) {
  if (name == nullptr || std::strcmp(name, "cpu") == 0) return make_cpu_backend(cpu, out);
  if (std::strcmp(name, "cuda") != 0) return invalid_argument("the backend must be \"cpu\" or \"cuda\"");
  CudaOptions cuda;
  cuda.threads = cpu.threads;
  cuda.kv_type = cpu.kv_type;
  return open_cuda_library(nullptr, cuda, out);
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

sa_status shiftadd::finish(const Status& status) {
  if (!status.ok()) last_error = status.message;
  return static_cast<sa_status>(status.code);
}

int32_t sa_version(void) { return SA_API_VERSION; }
const char* sa_last_error(void) { return last_error.c_str(); }

sa_status sa_device_describe(const char* isa, sa_device* out) {
  if (out == nullptr) return null_argument();
  const Kernels* kernels = nullptr;
  if (Status status = choose_kernels(isa, &kernels); !status.ok()) return finish(status);
  *out = {"cpu", kernels->isa, allowed_cores()};
  return 0;
}

sa_status sa_model_open(const double* spec, size_t spec_length, const char* const* paths, size_t path_count,
                        const sa_model_options* options, sa_model** out) {
  if (spec == nullptr || (paths == nullptr && path_count > 0) || options == nullptr || out == nullptr)
    return null_argument();
  if (options->precision != 0 && options->precision != 1) return finish(invalid_argument("precision must be 0 or 1"));
  CpuOptions cpu;
  cpu.threads = options->threads;
  cpu.precision = static_cast<Precision>(options->precision);
  if (options->kv_type != 0 && options->kv_type != 1) return finish(invalid_argument("kv_type must be 0 or 1"));
  cpu.kv_type = static_cast<KvType>(options->kv_type);
  cpu.isa = options->isa;
  std::unique_ptr<Backend> backend;
  if (Status status = open_backend(options->backend, cpu, &backend); !status.ok()) return finish(status);
  auto handle = std::make_unique<sa_model>();
  handle->precision = cpu.precision;
  handle->kv_type = cpu.kv_type;
  const std::vector<std::string> files(paths, paths + path_count);
  if (Status status = Model::open(spec, spec_length, files, std::move(backend), &handle->model); !status.ok())
    return finish(status);
  *out = handle.release();
  return 0;
}

sa_status sa_model_describe(const sa_model* model, sa_model_info* out) {
  if (model == nullptr || out == nullptr) return null_argument();
  const Model& m = *model->model;
  *out = {m.backend().isa(), m.backend().threads(), static_cast<int32_t>(model->precision),
          static_cast<int32_t>(model->kv_type),
          static_cast<double>(m.mapped_bytes()), static_cast<double>(m.heap_bytes())};
  return 0;
}

sa_status sa_model_rotated(const sa_model* model, const int8_t* signs, size_t sign_count, const int8_t* matrix, int32_t size,
                           int32_t role, int32_t layer, uint16_t* out, size_t out_count) {
  if (model == nullptr || signs == nullptr || matrix == nullptr || out == nullptr) return null_argument();
  if (size < 1 || size > static_cast<int32_t>(Rotation::kMaxSize) || role < 0 || role >= static_cast<int32_t>(kRoleCount) || layer < 0)
    return finish(invalid_argument("the size, role or layer is out of range"));
  Rotation rotation;
  rotation.size = static_cast<uint32_t>(size);
  rotation.signs.assign(signs, signs + sign_count);
  rotation.matrix.assign(matrix, matrix + size_t{rotation.size} * rotation.size);
  return finish(model->model->rotated(rotation, static_cast<Role>(role), static_cast<uint32_t>(layer), {out, out_count}));
}

sa_status sa_model_measure_read(const sa_model* model, double* bytes_per_second) {
  if (model == nullptr || bytes_per_second == nullptr) return null_argument();
  *bytes_per_second = model->model->measure_read();
  return 0;
}

void sa_model_close(sa_model* model) { delete model; }

sa_status sa_session_open(sa_model* model, int32_t context_size, sa_session** out) {
  if (model == nullptr || out == nullptr) return null_argument();
  if (context_size < 1) return finish(invalid_argument("the context size must be at least 1"));
  auto handle = std::make_unique<sa_session>();
  if (Status status = Session::open(*model->model, static_cast<uint32_t>(context_size), &handle->session); !status.ok())
    return finish(status);
  *out = handle.release();
  return 0;
}

void sa_session_close(sa_session* session) { delete session; }

sa_status sa_session_seed(sa_session* session, uint64_t seed) {
  if (session == nullptr) return null_argument();
  session->session->seed(seed);
  return 0;
}

sa_status sa_session_prefill(sa_session* session, const int32_t* tokens, size_t count, const int32_t* cancel) {
  if (session == nullptr || tokens == nullptr) return null_argument();
  return finish(session->session->prefill({tokens, count}, Cancel(cancel)));
}

sa_status sa_session_prefill_logits(sa_session* session, const int32_t* tokens, size_t count, float* out,
                                    size_t out_count, const int32_t* cancel) {
  if (session == nullptr || tokens == nullptr || out == nullptr) return null_argument();
  return finish(session->session->prefill_logits({tokens, count}, {out, out_count}, Cancel(cancel)));
}

sa_status sa_session_sample(sa_session* session, const sa_sampling* sampling, int32_t* token) {
  if (session == nullptr || sampling == nullptr || token == nullptr) return null_argument();
  if (sampling->top_k < 0 || sampling->repetition_window < 0)
    return finish(invalid_argument("top_k and repetition_window must not be negative"));
  const Sampling converted{sampling->temperature,        static_cast<uint32_t>(sampling->top_k),
                           sampling->top_p,              sampling->min_p,
                           sampling->repetition_penalty, static_cast<uint32_t>(sampling->repetition_window)};
  return finish(session->session->sample(converted, token));
}

sa_status sa_session_decode_draft(sa_session* session, int32_t token, const int32_t* draft, size_t count,
                                  int32_t* tokens, int32_t* produced, const int32_t* cancel) {
  if (session == nullptr || (draft == nullptr && count > 0) || tokens == nullptr || produced == nullptr)
    return null_argument();
  return finish(session->session->decode_draft(token, {draft, count}, tokens, produced, Cancel(cancel)));
}

sa_status sa_session_rewind(sa_session* session, int32_t position) {
  if (session == nullptr) return null_argument();
  if (position < 0) return finish(invalid_argument("the position must not be negative"));
  return finish(session->session->rewind(static_cast<uint32_t>(position)));
}

sa_status sa_session_logits(const sa_session* session, float* out, size_t count) {
  if (session == nullptr || out == nullptr) return null_argument();
  return finish(session->session->logits({out, count}));
}

sa_status sa_session_evaluate(sa_session* session, const int32_t* tokens, size_t count, float* log_probabilities,
                              const int32_t* cancel) {
  if (session == nullptr || tokens == nullptr || log_probabilities == nullptr) return null_argument();
  return finish(session->session->evaluate({tokens, count}, {log_probabilities, count == 0 ? 0 : count - 1},
                                           Cancel(cancel)));
}

sa_status sa_session_describe(const sa_session* session, sa_session_info* out) {
  if (session == nullptr || out == nullptr) return null_argument();
  const Session& s = *session->session;
  *out = {static_cast<int32_t>(s.position()), static_cast<int32_t>(s.context_size()),
          static_cast<double>(s.kv_cache_bytes()), static_cast<double>(s.scratch_bytes())};
  return 0;
}

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
