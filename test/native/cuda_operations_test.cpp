// The other operations of the CUDA backend against the CPU backend, at boundary sizes.
#include <bit>
#include <functional>

#include "core/half.h"
#include "test/native/cuda_devices.h"
#include "test/native/random_model.h"

using namespace shiftadd;

namespace {

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
            [&](Backend& backend, Buffer x, Buffer) {
              if (!backend.reserve(1, kHidden).ok()) std::abort();
              backend.change_basis(rotation, x, 3, inverse, x);
            });
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

void test_largest(const Devices& devices) {
  const float infinity = INFINITY;
  for (const size_t count : {size_t{1}, size_t{31}, size_t{1024}, size_t{1025}, size_t{17000}}) {
    std::vector<float> values = activations(count, count + 60);
    values[count / 2] = values[count - 1] = 1000;  // the first of equal ones
    for (Backend* backend : {devices.cpu.get(), devices.cuda.get()})
      tap::check(backend->largest(Floats(*backend, values), count) == static_cast<int32_t>(count / 2),
                 std::string("largest of ") + std::to_string(count) + (backend == devices.cuda.get() ? " on cuda" : " on the cpu"));
    for (const float bad : {NAN, infinity, -infinity}) {
      values[count / 3] = bad;
      for (Backend* backend : {devices.cpu.get(), devices.cuda.get()})
        if (backend->largest(Floats(*backend, values), count) != -1) tap::check(false, "a number that is not finite is found");
    }
  }
}

void test_attention(const Devices& devices, KvType type) {
  std::unique_ptr<Backend> cpu, cuda;
  CpuOptions cpu_options;
  cpu_options.kv_type = type;
  if (!make_cpu_backend(cpu_options, &cpu).ok() || !open_cuda(&cuda, type).ok()) std::abort();
  const std::vector<float> slopes = {0.5f, 0.25f, 0.125f, 0.0625f};
  const struct {
    uint32_t window;
    float cap;
    bool slopes;
    uint32_t size;
  } cases[] = {{0, 0, false, 20}, {100, 0, false, 20}, {0, 2, false, 64}, {0, 0, true, 20}, {7, 1, true, 20}};
  constexpr uint32_t kCapacity = 700, kHeadCount = 4, kKvCount = 2;
  for (const auto& item : cases) {
    const uint32_t size = item.size;
    if (type == KvType::f16 && devices.small && item.window == 0) continue;  // slow, and the same code
    const AttentionShape shape{kHeadCount, kKvCount, size, 0.3f, item.window, item.cap,
                               item.slopes ? std::span<const float>(slopes) : std::span<const float>()};
    std::vector<float> results[3];  // cpu, cuda, cuda token by token
    for (int n = 0; n < 3; ++n) {
      Backend& backend = n == 0 ? *cpu : *cuda;
      const size_t bytes = backend.kv_bytes(kKvCount, size, kCapacity);
      Buffer keys, values;
      if (!backend.reserve(kCapacity, kHeadCount * size).ok() || !backend.allocate(bytes, &keys).ok() ||
          !backend.allocate(bytes, &values).ok())
        std::abort();
      const KvView cache{reinterpret_cast<uint8_t*>(keys.data), reinterpret_cast<uint8_t*>(values.data), kCapacity};
      uint32_t position = 0;
      for (const uint32_t rows : {1u, 14u, 1u, 240u, 1u, 280u, 3u}) {
        const std::vector<float> q = activations(size_t{rows} * kHeadCount * size, position + 1, 0);
        const std::vector<float> k = activations(size_t{rows} * kKvCount * size, position + 2, 0);
        const std::vector<float> v = activations(size_t{rows} * kKvCount * size, position + 3, 0);
        const uint32_t step = n == 2 ? 1 : rows;
        for (uint32_t first = 0; first < rows; first += step) {
          const auto part = [&](const std::vector<float>& all, uint32_t heads) {
            const size_t line = size_t{heads} * size;
            return std::vector<float>(all.begin() + first * line, all.begin() + (first + step) * line);
          };
          const Floats a(backend, part(q, kHeadCount)), b(backend, part(k, kKvCount)), c(backend, part(v, kKvCount));
          const Floats out(backend, size_t{step} * kHeadCount * size);
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
                             std::to_string(item.window) + ", cap " + std::to_string(item.cap) + (item.slopes ? ", slopes" : "") +
                             ", heads of " + std::to_string(size);
    const double error = error_of(results[1], results[0]);
    tap::check(error < 3e-6, name);
    tap::note("error %g", error);
    tap::check(same_bits(results[1], results[2]), "the same bits token by token");
  }
}

}  // namespace

int main(int, char** arguments) {
  Devices devices;
  if (!open_devices(arguments, &devices)) return 0;
  test_dense(devices);
  test_elementwise(devices);
  test_results(devices);
  test_largest(devices);
  test_attention(devices, KvType::f32);
  test_attention(devices, KvType::f16);
  return tap::finish();
}
