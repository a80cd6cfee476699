// The other operations of the CUDA backend against the CPU backend, at boundary sizes.
#include <algorithm>
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

// ---- the 8-bit cache ----

constexpr uint32_t kGroup = 32;  // numbers that share a scale

// One head at one position as it should be stored, and the numbers that it stands for.
struct Stored {
  std::vector<int8_t> numbers;
  std::vector<uint16_t> scales;
  std::vector<double> values;

  Stored(const float* from, uint32_t size) {
    for (uint32_t first = 0; first < size; first += kGroup) {
      const uint32_t last = std::min(size, first + kGroup);
      float largest = 0;
      for (uint32_t d = first; d < last; ++d) largest = std::max(largest, std::fabs(from[d]));
      uint16_t scale = float_to_half(largest / 127);
      if (half_to_float(scale) * 127 < largest) ++scale;
      scales.push_back(scale);
      for (uint32_t d = first; d < last; ++d) {
        const long number = scale == 0 ? 0 : std::lrint(from[d] / half_to_float(scale));
        numbers.push_back(static_cast<int8_t>(number));
        values.push_back(number * double{half_to_float(scale)});
      }
    }
  }
};

struct Int8Case {
  uint32_t size, heads, kv_heads, window = 0;
  float cap = 0;
  bool slopes = false;
};

// A cache of keys and values on a backend, and what attention over it gives.
class Cache {
 public:
  Cache(Backend& backend, const AttentionShape& shape, uint32_t capacity) : backend_(backend), shape_(shape), capacity_(capacity) {
    bytes_ = backend.kv_bytes(shape.kv_heads, shape.head_size, capacity);
    if (!backend.reserve(capacity, shape.heads * shape.head_size).ok() || !backend.allocate(bytes_, &keys_).ok() ||
        !backend.allocate(bytes_, &values_).ok())
      std::abort();
  }
  ~Cache() {
    backend_.release(keys_);
    backend_.release(values_);
  }
  std::vector<float> attend(const float* q, const float* k, const float* v, uint32_t position, uint32_t rows) {
    const size_t line = size_t{rows} * shape_.head_size;
    const auto all = [&](const float* from, uint32_t heads) { return std::vector<float>(from, from + line * heads); };
    const Floats a(backend_, all(q, shape_.heads)), b(backend_, all(k, shape_.kv_heads)), c(backend_, all(v, shape_.kv_heads));
    const Floats out(backend_, line * shape_.heads);
    const KvView view{reinterpret_cast<uint8_t*>(keys_.data), reinterpret_cast<uint8_t*>(values_.data), capacity_};
    backend_.attend(shape_, a, b, c, view, position, rows, out);
    return out.read();
  }
  std::vector<uint8_t> bytes(bool keys) const {
    std::vector<uint8_t> all(bytes_);
    backend_.download(keys ? keys_ : values_, reinterpret_cast<float*>(all.data()), bytes_ / sizeof(float));
    return all;
  }
  // Whether the number and scale bytes of a head at a position are those.
  bool holds(const std::vector<uint8_t>& all, uint32_t head, uint32_t position, const Stored& wanted) const {
    const size_t line = size_t{head} * capacity_ + position, numbers = size_t{shape_.kv_heads} * capacity_ * shape_.head_size;
    const size_t scales = wanted.scales.size() * sizeof(uint16_t);
    return std::memcmp(&all[line * shape_.head_size], wanted.numbers.data(), shape_.head_size) == 0 &&
           std::memcmp(&all[(numbers + 15) / 16 * 16 + line * scales], wanted.scales.data(), scales) == 0;
  }

 private:
  Backend& backend_;
  AttentionShape shape_;
  uint32_t capacity_;
  size_t bytes_ = 0;
  Buffer keys_, values_;
};

// Attention in double precision over what the cache should hold.
std::vector<float> attend_exactly(const AttentionShape& shape, const std::vector<float>& q, const std::vector<Stored>& keys,
                                  const std::vector<Stored>& values) {
  std::vector<float> out;
  const uint32_t size = shape.head_size, rows = static_cast<uint32_t>(q.size() / shape.heads / size);
  for (uint32_t row = 0; row < rows; ++row)
    for (uint32_t head = 0; head < shape.heads; ++head) {
      const uint32_t kv_head = head / (shape.heads / shape.kv_heads), first = shape.window > 0 && row + 1 > shape.window ? row + 1 - shape.window : 0;
      std::vector<double> scores, sums(size);
      for (uint32_t p = first; p <= row; ++p) {
        double score = 0;
        for (uint32_t d = 0; d < size; ++d) score += q[(size_t{row} * shape.heads + head) * size + d] * keys[p * shape.kv_heads + kv_head].values[d];
        score *= shape.scale;
        if (shape.cap > 0) score = shape.cap * std::tanh(score / shape.cap);
        if (!shape.slopes.empty()) score -= double{shape.slopes[head]} * (row - p);
        scores.push_back(score);
      }
      const double largest = *std::max_element(scores.begin(), scores.end());
      double sum = 0;
      for (uint32_t p = first; p <= row; ++p) {
        const double weight = std::exp(scores[p - first] - largest);
        sum += weight;
        for (uint32_t d = 0; d < size; ++d) sums[d] += weight * values[p * shape.kv_heads + kv_head].values[d];
      }
      for (double value : sums) out.push_back(static_cast<float>(value / sum));
    }
  return out;
}

void test_int8_attention(const Devices& devices) {
  std::unique_ptr<Backend> int8, f16;
  if (!open_cuda(&int8, KvType::int8).ok() || !open_cuda(&f16, KvType::f16).ok()) std::abort();
  const std::vector<float> slopes = {0.5f, 0.25f, 0.125f, 0.0625f};
  // Head sizes of the families; 10, 20, 36 and 300 are not whole groups or loads, 300 is more than a piece.
  const Int8Case cases[] = {{8, 4, 2}, {10, 4, 2}, {20, 4, 2, 7, 1, true}, {32, 3, 1}, {36, 2, 1}, {64, 4, 2, 0, 2}, {64, 6, 2, 100},
                            {80, 2, 2}, {128, 3, 1, 0, 0, true}, {256, 2, 1}, {300, 1, 1}};
  double largest_error = 0, largest_difference = 0;
  for (const Int8Case& item : cases) {
    const uint32_t size = item.size, positions = devices.small ? 131 : 661, capacity = positions + 2;
    const AttentionShape shape{item.heads, item.kv_heads, size, 1 / std::sqrt(static_cast<float>(size)), item.window, item.cap,
                               item.slopes ? std::span<const float>(slopes) : std::span<const float>()};
    const std::vector<float> q = activations(size_t{positions} * item.heads * size, size, 0);
    const std::vector<float> k = activations(size_t{positions} * item.kv_heads * size, size + 1), v = activations(k.size(), size + 2);
    std::vector<Stored> keys, values;
    for (size_t at = 0; at < k.size(); at += size) {
      keys.emplace_back(&k[at], size);
      values.emplace_back(&v[at], size);
    }
    const auto run = [&](Cache& cache, std::span<const uint32_t> steps) {
      std::vector<float> all;
      for (uint32_t position = 0, step = 0; position < positions; ++step) {
        const uint32_t rows = std::min(steps[step % steps.size()], positions - position);
        const auto from = [&](const std::vector<float>& of, uint32_t heads) { return of.data() + size_t{position} * heads * size; };
        const std::vector<float> part = cache.attend(from(q, item.heads), from(k, item.kv_heads), from(v, item.kv_heads), position, rows);
        all.insert(all.end(), part.begin(), part.end());
        position += rows;
      }
      return all;
    };
    const uint32_t ones[] = {1}, some[] = {1, 14, 1, 1, 110, 1, 3}, many[] = {200};
    Cache cache(*int8, shape, capacity), one_by_one(*int8, shape, capacity), at_once(*int8, shape, capacity), half(*f16, shape, capacity);
    const std::vector<float> got = run(cache, some);
    const std::string name = "attention, int8 cache, heads of " + std::to_string(size) + ", " + std::to_string(item.heads) + " and " +
                             std::to_string(item.kv_heads) + ", window " + std::to_string(item.window) + (item.cap > 0 ? ", cap" : "") +
                             (item.slopes ? ", slopes" : "");
    const double error = error_of(got, attend_exactly(shape, q, keys, values)), difference = error_of(got, run(half, many));
    tap::check(error < 3e-6 && difference < 0.04, name);
    tap::note("error %g, beside the fp16 cache %g", error, difference);
    largest_error = std::max(largest_error, error);
    largest_difference = std::max(largest_difference, difference);
    tap::check(same_bits(got, run(one_by_one, ones)) && same_bits(got, run(at_once, many)), "the same bits token by token, in some steps and at once");
    bool right = true;
    for (const Cache* each : {&cache, &one_by_one, &at_once})
      for (const bool of_keys : {true, false}) {
        const std::vector<uint8_t> bytes = each->bytes(of_keys);
        for (uint32_t p = 0; p < positions; ++p)
          for (uint32_t h = 0; h < item.kv_heads; ++h)
            right = right && each->holds(bytes, h, p, (of_keys ? keys : values)[p * item.kv_heads + h]);
      }
    tap::check(right, "every number and scale is stored where and as it should be");
  }
  tap::note("int8 cache: largest error %g, largest difference from fp16 %g", largest_error, largest_difference);
}

void test_int8_extremes() {
  std::unique_ptr<Backend> backend;
  if (!open_cuda(&backend, KvType::int8).ok()) std::abort();
  const AttentionShape shape{1, 1, kGroup, 1, 0, 0, {}};
  const float values[] = {0, 1e-30f, 3e-9f, 5e-8f, 7.7e-6f, 0.3f, 70000, 6e6f};
  for (const uint32_t rows : {1u, 8u}) {
    Cache cache(*backend, shape, 8);
    std::vector<float> k;
    for (const float largest : values)
      for (uint32_t d = 0; d < kGroup; ++d) k.push_back(largest * (1 - 0.0625f * static_cast<float>(d)));
    for (uint32_t position = 0; position < 8; position += rows)
      (void)cache.attend(&k[position * kGroup], &k[position * kGroup], &k[position * kGroup], position, rows);
    const std::vector<uint8_t> bytes = cache.bytes(true);
    bool right = true;
    for (uint32_t p = 0; p < 8; ++p) {
      const Stored stored(&k[p * kGroup], kGroup);
      right = right && cache.holds(bytes, 0, p, stored);
      const double scale = half_to_float(stored.scales[0]);
      for (uint32_t d = 0; d < kGroup; ++d) {
        const double error = std::fabs(stored.values[d] - k[p * kGroup + d]);
        right = right && std::abs(stored.numbers[d]) <= 127 && error <= 0.5001 * scale;
      }
    }
    tap::check(right, std::string("numbers from 1e-30 to 6e6, ") + std::to_string(rows) + " rows: within half a scale, no integer above 127");
    // What cannot be stored is not hidden: such results end as an error of the session.
    for (const float bad : {NAN, INFINITY, 1e30f}) {
      std::vector<float> spoiled(rows * kGroup, 1.0f);
      spoiled[3] = bad;
      const std::vector<float> fine(rows * kGroup, 1.0f);
      Cache fresh(*backend, shape, 8);
      const std::vector<float> out = fresh.attend(fine.data(), fine.data(), spoiled.data(), 0, rows);
      tap::check(std::isnan(out[0]) && std::isnan(out[kGroup - 1]), "a value that is not finite as stored gives NaN");
    }
  }
}

void test_int8_elsewhere() {
  std::unique_ptr<Backend> backend;
  CpuOptions options;
  options.kv_type = KvType::int8;
  const Status status = make_cpu_backend(options, &backend);
  tap::check(status.code == Code::unsupported && status.message.find("cuda") != std::string::npos, "the processor refuses an int8 cache");
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
  test_int8_attention(devices);
  test_int8_extremes();
  test_int8_elsewhere();
  return tap::finish();
}
