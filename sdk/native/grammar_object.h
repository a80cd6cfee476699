// The EngineGrammar of sdk/src/engine.ts: the form of constrained answers.
#pragma once

#include <algorithm>

#include "sdk/native/handles.h"

namespace shiftadd {

class GrammarObject : public Napi::ObjectWrap<GrammarObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "EngineGrammar", {InstanceMethod<&GrammarObject::follow>("follow"), InstanceMethod<&GrammarObject::close>("close")});
  }
  explicit GrammarObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<GrammarObject>(info) {}

  std::shared_ptr<ModelState> model;  // declared first: outlives the grammar
  std::shared_ptr<GrammarState> state;
  int32_t vocabulary = 0;

 private:
  Napi::Value follow(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    struct Answer {
      std::vector<uint32_t> tokens;
      int32_t verdict = 0, least = 0;
    };
    auto answer = std::make_shared<Answer>();
    answer->tokens.resize((static_cast<size_t>(vocabulary) + 31) / 32);
    const int32_t budget = info[1].IsNumber() ? info[1].As<Napi::Number>().Int32Value() : 0;
    auto job = make_job(env, Value(), state);
    job->work = [state = state, text = bytes_of(info[0]), budget, answer](const int32_t*) {
      return sa_grammar_follow(state->handle, text.data(), text.size(), budget, answer->tokens.data(), answer->tokens.size(), &answer->verdict, &answer->least);
    };
    job->result = [answer](Napi::Env env) -> Napi::Value {
      static constexpr const char* kVerdicts[] = {"refused", "open", "accepted", "final"};
      Napi::Object out = Napi::Object::New(env);
      Napi::Uint32Array tokens = Napi::Uint32Array::New(env, answer->tokens.size());
      if (out.IsEmpty() || tokens.IsEmpty()) return env.Undefined();  // the environment is going away
      std::copy(answer->tokens.begin(), answer->tokens.end(), tokens.Data());
      out.Set("verdict", kVerdicts[answer->verdict]);
      out.Set("least", answer->least);
      out.Set("tokens", tokens);
      return out;
    };
    return model->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value close(const Napi::CallbackInfo& info) { return close_handle(info.Env(), Value(), state, *model->queue); }
};

}  // namespace shiftadd
