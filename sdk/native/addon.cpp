// Node-API binding of the C ABI, one to one, in the shape of sdk/src/engine.ts.
#include <napi.h>

#include "sdk/native/model_object.h"
#include "sdk/native/meter_functions.h"

namespace shiftadd {
namespace {

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
  const std::string cache = object.Get("kvCache").ToString().Utf8Value();
  const int32_t kv_type = cache == "f16" ? 1 : cache == "int8" ? 2 : 0;
  const std::string isa = object.Get("isa").IsString() ? object.Get("isa").As<Napi::String>().Utf8Value() : "";

  const std::string backend = object.Get("backend").IsString() ? object.Get("backend").As<Napi::String>().Utf8Value() : "cpu";
  const int32_t device = integer_of(object, "device", 0);

  auto state = std::make_shared<ModelState>();
  state->queue = JobQueue::start(env);
  auto job = make_job(env, Napi::Object::New(env), state);
  const auto width_at = [&](size_t field) {  // of the description (core/model_spec.h), which is checked when it is opened
    return spec.size() > field && spec[field] >= 0 && spec[field] <= 1 << 24 ? static_cast<int32_t>(spec[field]) : 0;
  };
  const int32_t vocabulary = width_at(1), embedding = width_at(20);
  job->work = [state, spec, paths, threads, precision, kv_type, isa, backend, device](const int32_t*) {
    std::vector<const char*> raw;
    for (const std::string& path : paths) raw.push_back(path.c_str());
    const sa_model_options options{threads, precision, kv_type, isa.empty() ? nullptr : isa.c_str(), backend.c_str(), device};
    return sa_model_open(spec.data(), spec.size(), raw.data(), raw.size(), &options, &state->handle);
  };
  job->result = [state, vocabulary, embedding](Napi::Env env) -> Napi::Value {
    Napi::Object model = env.GetInstanceData<Constructors>()->model.New({});
    if (model.IsEmpty()) return env.Undefined();  // the environment is going away
    ModelObject* wrapper = Napi::ObjectWrap<ModelObject>::Unwrap(model);
    wrapper->state = state;
    wrapper->vocabulary = vocabulary;
    wrapper->embedding = embedding;
    return model;
  };
  JobQueue& queue = *state->queue;
  return queue.run(env, std::move(job), env.Undefined());
}

Napi::Value describe_gpu(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  sa_gpu gpu;
  const int32_t index = info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : 0;
  if (const sa_status status = sa_gpu_describe(index, &gpu); status != 0) {
    throw_status(env, status);
    return env.Undefined();
  }
  Napi::Object out = Napi::Object::New(env);
  out.Set("count", gpu.count);
  out.Set("name", gpu.name);
  out.Set("uuid", gpu.uuid);
  out.Set("capability", gpu.capability);
  out.Set("multiprocessors", gpu.multiprocessors);
  out.Set("integrated", gpu.integrated != 0);
  return out;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* constructors = new Constructors();
  constructors->model = Napi::Persistent(ModelObject::define(env));
  constructors->session = Napi::Persistent(SessionObject::define(env));
  constructors->grammar = Napi::Persistent(GrammarObject::define(env));
  constructors->quantizer = Napi::Persistent(QuantizerObject::define(env));
  constructors->tuner = Napi::Persistent(TunerObject::define(env));
  env.SetInstanceData(constructors);
  exports.Set("version", sa_version());
  exports.Set("describeDevice", Napi::Function::New(env, describe_device, "describeDevice"));
  exports.Set("describeGpu", Napi::Function::New(env, describe_gpu, "describeGpu"));
  exports.Set("openModel", Napi::Function::New(env, open_model, "openModel"));
  export_meters(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(shiftadd, init)

}  // namespace shiftadd
