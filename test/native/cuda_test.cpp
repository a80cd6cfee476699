// The CUDA backend against double precision and against the CPU backend: on a GPU, else on the emulated device of
// test/cuda/emulation.cpp with smaller shapes. Skipped, with the reason, where neither can be opened.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cuda/cuda_library.h"
#include "core/half.h"
#include "core/session.h"
#include "test/native/random_model.h"
#include "test/native/random_weights.h"
#include "test/native/tap.h"

#ifndef SHIFTADD_CUDA_LIBRARY
#define SHIFTADD_CUDA_LIBRARY nullptr
#endif

using namespace shiftadd;

namespace {

constexpr double kMostError = 2e-4;  // of a packed product, relative L2: the bound of exact precision

struct Devices {
  std::unique_ptr<Backend> cuda, cpu;
  bool emulated = false;
};

std::vector<float> activations(size_t count, uint64_t seed, double outliers = 0.005) {
  Random random{seed};
  std::vector<float> x(count);
  for (float& value : x) value = static_cast<float>(random.normal() * (random.uniform() < outliers ? 20 : 1));
  return x;
}

// A buffer of a backend with a host's numbers.
class Floats {
 public:
  Floats(Backend& backend, const std::vector<float>& values) : Floats(backend, values.size()) {
    backend_.upload(values.data(), buffer_, values.size());
  }
  Floats(Backend& backend, size_t count) : backend_(backend), count_(count) {
    if (!backend.allocate(count * sizeof(float), &buffer_).ok()) std::abort();
  }
  ~Floats() { backend_.release(buffer_); }
  Floats(const Floats&) = delete;
  operator Buffer() const { return buffer_; }
  std::vector<float> read() const {
    std::vector<float> values(count_);
    backend_.download(buffer_, values.data(), count_);
    return values;
  }

 private:
  Backend& backend_;
  size_t count_;
  Buffer buffer_;
};

double error_of(const std::vector<float>& got, const std::vector<float>& wanted) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    difference += (double{got[i]} - wanted[i]) * (double{got[i]} - wanted[i]);
    size += double{wanted[i]} * wanted[i];
  }
  return std::sqrt(difference / (size == 0 ? 1 : size));
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// ---- packed matrices ----

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

std::vector<float> multiply(Backend& backend, const Weights& weights, const std::vector<float>& x, uint32_t tokens) {
  const Floats in(backend, x);
  Floats out(backend, std::vector<float>(size_t{tokens} * weights.rows(), -1.0f));
  const LinearCall calls[] = {{&weights, out}};
  backend.begin(tokens);
  backend.linear(calls, in, tokens);
  backend.end();
  return out.read();
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

void test_packed_shapes(const Devices& devices) {
  uint64_t seed = 1;
  for (uint32_t planes = 1; planes <= 8; ++planes)
    for (const uint32_t group_columns : {8u, 1u}) {
      test_packed(devices, {70, 200, planes, 96, group_columns, 1, planes % 2 == 0}, 1, ++seed);
      test_packed(devices, {132, 392, planes, 33, group_columns, 1, planes % 2 == 1}, 5, ++seed);
    }
  Random random{99};
  for (int n = 0; n < (devices.emulated ? 8 : 40); ++n) {
    const uint32_t most = devices.emulated ? 300 : 3000;
    const auto pick = [&](uint32_t limit) { return 1 + static_cast<uint32_t>(random.uniform() * limit); };
    const PackedShape shape{pick(most), pick(most), 1 + n % 4u, pick(200), n % 3 == 0 ? 1u : 8u, 1, n % 2 == 0};
    test_packed(devices, shape, 1 + n % 9u, ++seed);
  }
  if (devices.emulated) return;
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

void test_dense(const Devices& devices) {
  const std::vector<float> values = activations(70 * 50, 31);
  std::vector<uint16_t> halves, brains;
  for (float value : values) {
    halves.push_back(float_to_half(value));
    brains.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
  }
  RowMap reversed_halves;  // rows 35.. first
  reversed_halves.first = 35;
  const struct {
    const char* name;
    DenseMatrix matrix;
  } cases[] = {{"f32", {DType::f32, 70, 50, values.data(), {}, false, 50}},
               {"f16", {DType::f16, 70, 50, halves.data(), {}, false, 50}},
               {"bf16", {DType::bf16, 70, 50, brains.data(), {}, false, 50}},
               {"f16, some rows", {DType::f16, 35, 50, halves.data(), reversed_halves, false, 50}},
               {"f32, transposed", {DType::f32, 50, 70, values.data(), {}, true, 50}}};
  for (const auto& [name, matrix] : cases) {
    std::vector<float> results[2], rows[2];
    const int32_t tokens[] = {3, 0, static_cast<int32_t>(matrix.rows) - 1};
    for (Backend* backend : {devices.cpu.get(), devices.cuda.get()}) {
      Weights* raw = nullptr;
      if (!backend->prepare(matrix, &raw).ok()) std::abort();
      const std::unique_ptr<Weights> weights(raw);
      const int n = backend == devices.cuda.get();
      results[n] = multiply(*backend, *weights, activations(size_t{6} * matrix.columns, 33), 6);
      const Floats out(*backend, size_t{3} * matrix.columns);
      backend->embed(*weights, tokens, 3, out);
      rows[n] = out.read();
    }
    tap::check(error_of(results[1], results[0]) < 1e-6, std::string("dense product, ") + name);
    tap::check(same_bits(rows[1], rows[0]), std::string("dense embedding, ") + name);
  }
}

// ---- the other operations, on both backends ----

using Operation = std::function<void(Backend&, Buffer x, Buffer y)>;

void compare(const Devices& devices, const std::string& name, size_t count, const Operation& operation, double most = 0) {
  const std::vector<float> x = activations(count, count + 40), y = activations(count, count + 41);
  std::vector<float> results[2];
  for (int n = 0; n < 2; ++n) {
    Backend& backend = n == 0 ? *devices.cpu : *devices.cuda;
    const Floats a(backend, x), b(backend, y);
    operation(backend, a, b);
    results[n] = a.read();
  }
  const double error = error_of(results[1], results[0]);
  const bool good = most == 0 ? same_bits(results[0], results[1]) : error <= most;
  tap::check(good, name + ", " + std::to_string(count) + " numbers" + (most == 0 ? ", same bits" : ""));
  if (!good) tap::note("error %g", error);
}

void test_elementwise(const Devices& devices) {
  for (const size_t count : {size_t{1}, size_t{255}, size_t{256}, size_t{257}, size_t{5000}}) {
    for (uint32_t kind = 0; kind < kActivationCount; ++kind) {
      const auto activation = static_cast<Activation>(kind);
      compare(devices, "gated activation " + std::to_string(kind), count,
              [&](Backend& backend, Buffer x, Buffer y) { backend.activate(activation, x, y, count); });
      compare(devices, "activation " + std::to_string(kind), count,
              [&](Backend& backend, Buffer x, Buffer) { backend.activate(activation, x, {}, count); });
    }
    compare(devices, "add", count, [&](Backend& backend, Buffer x, Buffer y) { backend.add(x, y, count); });
    compare(devices, "scale", count, [&](Backend& backend, Buffer x, Buffer) { backend.scale(x, count, 0.37f); });
    compare(devices, "soft cap", count, [&](Backend& backend, Buffer x, Buffer) { backend.soft_cap(x, count, 1.5f); });
    const uint32_t columns = static_cast<uint32_t>(count);
    for (const bool centered : {false, true})
      compare(devices, centered ? "layer norm" : "root mean square norm", 3 * count,
              [&](Backend& backend, Buffer x, Buffer y) {
                const Buffer bias{y.data + columns, y.bytes};
                backend.normalize(x, {y, centered ? bias : Buffer{}, centered, 1e-5f}, 3, columns, x);
              }, count == 1 && centered ? 1e-4 : 2e-6);
    compare(devices, "bias", 3 * count, [&](Backend& backend, Buffer x, Buffer y) { backend.add_bias(x, y, 3, columns); });
  }
  compare(devices, "rotary positions", 3 * 4 * 20, [](Backend& backend, Buffer x, Buffer y) { backend.rotate(x, 3, 4, 20, 12, y); });
  const Rotation rotation = random_rotation();
  for (const bool inverse : {false, true})
    compare(devices, inverse ? "inverse change of basis" : "change of basis", 3 * kHidden,
            [&](Backend& backend, Buffer x, Buffer) { backend.change_basis(rotation, x, 3, inverse, x); });
}

void test_results(const Devices& devices) {
  const int32_t targets[] = {0, 999, 500};
  std::vector<float> logits = activations(3 * 1000, 51);
  float results[2][3];
  for (int n = 0; n < 2; ++n) {
    Backend& backend = n == 0 ? *devices.cpu : *devices.cuda;
    backend.log_probabilities(Floats(backend, logits), 3, 1000, targets, results[n]);
  }
  bool close = true;
  for (int m = 0; m < 3; ++m) close = close && std::fabs(results[0][m] - results[1][m]) < 1e-5f * std::fabs(results[0][m]);
  tap::check(close, "log probabilities");
  logits[1500] = INFINITY;
  devices.cuda->log_probabilities(Floats(*devices.cuda, logits), 3, 1000, targets, results[1]);
  tap::check(std::isnan(results[1][1]) && !std::isnan(results[1][0]) && !std::isnan(results[1][2]),
             "a logit that is not finite gives NaN in its row");
  std::vector<float> sums[2] = {std::vector<float>(50 * 50, 1.0f), std::vector<float>(50 * 50, 1.0f)};
  for (int n = 0; n < 2; ++n) {
    Backend& backend = n == 0 ? *devices.cpu : *devices.cuda;
    backend.add_gram(Floats(backend, activations(7 * 50, 52)), 7, 50, sums[n].data());
    for (size_t i = 0; i < 50; ++i)
      for (size_t j = 0; j < i; ++j) sums[n][i * 50 + j] = 0;
  }
  tap::check(error_of(sums[1], sums[0]) < 1e-6, "second moments");
}

void test_attention(KvType type, const CudaOptions& options) {
  std::unique_ptr<Backend> cpu, cuda;
  CpuOptions cpu_options;
  cpu_options.kv_type = type;
  CudaOptions cuda_options = options;
  cuda_options.kv_type = type;
  if (!make_cpu_backend(cpu_options, &cpu).ok() || !open_cuda_library(SHIFTADD_CUDA_LIBRARY, cuda_options, &cuda).ok()) std::abort();
  const std::vector<float> slopes = {0.5f, 0.25f, 0.125f, 0.0625f};
  const struct {
    uint32_t window;
    float cap;
    bool slopes;
  } cases[] = {{0, 0, false}, {100, 0, false}, {0, 2, false}, {0, 0, true}, {7, 1, true}};
  constexpr uint32_t kCapacity = 700, kHeadCount = 4, kKvCount = 2, kSize = 20;
  for (const auto& item : cases) {
    const AttentionShape shape{kHeadCount, kKvCount, kSize, 0.3f, item.window, item.cap,
                               item.slopes ? std::span<const float>(slopes) : std::span<const float>()};
    std::vector<float> results[3];  // cpu, cuda, cuda token by token
    for (int n = 0; n < 3; ++n) {
      Backend& backend = n == 0 ? *cpu : *cuda;
      const size_t bytes = backend.kv_bytes(kKvCount, kSize, kCapacity);
      Buffer keys, values;
      if (!backend.allocate(bytes, &keys).ok() || !backend.allocate(bytes, &values).ok()) std::abort();
      const KvView cache{reinterpret_cast<uint8_t*>(keys.data), reinterpret_cast<uint8_t*>(values.data), kCapacity};
      uint32_t position = 0;
      for (const uint32_t rows : {1u, 14u, 1u, 240u, 1u, 280u, 3u}) {
        const std::vector<float> q = activations(size_t{rows} * kHeadCount * kSize, position + 1, 0);
        const std::vector<float> k = activations(size_t{rows} * kKvCount * kSize, position + 2, 0);
        const std::vector<float> v = activations(size_t{rows} * kKvCount * kSize, position + 3, 0);
        const uint32_t step = n == 2 ? 1 : rows;
        for (uint32_t first = 0; first < rows; first += step) {
          const auto part = [&](const std::vector<float>& all, uint32_t heads) {
            const size_t line = size_t{heads} * kSize;
            return std::vector<float>(all.begin() + first * line, all.begin() + (first + step) * line);
          };
          const Floats a(backend, part(q, kHeadCount)), b(backend, part(k, kKvCount)), c(backend, part(v, kKvCount));
          const Floats out(backend, size_t{step} * kHeadCount * kSize);
          backend.attend(shape, a, b, c, cache, position + first, step, out);
          const std::vector<float> line = out.read();
          results[n].insert(results[n].end(), line.begin(), line.end());
        }
        position += rows;
      }
      backend.release(keys);
      backend.release(values);
    }
    const std::string name = std::string("attention, ") + (type == KvType::f32 ? "fp32" : "fp16") + " cache, window " +
                             std::to_string(item.window) + ", cap " + std::to_string(item.cap) + (item.slopes ? ", slopes" : "");
    const double error = error_of(results[1], results[0]);
    tap::check(error < 3e-6, name);
    tap::note("error %g", error);
    tap::check(same_bits(results[1], results[2]), "the same bits token by token");
  }
}

// ---- whole models ----

struct Run {
  std::vector<int32_t> tokens;
  std::vector<float> logits, log_probabilities;
};

bool run_model(const RandomModel& random, std::unique_ptr<Backend> backend, bool at_once, Run* run) {
  std::unique_ptr<Model> model;
  std::unique_ptr<Session> session;
  Status status = Model::open(random.spec.data(), random.spec.size(), {random.path}, std::move(backend), &model);
  if (status.ok()) status = Session::open(*model, kContext, &session);
  const std::vector<int32_t> prompt = {5, 17, 99, 3, 42, 8, 61};
  if (status.ok() && at_once) status = session->prefill(prompt, Cancel(nullptr));
  for (size_t i = 0; i < prompt.size() && status.ok() && !at_once; ++i) status = session->prefill({&prompt[i], 1}, Cancel(nullptr));
  run->logits.resize(kVocabulary);
  if (status.ok()) status = session->logits(run->logits);
  for (int i = 0; i < 30 && status.ok(); ++i) {
    int32_t token = 0, count = 0, unused = 0;
    status = session->sample({}, &token);
    run->tokens.push_back(token);
    if (status.ok()) status = session->decode_draft(token, {}, &unused, &count, Cancel(nullptr));
  }
  run->log_probabilities.resize(prompt.size() - 1);
  if (status.ok()) status = session->evaluate(prompt, run->log_probabilities, Cancel(nullptr));
  if (!status.ok()) tap::note("%s", status.message.c_str());
  return status.ok();
}

void test_models(const CudaOptions& options) {
  for (const bool rotated : {false, true}) {
    const RandomModel random(rotated);
    Run cpu, at_once, one_by_one;
    std::unique_ptr<Backend> backends[3];
    bool good = make_cpu_backend({}, &backends[0]).ok();
    for (int n = 1; n < 3; ++n) good = good && open_cuda_library(SHIFTADD_CUDA_LIBRARY, options, &backends[n]).ok();
    good = good && run_model(random, std::move(backends[0]), true, &cpu) && run_model(random, std::move(backends[1]), true, &at_once) &&
           run_model(random, std::move(backends[2]), false, &one_by_one);
    const std::string name = rotated ? "a rotated model" : "a model";
    tap::check(good, name + " runs");
    tap::check(error_of(at_once.logits, cpu.logits) < 1e-3, name + ": logits as on the CPU");
    tap::note("error %g", error_of(at_once.logits, cpu.logits));
    tap::check(same_bits(at_once.logits, one_by_one.logits), name + ": the same bits at once and token by token");
    tap::check(at_once.tokens == cpu.tokens && one_by_one.tokens == cpu.tokens, name + ": greedy tokens as on the CPU");
    tap::check(error_of(at_once.log_probabilities, cpu.log_probabilities) < 1e-3, name + ": log probabilities as on the CPU");
  }
}

}  // namespace

int main(int, char** arguments) {
  Devices devices;
  const CudaOptions options{0, 2, KvType::f32};
  const Status status = open_cuda_library(SHIFTADD_CUDA_LIBRARY, options, &devices.cuda);
  if (!status.ok()) {
#ifdef SHIFTADD_CUDA_EMULATION
    // Again, with the emulated driver where the loader looks first.
    if (status.code == Code::not_found && std::getenv("SHIFTADD_EMULATED") == nullptr) {
      setenv("LD_LIBRARY_PATH", SHIFTADD_CUDA_EMULATION, 1);
      setenv("SHIFTADD_EMULATED", "1", 1);
      execv("/proc/self/exe", arguments);
    }
#endif
    (void)arguments;
    std::printf("TAP version 14\n1..0 # SKIP %s\n", status.message.c_str());
    return 0;
  }
  devices.emulated = std::strstr(devices.cuda->isa(), "emulation") != nullptr;
  if (!make_cpu_backend({}, &devices.cpu).ok()) return 1;
  tap::note("device: %s", devices.cuda->isa());
  test_packed_shapes(devices);
  test_several(devices);
  test_special_inputs(devices);
  test_embedding(devices);
  test_dense(devices);
  test_elementwise(devices);
  test_results(devices);
  test_attention(KvType::f32, options);
  test_attention(KvType::f16, options);
  test_models(options);
  return tap::finish();
}
