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
#include "core/session.h"

using namespace shiftadd;

struct sa_session {
  std::unique_ptr<Session> session;
};

namespace {

thread_local std::string last_error;

Status open_backend(const char* name, int32_t device, const CpuOptions& cpu, std::unique_ptr<Backend>* out) {
  if (name == nullptr || std::strcmp(name, "cpu") == 0) return make_cpu_backend(cpu, out);
  if (std::strcmp(name, "cuda") != 0) return invalid_argument("the backend must be \"cpu\" or \"cuda\"");
  CudaOptions cuda;
  cuda.device = device;
  cuda.threads = cpu.threads;
  cuda.kv_type = cpu.kv_type;
  return open_cuda_library(nullptr, cuda, out);
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

sa_status sa_gpu_describe(int32_t device, sa_gpu* out) {
  if (out == nullptr) return null_argument();
  CudaDeviceInfo info;
  if (Status status = describe_cuda_device(nullptr, device, &info); !status.ok()) return finish(status);
  *out = {info.count, info.capability, info.multiprocessors, info.integrated, {}, {}};
  std::memcpy(out->name, info.name, sizeof out->name);
  std::memcpy(out->uuid, info.uuid, sizeof out->uuid);
  return 0;
}

static sa_status open_model(const double* spec, size_t spec_length, std::vector<MappedFile> files,
                            const sa_model_options& options, sa_model** out) {
  if (options.precision != 0 && options.precision != 1) return finish(invalid_argument("precision must be 0 or 1"));
  if (options.kv_type < 0 || options.kv_type > 2) return finish(invalid_argument("kv_type must be 0, 1 or 2"));
  CpuOptions cpu;
  cpu.threads = options.threads;
  cpu.precision = static_cast<Precision>(options.precision);
  cpu.kv_type = static_cast<KvType>(options.kv_type);
  cpu.isa = options.isa;
  std::unique_ptr<Backend> backend;
  if (Status status = open_backend(options.backend, options.device, cpu, &backend); !status.ok()) return finish(status);
  auto handle = std::make_unique<sa_model>();
  handle->precision = cpu.precision;
  handle->kv_type = cpu.kv_type;
  if (Status status = Model::open(spec, spec_length, std::move(files), std::move(backend), &handle->model); !status.ok())
    return finish(status);
  *out = handle.release();
  return 0;
}

sa_status sa_model_open(const double* spec, size_t spec_length, const char* const* paths, size_t path_count,
                        const sa_model_options* options, sa_model** out) {
  if (spec == nullptr || (paths == nullptr && path_count > 0) || options == nullptr || out == nullptr)
    return null_argument();
  std::vector<MappedFile> files;
  for (size_t i = 0; i < path_count; ++i)
    if (paths[i] == nullptr) return null_argument();
  const std::vector<std::string> names(paths, paths + path_count);
  if (Status status = MappedFile::open_all(names, &files); !status.ok()) return finish(status);
  return open_model(spec, spec_length, std::move(files), *options, out);
}

sa_status sa_model_open_memory(const double* spec, size_t spec_length, const sa_file_bytes* files, size_t file_count,
                               const sa_model_options* options, sa_model** out) {
  if (spec == nullptr || (files == nullptr && file_count > 0) || options == nullptr || out == nullptr)
    return null_argument();
  std::vector<MappedFile> views;
  for (size_t i = 0; i < file_count; ++i) {
    if (files[i].path == nullptr || files[i].data == nullptr) return null_argument();
    if (reinterpret_cast<uintptr_t>(files[i].data) % 64 != 0)
      return finish(invalid_argument("the bytes of a file must begin at a multiple of 64"));
    views.push_back(MappedFile::view(files[i].path, files[i].data, files[i].size));
  }
  return open_model(spec, spec_length, std::move(views), *options, out);
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

sa_status sa_model_read_files(const sa_model* model, double* bytes) {
  if (model == nullptr || bytes == nullptr) return null_argument();
  *bytes = model->model->read_files();
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

sa_status sa_session_append(sa_session* session, const int32_t* tokens, size_t count, const int32_t* cancel) {
  if (session == nullptr || tokens == nullptr) return null_argument();
  return finish(session->session->append({tokens, count}, Cancel(cancel)));
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

sa_status sa_session_constrain(sa_session* session, const sa_grammar* grammar, int32_t budget) {
  if (session == nullptr) return null_argument();
  if (budget < 0) return finish(invalid_argument("the budget must not be negative"));
  return finish(session->session->constrain(grammar == nullptr ? nullptr : grammar->automaton, static_cast<uint32_t>(budget)));
}

sa_status sa_session_is_complete(const sa_session* session, int32_t* complete) {
  if (session == nullptr || complete == nullptr) return null_argument();
  *complete = session->session->is_complete() ? 1 : 0;
  return 0;
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
          static_cast<double>(s.kv_cache_bytes()), static_cast<double>(s.scratch_bytes()),
          static_cast<double>(s.position_bytes()), s.beyond_switch() ? 1 : 0};
  return 0;
}

sa_status sa_session_save(const sa_session* session, int32_t first, int32_t count, uint8_t* out, size_t bytes) {
  if (session == nullptr || out == nullptr) return null_argument();
  if (first < 0 || count < 0) return finish(invalid_argument("positions must not be negative"));
  return finish(session->session->save(static_cast<uint32_t>(first), static_cast<uint32_t>(count), {out, bytes}));
}

sa_status sa_session_restore(sa_session* session, const int32_t* tokens, size_t count, const uint8_t* saved, size_t bytes,
                             int32_t beyond_switch) {
  if (session == nullptr || tokens == nullptr || saved == nullptr) return null_argument();
  return finish(session->session->restore({tokens, count}, {saved, bytes}, beyond_switch != 0));
}

sa_status sa_session_copy(sa_session* session, const sa_session* from, const int32_t* tokens, size_t count) {
  if (session == nullptr || from == nullptr || (tokens == nullptr && count > 0)) return null_argument();
  return finish(session->session->copy(*from->session, {tokens, count}));
}

sa_status sa_session_embed(sa_session* session, const int32_t* tokens, size_t count, int32_t pooling, float* out, size_t count_out,
                           const int32_t* cancel) {
  if (session == nullptr || tokens == nullptr || out == nullptr) return null_argument();
  if (pooling < 0 || pooling > 2) return finish(invalid_argument("pooling must be 0, 1 or 2"));
  return finish(session->session->embed({tokens, count}, static_cast<Pooling>(pooling), {out, count_out}, Cancel(cancel)));
}
