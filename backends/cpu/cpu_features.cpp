#include "backends/cpu/cpu_features.h"

#include <cstring>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace shiftadd {
namespace {

struct Candidate {
  const Kernels* kernels;
  bool supported;
};

#if defined(__aarch64__)
bool has_dot_product() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#elif defined(__APPLE__)
  int present = 0;
  size_t size = sizeof present;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &present, &size, nullptr, 0) == 0 && present != 0;
#else
  return false;
#endif
}
#endif

template <class Visit>
void for_each_candidate(Visit visit) {  // widest first
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  visit(Candidate{&kKernelsAvx512Vnni,
                  avx512 && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni")});
  visit(Candidate{&kKernelsAvx512, avx512});
  visit(Candidate{&kKernelsAvx2, avx2});
#elif defined(__aarch64__)
  visit(Candidate{&kKernelsNeonDot, has_dot_product()});
  visit(Candidate{&kKernelsNeon, true});
#elif defined(__wasm_simd128__)
  visit(Candidate{&kKernelsSimd128, true});  // a module with other instructions than the engine has does not load
#endif
  visit(Candidate{&kKernelsPortable, true});
}

}  // namespace

Status choose_kernels(const char* isa, const Kernels** out) {
  *out = nullptr;
  bool known = false;
  for_each_candidate([&](Candidate candidate) {
    const bool wanted = isa == nullptr || std::strcmp(isa, candidate.kernels->isa) == 0;
    known = known || wanted;
    if (wanted && candidate.supported && *out == nullptr) *out = candidate.kernels;
  });
  if (*out != nullptr) return ok_status();
  if (!known) return not_found("there are no kernels for the instruction set '" + std::string(isa) + "'");
  return not_found("this processor does not support the instruction set '" + std::string(isa) + "'");
}

}  // namespace shiftadd
