// Matrices and Hessians that a real checkpoint can bring: odd shapes, dead inputs, too few calibration tokens, rows of
// zeros, values of extreme size. Each gives a finite result with a report that says what happened, or is refused.
#include <cmath>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "core/half.h"
#include "core/quantizer/pipeline.h"
#include "test/native/tap.h"

namespace {

using namespace shiftadd;

// splitmix64; sums of uniforms are normal enough here.
struct Random {
  uint64_t state = 1;
  float normal() {
    float sum = -6;
    for (int i = 0; i < 12; ++i) {
      state += 0x9e3779b97f4a7c15u;
      uint64_t bits = (state ^ state >> 30) * 0xbf58476d1ce4e5b9u;
      bits = (bits ^ bits >> 27) * 0x94d049bb133111ebu;
      sum += static_cast<float>(static_cast<double>((bits ^ bits >> 31) >> 11) * 0x1p-53);
    }
    return sum;
  }
};

std::vector<float> normals(size_t count, uint64_t seed) {
  Random random{seed};
  std::vector<float> values(count);
  for (float& value : values) value = random.normal();
  return values;
}

// The second moment of `tokens` inputs; `inputs` is tokens x columns.
std::vector<float> moment(const std::vector<float>& inputs, uint32_t columns) {
  const size_t tokens = inputs.size() / columns;
  std::vector<float> hessian(size_t{columns} * columns);
  for (size_t t = 0; t < tokens; ++t) {
    for (uint32_t i = 0; i < columns; ++i) {
      for (uint32_t j = 0; j < columns; ++j) {
        hessian[size_t{i} * columns + j] += inputs[t * columns + i] * inputs[t * columns + j] / static_cast<float>(tokens);
      }
    }
  }
  return hessian;
}

struct Result {
  Status status;
  PackedWeights packed;
  QuantizeReport report;
};

QuantizeSettings quick() {
  QuantizeSettings settings;
  settings.fit_rounds = 4;
  settings.refits = 1;
  settings.sweeps = 1;
  settings.group_rows = 16;
  return settings;
}

Result quantize(const std::vector<float>& weights, uint32_t columns, const std::vector<float>& hessian,
                const QuantizeSettings& settings, size_t threads = 1) {
  Result result;
  const ParallelFor parallel = [threads](size_t count, const std::function<void(size_t)>& work) {
    std::vector<std::thread> pool;
    for (size_t t = 0; t < threads; ++t)
      pool.emplace_back([&, t] {
        for (size_t i = t; i < count; i += threads) work(i);
      });
    for (std::thread& thread : pool) thread.join();
  };
  result.status = quantize_matrix(weights.data(), static_cast<uint32_t>(weights.size() / columns), columns,
                                  hessian.empty() ? nullptr : hessian.data(), settings, parallel, {}, &result.packed,
                                  &result.report);
  return result;
}

bool sound(const Result& result) {
  if (!result.status.ok() || result.packed.shape.check().code != Code::ok) return false;
  for (uint16_t scale : result.packed.row_scales)
    if (!std::isfinite(half_to_float(scale))) return false;
  return std::isfinite(result.report.weight_error) && std::isfinite(result.report.output_error);
}

bool same(const Result& a, const Result& b) {
  return a.packed.planes == b.packed.planes && a.packed.scales == b.packed.scales &&
         a.packed.row_scales == b.packed.row_scales && a.packed.shape.scale_exponent == b.packed.shape.scale_exponent;
}

void test_shapes() {
  for (uint32_t rows : {1u, 7u, 33u}) {
    for (uint32_t columns : {1u, 5u, 9u, 31u, 72u, 100u}) {
      const std::vector<float> weights = normals(size_t{rows} * columns, rows * 1000 + columns);
      const std::vector<float> hessian = moment(normals(200 * columns, 5), columns);
      for (uint32_t group_columns : {1u, 8u}) {
        QuantizeSettings settings = quick();
        settings.group_columns = group_columns;
        settings.group_rows = std::min(rows, 24u);
        const Result one = quantize(weights, columns, hessian, settings);
        bool good = sound(one) && one.report.weight_error < 0.05;
        for (size_t threads : {2u, 3u}) good = good && same(one, quantize(weights, columns, hessian, settings, threads));
        tap::check(good, std::to_string(rows) + " x " + std::to_string(columns) + " in groups of " +
                             std::to_string(group_columns) + " columns: finite, the same for 1, 2 and 3 threads");
      }
    }
  }
}

void test_few_tokens() {
  const uint32_t columns = 64;
  const std::vector<float> weights = normals(32 * columns, 11);
  const Result rank8 = quantize(weights, columns, moment(normals(8 * columns, 13), columns), quick());
  tap::check(sound(rank8) && !rank8.report.plain_fit && rank8.report.damping_used == quick().damping &&
                 rank8.report.output_error < rank8.report.weight_error,
             "8 tokens for 64 columns: damping alone makes it positive definite");
  std::vector<float> repeated;
  const std::vector<float> token = normals(columns, 17);
  for (int i = 0; i < 2000; ++i) repeated.insert(repeated.end(), token.begin(), token.end());
  const Result rank1 = quantize(weights, columns, moment(repeated, columns), quick());
  tap::check(sound(rank1) && !rank1.report.plain_fit, "2000 times the same token");
  QuantizeSettings undamped = quick();
  undamped.damping = 0;
  const Result raised = quantize(weights, columns, moment(repeated, columns), undamped);
  tap::check(sound(raised) && (raised.report.damping_used > 0 || raised.report.plain_fit),
             "the same without damping: raised by itself, and reported");
}

void test_dead_inputs() {
  const uint32_t columns = 40;
  const std::vector<float> weights = normals(24 * columns, 19);
  std::vector<float> inputs = normals(300 * columns, 23);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (i % columns == 3 || i % columns / 8 == 2) inputs[i] = 0;  // one column, and a whole group of 8
  for (uint32_t group_columns : {1u, 8u}) {
    QuantizeSettings settings = quick();
    settings.group_columns = group_columns;
    const Result result = quantize(weights, columns, moment(inputs, columns), settings);
    tap::check(sound(result) && result.report.dead_columns == 9 && !result.report.plain_fit &&
                   result.report.weight_error < 0.1,
               "dead inputs in groups of " + std::to_string(group_columns) + ": counted, their weights still fitted");
  }
}

void test_rows_of_zeros() {
  const uint32_t columns = 24;
  std::vector<float> weights = normals(40 * columns, 29);
  // Row 0, and a whole row group.
  for (size_t i = 0; i < weights.size(); ++i)
    if (i < columns || (i >= 16 * columns && i < 32 * columns)) weights[i] = 0;
  for (bool row_scales : {true, false}) {
    QuantizeSettings settings = quick();
    settings.row_scales = row_scales;
    const Result result = quantize(weights, columns, moment(normals(100 * columns, 31), columns), settings);
    tap::check(sound(result) && result.report.weight_error < 0.3,
               std::string("rows of zeros and a row group of zeros ") + (row_scales ? "with" : "without") +
                   " row scales");
  }
}

void test_extreme_sizes() {
  const uint32_t columns = 24;
  const std::vector<float> hessian = moment(normals(100 * columns, 37), columns);
  std::vector<float> weights = normals(32 * columns, 41);
  for (uint32_t c = 0; c < columns; ++c) weights[3 * columns + c] *= 1e6f;  // far beyond what half floats span
  for (uint32_t c = 0; c < columns; ++c) weights[4 * columns + c] *= 1e-6f;
  const Result mixed = quantize(weights, columns, hessian, quick());
  tap::check(sound(mixed) && mixed.report.weight_error < 0.05, "rows 1e12 apart: row scales stay finite");

  std::vector<float> huge = normals(32 * columns, 43);
  for (float& value : huge) value *= 0x1p49f;
  tap::check(sound(quantize(huge, columns, hessian, quick())), "weights of 2^50");
  huge[5 * columns + 6] = 1e30f;
  const Result refused = quantize(huge, columns, hessian, quick());
  tap::check(refused.status.code == Code::bad_format &&
                 refused.status.message.find("row 5, column 6") != std::string::npos,
             "a weight of 1e30 is refused with its place");
  huge[5 * columns + 6] = -std::numeric_limits<float>::infinity();
  const Result infinite = quantize(huge, columns, hessian, quick());
  tap::check(infinite.status.message.find("not finite at row 5, column 6") != std::string::npos, "so is an infinite one");
  std::vector<float> overflown = hessian;
  overflown[columns + 2] = std::numeric_limits<float>::quiet_NaN();
  const Result moments = quantize(weights, columns, overflown, quick());
  tap::check(moments.status.code == Code::bad_format && moments.status.message.find("activations") != std::string::npos,
             "activations that overflow are named as the cause");
}

}  // namespace

int main() {
  test_shapes();
  test_few_tokens();
  test_dead_inputs();
  test_rows_of_zeros();
  test_extreme_sizes();
  return tap::finish();
}
