#include "backends/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/cpu_weights.h"
#include "backends/cpu/float_math.h"
#include "backends/cpu/thread_pool.h"

namespace shiftadd {
namespace {

constexpr int kMaxThreads = 64;
constexpr uint32_t kAttentionRows = 16;  // queries of one attention item
constexpr size_t kElementwiseItem = 4096;

class CpuBackend final : public Backend {
 public:
  CpuBackend(const Kernels& kernels, Precision precision, int threads)
      : kernels_(kernels), precision_(precision), pool_(threads), scratch_(static_cast<size_t>(pool_.threads())) {}

  const char* isa() const override { return kernels_.isa; }
  int threads() const override { return pool_.threads(); }

  Status allocate(size_t bytes, Buffer* out) override {
    // calloc of a large block maps fresh zero pages: nothing is resident until it is written.
    void* data = std::calloc(bytes == 0 ? 1 : bytes, 1);
    if (data == nullptr) return out_of_memory("cannot allocate " + std::to_string(bytes) + " bytes");
    *out = {static_cast<float*>(data), bytes};
    return ok_status();
  }
  void release(Buffer buffer) override { std::free(buffer.data); }
  void upload(const float* host, Buffer to, size_t floats) override {
    std::memcpy(to.data, host, floats * sizeof(float));
  }
  void download(Buffer from, float* host, size_t floats) override {
    std::memcpy(host, from.data, floats * sizeof(float));
  }

  Status prepare(const DenseMatrix& matrix, Weights** out) override {
    return adopt(new (std::nothrow) CpuDenseWeights(kernels_, matrix), out);
  }
  Status prepare(const PackedMatrix& matrix, Weights** out) override {
    return adopt(new (std::nothrow) CpuPackedWeights(kernels_, precision_, matrix), out);
  }

  void begin(uint32_t) override {}
  void end() override {}

  void embed(const Weights& weights, const int32_t* tokens, uint32_t rows, Buffer out) override {
    const auto& table = static_cast<const CpuWeights&>(weights);
    pool_.run(rows, [&](size_t m, int) {
      table.read_row(static_cast<uint32_t>(tokens[m]), out.data + m * table.columns());
    });
  }

  void normalize(Buffer x, Buffer gain, uint32_t rows, uint32_t columns, float epsilon, Buffer out) override {
    pool_.run(rows, [&](size_t m, int) {
      const float* line = x.data + m * columns;
      float* target = out.data + m * columns;
      const float mean_square = kernels_.dot(line, line, columns) / static_cast<float>(columns);
      const float factor = 1.0f / std::sqrt(mean_square + epsilon);
      for (uint32_t c = 0; c < columns; ++c) target[c] = line[c] * factor * gain.data[c];
    });
  }

  void linear(std::span<const LinearCall> calls, Buffer x, uint32_t rows) override {
    const uint32_t columns = calls[0].weights->columns(), stride = (columns + 15) / 16 * 16;
    const float* input = x.data;
    if (stride != columns) {
      padded_.assign(size_t{rows} * stride, 0.0f);
      for (uint32_t m = 0; m < rows; ++m)
        std::memcpy(padded_.data() + size_t{m} * stride, x.data + size_t{m} * columns, columns * sizeof(float));
      input = padded_.data();
    }
    const LinearInputView view{input, stride, rows, inputs_};
    size_t total = 0, scratch = 0;
    bool ready[PackedInputKind::kCount] = {};
    for (const LinearCall& call : calls) {
      const auto* weights = static_cast<const CpuWeights*>(call.weights);
      total += weights->items(rows);
      scratch = std::max(scratch, weights->scratch_bytes());
      PackedInputKind kind;
      if (!weights->needs(rows, &kind) || ready[kind.index()]) continue;
      inputs_[kind.index()].prepare(kernels_, precision_, kind, input, stride, rows, static_cast<uint32_t>(stride / 16),
                                    [&](size_t count, const std::function<void(size_t)>& work) { parallel(count, work); });
      ready[kind.index()] = true;
    }
    for (auto& memory : scratch_)
      if (memory.size() * sizeof(Line) < scratch) memory.resize(scratch / sizeof(Line) + 1);
    pool_.run(total, [&](size_t item, int thread) {
      for (const LinearCall& call : calls) {
        const auto* weights = static_cast<const CpuWeights*>(call.weights);
        const size_t items = weights->items(rows);
        if (item < items) return weights->multiply_item(item, view, call.out.data, scratch_[static_cast<size_t>(thread)].data());
        item -= items;
      }
    });
  }

  void rotate(Buffer x, uint32_t rows, uint32_t heads, uint32_t head_size, Buffer angles) override {
    const uint32_t half = head_size / 2;
    pool_.run(rows, [&](size_t m, int) {
      const float* angle = angles.data + m * head_size;
      for (uint32_t h = 0; h < heads; ++h) {
        float* head = x.data + (m * heads + h) * head_size;
        for (uint32_t i = 0; i < half; ++i) {
          const float a = head[i], b = head[i + half], cosine = angle[2 * i], sine = angle[2 * i + 1];
          head[i] = a * cosine - b * sine;
          head[i + half] = b * cosine + a * sine;
        }
      }
    });
  }

  void attend(const AttentionShape& shape, Buffer q, Buffer k, Buffer v, KvView cache, uint32_t position, uint32_t rows,
              Buffer out) override {
    const uint32_t size = shape.head_size, queries_per_kv = shape.heads / shape.kv_heads;
    for (uint32_t m = 0; m < rows; ++m)
      for (uint32_t h = 0; h < shape.kv_heads; ++h) {
        const size_t from = (size_t{m} * shape.kv_heads + h) * size;
        const size_t to = (size_t{h} * cache.capacity + position + m) * size;
        std::memcpy(cache.keys + to, k.data + from, size * sizeof(float));
        std::memcpy(cache.values + to, v.data + from, size * sizeof(float));
      }
    const size_t chunks = (rows + kAttentionRows - 1) / kAttentionRows;
    const size_t needed = (size_t{position} + rows) * sizeof(float);
    for (auto& memory : scratch_)
      if (memory.size() * sizeof(Line) < needed) memory.resize(size_t{cache.capacity} * sizeof(float) / sizeof(Line) + 1);
    pool_.run(chunks * shape.heads, [&](size_t item, int thread) {
      float* weights = reinterpret_cast<float*>(scratch_[static_cast<size_t>(thread)].data());
      const uint32_t head = static_cast<uint32_t>(item % shape.heads), kv_head = head / queries_per_kv;
      const float* keys = cache.keys + size_t{kv_head} * cache.capacity * size;
      const float* values = cache.values + size_t{kv_head} * cache.capacity * size;
      const uint32_t first = static_cast<uint32_t>(item / shape.heads) * kAttentionRows;
      for (uint32_t m = first; m < std::min(rows, first + kAttentionRows); ++m) {
        const float* query = q.data + (size_t{m} * shape.heads + head) * size;
        float* target = out.data + (size_t{m} * shape.heads + head) * size;
        attend_row(query, keys, values, position + m + 1, size, shape.scale, weights, target);
      }
    });
  }

  void activate(Buffer gate, Buffer up, size_t count) override {
    pool_.run((count + kElementwiseItem - 1) / kElementwiseItem, [&](size_t item, int) {
      const size_t first = item * kElementwiseItem, last = std::min(count, first + kElementwiseItem);
      for (size_t i = first; i < last; ++i) gate.data[i] = silu(gate.data[i]) * up.data[i];
    });
  }

  void add(Buffer x, Buffer y, size_t count) override {
    for (size_t i = 0; i < count; ++i) x.data[i] += y.data[i];
  }

  void add_gram(Buffer x, uint32_t rows, uint32_t columns, float* h) override;

  void parallel(size_t count, const std::function<void(size_t)>& work) override {
    pool_.run(count, [&](size_t item, int) { work(item); });
  }

 private:
  struct alignas(64) Line {
    uint8_t bytes[64];
  };

  static Status adopt(CpuWeights* weights, Weights** out) {
    if (weights == nullptr) return out_of_memory("cannot allocate memory for a weight matrix");
    *out = weights;
    return ok_status();
  }

  // One query of one head over `count` positions: softmax(q k^T * scale) v, the maximum subtracted.
  void attend_row(const float* query, const float* keys, const float* values, uint32_t count, uint32_t size, float scale,
                  float* weights, float* target) const {
    float largest = -INFINITY;
    for (uint32_t p = 0; p < count; ++p) {
      weights[p] = kernels_.dot(query, keys + size_t{p} * size, size) * scale;
      largest = weights[p] > largest ? weights[p] : largest;
    }
    float sum = 0;
    for (uint32_t p = 0; p < count; ++p) weights[p] = exp_float(weights[p] - largest);
    for (uint32_t p = 0; p < count; ++p) sum += weights[p];
    std::fill(target, target + size, 0.0f);
    for (uint32_t p = 0; p < count; ++p) kernels_.axpy(weights[p], values + size_t{p} * size, target, size);
    const float inverse = 1.0f / sum;
    for (uint32_t i = 0; i < size; ++i) target[i] *= inverse;
  }

  const Kernels& kernels_;
  Precision precision_;
  ThreadPool pool_;
  std::vector<std::vector<Line>> scratch_;  // one per thread; grows to the largest item, then stays
  PackedInput inputs_[PackedInputKind::kCount];
  std::vector<float> padded_;               // activations padded to a multiple of 16 columns
};

void CpuBackend::add_gram(Buffer x, uint32_t rows, uint32_t columns, float* h) {
  std::vector<float> transposed(size_t{columns} * rows);
  for (uint32_t m = 0; m < rows; ++m)
    for (uint32_t c = 0; c < columns; ++c) transposed[size_t{c} * rows + m] = x.data[size_t{m} * columns + c];
  // Panel n holds 16 columns of x; only rows of h above the panel's last column are computed.
  pool_.run((columns + 15) / 16, [&](size_t n, int) {
    const uint32_t first = static_cast<uint32_t>(n) * 16, width = std::min(16u, columns - first);
    std::vector<float> panel(size_t{rows} * 16, 0.0f), sums(size_t{first + width} * 16);
    for (uint32_t m = 0; m < rows; ++m)
      std::memcpy(&panel[size_t{m} * 16], x.data + size_t{m} * columns + first, width * sizeof(float));
    kernels_.dense_tile(transposed.data(), rows, first + width, panel.data(), rows, sums.data(), 16);
    for (uint32_t r = 0; r < first + width; ++r)
      for (uint32_t j = 0; j < width; ++j) h[size_t{r} * columns + first + j] += sums[size_t{r} * 16 + j];
  });
}

}  // namespace

Status make_cpu_backend(const CpuOptions& options, std::unique_ptr<Backend>* out) {
  if (options.threads < 0 || options.threads > kMaxThreads)
    return invalid_argument("threads must be 0 to 64 but is " + std::to_string(options.threads));
  const Kernels* kernels = nullptr;
  SHIFTADD_TRY(choose_kernels(options.isa, &kernels));
  const int threads = options.threads == 0 ? std::min(allowed_cores(), kMaxThreads) : options.threads;
  *out = std::make_unique<CpuBackend>(*kernels, options.precision, threads);
  return ok_status();
}

}  // namespace shiftadd
