// Packed matrices on the CUDA backend against double precision: on a GPU, else on the emulated device with smaller shapes.
#include <algorithm>

#include "core/half.h"
#include "test/native/cuda_devices.h"

using namespace shiftadd;

namespace {

constexpr double kMostError = 2e-4;  // relative L2: the bound of exact precision

struct RandomMatrix {
  PackedShape shape;
  std::vector<uint8_t> planes;
  std::vector<uint16_t> scales, row_scales;

  // Bits beyond the matrix are random too: they must not matter.
  RandomMatrix(const PackedShape& wanted, uint64_t seed) : shape(wanted) {
    Random random{seed};
    planes.resize(shape.plane_bytes());
    for (size_t i = 0; i < planes.size(); i += 4) {
      const uint32_t bits = static_cast<uint32_t>(random.uniform() * 0x1p32);
      std::memcpy(&planes[i], &bits, 4);
    }
    scales.resize(shape.scale_count());
    for (size_t i = 0; i < scales.size(); ++i)
      scales[i] = encode_scale(static_cast<float>(std::ldexp(0.75 + 0.5 * random.uniform(), -static_cast<int>(i % shape.planes))),
                               shape.scale_exponent, 3);
    if (shape.has_row_scales)
      for (uint32_t r = 0; r < shape.rows; ++r) row_scales.push_back(float_to_half(static_cast<float>(0.5 + random.uniform())));
  }
  PackedMatrix view() const { return {shape, planes.data(), scales.data(), row_scales.empty() ? nullptr : row_scales.data()}; }
};

std::string name_of(const PackedShape& shape) {
  return std::to_string(shape.rows) + " x " + std::to_string(shape.columns) + ", " + std::to_string(shape.planes) +
         " planes, groups of " + std::to_string(shape.group_rows) + " x " + std::to_string(shape.group_columns) +
         (shape.has_row_scales ? ", row scales" : "");
}

std::unique_ptr<Weights> prepared(Backend& backend, const RandomMatrix& matrix) {
  Weights* weights = nullptr;
  const Status status = backend.prepare(matrix.view(), &weights);
  if (!status.ok()) tap::note("%s", status.message.c_str());
  return std::unique_ptr<Weights>(weights);
}

std::vector<float> multiply_in_double(Backend& cpu, const RandomMatrix& matrix, const std::vector<float>& x, uint32_t tokens) {
  const uint32_t rows = matrix.shape.rows, columns = matrix.shape.columns;
  std::vector<float> y(size_t{tokens} * rows);
  cpu.parallel(rows, [&](size_t r) {
    std::vector<float> line(columns);
    unpack_row(matrix.view(), static_cast<uint32_t>(r), line.data());
    for (uint32_t m = 0; m < tokens; ++m) {
      double sum = 0;
      for (uint32_t c = 0; c < columns; ++c) sum += double{line[c]} * x[size_t{m} * columns + c];
      y[size_t{m} * rows + r] = static_cast<float>(sum);
    }
  });
  return y;
}

void test_packed(const Devices& devices, const PackedShape& shape, uint32_t tokens, uint64_t seed) {
  const RandomMatrix matrix(shape, seed);
  const std::unique_ptr<Weights> weights = prepared(*devices.cuda, matrix);
  if (weights == nullptr) {
    tap::check(false, "loads " + name_of(shape));
    return;
  }
  const std::vector<float> x = activations(size_t{tokens} * shape.columns, seed + 1);
  const std::vector<float> got = multiply(*devices.cuda, *weights, x, tokens);
  const double error = error_of(got, multiply_in_double(*devices.cpu, matrix, x, tokens));
  tap::check(error <= kMostError, "packed product " + name_of(shape) + ", " + std::to_string(tokens) + " tokens: error " +
                                      std::to_string(error * 100) + " %");
  bool same = same_bits(got, multiply(*devices.cuda, *weights, x, tokens));
  for (uint32_t m = 0; m < tokens && tokens > 1; ++m) {
    const std::vector<float> line(x.begin() + size_t{m} * shape.columns, x.begin() + size_t{m + 1} * shape.columns);
    const std::vector<float> part(got.begin() + size_t{m} * shape.rows, got.begin() + size_t{m + 1} * shape.rows);
    same = same && same_bits(part, multiply(*devices.cuda, *weights, line, 1));
  }
  tap::check(same, "the same bits again, and token by token");
}

// Many tokens take another product than few: the same bits, whatever their number and wherever a prompt is cut.
void test_many_tokens(const Devices& devices) {
  uint64_t seed = 400;
  Random random{7};
  const auto check = [&](const PackedShape& shape, uint32_t most = 200) {
    const RandomMatrix matrix(shape, ++seed);
    const std::unique_ptr<Weights> weights = prepared(*devices.cuda, matrix);
    const std::vector<float> x = activations(size_t{most} * shape.columns, ++seed);
    std::vector<float> wanted;
    for (uint32_t m = 0; m < most; m += 8) {
      const uint32_t count = std::min(8u, most - m);
      const std::vector<float> lines(x.begin() + size_t{m} * shape.columns, x.begin() + size_t{m + count} * shape.columns);
      const std::vector<float> part = multiply(*devices.cuda, *weights, lines, count);
      wanted.insert(wanted.end(), part.begin(), part.end());
    }
    const double error = error_of(wanted, multiply_in_double(*devices.cpu, matrix, x, most));
    std::string different;
    for (const uint32_t tokens : {1u, 9u, 16u, 17u, 63u, 64u, 65u, 65u, 200u}) {
      if (tokens > most) continue;
      const std::vector<float> some(x.begin(), x.begin() + size_t{tokens} * shape.columns);
      const std::vector<float> got = multiply(*devices.cuda, *weights, some, tokens);
      if (!same_bits(got, {wanted.begin(), wanted.begin() + size_t{tokens} * shape.rows})) different += " " + std::to_string(tokens);
    }
    tap::check(error <= kMostError && different.empty(),
               "many tokens have the bits of few, " + name_of(shape) + ": error " + std::to_string(error * 100) + " %" +
                   (different.empty() ? "" : ", other bits with tokens:" + different));
  };
  for (uint32_t planes = 1; planes <= 8; ++planes) {
    check({70, 200, planes, 96, planes % 2 ? 8u : 1u, 1, planes % 3 == 0}, devices.small ? 65 : 200);
    check({132, 392, planes, 33, planes % 2 ? 1u : 8u, 1, planes % 3 == 1}, devices.small ? 65 : 200);
  }
  // More k-blocks than warps take at once, groups of many tiles, of one, of an odd number, and a last one that is short.
  check({96, 2600, 2, 96, 8, 1, true});
  check({600, 130, 1, 288, 8, 1, false});
  check({2100, 128, 1, 2100, 8, 1, true});
  check({160, 600, 8, 16, 8, 1, false});  // so many activations that they do not fit at once
  for (int n = 0; n < (devices.small ? 6 : 40); ++n) {
    const uint32_t limit = devices.small ? 250 : 3000;
    const auto pick = [&](uint32_t to) { return 1 + static_cast<uint32_t>(random.uniform() * to); };
    check({pick(limit), pick(limit), 1 + n % 4u, pick(400), n % 3 == 0 ? 1u : 8u, 1, n % 2 == 0});
  }
}

void test_packed_shapes(const Devices& devices) {
  uint64_t seed = 1;
  for (uint32_t planes = 1; planes <= 8; ++planes)
    for (const uint32_t group_columns : {8u, 1u}) {
      test_packed(devices, {70, 200, planes, 96, group_columns, 1, planes % 2 == 0}, 1, ++seed);
      test_packed(devices, {132, 392, planes, 33, group_columns, 1, planes % 2 == 1}, 5, ++seed);
    }
  Random random{99};
  for (int n = 0; n < (devices.small ? 8 : 40); ++n) {
    const uint32_t most = devices.small ? 300 : 3000;
    const auto pick = [&](uint32_t limit) { return 1 + static_cast<uint32_t>(random.uniform() * limit); };
    const PackedShape shape{pick(most), pick(most), 1 + n % 4u, pick(200), n % 3 == 0 ? 1u : 8u, 1, n % 2 == 0};
    test_packed(devices, shape, 1 + n % 9u, ++seed);
  }
  if (devices.small) return;
  const uint32_t shapes[][2] = {{2048, 2048}, {8192, 2048}, {2048, 8192}, {4096, 4096}, {11008, 4096}, {4096, 11008},
                                {14336, 4096}, {8192, 8192}, {28672, 8192}};
  for (const auto& [rows, columns] : shapes)
    for (uint32_t planes = 1; planes <= 4; ++planes) test_packed(devices, {rows, columns, planes, rows / 8, 8, 1, true}, 1, ++seed);
  for (uint32_t planes = 1; planes <= 4; ++planes) test_packed(devices, {4096, 4096, planes, 96, 1, 1, true}, 1, ++seed);
}

// Several matrices with one input, among them ones that cannot share a launch.
void test_several(const Devices& devices) {
  const PackedShape shapes[] = {{96, 256, 3, 32, 8, 1, true}, {40, 256, 3, 40, 1, 1, false}, {640, 256, 3, 64, 8, 1, true},
                                {50, 256, 2, 50, 8, 1, false}};
  std::vector<std::unique_ptr<Weights>> weights;
  std::vector<std::unique_ptr<Floats>> outs;
  std::vector<LinearCall> calls;
  const std::vector<float> x = activations(3 * 256, 5);
  bool same = true;
  for (const PackedShape& shape : shapes) {
    weights.push_back(prepared(*devices.cuda, RandomMatrix(shape, calls.size() + 70)));
    outs.push_back(std::make_unique<Floats>(*devices.cuda, size_t{3} * shape.rows));
    calls.push_back({weights.back().get(), *outs.back()});
  }
  const Floats in(*devices.cuda, x);
  devices.cuda->linear(calls, in, 3);
  for (size_t n = 0; n < calls.size(); ++n) same = same && same_bits(outs[n]->read(), multiply(*devices.cuda, *weights[n], x, 3));
  tap::check(same, "products in one call are those of single calls");
}

void test_special_inputs(const Devices& devices) {
  const RandomMatrix matrix({64, 256, 3, 32, 8, 1, true}, 3);
  const std::unique_ptr<Weights> weights = prepared(*devices.cuda, matrix);
  std::vector<float> x(256, 0.0f);
  std::vector<float> y = multiply(*devices.cuda, *weights, x, 1);
  tap::check(std::all_of(y.begin(), y.end(), [](float v) { return v == 0; }), "zeros give zeros");
  for (const float bad : {INFINITY, -INFINITY, std::nanf("")}) {
    x = activations(256, 9);
    x[130] = bad;
    y = multiply(*devices.cuda, *weights, x, 1);
    tap::check(std::all_of(y.begin(), y.end(), [](float v) { return std::isnan(v); }), "a value that is not finite shows in every output");
  }
  x = activations(256, 11, 0);
  x[5] = x[200] = 3000;  // one value sets the step of all others of its 128 columns
  const double error = error_of(multiply(*devices.cuda, *weights, x, 1), multiply_in_double(*devices.cpu, matrix, x, 1));
  tap::check(error <= kMostError, "one large value per 128 columns: error " + std::to_string(error * 100) + " %");
  std::fill(x.begin(), x.end(), 1e-35f);
  y = multiply(*devices.cuda, *weights, x, 1);
  tap::check(std::all_of(y.begin(), y.end(), [](float v) { return std::fabs(v) < 1e-30f; }), "tiny values do not overflow");
}

void test_embedding(const Devices& devices) {
  for (const uint32_t group_columns : {8u, 1u}) {
    const RandomMatrix matrix({131, 200, 3, 48, group_columns, 1, group_columns == 8}, 21);
    const std::unique_ptr<Weights> weights = prepared(*devices.cuda, matrix);
    const int32_t tokens[] = {0, 130, 47, 48, 96};
    const Floats out(*devices.cuda, 5 * 200);
    devices.cuda->embed(*weights, tokens, 5, out);
    std::vector<float> wanted(5 * 200);
    for (size_t m = 0; m < 5; ++m) unpack_row(matrix.view(), static_cast<uint32_t>(tokens[m]), &wanted[m * 200]);
    tap::check(same_bits(out.read(), wanted), "embedding rows are those of unpack_row");
  }
}

// One row through operations that are joined into one launch when nothing comes between them, and by themselves, which a download
// after each of them makes sure of.
void test_joined(const Devices& devices) {
  for (const PackedShape& shape : {PackedShape{96, 300, 2, 32, 8, 1, true}, PackedShape{300, 96, 3, 96, 1, 1, false}}) {
    const uint32_t rows = shape.rows, columns = shape.columns;
    const RandomMatrix matrix(shape, 70);
    std::vector<std::vector<float>> results[2];
    for (const bool apart : {false, true}) {
      Backend& cuda = *devices.cuda;
      const std::unique_ptr<Weights> weights = prepared(cuda, matrix);
      const Floats x(cuda, activations(columns, 71)), gain(cuda, activations(columns, 72)), bias(cuda, activations(columns, 73)),
          up(cuda, activations(columns, 74)), sum(cuda, activations(rows, 75)), normed(cuda, columns),
          out(cuda, std::vector<float>(rows, -1.0f)), second(cuda, std::vector<float>(rows, -1.0f));
      const auto pause = [&] {
        if (apart) sum.read();
      };
      for (const bool centered : {false, true}) {
        cuda.normalize(x, {gain, centered ? Buffer(bias) : Buffer{}, centered, 1e-5f}, 1, columns, normed);
        pause();
        const LinearCall calls[] = {{weights.get(), out}};
        cuda.linear(calls, normed, 1);
        pause();
        cuda.add(sum, out, rows);
        results[apart].push_back(sum.read());
        results[apart].push_back(normed.read());
        const LinearCall both[] = {{weights.get(), out}, {weights.get(), second}};
        cuda.normalize(x, {gain, {}, centered, 1e-5f}, 1, columns, normed);
        pause();
        cuda.linear(both, normed, 1);
        results[apart].push_back(out.read());
        results[apart].push_back(second.read());
      }
      for (const bool gated : {true, false}) {
        const Floats gate(cuda, activations(columns, 76));
        cuda.activate(Activation::silu, gate, gated ? Buffer(up) : Buffer{}, columns);
        pause();
        const LinearCall calls[] = {{weights.get(), out}};
        cuda.linear(calls, gate, 1);
        pause();
        cuda.add(sum, out, rows);
        results[apart].push_back(sum.read());
      }
    }
    tap::check(results[0].size() == results[1].size() &&
                   std::equal(results[0].begin(), results[0].end(), results[1].begin(), same_bits),
               "operations in one launch: the same bits as by themselves, " + name_of(shape));
  }
}

}  // namespace

int main(int, char** arguments) {
  Devices devices;
  if (!open_devices(arguments, &devices)) return 0;
  test_packed_shapes(devices);
  test_many_tokens(devices);
  test_several(devices);
  test_special_inputs(devices);
  test_embedding(devices);
  test_joined(devices);
  return tap::finish();
}
