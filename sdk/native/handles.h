// What the objects of the addon share: native handles with the calls that run on them, and conversions of arguments.
// Validation for people happens in TypeScript; here no misuse may crash the process, and that is all.
#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/c_api.h"
#include "sdk/native/job_queue.h"

namespace shiftadd {

using Job = JobQueue::Job;

inline double number_of(const Napi::Object& object, const char* key, double fallback) {
  const Napi::Value value = object.Get(key);
  return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : fallback;
}

inline int32_t integer_of(const Napi::Object& object, const char* key, int32_t fallback) {
  const double value = number_of(object, key, fallback);
  return value >= -2147483648.0 && value <= 2147483647.0 ? static_cast<int32_t>(value) : fallback;
}

inline std::vector<int32_t> tokens_of(const Napi::Value& value) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) return {};
  const Napi::Int32Array array = value.As<Napi::Int32Array>();
  return std::vector<int32_t>(array.Data(), array.Data() + array.ElementLength());
}

inline std::vector<uint8_t> bytes_of(const Napi::Value& value) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) return {};
  const Napi::Uint8Array array = value.As<Napi::Uint8Array>();
  return std::vector<uint8_t>(array.Data(), array.Data() + array.ElementLength());
}

inline std::vector<int8_t> signs_of(const Napi::Value& value) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int8_array) return {};
  const Napi::Int8Array array = value.As<Napi::Int8Array>();
  return std::vector<int8_t>(array.Data(), array.Data() + array.ElementLength());
}

inline void throw_status(Napi::Env env, sa_status status) { make_error(env, status, sa_last_error()).ThrowAsJavaScriptException(); }

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
using GrammarState = Owned<sa_grammar, sa_grammar_close>;
using QuantizerState = Owned<sa_quantizer, sa_quantizer_close>;
using TunerState = Owned<sa_tuner, sa_tuner_close>;

struct ModelState : Owned<sa_model, sa_model_close> {
  std::vector<std::weak_ptr<SessionState>> sessions;
  std::vector<std::weak_ptr<GrammarState>> grammars;
  std::vector<std::weak_ptr<QuantizerState>> quantizers;
  std::vector<std::weak_ptr<TunerState>> tuners;
  std::shared_ptr<JobQueue> queue;
};

struct Constructors {
  Napi::FunctionReference model, session, grammar, quantizer, tuner;
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

inline Napi::Value resolved(Napi::Env env) {
  auto done = Napi::Promise::Deferred::New(env);
  done.Resolve(env.Undefined());
  return done.Promise();
}

// Closes a session, grammar, quantizer or tuner behind the calls that are queued on it.
template <class State>
Napi::Value close_handle(Napi::Env env, Napi::Object owner, const std::shared_ptr<State>& state, JobQueue& queue) {
  if (state == nullptr || state->closing) return resolved(env);
  auto job = make_job(env, owner, state);
  state->closing = true;
  job->work = [state](const int32_t*) {
    state->close();
    return 0;
  };
  return queue.run(env, std::move(job), env.Undefined());
}

}  // namespace shiftadd
