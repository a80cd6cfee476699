// Checks, preparation, the row groups in parallel, and the report; see pipeline.h.
#include "core/quantizer/pipeline.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "core/half.h"
#include "core/quantizer/compensation.h"
#include "core/quantizer/hessian.h"
#include "core/quantizer/lanes.h"
#include "core/quantizer/refinement.h"
#include "core/quantizer/row_group.h"

namespace shiftadd {
namespace {

// Steps of one row group that progress counts: compensation, refinement, measuring and storing.
constexpr size_t kSteps = 3;

// Squares of weights are summed in single precision.
constexpr float kLargestWeight = 0x1p52f;

Status bad_value(std::string what, size_t index, uint32_t columns) {
  return bad_format(what + " at row " + std::to_string(index / columns) + ", column " +
                    std::to_string(index % columns));
}

Status check_weights(const float* weights, uint32_t rows, uint32_t columns) {
  for (size_t i = 0; i < size_t{rows} * columns; ++i) {
    if (!std::isfinite(weights[i])) return bad_value("the weight matrix has a value that is not finite", i, columns);
    if (std::fabs(weights[i]) > kLargestWeight)
      return bad_value("the weight matrix has a value above 2^52, which no trained model has: the file is damaged,",
                       i, columns);
  }
  return ok_status();
}

Status check_hessian(const float* hessian, uint32_t columns) {
  for (size_t i = 0; i < size_t{columns} * columns; ++i) {
    if (!std::isfinite(hessian[i]))
      return bad_value("the activations before it overflow, so that the checkpoint must be damaged: their Hessian has "
                       "a value that is not finite", i, columns);
  }
  return ok_status();
}

Status check_settings(const QuantizeSettings& settings) {
  if (settings.scale_terms < 1 || settings.scale_terms > kMaxScaleTerms) {
    return invalid_argument("quantize settings: scale_terms must be 1 to 4");
  }
  if (!(settings.damping >= 0) || !std::isfinite(settings.damping)) {
    return invalid_argument("quantize settings: damping must be a finite number from 0");
  }
  if (!(settings.identity >= 0) || !std::isfinite(settings.identity)) {
    return invalid_argument("quantize settings: identity must be a finite number from 0");
  }
  return ok_status();
}

// Row scales before any fit, exact half floats; 1 for every row when the settings have none.
std::vector<float> first_row_scales(const float* weights, const PackedShape& shape) {
  std::vector<float> scales(shape.rows, 1.0f);
  if (!shape.has_row_scales) return scales;
  float largest = 0;
  for (uint32_t r = 0; r < shape.rows; ++r) {
    scales[r] = row_rms(weights + size_t{r} * shape.columns, shape.columns);
    largest = std::max(largest, scales[r]);
  }
  const float unit = row_scale_unit(largest);
  for (float& scale : scales) scale = half_to_float(float_to_half(scale * unit));
  return scales;
}

float largest_normalised(const float* weights, const PackedShape& shape, const std::vector<float>& row_scales) {
  float largest = 0;
  for (uint32_t r = 0; r < shape.rows; ++r) {
    if (!(row_scales[r] > 0)) continue;
    float row = 0;
    for (uint32_t c = 0; c < shape.columns; ++c) row = std::max(row, std::fabs(weights[size_t{r} * shape.columns + c]));
    largest = std::max(largest, row / row_scales[r]);
  }
  return largest;
}

struct Measured {
  double weight_error = 0, weight = 0, output_error = 0, output = 0;
};

double panel_product_sum(const std::vector<float>& a, const std::vector<float>& b, size_t padded) {
  double sum = 0;
  for (size_t n = 0; n < a.size(); n += padded) sum += double{dot(a.data() + n, b.data() + n, padded)};
  return sum;
}

// Errors of a finished row group, from its codes and scales alone.
Measured measure(const RowGroup& group, const Hessian& hessian) {
  Measured result;
  std::vector<float> errors, product;
  expand_row_group(group, hessian, &errors);
  for (size_t n = 0; n < errors.size(); ++n) errors[n] = group.weights[n] - errors[n];
  for (size_t n = 0; n < errors.size(); n += group.padded) {
    std::fill(errors.begin() + n + group.rows, errors.begin() + n + group.padded, 0.0f);
  }
  result.weight_error = panel_product_sum(errors, errors, group.padded);
  result.weight = panel_product_sum(group.weights, group.weights, group.padded);
  multiply_hessian(errors, hessian, group.padded, &product);
  result.output_error = panel_product_sum(errors, product, group.padded) - hessian.damping * result.weight_error;
  multiply_hessian(group.weights, hessian, group.padded, &product);
  result.output = panel_product_sum(group.weights, product, group.padded) - hessian.damping * result.weight;
  return result;
}

// See QuantizeReport::criterion; `hessian` as given, whose mean diagonal prepare_hessian divided out.
double sensitivity_criterion(const float* weights, const PackedShape& shape, const float* hessian,
                             const Hessian& prepared) {
  if (prepared.identity()) return 0;
  double diagonal = 0, sum = 0, squares = 0;
  const double live = static_cast<double>(shape.columns - prepared.dead_columns);
  for (size_t c = 0; c < shape.columns; ++c) diagonal += double{hessian[c * (shape.columns + 1)]} / live;
  std::vector<double> factors(shape.columns);
  for (size_t i = 0; i < shape.columns; ++i)
    factors[prepared.order[i]] = std::sqrt(diagonal) / double{prepared.factor[i * (shape.columns + 1)]};
  for (size_t r = 0; r < shape.rows; ++r)
    for (size_t c = 0; c < shape.columns; ++c) {
      const double value = double{weights[r * shape.columns + c]} * factors[c];
      sum += value;
      squares += value * value;
    }
  const double count = static_cast<double>(shape.rows) * shape.columns;
  return std::sqrt(squares) * std::max(0.0, squares / count - (sum / count) * (sum / count));
}

double ratio(double error, double whole) { return whole > 0 ? std::max(error, 0.0) / whole : 0; }

// Writes codes ([row][column] of the matrix), scale codes and row scales of a finished group.
void store(const RowGroup& group, const Hessian& hessian, uint32_t index, std::vector<uint8_t>* codes,
           PackedWeights* out) {
  const PackedShape& shape = out->shape;
  for (uint32_t r = 0; r < group.rows; ++r) {
    uint8_t* row = codes->data() + size_t{group.first_row + r} * shape.columns;
    for (size_t c = 0; c < shape.columns; ++c) row[hessian.order[c]] = group.codes[c * group.padded + r];
    if (shape.has_row_scales) out->row_scales[group.first_row + r] = float_to_half(group.row_scales[r]);
  }
  for (size_t b = 0; b < hessian.bundles.size(); ++b) {
    const size_t position = size_t{index} * shape.column_groups() + hessian.bundles[b].column_group;
    std::copy_n(group.scales[b].codes, shape.planes, out->scales.begin() + position * shape.planes);
  }
}

}  // namespace

Status quantize_matrix(const float* weights, uint32_t rows, uint32_t columns, const float* hessian,
                       const QuantizeSettings& settings, const ParallelFor& parallel, const Progress& progress,
                       PackedWeights* out, QuantizeReport* report) {
  PackedShape shape;
  shape.rows = rows;
  shape.columns = columns;
  shape.planes = settings.planes;
  shape.group_rows = settings.group_rows;
  shape.group_columns = settings.group_columns;
  shape.has_row_scales = settings.row_scales;
  SHIFTADD_TRY(shape.check());
  SHIFTADD_TRY(check_settings(settings));
  SHIFTADD_TRY(check_weights(weights, rows, columns));
  if (hessian) SHIFTADD_TRY(check_hessian(hessian, columns));
  if (progress && progress(0)) return cancelled();

  const ParallelFor serial = [](size_t count, const std::function<void(size_t)>& work) {
    for (size_t i = 0; i < count; ++i) work(i);
  };
  const ParallelFor& run = parallel ? parallel : serial;
  const Hessian prepared =
      prepare_hessian(hessian, columns, settings.group_columns, settings.damping, settings.identity, run);
  const std::vector<float> row_scales = first_row_scales(weights, shape);
  // No scale exceeds the largest magnitude in its group, and most are half of it or less: what compensation adds fits.
  shape.scale_exponent = scale_exponent_for(largest_normalised(weights, shape, row_scales));
  const ScaleGrid grid{shape.scale_exponent, settings.scale_terms};

  PackedWeights result;
  result.shape = shape;
  result.scales.assign(shape.scale_count(), 0);
  if (shape.has_row_scales) result.row_scales.assign(rows, 0);
  std::vector<uint8_t> codes(size_t{rows} * columns);
  std::vector<Measured> measured(shape.row_groups());
  std::atomic<size_t> steps{0};
  std::atomic<bool> stop{false};
  const std::thread::id caller = std::this_thread::get_id();
  const auto step = [&] {
    const size_t finished = ++steps;
    if (!progress || std::this_thread::get_id() != caller) return;
    if (progress(static_cast<double>(finished) / static_cast<double>(kSteps * shape.row_groups()))) stop = true;
  };
  run(shape.row_groups(), [&](size_t index) {
    if (stop) return;
    const uint32_t group_index = static_cast<uint32_t>(index);
    RowGroup group = load_row_group(weights, prepared, group_index * shape.group_rows, shape.rows_in(group_index),
                                    row_scales.data());
    compensate(prepared, settings, grid, &group);
    step();
    if (stop) return;
    refine(prepared, settings, grid, &group);
    step();
    if (stop) return;
    measured[index] = measure(group, prepared);
    store(group, prepared, group_index, &codes, &result);
    step();
  });
  if (stop || (progress && progress(1))) return cancelled();

  result.planes.resize(shape.plane_bytes());
  pack_planes(shape, codes.data(), result.planes.data());
  Measured total;
  for (const Measured& part : measured) {
    total.weight_error += part.weight_error;
    total.weight += part.weight;
    total.output_error += part.output_error;
    total.output += part.output;
  }
  report->weight_error = ratio(total.weight_error, total.weight);
  report->output_error = ratio(total.output_error, total.output);
  report->criterion = sensitivity_criterion(weights, shape, hessian, prepared);
  report->dead_columns = prepared.dead_columns;
  report->damping_used = prepared.damping;
  report->plain_fit = prepared.identity();
  *out = std::move(result);
  return ok_status();
}

}  // namespace shiftadd
