// The EngineTuner of sdk/src/engine.ts: tunes scales and norm gains of a packed model against its dense one.
#pragma once

#include "sdk/native/handles.h"

namespace shiftadd {

class TunerObject : public Napi::ObjectWrap<TunerObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "EngineTuner",
                       {InstanceMethod<&TunerObject::set>("set"), InstanceMethod<&TunerObject::step>("step"),
                        InstanceMethod<&TunerObject::loss>("loss"),
                        InstanceMethod<&TunerObject::begin_blocks>("beginBlocks"),
                        InstanceMethod<&TunerObject::block_step>("blockStep"),
                        InstanceMethod<&TunerObject::next_block>("nextBlock"),
                        InstanceMethod<&TunerObject::scales>("scales"), InstanceMethod<&TunerObject::gains>("gains"),
                        InstanceMethod<&TunerObject::save_state>("saveState"),
                        InstanceMethod<&TunerObject::load_state>("loadState"),
                        InstanceMethod<&TunerObject::close>("close")});
  }
  explicit TunerObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TunerObject>(info) {}

  std::shared_ptr<ModelState> model;
  std::shared_ptr<TunerState> state;

 private:
  using Tokens = std::shared_ptr<std::vector<int32_t>>;

  static int32_t whole(const Napi::Value& value) { return value.IsNumber() ? value.As<Napi::Number>().Int32Value() : -1; }
  static sa_tune_rates rates_of(const Napi::Value& value) {
    if (!value.IsObject()) return {-1, -1, -1};  // refused by the core
    const Napi::Object object = value.As<Napi::Object>();
    const auto rate = [&](const char* key) { return static_cast<float>(number_of(object, key, -1)); };
    return {rate("scales"), rate("rowScales"), rate("gains")};
  }
  static std::vector<uint16_t> halves_of(const Napi::Value& value) {
    if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint16_array) return {};
    const Napi::Uint16Array array = value.As<Napi::Uint16Array>();
    return std::vector<uint16_t>(array.Data(), array.Data() + array.ElementLength());
  }
  // What tokens, windows and window are: null and an exception unless their numbers agree.
  static Tokens windows_of(const Napi::CallbackInfo& info) {
    auto tokens = std::make_shared<std::vector<int32_t>>(tokens_of(info[0]));
    const int32_t windows = whole(info[1]), window = whole(info[2]);
    if (windows >= 1 && window >= 1 && tokens->size() == static_cast<size_t>(windows) * static_cast<size_t>(window))
      return tokens;
    make_error(info.Env(), 1, "the tuning tokens must be windows x window numbers").ThrowAsJavaScriptException();
    return nullptr;
  }

  Napi::Value set(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    const Napi::Object object = info[2].IsObject() ? info[2].As<Napi::Object>() : Napi::Object::New(env);
    struct Matrix {
      sa_packed_matrix view{};
      std::vector<uint8_t> planes;
      std::vector<uint16_t> scales, row_scales;
    };
    auto matrix = std::make_shared<Matrix>();
    const Napi::Value planes = object.Get("planeData");
    if (planes.IsTypedArray() && planes.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array) {
      const Napi::Uint8Array array = planes.As<Napi::Uint8Array>();
      matrix->planes.assign(array.Data(), array.Data() + array.ElementLength());
    }
    matrix->scales = halves_of(object.Get("scales"));
    matrix->row_scales = halves_of(object.Get("rowScales"));
    matrix->view = {integer_of(object, "rows", 0), integer_of(object, "columns", 0), integer_of(object, "planes", 0),
                    integer_of(object, "groupRows", 0), integer_of(object, "groupColumns", 0),
                    integer_of(object, "scaleExponent", 0), matrix->planes.data(), matrix->scales.data(),
                    matrix->row_scales.empty() ? nullptr : matrix->row_scales.data(), matrix->planes.size(),
                    matrix->scales.size(), matrix->row_scales.size()};
    auto job = make_job(env, Value(), state);
    job->work = [state = state, matrix, role = whole(info[0]), layer = whole(info[1])](const int32_t*) {
      return sa_tuner_set(state->handle, role, layer, &matrix->view);
    };
    return model->queue->run(env, std::move(job), env.Undefined());
  }
  // Runs a call that gives a loss.
  template <class Work>
  Napi::Value run_loss(Napi::Env env, Work work, const Napi::Value& cancel_flag) {
    auto loss = std::make_shared<double>(0);
    auto job = make_job(env, Value(), state);
    job->work = [work, loss](const int32_t* cancel) { return work(loss.get(), cancel); };
    job->result = [loss](Napi::Env env) -> Napi::Value { return Napi::Number::New(env, *loss); };
    return model->queue->run(env, std::move(job), cancel_flag);
  }
  Napi::Value step(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    const Tokens tokens = windows_of(info);
    if (tokens == nullptr) return env.Undefined();
    const int32_t windows = whole(info[1]), window = whole(info[2]);
    const auto work = [state = state, tokens, windows, window, rates = rates_of(info[3])](double* loss,
                                                                                       const int32_t* cancel) {
      return sa_tuner_step(state->handle, tokens->data(), windows, window, &rates, loss, cancel);
    };
    return run_loss(env, work, info[4]);
  }
  Napi::Value loss(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    const Tokens tokens = windows_of(info);
    if (tokens == nullptr) return env.Undefined();
    const int32_t windows = whole(info[1]), window = whole(info[2]);
    const auto work = [state = state, tokens, windows, window](double* loss, const int32_t* cancel) {
      return sa_tuner_loss(state->handle, tokens->data(), windows, window, loss, cancel);
    };
    return run_loss(env, work, info[3]);
  }
  Napi::Value begin_blocks(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    const Tokens tokens = windows_of(info);
    if (tokens == nullptr) return env.Undefined();
    auto job = make_job(env, Value(), state);
    job->work = [state = state, tokens, windows = whole(info[1]), window = whole(info[2])](const int32_t*) {
      return sa_tuner_begin_blocks(state->handle, tokens->data(), windows, window);
    };
    return model->queue->run(env, std::move(job), env.Undefined());
  }
  Napi::Value block_step(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    const std::vector<int32_t> signed_choice = tokens_of(info[0]);
    std::vector<uint32_t> chosen(signed_choice.begin(), signed_choice.end());  // negative ones are refused by the core
    const size_t count = chosen.size();
    if (chosen.empty()) chosen.push_back(0);
    const auto work = [state = state, chosen, count, rates = rates_of(info[1])](double* loss, const int32_t* cancel) {
      return sa_tuner_block_step(state->handle, chosen.data(), count, &rates, loss, cancel);
    };
    return run_loss(env, work, info[2]);
  }
  Napi::Value next_block(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, false)) return env.Undefined();
    auto job = make_job(env, Value(), state);
    job->work = [state = state](const int32_t* cancel) { return sa_tuner_next_block(state->handle, cancel); };
    return model->queue->run(env, std::move(job), info[0]);
  }
  Napi::Value scales(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, true)) return env.Undefined();
    sa_packed_info packed;
    if (const sa_status status = sa_tuner_describe(state->handle, whole(info[0]), whole(info[1]), &packed)) {
      throw_status(env, status);
      return env.Undefined();
    }
    Napi::Uint16Array scales = Napi::Uint16Array::New(env, static_cast<size_t>(packed.scale_count));
    Napi::Uint16Array row_scales = Napi::Uint16Array::New(env, static_cast<size_t>(packed.row_scale_count));
    if (scales.IsEmpty() || row_scales.IsEmpty()) return env.Undefined();
    sa_tuner_copy(state->handle, whole(info[0]), whole(info[1]), scales.Data(),
                  packed.has_row_scales ? row_scales.Data() : nullptr);
    Napi::Object out = Napi::Object::New(env);
    out.Set("scales", scales);
    if (packed.has_row_scales) out.Set("rowScales", row_scales);
    return out;
  }
  Napi::Value gains(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, true)) return env.Undefined();
    const int32_t count = whole(info[2]);
    Napi::Float32Array out = Napi::Float32Array::New(env, count > 0 ? static_cast<size_t>(count) : 1);
    if (out.IsEmpty()) return env.Undefined();
    const sa_status status =
        sa_tuner_gains(state->handle, whole(info[0]), whole(info[1]), out.Data(), out.ElementLength());
    if (status != 0) throw_status(env, status);
    return out;
  }
  Napi::Value save_state(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, true)) return env.Undefined();
    Napi::Float32Array out = Napi::Float32Array::New(env, sa_tuner_state_size(state->handle));
    if (out.IsEmpty()) return env.Undefined();
    const sa_status status = sa_tuner_save_state(state->handle, out.Data(), out.ElementLength());
    if (status != 0) throw_status(env, status);
    return out;
  }
  Napi::Value load_state(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!usable(env, state, true)) return env.Undefined();
    if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float32_array) {
      make_error(env, 1, "the state must be a Float32Array").ThrowAsJavaScriptException();
      return env.Undefined();
    }
    const Napi::Float32Array in = info[0].As<Napi::Float32Array>();
    static constexpr float kNothing = 0;
    const size_t count = in.ElementLength();
    if (const sa_status status = sa_tuner_load_state(state->handle, count > 0 ? in.Data() : &kNothing, count))
      throw_status(env, status);
    return env.Undefined();
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    return close_handle(info.Env(), Value(), state, *model->queue);
  }
};

}  // namespace shiftadd
