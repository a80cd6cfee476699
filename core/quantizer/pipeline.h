// Quantizes one weight matrix: row scales, compensated binary coding and refinement, packed at the end. The stages are
// in the files beside this one; each can be switched off by its setting.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "core/packed_matrix.h"
#include "core/quantizer/cholesky.h"
#include "core/quantizer/settings.h"
#include "core/status.h"

namespace shiftadd {

struct QuantizeReport {
  double weight_error = 0;  // |W - W_packed|^2 / |W|^2
  double output_error = 0;  // tr(E H E') / tr(W H W'), with H as given plus the identity share, without damping
  // |S|_F std(S)^2 with S[r,c] = W[r,c] / U[c,c], U the upper Cholesky factor of the inverse of H: the sensitivity
  // criterion of ShiftAddLLM, arXiv 2406.05981. 0 without a Hessian.
  double criterion = 0;
  uint32_t dead_columns = 0;
  double damping_used = 0;
  bool plain_fit = false;   // no Hessian was given, or none of the dampings made it positive definite
};

// Returns true to stop; `done` goes from 0 to 1. Only called on the thread that called quantize_matrix.
using Progress = std::function<bool(double done)>;

// weights: rows x columns. hessian: columns x columns, full and symmetric, (1/n) sum x x'; null for a plain fit.
// Both functions may be empty: serial, and no progress.
Status quantize_matrix(const float* weights, uint32_t rows, uint32_t columns, const float* hessian,
                       const QuantizeSettings& settings, const ParallelFor& parallel, const Progress& progress,
                       PackedWeights* out, QuantizeReport* report);

}  // namespace shiftadd
