// A driver that fails: every function, at many moments of loading, prompt and decode. The failure arrives as a status, nothing else
// happens, and what is opened afterwards works. Emulated device only: a real one cannot be told to fail.
#include "core/session.h"
#include "test/native/cuda_devices.h"
#include "test/native/random_model.h"

using namespace shiftadd;

namespace {

struct Outcome {
  Status status;
  std::vector<int32_t> tokens;
};

Outcome generate(const RandomModel& random) {
  Outcome outcome;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<Session> session;
  const auto run = [&]() -> Status {
    SHIFTADD_TRY(open_cuda(&backend));
    SHIFTADD_TRY(Model::open(random.spec.data(), random.spec.size(), mapped(random.path), std::move(backend), &model));
    SHIFTADD_TRY(Session::open(*model, 200, &session));
    const std::vector<int32_t> prompt = {5, 17, 99, 3, 42};
    SHIFTADD_TRY(session->prefill(prompt, Cancel(nullptr)));
    std::vector<float> logits(kVocabulary);
    for (int i = 0; i < 5; ++i) {
      int32_t token = 0;
      SHIFTADD_TRY(session->sample({}, &token));
      outcome.tokens.push_back(token);
      SHIFTADD_TRY(session->prefill({&token, 1}, Cancel(nullptr)));
      SHIFTADD_TRY(session->logits(logits));
    }
    return ok_status();
  };
  outcome.status = run();
  return outcome;
}

void test_failures() {
  const RandomModel random(true);
  const Outcome whole = generate(random);
  tap::check(whole.status.ok() && whole.tokens.size() == 5, "without a fault it runs");
  // Without these a step is launched kernel by kernel.
  const auto is_optional = [](const std::string& name) {
    return name == "cuStreamBeginCapture_v2" || name == "cuStreamEndCapture" || name == "cuGraphInstantiateWithFlags";
  };
  const struct {
    const char* function;
    int code;  // 2: out of memory, 700: an illegal address, 719: a launch failed, 801: not supported, 999: unknown
  } faults[] = {{"cuInit", 999}, {"cuDevicePrimaryCtxRetain", 2}, {"cuStreamCreate", 2}, {"cuModuleLoadData", 209},
                {"cuModuleGetFunction", 500}, {"cuMemAlloc_v2", 2}, {"cuMemsetD8Async", 719}, {"cuMemcpyHtoDAsync_v2", 700},
                {"cuMemcpyDtoHAsync_v2", 700}, {"cuStreamSynchronize", 719}, {"cuLaunchKernelEx", 719}, {"cuGraphLaunch", 719},
                {"cuStreamBeginCapture_v2", 801}, {"cuStreamEndCapture", 901}, {"cuGraphInstantiateWithFlags", 2}};
  for (const auto& [function, code] : faults) {
    int hits = 0;
    bool good = true;
    for (const int call : {1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233}) {
      unsetenv("SHIFTADD_EMULATION_FAULT_HIT");
      setenv("SHIFTADD_EMULATION_FAULT", (std::string(function) + " " + std::to_string(call) + " " + std::to_string(code)).c_str(), 1);
      const Outcome outcome = generate(random);
      if (std::getenv("SHIFTADD_EMULATION_FAULT_HIT") == nullptr) break;  // it is not called so often
      ++hits;
      const Code wanted = code == 2 ? Code::out_of_memory : Code::device_failed;
      const bool right = is_optional(function) ? outcome.status.ok() && outcome.tokens == whole.tokens
                                               : outcome.status.code == wanted && outcome.status.message.find("emulated error") != std::string::npos;
      // A failure that only the end sees, such as of freeing memory, leaves a whole result.
      const bool late = outcome.status.ok() && outcome.tokens == whole.tokens;
      if (right || late) continue;
      good = false;
      tap::note("%s, call %d: code %d, \"%s\"", function, call, static_cast<int>(outcome.status.code), outcome.status.message.c_str());
    }
    tap::check(good && hits > 0, std::string("a failing ") + function + " at " + std::to_string(hits) + " moments");
  }
  unsetenv("SHIFTADD_EMULATION_FAULT");
  tap::check(generate(random).tokens == whole.tokens, "and then it runs again");
}

}  // namespace

int main(int, char** arguments) {
  Devices devices;
  if (!open_devices(arguments, &devices)) return 0;
  if (std::strstr(devices.cuda->isa(), "emulation") == nullptr) {
    std::printf("TAP version 14\n1..0 # SKIP a real GPU cannot be told to fail\n");
    return 0;
  }
  test_failures();
  return tap::finish();
}
