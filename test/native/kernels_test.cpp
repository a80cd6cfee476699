// Packed and dense products: the portable kernels against double precision, every instruction set against portable.
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/cpu_features.h"
#include "backends/cpu/cpu_weights.h"
#include "core/float_math.h"
#include "core/half.h"
#include "test/native/tap.h"

using namespace shiftadd;

namespace {

struct Case {
  uint32_t rows, columns, planes, group_rows, group_columns;
  bool row_scales, float_scales = false;
  std::string name() const {
    return std::to_string(rows) + "x" + std::to_string(columns) + ", " + std::to_string(planes) + " planes, groups of " +
           std::to_string(group_rows) + "x" + std::to_string(group_columns) + (float_scales ? ", float scales" : "");
  }
};

enum class Activations { gaussian, outliers, sparse, tiny, huge, zero };

std::vector<float> make_activations(Activations kind, size_t count, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  for (size_t i = 0; i < count; ++i) {
    x[i] = kind == Activations::zero ? 0 : normal(random);
    if (kind == Activations::outliers && random() % 131 == 0) x[i] *= 20;
    if (kind == Activations::sparse && random() % 4 != 0) x[i] = 0;
    if (kind == Activations::tiny) x[i] *= 1e-12f;
    if (kind == Activations::huge) x[i] *= 1e12f;
  }
  return x;
}

struct Matrix {
  PackedShape shape;
  std::vector<uint8_t> codes, planes;
  std::vector<uint16_t> scales, row_scales;
  std::vector<float> float_scales;
  std::vector<double> weights;  // without row scales

  Matrix(const Case& c, std::mt19937& random) : shape{c.rows, c.columns, c.planes, c.group_rows, c.group_columns, 1, c.row_scales} {
    codes.resize(size_t{c.rows} * c.columns);
    for (auto& code : codes) code = static_cast<uint8_t>(random() & ((1u << c.planes) - 1));
    planes.resize(shape.plane_bytes());
    pack_planes(shape, codes.data(), planes.data());
    scales.resize(shape.scale_count());
    // Halving scales as a binary coding has them, with a spread between groups.
    for (size_t i = 0; i < scales.size(); ++i) {
      const float spread = std::exp(0.25f * std::normal_distribution<float>()(random));
      const float scale = spread * std::ldexp(0.7f, -static_cast<int>(i % c.planes));
      scales[i] = encode_scale(scale, 1, 4);
      if (c.float_scales) float_scales.push_back(scale);
    }
    if (c.row_scales) {
      row_scales.resize(c.rows);
      for (auto& scale : row_scales) scale = float_to_half(0.5f + static_cast<float>(random() % 1024) / 1024);
    }
    weights.assign(codes.size(), 0.0);
    for (size_t i = 0; i < codes.size(); ++i)
      for (uint32_t p = 0; p < shape.planes; ++p) {
        const size_t row_group = i / shape.columns / shape.group_rows, column_group = i % shape.columns / shape.group_columns;
        const size_t at = (row_group * shape.column_groups() + column_group) * shape.planes + p;
        weights[i] += view().scale(at) * (codes[i] >> p & 1 ? 1 : -1);
      }
  }
  PackedMatrix view() const {
    const uint16_t* codes_of_scales = float_scales.empty() ? scales.data() : nullptr;
    return {shape, planes.data(), codes_of_scales, row_scales.empty() ? nullptr : row_scales.data(),
            float_scales.empty() ? nullptr : float_scales.data()};
  }
  double row_product(uint32_t r, const float* x) const {
    double sum = 0;
    for (uint32_t c = 0; c < shape.columns; ++c) sum += weights[size_t{r} * shape.columns + c] * x[c];
    return sum * (row_scales.empty() ? 1.0 : half_to_float(row_scales[r]));
  }
};

std::vector<float> multiply(const char* isa, int threads, Precision precision, const Matrix& matrix,
                            const std::vector<float>& x, uint32_t tokens) {
  std::unique_ptr<Backend> backend;
  CpuOptions options;
  options.isa = isa;
  options.threads = threads;
  options.precision = precision;
  if (!make_cpu_backend(options, &backend).ok()) return {};
  Weights* raw = nullptr;
  if (!backend->prepare(matrix.view(), &raw).ok()) return {};
  const std::unique_ptr<Weights> weights(raw);
  Buffer in, out;
  const size_t count = size_t{tokens} * matrix.shape.rows;
  if (!backend->allocate(x.size() * sizeof(float), &in).ok() || !backend->allocate(count * sizeof(float), &out).ok()) return {};
  backend->upload(x.data(), in, x.size());
  const LinearCall calls[] = {{weights.get(), out}};
  backend->linear(calls, in, tokens);
  std::vector<float> result(count);
  backend->download(out, result.data(), count);
  backend->release(in);
  backend->release(out);
  return result;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

std::vector<const char*> other_isas() {
  std::vector<const char*> isas;
  for (const char* isa : {"avx2", "avx512", "avx512vnni", "neon", "neondot"}) {
    const Kernels* kernels = nullptr;
    if (choose_kernels(isa, &kernels).ok()) isas.push_back(isa);
    else tap::note("%s is not available here", isa);
  }
  return isas;
}

void packed_products(const std::vector<const char*>& isas) {
  std::mt19937 random(7);
  std::vector<Case> cases = {{1, 1, 1, 1, 8, false}, {31, 15, 2, 32, 8, true}, {32, 16, 3, 32, 8, false},
                             {33, 17, 4, 32, 8, true}, {64, 127, 2, 64, 1, false}, {65, 128, 3, 24, 8, true},
                             {96, 129, 4, 96, 8, true}, {192, 576, 4, 96, 8, true}, {576, 1536, 3, 72, 8, true},
                             {100, 300, 5, 7, 1, true}, {48, 257, 6, 16, 8, false}, {40, 144, 7, 40, 8, true},
                             {2100, 136, 8, 2100, 8, true}, {64, 4096, 2, 64, 8, false}, {64, 1024, 8, 32, 8, false},
                             {64, 264, 2, 8, 8, false, true}, {96, 144, 3, 16, 8, false, true}, {50, 97, 4, 96, 1, true, true}};
  for (int i = 0; i < 12; ++i)
    cases.push_back({1 + static_cast<uint32_t>(random() % 200), 1 + static_cast<uint32_t>(random() % 700),
                     1 + static_cast<uint32_t>(random() % 8), 1 + static_cast<uint32_t>(random() % 130),
                     random() % 2 ? 8u : 1u, random() % 2 == 0});
  double worst[2][2] = {};
  for (const Case& c : cases) {
    const Matrix matrix(c, random);
    for (Activations kind : {Activations::gaussian, Activations::outliers, Activations::sparse, Activations::tiny,
                             Activations::huge, Activations::zero}) {
      // More than one chunk of tokens, and enough for the panel product.
      const uint32_t tokens = kind != Activations::gaussian ? 2 : c.planes <= 2 ? 49 : 19;
      const std::vector<float> x = make_activations(kind, size_t{tokens} * c.columns, random);
      for (Precision precision : {Precision::exact, Precision::fast}) {
        const std::vector<float> truth = multiply("portable", 1, precision, matrix, x, tokens);
        double error = 0, norm = 0;
        for (uint32_t m = 0; m < tokens; ++m)
          for (uint32_t r = 0; r < c.rows; ++r) {
            const double want = matrix.row_product(r, x.data() + size_t{m} * c.columns);
            const double got = truth[size_t{m} * c.rows + r];
            error += (want - got) * (want - got);
            norm += want * want;
          }
        const double relative = norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
        const double limit = precision == Precision::exact ? 2e-4 : 7e-3;
        double& known = worst[precision == Precision::fast][kind == Activations::outliers];
        known = std::fmax(known, relative);
        const std::string name = c.name() + (precision == Precision::exact ? ", exact" : ", fast") + ", input " +
                                 std::to_string(static_cast<int>(kind));
        if (!(relative <= limit)) tap::check(false, name + ": relative error " + std::to_string(relative));
        bool identical = true;
        for (const char* isa : isas)
          if (!same_bits(truth, multiply(isa, 2, precision, matrix, x, tokens))) {
            identical = false;
            tap::note("%s differs on %s", isa, name.c_str());
          }
        if (!identical) tap::check(false, name + ": every instruction set gives the same bits");
        std::vector<float> single;
        for (uint32_t m = 0; m < tokens; ++m) {
          const std::vector<float> one(x.begin() + m * c.columns, x.begin() + (m + 1) * c.columns);
          const std::vector<float> y = multiply("portable", 1, precision, matrix, one, 1);
          single.insert(single.end(), y.begin(), y.end());
        }
        // Fast precision takes another way for many tokens; its results are checked against the truth above.
        if (precision == Precision::exact && !same_bits(truth, single)) tap::check(false, name + ": many tokens equal one token at a time");
      }
    }
  }
  tap::note("largest relative L2 error, exact: %.2e, with outliers %.2e; fast: %.2e, with outliers %.2e", worst[0][0],
            worst[0][1], worst[1][0], worst[1][1]);
  tap::check(worst[0][0] <= 2e-4 && worst[0][1] <= 2e-4, "exact precision: relative L2 error at most 0.02 %");
  tap::check(worst[1][0] <= 7e-3 && worst[1][1] <= 7e-3, "fast precision: relative L2 error at most 0.7 %");
  tap::check(true, std::to_string(cases.size()) + " shapes: the same bits on portable and " + std::to_string(isas.size()) +
                       " instruction sets, for one token and many, 1 and 2 threads");
}

void bad_activations(const std::vector<const char*>& isas) {
  std::mt19937 random(3);
  const Matrix matrix({64, 256, 3, 32, 8, false}, random);
  std::vector<const char*> all = isas;
  all.push_back("portable");
  for (float bad : {NAN, INFINITY, -INFINITY})
    for (size_t at : {size_t{0}, size_t{130}, size_t{255}}) {
      std::vector<float> x = make_activations(Activations::gaussian, 256, random);
      x[at] = bad;
      bool poisoned = true;
      for (const char* isa : all)
        for (Precision precision : {Precision::exact, Precision::fast})
          for (float y : multiply(isa, 1, precision, matrix, x, 1)) poisoned = poisoned && std::isnan(y);
      tap::check(poisoned, "a bad activation makes every output NaN, never a number");
    }
}

void attention_kernels(const std::vector<const char*>& isas) {
  std::mt19937 random(9);
  for (const char* isa : isas) {
    const Kernels* kernels = nullptr;
    if (!choose_kernels(isa, &kernels).ok()) continue;
    bool scores_equal = true, values_equal = true;
    for (uint32_t size : {1u, 7u, 8u, 64u, 80u, 100u})
      for (uint32_t rows : {1u, 2u, 3u, 5u, 6u, 12u, 13u})
        for (uint32_t count : {1u, 16u, 17u, 70u})
          for (KvType type : {KvType::f32, KvType::f16}) {
            const uint32_t panels = (count + kKeyPanel - 1) / kKeyPanel, padded = panels * kKeyPanel;
            const std::vector<float> q = make_activations(Activations::gaussian, size_t{rows} * size, random);
            const std::vector<float> wide = make_activations(Activations::gaussian, size_t{padded} * size, random);
            std::vector<uint16_t> narrow(wide.size());
            kernels->narrow_half(wide.data(), narrow.data(), wide.size());
            const void* cached = type == KvType::f32 ? static_cast<const void*>(wide.data()) : narrow.data();
            std::vector<float> s1(size_t{rows} * padded), s2(s1.size()), o1 = q, o2 = q;
            kernels->score_keys(q.data(), size, rows, cached, type, size, panels, 0.3f, s1.data(), padded);
            kKernelsPortable.score_keys(q.data(), size, rows, cached, type, size, panels, 0.3f, s2.data(), padded);
            scores_equal = scores_equal && same_bits(s1, s2);
            kernels->weigh_values(s1.data(), padded, rows, cached, type, count, size, o1.data(), size);
            kKernelsPortable.weigh_values(s2.data(), padded, rows, cached, type, count, size, o2.data(), size);
            values_equal = values_equal && same_bits(o1, o2);
          }
    tap::check(scores_equal, std::string(isa) + ": attention scores have the bits of portable");
    tap::check(values_equal, std::string(isa) + ": weighted values have the bits of portable");
  }
}

void float_kernels(const std::vector<const char*>& isas) {
  std::mt19937 random(5);
  for (const char* isa : isas) {
    const Kernels* kernels = nullptr;
    if (!choose_kernels(isa, &kernels).ok()) continue;
    bool dots = true, sums = true, halves = true, tiles = true;
    for (size_t n : {size_t{0}, size_t{1}, size_t{7}, size_t{8}, size_t{15}, size_t{16}, size_t{17}, size_t{31}, size_t{64}, size_t{576}, size_t{1001}}) {
      const std::vector<float> a = make_activations(Activations::outliers, n, random), b = make_activations(Activations::gaussian, n, random);
      dots = dots && std::bit_cast<uint32_t>(kernels->dot(a.data(), b.data(), n)) ==
                         std::bit_cast<uint32_t>(kKernelsPortable.dot(a.data(), b.data(), n));
      std::vector<float> y1, y2;
      for (uint32_t activation = 0; activation < kActivationCount; ++activation)
        for (const float* up : {static_cast<const float*>(nullptr), a.data()}) {
          y1 = y2 = b;
          kernels->gate(static_cast<Activation>(activation), y1.data(), up, n);
          kKernelsPortable.gate(static_cast<Activation>(activation), y2.data(), up, n);
          sums = sums && same_bits(y1, y2);
        }
      kernels->soft_cap(y1.data(), n, 2.5f);
      kKernelsPortable.soft_cap(y2.data(), n, 2.5f);
      sums = sums && same_bits(y1, y2);
      if (n > 0) {
        const float sum1 = kernels->exponentiate(y1.data(), n), sum2 = kKernelsPortable.exponentiate(y2.data(), n);
        sums = sums && same_bits(y1, y2) && sum1 == sum2;
      }
      std::vector<uint16_t> narrow1(n), narrow2(n);
      kernels->narrow_half(a.data(), narrow1.data(), n);
      kKernelsPortable.narrow_half(a.data(), narrow2.data(), n);
      halves = halves && narrow1 == narrow2;
      std::vector<uint16_t> half(n);
      for (auto& h : half) h = static_cast<uint16_t>(random() & 0xfbff & ~0x7c00) | static_cast<uint16_t>((random() % 31) << 10);
      std::vector<float> w1(n), w2(n);
      kernels->widen_half(half.data(), w1.data(), n);
      kKernelsPortable.widen_half(half.data(), w2.data(), n);
      halves = halves && same_bits(w1, w2);
    }
    for (uint32_t rows : {1u, 2u, 5u, 6u, 7u, 12u, 13u, 31u})
      for (uint32_t k : {1u, 3u, 64u, 333u}) {
        const std::vector<float> x = make_activations(Activations::gaussian, size_t{rows} * k, random), panel = make_activations(Activations::gaussian, size_t{k} * 16, random);
        std::vector<float> y1(size_t{rows} * 16), y2(y1.size());
        kernels->dense_tile(x.data(), k, rows, panel.data(), k, y1.data(), 16);
        kKernelsPortable.dense_tile(x.data(), k, rows, panel.data(), k, y2.data(), 16);
        for (size_t i = 0; i < y1.size(); ++i) tiles = tiles && std::fabs(y1[i] - y2[i]) < 1e-4f * std::sqrt(static_cast<float>(k));
      }
    tap::check(dots && sums, std::string(isa) + ": dot, gate and exponentiate give the bits of portable at every length");
    tap::check(halves, std::string(isa) + ": half floats widen and narrow alike");
    tap::check(tiles, std::string(isa) + ": dense tiles agree within rounding");
  }
  double worst = 0;
  for (float x = -80; x < 80; x += 0.0137f) worst = std::fmax(worst, std::fabs(exp_float(x) / std::exp(static_cast<double>(x)) - 1));
  tap::note("exp_float: largest relative error %.2e", worst);
  tap::check(worst < 3e-7, "exp_float is accurate");
  double gelus = 0, tanhs = 0;
  for (double x = -12; x < 12; x += 0.00137) {
    const double inner = std::sqrt(2 / 3.14159265358979) * (x + 0.044715 * x * x * x);
    const float single = static_cast<float>(x);
    gelus = std::fmax(gelus, std::fabs(gelu(single) - 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)))));
    gelus = std::fmax(gelus, std::fabs(gelu_tanh(single) - 0.5 * x * (1 + std::tanh(inner))));
    if (x != 0) tanhs = std::fmax(tanhs, std::fabs(tanh_float(single) / std::tanh(static_cast<double>(single)) - 1));
  }
  tap::note("gelu: largest error %.2e; tanh: largest relative error %.2e", gelus, tanhs);
  tap::check(gelus < 2e-6 && tanhs < 1e-6, "gelu and tanh are accurate");
}

}  // namespace

int main() {
  const std::vector<const char*> isas = other_isas();
  packed_products(isas);
  bad_activations(isas);
  float_kernels(isas);
  attention_kernels(isas);
  const Kernels* kernels = nullptr;
  tap::check(!choose_kernels("sse9", &kernels).ok(), "an unknown instruction set is refused");
  return tap::finish();
}
