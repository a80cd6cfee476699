// The EngineSession of sdk/src/engine.ts: one token sequence.
#pragma once

#include <algorithm>

#include "sdk/native/grammar_object.h"
#include "sdk/native/handles.h"

namespace shiftadd {

inline sa_sampling sampling_of(const Napi::Value& value) {
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

class SessionObject : public Napi::ObjectWrap<SessionObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "EngineSession",
                       {InstanceMethod<&SessionObject::describe>("describe"), InstanceMethod<&SessionObject::seed>("seed"),
                        InstanceMethod<&SessionObject::prefill>("prefill"),
                        InstanceMethod<&SessionObject::prefill_logits>("prefillLogits"),
                        InstanceMethod<&SessionObject::sample>("sample"),
                        InstanceMethod<&SessionObject::decode>("decode"), InstanceMethod<&SessionObject::rewind>("rewind"),
                        InstanceMethod<&SessionObject::decode_draft>("decodeDraft"),
                        InstanceMethod<&SessionObject::constrain>("constrain"),
                        InstanceMethod<&SessionObject::is_complete>("isComplete"),
                        InstanceMethod<&SessionObject::logits>("logits"), InstanceMethod<&SessionObject::evaluate>("evaluate"),
                        InstanceMethod<&SessionObject::save>("save"), InstanceMethod<&SessionObject::restore>("restore"),
                        InstanceMethod<&SessionObject::copy>("copy"), InstanceMethod<&SessionObject::embed>("embed"),
                        InstanceMethod<&SessionObject::close>("close")});
  }
  explicit SessionObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SessionObject>(info) {}

  std::shared_ptr<ModelState> model;  // declared first: outlives the session
  std::shared_ptr<SessionState> state;
  int32_t vocabulary = 0, embedding = 0;

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
    out.Set("positionBytes", session.position_bytes);
    out.Set("beyondSwitch", session.beyond_switch != 0);
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
  Napi::Value prefill_logits(const Napi::CallbackInfo& info) {
    return run_for_floats(info, [state = state, vocabulary = vocabulary](const std::vector<int32_t>& tokens,
                                                                         std::vector<float>* logits, const int32_t* cancel) {
      sa_session_info session;
      sa_session_describe(state->handle, &session);
      // The engine refuses more tokens than the context has room for.
      logits->resize(std::min(tokens.size(), static_cast<size_t>(session.context_size)) * static_cast<size_t>(vocabulary));
      return sa_session_prefill_logits(state->handle, tokens.data() ? tokens.data() : &kNoTokens, tokens.size(),
                                       logits->data() ? logits->data() : &kNoLogits, logits->size(), cancel);
    });
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
  Napi::Value decode_draft(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    auto job = make_job(env, Value(), state);
    const int32_t token = info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : -1;
    auto out = std::make_shared<std::vector<int32_t>>();
    job->work = [state = state, token, draft = tokens_of(info[1]), out](const int32_t* cancel) {
      out->resize(draft.size() + 1);
      int32_t count = 0;
      const sa_status status =
          sa_session_decode_draft(state->handle, token, draft.data(), draft.size(), out->data(), &count, cancel);
      out->resize(static_cast<size_t>(count));
      return status;
    };
    job->result = [out](Napi::Env env) -> Napi::Value {
      Napi::Int32Array tokens = Napi::Int32Array::New(env, out->size());
      if (tokens.IsEmpty()) return env.Undefined();  // the environment is going away
      std::copy(out->begin(), out->end(), tokens.Data());
      return tokens;
    };
    return model->queue->run(env, std::move(job), info[2]);
  }
  Napi::Value constrain(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    std::shared_ptr<GrammarState> grammar;
    if (info[0].IsObject()) {
      const Napi::Object object = info[0].As<Napi::Object>();
      if (!object.InstanceOf(env.GetInstanceData<Constructors>()->grammar.Value())) {
        make_error(env, 1, "constrain expects a grammar or null").ThrowAsJavaScriptException();
        return env.Undefined();
      }
      GrammarObject* wrapper = Napi::ObjectWrap<GrammarObject>::Unwrap(object);
      if (!usable(env, wrapper->state, false)) return env.Undefined();
      if (wrapper->model != model) {
        make_error(env, 1, "the grammar belongs to another model").ThrowAsJavaScriptException();
        return env.Undefined();
      }
      grammar = wrapper->state;
    }
    const int32_t budget = info[1].IsNumber() ? info[1].As<Napi::Number>().Int32Value() : 0;
    auto job = make_job(env, Value(), state);
    job->work = [state = state, grammar, budget](const int32_t*) {
      return sa_session_constrain(state->handle, grammar == nullptr ? nullptr : grammar->handle, budget);
    };
    return model->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value is_complete(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, true)) return env.Undefined();
    int32_t complete = 0;
    sa_session_is_complete(state->handle, &complete);
    return Napi::Boolean::New(env, complete != 0);
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
    return run_for_floats(info, [state = state](const std::vector<int32_t>& tokens, std::vector<float>* log_probabilities,
                                                const int32_t* cancel) {
      log_probabilities->resize(std::max<size_t>(tokens.size(), 2) - 1);
      return sa_session_evaluate(state->handle, tokens.data() ? tokens.data() : &kNoTokens, tokens.size(),
                                 log_probabilities->data(), cancel);
    });
  }
  Napi::Value save(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    const int32_t first = integer_at(info, 0), count = integer_at(info, 1);
    auto saved = std::make_shared<std::vector<uint8_t>>();
    auto job = make_job(env, Value(), state);
    job->work = [state = state, first, count, saved](const int32_t*) {
      sa_session_info session;
      sa_session_describe(state->handle, &session);
      // The engine refuses positions that there are not.
      saved->resize(static_cast<size_t>(std::clamp(count, 0, session.position)) * static_cast<size_t>(session.position_bytes));
      uint8_t none = 0;
      return sa_session_save(state->handle, first, count, saved->empty() ? &none : saved->data(), saved->size());
    };
    job->result = [saved](Napi::Env env) -> Napi::Value {
      Napi::Uint8Array out = Napi::Uint8Array::New(env, saved->size());
      if (out.IsEmpty()) return env.Undefined();  // the environment is going away
      std::copy(saved->begin(), saved->end(), out.Data());
      return out;
    };
    return model->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value restore(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    const bool beyond_switch = info[2].IsBoolean() && info[2].As<Napi::Boolean>().Value();
    auto job = make_job(env, Value(), state);
    job->work = [state = state, tokens = tokens_of(info[0]), saved = bytes_of(info[1]), beyond_switch](const int32_t*) {
      const uint8_t none = 0;
      return sa_session_restore(state->handle, tokens.data() ? tokens.data() : &kNoTokens, tokens.size(),
                                saved.data() ? saved.data() : &none, saved.size(), beyond_switch ? 1 : 0);
    };
    return model->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value copy(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    if (!info[0].IsObject() || !info[0].As<Napi::Object>().InstanceOf(env.GetInstanceData<Constructors>()->session.Value())) {
      make_error(env, 1, "copy expects a session").ThrowAsJavaScriptException();
      return env.Undefined();
    }
    const std::shared_ptr<SessionState> from = Napi::ObjectWrap<SessionObject>::Unwrap(info[0].As<Napi::Object>())->state;
    if (!usable(env, from, false)) return env.Undefined();
    if (Napi::ObjectWrap<SessionObject>::Unwrap(info[0].As<Napi::Object>())->model != model) {
      make_error(env, 1, "the session belongs to another model").ThrowAsJavaScriptException();
      return env.Undefined();
    }
    auto job = make_job(env, Value(), state);
    ++from->pending;  // nobody may rewind it meanwhile
    job->settled = [state = state, from] {
      --state->pending;
      --from->pending;
    };
    job->work = [state = state, from, tokens = tokens_of(info[1])](const int32_t*) {
      return sa_session_copy(state->handle, from->handle, tokens.data() ? tokens.data() : &kNoTokens, tokens.size());
    };
    return model->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value embed(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    auto job = make_job(env, Value(), state);
    auto vector = std::make_shared<std::vector<float>>(static_cast<size_t>(embedding) + 1);
    job->work = [state = state, tokens = tokens_of(info[0]), pooling = integer_at(info, 1), vector](const int32_t* cancel) {
      return sa_session_embed(state->handle, tokens.data() ? tokens.data() : &kNoTokens, tokens.size(), pooling, vector->data(),
                              vector->size() - 1, cancel);
    };
    job->result = [vector](Napi::Env env) -> Napi::Value {
      Napi::Float32Array out = Napi::Float32Array::New(env, vector->size() - 1);
      if (out.IsEmpty()) return env.Undefined();  // the environment is going away
      std::copy(vector->begin(), vector->end() - 1, out.Data());
      return out;
    };
    return model->queue->run(env, std::move(job), info[2]);
  }
  static int32_t integer_at(const Napi::CallbackInfo& info, size_t index) {
    return info[index].IsNumber() ? info[index].As<Napi::Number>().Int32Value() : -1;
  }
  // work(tokens of the first argument, results, cancel flag) sizes and fills the results.
  template <class Work>
  Napi::Value run_for_floats(const Napi::CallbackInfo& info, Work work) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    auto job = make_job(env, Value(), state);
    auto results = std::make_shared<std::vector<float>>();
    job->work = [tokens = tokens_of(info[0]), results, work](const int32_t* cancel) {
      return work(tokens, results.get(), cancel);
    };
    job->result = [results](Napi::Env env) -> Napi::Value {
      Napi::Float32Array out = Napi::Float32Array::New(env, results->size());
      if (out.IsEmpty()) return env.Undefined();  // the environment is going away
      std::copy(results->begin(), results->end(), out.Data());
      return out;
    };
    return model->queue->run(env, std::move(job), info[1]);
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    return close_handle(info.Env(), Value(), state, *model->queue);
  }

  static constexpr int32_t kNoTokens = 0;
  static inline float kNoLogits = 0;
};

}  // namespace shiftadd
