// Single stages of the quantizer: the binary-coding fit and the factor of the Hessian.
#include <cmath>
#include <functional>
#include <vector>

#include "core/quantizer/binary_coding.h"
#include "core/quantizer/hessian.h"
#include "test/native/random_weights.h"
#include "test/native/tap.h"

namespace {

using namespace shiftadd;

void test_fit() {
  Random random{37};
  GroupFit fit(4, 30, {4, 4});
  fit.clear();
  std::vector<float> values;
  for (int n = 0; n < 512; ++n) values.push_back(static_cast<float>(random.normal()));
  double whole = 0, error = 0;
  for (float value : values) fit.add(value, 1.0f), whole += double{value} * value;
  Levels levels;
  levels.set(fit.fit());
  std::vector<uint8_t> codes(values.size());
  std::vector<float> quantized(values.size());
  levels.nearest(values.data(), values.size(), codes.data(), quantized.data());
  bool nearest = true;
  for (size_t n = 0; n < values.size(); ++n) {
    const double own = std::fabs(values[n] - quantized[n]);
    error += own * own;
    for (uint32_t rank = 0; rank < levels.count(); ++rank) {
      nearest = nearest && own <= std::fabs(double{values[n]} - levels.value(rank)) + 1e-6;
    }
    nearest = nearest && levels.of_code(codes[n]) == quantized[n];
  }
  tap::check(nearest, "every weight takes its nearest level");
  // 0.0115 is the distortion of the best uniform 16-level quantizer of a normal variable.
  tap::check(error / whole < 0.0115, "four planes beat a uniform grid on normal weights");
  tap::note("four planes on normal weights: %.5f", error / whole);
}

void test_factor() {
  const uint32_t columns = 130;
  const std::vector<float> hessian = correlated_hessian(columns, 400, 41);
  std::vector<float> factor;
  const ParallelFor serial = [](size_t count, const std::function<void(size_t)>& work) {
    for (size_t i = 0; i < count; ++i) work(i);
  };
  tap::check(inverse_factor(hessian.data(), columns, 0.05, serial, &factor), "factor of a damped Hessian exists");
  // U H U' = I.
  double worst = 0;
  for (uint32_t i = 0; i < columns; ++i) {
    std::vector<double> row(columns);
    for (uint32_t k = i; k < columns; ++k) {
      for (uint32_t j = 0; j < columns; ++j) {
        row[j] += double{factor[i * columns + k]} * (hessian[k * columns + j] + (k == j ? 0.05 : 0));
      }
    }
    for (uint32_t l = 0; l < columns; ++l) {
      double sum = i == l ? -1 : 0;
      for (uint32_t j = l; j < columns; ++j) sum += row[j] * factor[l * columns + j];
      worst = std::max(worst, std::fabs(sum));
    }
  }
  tap::check(worst < 1e-4, "the factor inverts the Hessian");
  tap::note("largest deviation from the identity: %.2g", worst);
}

}  // namespace

int main() {
  test_fit();
  test_factor();
  return tap::finish();
}
