// What a caller chooses when a matrix is quantized.
#pragma once

#include <cstdint>

namespace shiftadd {

struct QuantizeSettings {  // mirrors sa_quantize_settings in c_api.h
  uint32_t planes = 4;
  uint32_t group_rows = 96;
  uint32_t group_columns = 8;  // 8 or 1
  bool row_scales = true;
  uint32_t scale_terms = 4;
  uint32_t fit_rounds = 30;  // alternations of one binary-coding fit
  uint32_t refits = 2;       // bundle refits inside the compensated loop
  uint32_t sweeps = 3;       // refinement passes after it
  double damping = 0.01;     // share of the mean diagonal of H
  double identity = 0;       // c in H / mean diag + c I (embedding also read by rows)
};

}  // namespace shiftadd
