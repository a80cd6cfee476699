// Normalising, ordering, damping and factoring a Hessian; see hessian.h.
#include "core/quantizer/hessian.h"

#include <algorithm>

namespace shiftadd {
namespace {

constexpr int kDampingSteps = 3;
constexpr double kFirstDamping = 1e-3;  // where raising starts when the settings asked for none

void order_columns(const float* hessian, uint32_t group_columns, Hessian* result) {
  const uint32_t columns = result->columns;
  std::vector<double> sums;
  for (uint32_t begin = 0; begin < columns; begin += group_columns) {
    const uint32_t width = std::min(group_columns, columns - begin);
    double sum = 0;
    for (uint32_t c = begin; hessian && c < begin + width; ++c) sum += hessian[size_t{c} * columns + c];
    result->bundles.push_back({begin, width, static_cast<uint32_t>(sums.size())});
    sums.push_back(sum);
  }
  std::stable_sort(result->bundles.begin(), result->bundles.end(),
                   [&](const Bundle& a, const Bundle& b) { return sums[a.column_group] > sums[b.column_group]; });
  for (Bundle& bundle : result->bundles) {
    const uint32_t source = bundle.begin;
    bundle.begin = static_cast<uint32_t>(result->order.size());
    for (uint32_t c = 0; c < bundle.width; ++c) result->order.push_back(source + c);
  }
}

}  // namespace

Hessian prepare_hessian(const float* hessian, uint32_t columns, uint32_t group_columns, double damping, double identity,
                        const ParallelFor& parallel) {
  Hessian result;
  result.columns = columns;
  order_columns(hessian, group_columns, &result);
  if (!hessian) return result;
  const auto diagonal = [&](uint32_t c) { return hessian[size_t{c} * columns + c]; };
  double mean = 0;
  for (uint32_t c = 0; c < columns; ++c) {
    if (diagonal(c) > 0) {
      mean += diagonal(c);
    } else {
      ++result.dead_columns;
    }
  }
  if (result.dead_columns == columns) return result;
  mean /= columns - result.dead_columns;

  result.matrix.resize(size_t{columns} * columns);
  parallel(columns, [&](size_t i) {
    const uint32_t row = result.order[i];
    const float* source = hessian + size_t{row} * columns;
    float* target = result.matrix.data() + i * columns;
    const bool dead = !(diagonal(row) > 0);
    for (uint32_t j = 0; j < columns; ++j) {
      const uint32_t column = result.order[j];
      target[j] = dead || !(diagonal(column) > 0) ? 0.0f : static_cast<float>(source[column] / mean);
    }
    // A dead column weighs nothing in the outputs: a full 1 on its diagonal would let it bend the scales it shares, so
    // it gets only what damping and identity add, and 1 when they add nothing.
    target[i] += static_cast<float>(identity);
    if (dead && !(identity + damping > 0)) target[i] = 1;
  });
  for (int step = 0; step <= kDampingSteps; ++step) {
    if (inverse_factor(result.matrix.data(), columns, damping, parallel, &result.factor)) {
      for (uint32_t c = 0; c < columns; ++c) result.matrix[size_t{c} * columns + c] += static_cast<float>(damping);
      result.damping = damping;
      return result;
    }
    if (step < kDampingSteps) damping = damping > 0 ? damping * 10 : kFirstDamping;
  }
  result.matrix.clear();
  result.factor.clear();
  result.failed = true;
  return result;
}

}  // namespace shiftadd
