// The tuner's matrix product: every kernel against double precision, in every orientation, and 16-bit factors.
#include "core/tuner/dense_product.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "core/half.h"
#include "test/native/tap.h"

using namespace shiftadd;

namespace {

void test_sizes(Backend* backend) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const size_t shapes[][3] = {{1, 1, 1},     {5, 7, 3},      {6, 16, 320},  {13, 33, 321},
                              {97, 270, 130}, {12, 40, 2100}, {10, 1690, 1290}};
  for (const ProductKernel& kernel : product_kernels()) {
    double worst = 0;
    for (const auto& [rows, columns, depth] : shapes)
      for (int kind = 0; kind < 8; ++kind) {
        const bool a_transposed = kind & 1, b_transposed = kind & 2, accumulate = kind & 4;
        const size_t a_stride = (a_transposed ? rows : depth) + 3, b_stride = (b_transposed ? depth : columns) + 1;
        std::vector<float> a((a_transposed ? depth : rows) * a_stride), b((b_transposed ? columns : depth) * b_stride);
        for (float& value : a) value = normal(random);
        for (float& value : b) value = normal(random);
        const size_t stride = columns + 2;
        std::vector<float> c(rows * stride, 7.0f);
        DenseProduct product(kind % 3 == 0 ? nullptr : backend, kernel);
        product.multiply(rows, columns, depth, {a.data(), a_stride, a_transposed}, {b.data(), b_stride, b_transposed},
                         c.data(), stride, accumulate);
        for (size_t i = 0; i < rows; ++i)
          for (size_t j = 0; j < stride; ++j) {
            double sum = accumulate || j >= columns ? 7 : 0;
            for (size_t k = 0; j < columns && k < depth; ++k)
              sum += double{a[a_transposed ? k * a_stride + i : i * a_stride + k]} *
                     b[b_transposed ? j * b_stride + k : k * b_stride + j];
            worst = std::max(worst, std::fabs(sum - c[i * stride + j]) / std::sqrt(static_cast<double>(depth)));
          }
      }
    tap::check(worst < 3e-6, std::string(kernel.isa) + ": products at odd sizes equal double precision");
    tap::note("%s: largest error %.2g", kernel.isa, worst);
  }
}

void test_halves(Backend* backend) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  // 16-bit factors are widened while they are packed.
  std::vector<uint16_t> half(50 * 30), brain(50 * 30);
  std::vector<float> half_wide, brain_wide, left(20 * 30), expected(20 * 50), got(20 * 50);
  for (size_t i = 0; i < half.size(); ++i) {
    half[i] = float_to_half(i % 7 == 0 ? 1e-6f * normal(random) : normal(random));  // some are subnormal
    brain[i] = static_cast<uint16_t>(0x3f80 + random() % 200);
    half_wide.push_back(half_to_float(half[i]));
    brain_wide.push_back(bfloat16_to_float(brain[i]));
  }
  for (float& value : left) value = normal(random);
  DenseProduct product(backend);
  bool same = true;
  for (int kind = 0; kind < 2; ++kind) {
    product.multiply(20, 50, 30, {left.data(), 30}, {kind ? half_wide.data() : brain_wide.data(), 30, true},
                     expected.data(), 50);
    product.multiply(20, 50, 30, {left.data(), 30},
                     {kind ? half.data() : brain.data(), 30, true, kind ? DType::f16 : DType::bf16}, got.data(), 50);
    same = same && expected == got;
  }
  tap::check(same, "f16 and bf16 factors are those widened to f32");
}

}  // namespace

int main() {
  CpuOptions options;
  options.threads = 3;
  std::unique_ptr<Backend> backend;
  (void)make_cpu_backend(options, &backend);
  test_sizes(backend.get());
  test_halves(backend.get());
  return tap::finish();
}
