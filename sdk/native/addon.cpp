// Node-API binding of the C ABI, one to one, in the shape of sdk/src/engine.ts. Validation for people happens in
// TypeScript; here every argument is only checked enough that no misuse can crash the process.
#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "core/c_api.h"
#include "sdk/native/job_queue.h"

namespace shiftadd {
namespace {

using Job = JobQueue::Job;

// ---- values ----

double number_of(const Napi::Object& object, const char* key, double fallback) {
  const Napi::Value value = object.Get(key);
  return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : fallback;
}

int32_t integer_of(const Napi::Object& object, const char* key, int32_t fallback) {
  const double value = number_of(object, key, fallback);
  return value >= -2147483648.0 && value <= 2147483647.0 ? static_cast<int32_t>(value) : fallback;
}

std::vector<int32_t> tokens_of(const Napi::Value& value) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) return {};
  const Napi::Int32Array array = value.As<Napi::Int32Array>();
  return std::vector<int32_t>(array.Data(), array.Data() + array.ElementLength());
}

sa_sampling sampling_of(const Napi::Value& value) {
  sa_sampling sampling{0, 0, 1, 0, 1, 64};
  if (!value.IsObject()) return sampling;
  const Napi::Object object = value.As<Napi::Object>();
  sampling.temperature = static_cast<float>(number_of(object, "temperature", 0));
  sampling.top_k = integer_of(object, "topK", 0);
  sampling.top_p = static_cast<float>(number_of(object, "topP", 1));
  sampling.min_p = static_cast<float>(number_of(object, "minP", 0));
  sampling.repetition_penalty = static_cast<float>(number_of(object, "repetitionPenalty", 1));
  sampling.repetition_window = integer_of(object, "repetitionWindow", 64);
  return sampling;
}

sa_quantize_settings settings_of(const Napi::Object& object) {
  sa_quantize_settings settings{};
  settings.planes = integer_of(object, "planes", 0);
  settings.group_rows = integer_of(object, "groupRows", 0);
  settings.group_columns = integer_of(object, "groupColumns", 0);
  settings.row_scales = object.Get("rowScales").ToBoolean().Value() ? 1 : 0;
  settings.scale_terms = integer_of(object, "scaleTerms", 0);
  settings.fit_rounds = integer_of(object, "fitRounds", -1);
  settings.refits = integer_of(object, "refits", -1);
  settings.sweeps = integer_of(object, "sweeps", -1);
  settings.damping = number_of(object, "damping", -1);
  settings.identity = number_of(object, "identity", -1);
  return settings;
}

void throw_status(Napi::Env env, sa_status status) { make_error(env, status, sa_last_error()).ThrowAsJavaScriptException(); }

// ---- shared state ----

// A native handle and the number of queued calls on it. JavaScript thread only, except inside jobs.
template <class Handle, void (*kClose)(Handle*)>
struct Owned {
  ~Owned() { close(); }
  void close() {
    if (handle != nullptr) kClose(handle);
    handle = nullptr;
  }
  Handle* handle = nullptr;
  int pending = 0;
  bool closing = false;
};
using SessionState = Owned<sa_session, sa_session_close>;
using QuantizerState = Owned<sa_quantizer, sa_quantizer_close>;

struct ModelState : Owned<sa_model, sa_model_close> {
  std::vector<std::weak_ptr<SessionState>> sessions;
  std::vector<std::weak_ptr<QuantizerState>> quantizers;
  std::shared_ptr<JobQueue> queue;
};

struct Constructors {
  Napi::FunctionReference model, session, quantizer;
};

template <class State>
bool usable(Napi::Env env, const State& state, bool idle) {
  if (state == nullptr || state->closing || state->handle == nullptr)
    make_error(env, 1, "this object is closed").ThrowAsJavaScriptException();
  else if (idle && state->pending > 0)
    make_error(env, 1, "a call on this object is still running").ThrowAsJavaScriptException();
  else return true;
  return false;
}

template <class State>
std::unique_ptr<Job> make_job(Napi::Env env, Napi::Object owner, const std::shared_ptr<State>& state) {
  auto job = std::make_unique<Job>(env);
  job->owner = Napi::Persistent(owner);
  ++state->pending;
  job->settled = [state] { --state->pending; };
  return job;
}

// ---- Session ----

class Session : public Napi::ObjectWrap<Session> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "EngineSession",
                       {InstanceMethod<&Session::describe>("describe"), InstanceMethod<&Session::seed>("seed"),
                        InstanceMethod<&Session::prefill>("prefill"), InstanceMethod<&Session::sample>("sample"),
                        InstanceMethod<&Session::decode>("decode"), InstanceMethod<&Session::rewind>("rewind"),
                        InstanceMethod<&Session::logits>("logits"), InstanceMethod<&Session::evaluate>("evaluate"),
                        InstanceMethod<&Session::close>("close")});
  }
  explicit Session(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Session>(info) {}

  std::shared_ptr<ModelState> model;  // declared first: outlives the session
  std::shared_ptr<SessionState> state;
  int32_t vocabulary = 0;

 private:
  Napi::Value describe(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, true)) return env.Undefined();
    sa_session_info session;
    sa_session_describe(state->handle, &session);
    Napi::Object out = Napi::Object::New(env);
    out.Set("position", session.position);
    out.Set("contextSize", session.context_size);
    out.Set("kvCacheBytes", session.kv_cache_bytes);
    out.Set("scratchBytes", session.scratch_bytes);
    return out;
  }
  Napi::Value seed(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, true)) return env.Undefined();
    bool lossless = true;
    const uint64_t value = info[0].IsBigInt() ? info[0].As<Napi::BigInt>().Uint64Value(&lossless)
                                              : static_cast<uint64_t>(info[0].ToNumber().Int64Value());
    sa_session_seed(state->handle, value);
    return env.Undefined();
  }
  Napi::Value prefill(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    auto job = make_job(env, Value(), state);
    job->work = [state = state, tokens = tokens_of(info[0])](const int32_t* cancel) {
      return sa_session_prefill(state->handle, tokens.data() ? tokens.data() : &kNoTokens, tokens.size(), cancel);
    };
    return model->queue->run(env, std::move(job), info[1]);
  }
  Napi::Value sample(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    auto job = make_job(env, Value(), state);
    auto token = std::make_shared<int32_t>(0);
    job->work = [state = state, sampling = sampling_of(info[0]), token](const int32_t*) {
      return sa_session_sample(state->handle, &sampling, token.get());
    };
    job->result = [token](Napi::Env env) -> Napi::Value { return Napi::Number::New(env, *token); };
    return model->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value decode(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    auto job = make_job(env, Value(), state);
    auto token = std::make_shared<int32_t>(info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : -1);
    job->work = [state = state, sampling = sampling_of(info[1]), token](const int32_t* cancel) {
      const sa_status status = sa_session_prefill(state->handle, token.get(), 1, cancel);
      return status != 0 ? status : sa_session_sample(state->handle, &sampling, token.get());
    };
    job->result = [token](Napi::Env env) -> Napi::Value { return Napi::Number::New(env, *token); };
    return model->queue->run(env, std::move(job), info[2]);
  }
  Napi::Value rewind(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, true)) return env.Undefined();
    const int32_t position = info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : -1;
    if (const sa_status status = sa_session_rewind(state->handle, position)) throw_status(env, status);
    return env.Undefined();
  }
  Napi::Value logits(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, true)) return env.Undefined();
    Napi::Float32Array out = Napi::Float32Array::New(env, static_cast<size_t>(vocabulary));
    if (const sa_status status = sa_session_logits(state->handle, out.Data(), out.ElementLength()))
      throw_status(env, status);
    return out;
  }
  Napi::Value evaluate(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    auto job = make_job(env, Value(), state);
    auto tokens = std::make_shared<std::vector<int32_t>>(tokens_of(info[0]));
    auto results = std::make_shared<std::vector<float>>(tokens->empty() ? 1 : tokens->size());
    job->work = [state = state, tokens, results](const int32_t* cancel) {
      return sa_session_evaluate(state->handle, tokens->empty() ? &kNoTokens : tokens->data(), tokens->size(),
                                 results->data(), cancel);
    };
    job->result = [tokens, results](Napi::Env env) -> Napi::Value {
      Napi::Float32Array out = Napi::Float32Array::New(env, tokens->size() - 1);
      if (out.IsEmpty()) return env.Undefined();  // the environment is going away
      std::copy_n(results->begin(), tokens->size() - 1, out.Data());
      return out;
    };
    return model->queue->run(env, std::move(job), info[1]);
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (state == nullptr || state->closing) {
      auto done = Napi::Promise::Deferred::New(env);
      done.Resolve(env.Undefined());
      return done.Promise();
    }
    auto job = make_job(env, Value(), state);
    state->closing = true;
    job->work = [state = state](const int32_t*) {
      state->close();
      return 0;
    };
    return model->queue->run(env, std::move(job), env.Undefined());
  }

  static constexpr int32_t kNoTokens = 0;
};

// ---- Quantizer ----

class Quantizer : public Napi::ObjectWrap<Quantizer> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "EngineQuantizer",
                       {InstanceMethod<&Quantizer::block>("block"), InstanceMethod<&Quantizer::head>("head"),
                        InstanceMethod<&Quantizer::close>("close")});
  }
  explicit Quantizer(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Quantizer>(info) {}

  std::shared_ptr<ModelState> model;
  std::shared_ptr<QuantizerState> state;

 private:
  using Step = sa_status (*)(sa_quantizer*, const sa_quantize_settings*, sa_progress, void*, const int32_t*);

  struct ProgressTarget {
    JobQueue* queue;
    Job* job;
    double last;
  };
  static void report(void* user, double done) {
    auto* target = static_cast<ProgressTarget*>(user);
    if (done - target->last < 0.01) return;
    target->last = done;
    target->queue->report_progress(target->job, done);
  }

  Napi::Value run(const Napi::CallbackInfo& info, Step step) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    std::vector<sa_quantize_settings> settings;
    if (info[0].IsArray()) {
      const Napi::Array array = info[0].As<Napi::Array>();
      for (uint32_t i = 0; i < array.Length(); ++i) {
        const Napi::Value item = array.Get(i);
        settings.push_back(settings_of(item.IsObject() ? item.As<Napi::Object>() : Napi::Object::New(env)));
      }
    }
    settings.resize(kMostSettings);  // missing ones are invalid and refused by the core
    auto job = make_job(env, Value(), state);
    if (info[1].IsFunction()) job->progress = Napi::Persistent(info[1].As<Napi::Function>());
    job->work = [state = state, queue = model->queue.get(), raw = job.get(), settings, step](const int32_t* cancel) {
      ProgressTarget target{queue, raw, 0};
      return step(state->handle, settings.data(), raw->progress.IsEmpty() ? nullptr : report, &target, cancel);
    };
    job->result = [state = state](Napi::Env env) -> Napi::Value { return results(env, state->handle); };
    return model->queue->run(env, std::move(job), info[2]);
  }
  Napi::Value block(const Napi::CallbackInfo& info) { return run(info, sa_quantizer_block); }
  Napi::Value head(const Napi::CallbackInfo& info) { return run(info, sa_quantizer_head); }

  static Napi::Value results(Napi::Env env, const sa_quantizer* quantizer) {
    Napi::Array out = Napi::Array::New(env);
    for (int32_t i = 0; i < sa_quantizer_count(quantizer); ++i) {
      sa_packed_info packed;
      sa_quantizer_describe(quantizer, i, &packed);
      Napi::Uint8Array planes = Napi::Uint8Array::New(env, static_cast<size_t>(packed.plane_bytes));
      Napi::Uint16Array scales = Napi::Uint16Array::New(env, static_cast<size_t>(packed.scale_count));
      Napi::Uint16Array row_scales = Napi::Uint16Array::New(env, static_cast<size_t>(packed.row_scale_count));
      if (planes.IsEmpty() || scales.IsEmpty() || row_scales.IsEmpty()) return env.Undefined();
      sa_quantizer_copy(quantizer, i, planes.Data(), scales.Data(), packed.has_row_scales ? row_scales.Data() : nullptr);
      Napi::Object item = Napi::Object::New(env);
      item.Set("rows", packed.rows);
      item.Set("columns", packed.columns);
      item.Set("planes", packed.planes);
      item.Set("groupRows", packed.group_rows);
      item.Set("groupColumns", packed.group_columns);
      item.Set("scaleExponent", packed.scale_exponent);
      item.Set("planeData", planes);
      item.Set("scales", scales);
      if (packed.has_row_scales) item.Set("rowScales", row_scales);
      item.Set("weightError", packed.weight_error);
      item.Set("outputError", packed.output_error);
      out.Set(static_cast<uint32_t>(i), item);
    }
    return out;
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (state == nullptr || state->closing) {
      auto done = Napi::Promise::Deferred::New(env);
      done.Resolve(env.Undefined());
      return done.Promise();
    }
    auto job = make_job(env, Value(), state);
    state->closing = true;
    job->work = [state = state](const int32_t*) {
      state->close();
      return 0;
    };
    return model->queue->run(env, std::move(job), env.Undefined());
  }

  static constexpr size_t kMostSettings = 7;
};

// ---- Model ----

class Model : public Napi::ObjectWrap<Model> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "EngineModel",
                       {InstanceMethod<&Model::describe>("describe"), InstanceMethod<&Model::open_session>("openSession"),
                        InstanceMethod<&Model::open_quantizer>("openQuantizer"), InstanceMethod<&Model::close>("close")});
  }
  explicit Model(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Model>(info) {}

  std::shared_ptr<ModelState> state;
  int32_t vocabulary = 0;

 private:
  Napi::Value describe(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    sa_model_info model;
    sa_model_describe(state->handle, &model);
    Napi::Object out = Napi::Object::New(env);
    out.Set("isa", model.isa);
    out.Set("threads", model.threads);
    out.Set("precision", model.precision == 0 ? "exact" : "fast");
    out.Set("mappedBytes", model.mapped_bytes);
    out.Set("heapBytes", model.heap_bytes);
    return out;
  }
  Napi::Value open_session(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    const int32_t context_size = info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : 0;
    auto session = std::make_shared<SessionState>();
    auto job = make_job(env, Value(), state);
    job->work = [model = state, session, context_size](const int32_t*) {
      return sa_session_open(model->handle, context_size, &session->handle);
    };
    job->result = [model = state, session, vocabulary = vocabulary](Napi::Env env) -> Napi::Value {
      Napi::Object object = env.GetInstanceData<Constructors>()->session.New({});
      if (object.IsEmpty()) return env.Undefined();  // the environment is going away
      Session* wrapper = Napi::ObjectWrap<Session>::Unwrap(object);
      wrapper->model = model;
      wrapper->state = session;
      wrapper->vocabulary = vocabulary;
      model->sessions.push_back(session);
      return object;
    };
    return state->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value open_quantizer(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    auto quantizer = std::make_shared<QuantizerState>();
    auto tokens = std::make_shared<std::vector<int32_t>>(tokens_of(info[0]));
    const int32_t windows = info[1].IsNumber() ? info[1].As<Napi::Number>().Int32Value() : 0;
    const int32_t window = info[2].IsNumber() ? info[2].As<Napi::Number>().Int32Value() : 0;
    if (windows < 1 || window < 1 || tokens->size() != static_cast<size_t>(windows) * static_cast<size_t>(window)) {
      make_error(env, 1, "the calibration tokens must be windows x window numbers").ThrowAsJavaScriptException();
      return env.Undefined();
    }
    auto job = make_job(env, Value(), state);
    job->work = [model = state, quantizer, tokens, windows, window](const int32_t*) {
      return sa_quantizer_open(model->handle, tokens->data(), windows, window, &quantizer->handle);
    };
    job->result = [model = state, quantizer](Napi::Env env) -> Napi::Value {
      Napi::Object object = env.GetInstanceData<Constructors>()->quantizer.New({});
      if (object.IsEmpty()) return env.Undefined();  // the environment is going away
      Quantizer* wrapper = Napi::ObjectWrap<Quantizer>::Unwrap(object);
      wrapper->model = model;
      wrapper->state = quantizer;
      model->quantizers.push_back(quantizer);
      return object;
    };
    return state->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (state == nullptr || state->closing) {
      auto done = Napi::Promise::Deferred::New(env);
      done.Resolve(env.Undefined());
      return done.Promise();
    }
    auto job = make_job(env, Value(), state);
    state->closing = true;
    for (const auto& weak : state->sessions)
      if (auto session = weak.lock()) session->closing = true;
    for (const auto& weak : state->quantizers)
      if (auto quantizer = weak.lock()) quantizer->closing = true;
    // Jobs queued earlier have run by then; none can follow.
    job->work = [state = state](const int32_t*) {
      for (const auto& weak : state->sessions)
        if (auto session = weak.lock()) session->close();
      for (const auto& weak : state->quantizers)
        if (auto quantizer = weak.lock()) quantizer->close();
      state->close();
      return 0;
    };
    return state->queue->run(env, std::move(job), env.Undefined());
  }
};

// ---- module ----

Napi::Value describe_device(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string isa = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "";
  sa_device device;
  if (const sa_status status = sa_device_describe(isa.empty() ? nullptr : isa.c_str(), &device)) {
    throw_status(env, status);
    return env.Undefined();
  }
  Napi::Object out = Napi::Object::New(env);
  out.Set("backend", device.backend);
  out.Set("isa", device.isa);
  out.Set("cores", device.cores);
  return out;
}

Napi::Value open_model(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array ||
      !info[1].IsArray() || !info[2].IsObject()) {
    make_error(env, 1, "openModel expects a Float64Array, an array of paths and options").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const Napi::Float64Array numbers = info[0].As<Napi::Float64Array>();
  std::vector<double> spec(numbers.Data(), numbers.Data() + numbers.ElementLength());
  const Napi::Array list = info[1].As<Napi::Array>();
  std::vector<std::string> paths;
  for (uint32_t i = 0; i < list.Length(); ++i) paths.push_back(list.Get(i).ToString().Utf8Value());
  const Napi::Object object = info[2].As<Napi::Object>();
  const int32_t threads = integer_of(object, "threads", 0);
  const int32_t precision = object.Get("precision").ToString().Utf8Value() == "fast" ? 1 : 0;
  const std::string isa = object.Get("isa").IsString() ? object.Get("isa").As<Napi::String>().Utf8Value() : "";

  auto state = std::make_shared<ModelState>();
  state->queue = JobQueue::start(env);
  auto job = make_job(env, Napi::Object::New(env), state);
  const int32_t vocabulary = spec.size() > 1 && spec[1] >= 0 && spec[1] < 1 << 24 ? static_cast<int32_t>(spec[1]) : 0;
  job->work = [state, spec, paths, threads, precision, isa](const int32_t*) {
    std::vector<const char*> raw;
    for (const std::string& path : paths) raw.push_back(path.c_str());
    const sa_model_options options{threads, precision, isa.empty() ? nullptr : isa.c_str()};
    return sa_model_open(spec.data(), spec.size(), raw.data(), raw.size(), &options, &state->handle);
  };
  job->result = [state, vocabulary](Napi::Env env) -> Napi::Value {
    Napi::Object model = env.GetInstanceData<Constructors>()->model.New({});
    if (model.IsEmpty()) return env.Undefined();  // the environment is going away
    Model* wrapper = Napi::ObjectWrap<Model>::Unwrap(model);
    wrapper->state = state;
    wrapper->vocabulary = vocabulary;
    return model;
  };
  JobQueue& queue = *state->queue;
  return queue.run(env, std::move(job), env.Undefined());
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* constructors = new Constructors();
  constructors->model = Napi::Persistent(Model::define(env));
  constructors->session = Napi::Persistent(Session::define(env));
  constructors->quantizer = Napi::Persistent(Quantizer::define(env));
  env.SetInstanceData(constructors);
  exports.Set("version", sa_version());
  exports.Set("describeDevice", Napi::Function::New(env, describe_device, "describeDevice"));
  exports.Set("openModel", Napi::Function::New(env, open_model, "openModel"));
  return exports;
}

}  // namespace

NODE_API_MODULE(shiftadd, init)

}  // namespace shiftadd
