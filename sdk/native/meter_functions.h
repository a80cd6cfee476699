// What the addon exports of devices/: NVML as functions of (device, library), and the firmware of a Raspberry Pi. They throw an error
// with a status.
#pragma once

#include <napi.h>

#include "devices/nvml/nvml.h"
#include "devices/raspberry-pi/firmware.h"
#include "sdk/native/handles.h"

namespace shiftadd {

struct NvmlArguments {
  explicit NvmlArguments(const Napi::CallbackInfo& info)
      : device(info[0].IsNumber() ? info[0].As<Napi::Number>().Uint32Value() : 0),
        path(info[1].IsString() ? info[1].As<Napi::String>().Utf8Value() : "") {}
  const char* library() const { return path.empty() ? nullptr : path.c_str(); }
  uint32_t device;
  std::string path;
};

inline Napi::Value meter_result(Napi::Env env, const Status& status, Napi::Value value) {
  if (status.ok()) return value;
  make_error(env, static_cast<sa_status>(status.code), status.message.c_str()).ThrowAsJavaScriptException();
  return env.Undefined();
}

inline void export_meters(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) { exports.Set(name, Napi::Function::New(env, function, name)); };
  add("nvmlCount", [](const Napi::CallbackInfo& info) -> Napi::Value {
    uint32_t count = 0;
    const Status status = nvml_count(NvmlArguments(info).library(), &count);
    return meter_result(info.Env(), status, Napi::Number::New(info.Env(), count));
  });
  add("nvmlDescribe", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const NvmlArguments arguments(info);
    NvmlDevice device;
    const Status status = nvml_describe(arguments.library(), arguments.device, &device);
    Napi::Object out = Napi::Object::New(info.Env());
    out.Set("name", device.name);
    out.Set("uuid", device.uuid);
    out.Set("partitioned", device.partitioned);
    return meter_result(info.Env(), status, out);
  });
  add("nvmlEnergy", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const NvmlArguments arguments(info);
    uint64_t millijoules = 0;
    const Status status = nvml_energy(arguments.library(), arguments.device, &millijoules);
    return meter_result(info.Env(), status, Napi::Number::New(info.Env(), static_cast<double>(millijoules)));
  });
  add("nvmlPower", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const NvmlArguments arguments(info);
    uint32_t milliwatts = 0;
    const Status status = nvml_power(arguments.library(), arguments.device, &milliwatts);
    return meter_result(info.Env(), status, Napi::Number::New(info.Env(), milliwatts));
  });
  add("nvmlOwnMemory", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const NvmlArguments arguments(info);
    uint64_t bytes = 0;
    const Status status = nvml_own_memory(arguments.library(), arguments.device, &bytes);
    return meter_result(info.Env(), status, Napi::Number::New(info.Env(), static_cast<double>(bytes)));
  });
  add("askFirmware", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const auto text = [&](size_t index) { return info[index].IsString() ? info[index].As<Napi::String>().Utf8Value() : std::string(); };
    std::string answer;
    const Status status = ask_firmware(text(0).c_str(), text(1), &answer);
    return meter_result(info.Env(), status, Napi::String::New(info.Env(), answer));
  });
}

}  // namespace shiftadd
