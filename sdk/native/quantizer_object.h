// The EngineQuantizer of sdk/src/engine.ts: packs a dense model block by block.
#pragma once

#include "sdk/native/handles.h"

namespace shiftadd {

inline sa_quantize_settings settings_of(const Napi::Object& object) {
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

class QuantizerObject : public Napi::ObjectWrap<QuantizerObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "EngineQuantizer",
                       {InstanceMethod<&QuantizerObject::block>("block"), InstanceMethod<&QuantizerObject::head>("head"),
                        InstanceMethod<&QuantizerObject::skip>("skip"), InstanceMethod<&QuantizerObject::measure>("measure"),
                        InstanceMethod<&QuantizerObject::open_sensitivity>("openSensitivity"),
                        InstanceMethod<&QuantizerObject::close>("close")});
  }
  explicit QuantizerObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<QuantizerObject>(info) {}

  std::shared_ptr<ModelState> model;
  std::shared_ptr<QuantizerState> state;

 private:
  using Step = sa_status (*)(sa_quantizer*, const sa_quantize_settings*, int32_t, sa_progress, void*, const int32_t*);

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

  // settings, candidates, progress, cancel
  Napi::Value run(const Napi::CallbackInfo& info, Step step) {
    Napi::Env env = info.Env();
    if (!usable(env, state, true)) return env.Undefined();
    std::vector<sa_quantize_settings> settings;
    if (info[0].IsArray()) {
      const Napi::Array array = info[0].As<Napi::Array>();
      for (uint32_t i = 0; i < array.Length(); ++i) {
        const Napi::Value item = array.Get(i);
        settings.push_back(settings_of(item.IsObject() ? item.As<Napi::Object>() : Napi::Object::New(env)));
      }
    }
    const int32_t candidates = info[1].IsNumber() ? info[1].As<Napi::Number>().Int32Value() : 0;
    settings.resize(kMostSettings);  // missing ones are invalid and refused by the core
    auto job = make_job(env, Value(), state);
    if (info[2].IsFunction()) job->progress = Napi::Persistent(info[2].As<Napi::Function>());
    job->work = [state = state, queue = model->queue.get(), raw = job.get(), settings, candidates, step](const int32_t* cancel) {
      ProgressTarget target{queue, raw, 0};
      return step(state->handle, settings.data(), candidates, raw->progress.IsEmpty() ? nullptr : report, &target, cancel);
    };
    job->result = [state = state](Napi::Env env) -> Napi::Value { return results(env, state->handle); };
    return model->queue->run(env, std::move(job), info[3]);
  }
  Napi::Value block(const Napi::CallbackInfo& info) { return run(info, sa_quantizer_block); }
  Napi::Value head(const Napi::CallbackInfo& info) { return run(info, sa_quantizer_head); }
  Napi::Value skip(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, true)) return env.Undefined();
    auto job = make_job(env, Value(), state);
    if (info[0].IsFunction()) job->progress = Napi::Persistent(info[0].As<Napi::Function>());
    job->work = [state = state, queue = model->queue.get(), raw = job.get()](const int32_t* cancel) {
      ProgressTarget target{queue, raw, 0};
      return sa_quantizer_skip(state->handle, raw->progress.IsEmpty() ? nullptr : report, &target, cancel);
    };
    job->result = [](Napi::Env result_env) -> Napi::Value { return result_env.Undefined(); };
    return model->queue->run(env, std::move(job), info[1]);
  }
  Napi::Value open_sensitivity(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, true)) return env.Undefined();
    auto job = make_job(env, Value(), state);
    const int32_t windows = info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : 0;
    const int32_t window = info[1].IsNumber() ? info[1].As<Napi::Number>().Int32Value() : 0;
    job->work = [state = state, windows, window](const int32_t* cancel) {
      return sa_quantizer_open_sensitivity(state->handle, windows, window, cancel);
    };
    job->result = [](Napi::Env result_env) -> Napi::Value { return result_env.Undefined(); };
    return model->queue->run(env, std::move(job), info[2]);
  }
  Napi::Value measure(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, true)) return env.Undefined();
    auto job = make_job(env, Value(), state);
    const int32_t index = info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : -1;
    const auto kl = std::make_shared<double>(0);
    job->work = [state = state, index, kl](const int32_t* cancel) {
      return sa_quantizer_measure(state->handle, index, kl.get(), cancel);
    };
    job->result = [kl](Napi::Env result_env) -> Napi::Value { return Napi::Number::New(result_env, *kl); };
    return model->queue->run(env, std::move(job), info[1]);
  }

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
      item.Set("criterion", packed.criterion);
      item.Set("deadColumns", packed.dead_columns);
      item.Set("damping", packed.damping_used);
      item.Set("plainFit", Napi::Boolean::New(env, packed.plain_fit != 0));
      out.Set(static_cast<uint32_t>(i), item);
    }
    return out;
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    return close_handle(info.Env(), Value(), state, *model->queue);
  }

  static constexpr size_t kMostSettings = 7 * 8;
};

}  // namespace shiftadd
