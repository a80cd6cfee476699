// The weight quantizer: every stage pays, results do not depend on threads, and no input, however degenerate, breaks
// it.
#include "core/quantizer/pipeline.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "test/native/random_weights.h"
#include "test/native/tap.h"

namespace {

using namespace shiftadd;

std::vector<float> unpack(const PackedWeights& packed) {
  std::vector<float> values(size_t{packed.shape.rows} * packed.shape.columns);
  for (uint32_t r = 0; r < packed.shape.rows; ++r) {
    unpack_row(packed.view(), r, values.data() + size_t{r} * packed.shape.columns);
  }
  return values;
}

// |W - Q|^2 / |W|^2, or with a Hessian tr(E H E') / tr(W H W').
double relative_error(const std::vector<float>& weights, const PackedWeights& packed, const float* hessian) {
  const std::vector<float> values = unpack(packed);
  const size_t columns = packed.shape.columns;
  double error = 0, whole = 0;
  for (size_t first = 0; first < weights.size(); first += columns) {
    for (size_t i = 0; i < columns; ++i) {
      const double w = weights[first + i], e = w - values[first + i];
      if (!hessian) {
        error += e * e;
        whole += w * w;
        continue;
      }
      for (size_t j = 0; j < columns; ++j) {
        const double h = hessian[i * columns + j], other = weights[first + j];
        error += e * h * (other - values[first + j]);
        whole += w * h * other;
      }
    }
  }
  return whole > 0 ? error / whole : error;
}

bool close(double a, double b, double tolerance) { return std::fabs(a - b) <= tolerance * (std::fabs(a) + 1e-9); }

struct Result {
  Status status;
  PackedWeights packed;
  QuantizeReport report;
};

Result quantize(const std::vector<float>& weights, uint32_t columns, const std::vector<float>& hessian,
                const QuantizeSettings& settings, const ParallelFor& parallel = {}, const Progress& progress = {}) {
  Result result;
  result.status = quantize_matrix(weights.data(), static_cast<uint32_t>(weights.size() / columns), columns,
                                  hessian.empty() ? nullptr : hessian.data(), settings, parallel, progress,
                                  &result.packed, &result.report);
  return result;
}

bool valid(const Result& result, const std::vector<float>& weights) {
  if (!result.status.ok() || !result.packed.shape.check().ok()) return false;
  for (uint16_t code : result.packed.scales) {
    if (!valid_scale(code)) return false;
  }
  for (float value : unpack(result.packed)) {
    if (!std::isfinite(value)) return false;
  }
  return close(relative_error(weights, result.packed, nullptr), result.report.weight_error, 1e-3) &&
         std::isfinite(result.report.output_error);
}

void test_stages() {
  const uint32_t columns = 192;
  const std::vector<float> weights = heavy_weights(200, columns, 7);
  const std::vector<float> hessian = correlated_hessian(columns, 500, 3);
  QuantizeSettings settings;
  settings.sweeps = 0;
  settings.refits = 0;
  settings.row_scales = false;
  const Result shared = quantize(weights, columns, {}, settings);
  settings.row_scales = true;
  const Result plain = quantize(weights, columns, {}, settings);
  tap::check(plain.report.plain_fit && plain.report.weight_error < 0.9 * shared.report.weight_error,
             "row scales lower the weight error");
  const double plain_output = relative_error(weights, plain.packed, hessian.data());
  const Result compensated = quantize(weights, columns, hessian, settings);
  tap::check(!compensated.report.plain_fit && compensated.report.output_error < 0.6 * plain_output,
             "compensation lowers the output error");
  settings.planes = 2;  // where refits pay most
  const Result coarse = quantize(weights, columns, hessian, settings);
  settings.refits = 2;
  const Result coarse_refitted = quantize(weights, columns, hessian, settings);
  tap::check(coarse_refitted.report.output_error < 0.99 * coarse.report.output_error,
             "bundle refits lower the output error");
  settings.planes = 4;
  const Result refitted = quantize(weights, columns, hessian, settings);
  settings.sweeps = 1;
  const Result once = quantize(weights, columns, hessian, settings);
  tap::check(once.report.output_error < 0.97 * refitted.report.output_error, "one sweep lowers the output error");
  settings.sweeps = 4;
  const Result refined = quantize(weights, columns, hessian, settings);
  tap::check(refined.report.output_error < once.report.output_error, "more sweeps lower the output error");
  tap::note("output error, 2 planes: compensated %.5f, refits %.5f", coarse.report.output_error,
            coarse_refitted.report.output_error);
  tap::note("output error: plain %.5f, compensated %.5f, refits %.5f, 1 sweep %.5f, 4 sweeps %.5f", plain_output,
            compensated.report.output_error, refitted.report.output_error, once.report.output_error,
            refined.report.output_error);
  tap::check(valid(refined, weights), "unpacked rows have the reported weight error");
  tap::check(close(relative_error(weights, refined.packed, hessian.data()), refined.report.output_error, 1e-2),
             "unpacked rows have the reported output error");
  settings.identity = 0.3;
  const Result mixed = quantize(weights, columns, hessian, settings);
  tap::check(mixed.report.weight_error < refined.report.weight_error, "an identity share lowers the weight error");
}

void test_threads() {
  const uint32_t columns = 100;
  const std::vector<float> weights = heavy_weights(130, columns, 5);
  const std::vector<float> hessian = correlated_hessian(columns, 300, 9);
  QuantizeSettings settings;
  settings.group_rows = 24;
  const Result serial = quantize(weights, columns, hessian, settings);
  const Result reversed = quantize(weights, columns, hessian, settings, [](size_t count, const auto& work) {
    for (size_t i = count; i-- > 0;) work(i);
  });
  const Result threaded = quantize(weights, columns, hessian, settings, [](size_t count, const auto& work) {
    std::thread other([&] {
      for (size_t i = 0; i < count; i += 2) work(i);
    });
    for (size_t i = 1; i < count; i += 2) work(i);
    other.join();
  });
  const auto same = [&](const Result& result) {
    return result.status.ok() && result.packed.planes == serial.packed.planes &&
           result.packed.scales == serial.packed.scales && result.packed.row_scales == serial.packed.row_scales &&
           result.report.output_error == serial.report.output_error;
  };
  tap::check(same(reversed), "reversed order of row groups gives the same bytes");
  tap::check(same(threaded), "two threads give the same bytes");
}

void test_planes() {
  const uint32_t columns = 40;
  const std::vector<float> weights = heavy_weights(50, columns, 11);
  const std::vector<float> hessian = correlated_hessian(columns, 200, 13);
  for (uint32_t group_columns : {8u, 1u}) {
    double before = 1, before_plain = 1;
    for (uint32_t planes = 1; planes <= kMaxPlanes; ++planes) {
      QuantizeSettings settings;
      settings.planes = planes;
      settings.group_columns = group_columns;
      settings.group_rows = 32;
      const Result plain = quantize(weights, columns, {}, settings);
      const Result result = quantize(weights, columns, hessian, settings);
      tap::check(valid(plain, weights) && valid(result, weights) && plain.report.weight_error < 0.6 * before_plain &&
                     result.report.output_error < 0.6 * before,
                 "each plane lowers the errors: " + std::to_string(planes) + " planes, groups of " +
                     std::to_string(group_columns) + " columns");
      before = result.report.output_error;
      before_plain = plain.report.weight_error;
    }
  }
}

void test_shapes() {
  const uint32_t shapes[][2] = {{33, 17}, {5, 3}, {1, 1}, {1, 130}, {97, 8}, {16, 9}};
  for (const auto& shape : shapes) {
    const std::vector<float> weights = heavy_weights(shape[0], shape[1], shape[0]);
    const std::vector<float> hessian = correlated_hessian(shape[1], 100, shape[1]);
    bool good = true;
    for (uint32_t group_columns : {8u, 1u}) {
      for (uint32_t group_rows : {1u, 10u, 96u, 4096u}) {
        QuantizeSettings settings;
        settings.group_columns = group_columns;
        settings.group_rows = group_rows;
        good = good && valid(quantize(weights, shape[1], hessian, settings), weights);
        settings.row_scales = false;
        good = good && valid(quantize(weights, shape[1], {}, settings), weights);
      }
    }
    tap::check(good, "shape " + std::to_string(shape[0]) + " x " + std::to_string(shape[1]));
  }
}

void test_degenerate() {
  const uint32_t columns = 48;
  const std::vector<float> weights = heavy_weights(64, columns, 17);
  const std::vector<float> hessian = correlated_hessian(columns, 200, 19);
  QuantizeSettings settings;

  std::vector<float> dead = hessian;
  for (uint32_t c = 0; c < columns; ++c) dead[20 * columns + c] = dead[c * columns + 20] = 0;
  const Result with_dead = quantize(weights, columns, dead, settings);
  tap::check(valid(with_dead, weights) && with_dead.report.dead_columns == 1 && !with_dead.report.plain_fit,
             "dead column");
  settings.damping = 0;
  tap::check(valid(quantize(weights, columns, dead, settings), weights), "dead column without damping");
  const Result all_dead = quantize(weights, columns, std::vector<float>(columns * columns), settings);
  tap::check(valid(all_dead, weights) && all_dead.report.dead_columns == columns && all_dead.report.plain_fit,
             "Hessian of zeros is a plain fit");

  const std::vector<float> deficient = correlated_hessian(columns, 12, 23);
  const Result raised = quantize(weights, columns, deficient, settings);
  tap::check(valid(raised, weights) && raised.report.damping_used > 0 && !raised.report.plain_fit,
             "rank-deficient Hessian without damping: damping is raised");
  settings.damping = 0.01;
  const Result damped = quantize(weights, columns, deficient, settings);
  tap::check(valid(damped, weights) && damped.report.damping_used == 0.01, "rank-deficient Hessian with damping");
  std::vector<float> negative = hessian;
  for (uint32_t c = 0; c + 1 < columns; c += 2) negative[c * columns + c + 1] = negative[(c + 1) * columns + c] = 1e3f;
  const Result indefinite = quantize(weights, columns, negative, settings);
  tap::check(valid(indefinite, weights) && indefinite.report.plain_fit, "indefinite Hessian falls back to a plain fit");

  std::vector<float> equal_weights = weights, equal_hessian = hessian;
  for (size_t r = 0; r < 64; ++r) equal_weights[r * columns + 9] = equal_weights[r * columns + 2];
  for (uint32_t c = 0; c < columns; ++c) equal_hessian[9 * columns + c] = equal_hessian[2 * columns + c];
  for (uint32_t c = 0; c < columns; ++c) equal_hessian[c * columns + 9] = equal_hessian[c * columns + 2];
  tap::check(valid(quantize(equal_weights, columns, equal_hessian, settings), equal_weights), "equal columns");

  const std::vector<float> zeros(weights.size());
  const Result zero = quantize(zeros, columns, hessian, settings);
  tap::check(valid(zero, zeros) && zero.report.weight_error == 0 && relative_error(zeros, zero.packed, nullptr) == 0,
             "matrix of zeros");
  settings.row_scales = false;
  const Result zero_shared = quantize(zeros, columns, hessian, settings);
  tap::check(valid(zero_shared, zeros) && relative_error(zeros, zero_shared.packed, nullptr) == 0,
             "matrix of zeros without row scales");
  settings.row_scales = true;
  std::vector<float> zero_row = weights;
  for (uint32_t c = 0; c < columns; ++c) zero_row[5 * columns + c] = 0;
  const Result with_zero_row = quantize(zero_row, columns, hessian, settings);
  const std::vector<float> values = unpack(with_zero_row.packed);
  bool exact = true;
  for (uint32_t c = 0; c < columns; ++c) exact = exact && values[5 * columns + c] == 0;
  tap::check(valid(with_zero_row, zero_row) && exact, "a row of zeros stays zero");
  for (float size : {1e-30f, 1e-12f, 1e12f, 1e15f}) {
    std::vector<float> scaled = weights;
    for (float& value : scaled) value *= size;
    const Result result = quantize(scaled, columns, hessian, settings);
    tap::check(result.status.ok() && result.report.weight_error < 0.1, "weights times " + std::to_string(size));
  }
}

void test_refusals() {
  const uint32_t columns = 16;
  std::vector<float> weights = heavy_weights(20, columns, 29);
  std::vector<float> hessian = correlated_hessian(columns, 50, 31);
  QuantizeSettings settings;
  weights[3 * columns + 5] = std::numeric_limits<float>::quiet_NaN();
  const Result weight = quantize(weights, columns, hessian, settings);
  tap::check(weight.status.code == Code::bad_format &&
                 weight.status.message.find("row 3, column 5") != std::string::npos, "NaN weight is named");
  weights[3 * columns + 5] = 1;
  hessian[2 * columns + 7] = std::numeric_limits<float>::infinity();
  const Result moment = quantize(weights, columns, hessian, settings);
  tap::check(moment.status.code == Code::bad_format &&
                 moment.status.message.find("row 2, column 7") != std::string::npos, "infinite Hessian is named");
  settings.planes = 9;
  tap::check(quantize(weights, columns, {}, settings).status.code == Code::invalid_argument, "nine planes are refused");
  settings.planes = 4;
  settings.scale_terms = 5;
  tap::check(quantize(weights, columns, {}, settings).status.code == Code::invalid_argument, "five terms are refused");
  settings.scale_terms = 4;
  settings.group_rows = 4;
  double last = -1;
  bool rising = true;
  const Result watched = quantize(weights, columns, {}, settings, {}, [&](double done) {
    rising = rising && done >= last;
    last = done;
    return false;
  });
  tap::check(watched.status.ok() && rising && last == 1, "progress rises to 1");
  const Result stopped = quantize(weights, columns, {}, settings, {}, [](double done) { return done > 0.3; });
  tap::check(stopped.status.code == Code::cancelled && stopped.packed.planes.empty(), "progress can cancel");
}

}  // namespace

int main() {
  test_stages();
  test_threads();
  test_planes();
  test_shapes();
  test_degenerate();
  test_refusals();
  return tap::finish();
}
