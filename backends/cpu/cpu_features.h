// Which kernel table this machine can run.
#pragma once

#include <string>

#include "backends/cpu/kernels.h"
#include "core/status.h"

namespace shiftadd {

// The widest table the processor and operating system support, or the one named ("portable", "avx2", "neon").
// An unknown or unsupported name is not_found.
Status choose_kernels(const char* isa, const Kernels** out);


}  // namespace shiftadd
