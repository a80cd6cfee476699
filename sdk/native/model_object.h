// The EngineModel of sdk/src/engine.ts: weights on a backend, and what works on them.
#pragma once

#include <algorithm>
#include <chrono>

#include "sdk/native/grammar_object.h"
#include "sdk/native/handles.h"
#include "sdk/native/quantizer_object.h"
#include "sdk/native/session_object.h"
#include "sdk/native/tuner_object.h"

namespace shiftadd {

class ModelObject : public Napi::ObjectWrap<ModelObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "EngineModel",
                       {InstanceMethod<&ModelObject::describe>("describe"), InstanceMethod<&ModelObject::open_session>("openSession"),
                        InstanceMethod<&ModelObject::set_vocabulary>("setVocabulary"), InstanceMethod<&ModelObject::open_grammar>("openGrammar"),
                        InstanceMethod<&ModelObject::open_quantizer>("openQuantizer"),
                        InstanceMethod<&ModelObject::open_tuner>("openTuner"),
                        InstanceMethod<&ModelObject::rotated>("rotated"),
                        InstanceMethod<&ModelObject::measure_read>("measureRead"), InstanceMethod<&ModelObject::close>("close")});
  }
  explicit ModelObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ModelObject>(info) {}

  std::shared_ptr<ModelState> state;
  int32_t vocabulary = 0, embedding = 0;

 private:
  // From the moment it is asked for: the model may be closed before the caller gets what it opened.
  template <class State>
  static void remember(std::vector<std::weak_ptr<State>>& all, const std::shared_ptr<State>& one) {
    std::erase_if(all, [](const auto& weak) { return weak.expired(); });
    all.push_back(one);
  }
  Napi::Value describe(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    sa_model_info model;
    sa_model_describe(state->handle, &model);
    Napi::Object out = Napi::Object::New(env);
    out.Set("isa", model.isa);
    out.Set("threads", model.threads);
    out.Set("precision", model.precision == 0 ? "exact" : "fast");
    out.Set("kvCache", model.kv_type == 0 ? "f32" : model.kv_type == 1 ? "f16" : "int8");
    out.Set("mappedBytes", model.mapped_bytes);
    out.Set("heapBytes", model.heap_bytes);
    return out;
  }
  Napi::Value open_session(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    const int32_t context_size = info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : 0;
    auto session = std::make_shared<SessionState>();
    remember(state->sessions, session);
    auto job = make_job(env, Value(), state);
    job->work = [model = state, session, context_size](const int32_t*) {
      return sa_session_open(model->handle, context_size, &session->handle);
    };
    job->result = [model = state, session, vocabulary = vocabulary, embedding = embedding](Napi::Env env) -> Napi::Value {
      Napi::Object object = env.GetInstanceData<Constructors>()->session.New({});
      if (object.IsEmpty()) return env.Undefined();  // the environment is going away
      SessionObject* wrapper = Napi::ObjectWrap<SessionObject>::Unwrap(object);
      wrapper->model = model;
      wrapper->state = session;
      wrapper->vocabulary = vocabulary;
      wrapper->embedding = embedding;
      return object;
    };
    return state->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value set_vocabulary(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    const Napi::Object object = info[0].IsObject() ? info[0].As<Napi::Object>() : Napi::Object::New(env);
    std::vector<uint32_t> ends;
    if (const Napi::Value value = object.Get("ends"); value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint32_array) {
      const Napi::Uint32Array array = value.As<Napi::Uint32Array>();
      ends.assign(array.Data(), array.Data() + array.ElementLength());
    }
    if (ends.empty()) {
      make_error(env, 1, "a vocabulary needs bytes, ends and endTokens").ThrowAsJavaScriptException();
      return env.Undefined();
    }
    auto job = make_job(env, Value(), state);
    job->work = [model = state, bytes = bytes_of(object.Get("bytes")), ends = std::move(ends), end_tokens = tokens_of(object.Get("endTokens"))](const int32_t*) {
      return sa_model_set_vocabulary(model->handle, bytes.data(), bytes.size(), ends.data(), ends.size(), end_tokens.data(), end_tokens.size());
    };
    return state->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value open_grammar(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    auto grammar = std::make_shared<GrammarState>();
    remember(state->grammars, grammar);
    auto job = make_job(env, Value(), state);
    job->work = [model = state, grammar, numbers = tokens_of(info[0])](const int32_t*) {
      static constexpr int32_t kNone = 0;
      return sa_grammar_open(model->handle, numbers.data() ? numbers.data() : &kNone, numbers.size(), &grammar->handle);
    };
    job->result = [model = state, grammar, vocabulary = vocabulary](Napi::Env env) -> Napi::Value {
      Napi::Object object = env.GetInstanceData<Constructors>()->grammar.New({});
      if (object.IsEmpty()) return env.Undefined();  // the environment is going away
      GrammarObject* wrapper = Napi::ObjectWrap<GrammarObject>::Unwrap(object);
      wrapper->model = model;
      wrapper->state = grammar;
      wrapper->vocabulary = vocabulary;
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
    remember(state->quantizers, quantizer);
    auto job = make_job(env, Value(), state);
    job->work = [model = state, quantizer, tokens, windows, window](const int32_t*) {
      return sa_quantizer_open(model->handle, tokens->data(), windows, window, &quantizer->handle);
    };
    job->result = [model = state, quantizer](Napi::Env env) -> Napi::Value {
      Napi::Object object = env.GetInstanceData<Constructors>()->quantizer.New({});
      if (object.IsEmpty()) return env.Undefined();  // the environment is going away
      QuantizerObject* wrapper = Napi::ObjectWrap<QuantizerObject>::Unwrap(object);
      wrapper->model = model;
      wrapper->state = quantizer;
      return object;
    };
    return state->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value open_tuner(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    auto tuner = std::make_shared<TunerState>();
    remember(state->tuners, tuner);
    auto job = make_job(env, Value(), state);
    job->work = [model = state, tuner](const int32_t*) { return sa_tuner_open(model->handle, &tuner->handle); };
    job->result = [model = state, tuner](Napi::Env env) -> Napi::Value {
      Napi::Object object = env.GetInstanceData<Constructors>()->tuner.New({});
      if (object.IsEmpty()) return env.Undefined();  // the environment is going away
      TunerObject* wrapper = Napi::ObjectWrap<TunerObject>::Unwrap(object);
      wrapper->model = model;
      wrapper->state = tuner;
      return object;
    };
    return state->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value rotated(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    const Napi::Object rotation = info[0].IsObject() ? info[0].As<Napi::Object>() : Napi::Object::New(env);
    const int32_t size = integer_of(rotation, "size", 0);
    auto signs = signs_of(rotation.Get("signs")), matrix = signs_of(rotation.Get("matrix"));
    const int32_t role = info[1].IsNumber() ? info[1].As<Napi::Number>().Int32Value() : -1;
    const int32_t layer = info[2].IsNumber() ? info[2].As<Napi::Number>().Int32Value() : -1;
    const double count = info[3].IsNumber() ? info[3].As<Napi::Number>().DoubleValue() : 0;
    if (size < 1 || size > 4096 || matrix.size() != static_cast<size_t>(size) * static_cast<size_t>(size) || signs.empty() ||
        !(count >= 1 && count <= 4294967296.0)) {
      make_error(env, 1, "a rotation needs its size, signs, size x size matrix and the number of weights").ThrowAsJavaScriptException();
      return env.Undefined();
    }
    auto out = std::make_shared<std::vector<uint16_t>>(static_cast<size_t>(count));
    auto job = make_job(env, Value(), state);
    job->work = [model = state, signs = std::move(signs), matrix = std::move(matrix), size, role, layer, out](const int32_t*) {
      return sa_model_rotated(model->handle, signs.data(), signs.size(), matrix.data(), size, role, layer, out->data(), out->size());
    };
    job->result = [out](Napi::Env env) -> Napi::Value {
      Napi::Uint16Array weights = Napi::Uint16Array::New(env, out->size());
      if (weights.IsEmpty()) return env.Undefined();  // the environment is going away
      std::copy(out->begin(), out->end(), weights.Data());
      return weights;
    };
    return state->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value measure_read(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    auto rate = std::make_shared<double>(0);
    auto job = make_job(env, Value(), state);
    job->work = [model = state, rate](const int32_t*) {
      constexpr int kPasses = 5;  // the first brings the files into memory
      for (int pass = 0; pass < kPasses; ++pass) {
        const auto start = std::chrono::steady_clock::now();
        double bytes = 0;
        if (const sa_status status = sa_model_read_files(model->handle, &bytes); status != 0) return status;
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        if (seconds > 0) *rate = std::max(*rate, bytes / seconds);
      }
      return sa_status{0};
    };
    job->result = [rate](Napi::Env env) -> Napi::Value { return Napi::Number::New(env, *rate); };
    return state->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (state == nullptr || state->closing) return resolved(env);
    auto job = make_job(env, Value(), state);
    state->closing = true;
    for (const auto& weak : state->sessions)
      if (auto session = weak.lock()) session->closing = true;
    for (const auto& weak : state->grammars)
      if (auto grammar = weak.lock()) grammar->closing = true;
    for (const auto& weak : state->quantizers)
      if (auto quantizer = weak.lock()) quantizer->closing = true;
    for (const auto& weak : state->tuners)
      if (auto tuner = weak.lock()) tuner->closing = true;
    // Jobs queued earlier have run by then; none can follow.
    job->work = [state = state](const int32_t*) {
      for (const auto& weak : state->sessions)
        if (auto session = weak.lock()) session->close();
      for (const auto& weak : state->grammars)
        if (auto grammar = weak.lock()) grammar->close();
      for (const auto& weak : state->quantizers)
        if (auto quantizer = weak.lock()) quantizer->close();
      for (const auto& weak : state->tuners)
        if (auto tuner = weak.lock()) tuner->close();
      state->close();
      return 0;
    };
    return state->queue->run(env, std::move(job), env.Undefined());
  }
};

}  // namespace shiftadd
