#include "backends/cpu/cpu_backend.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/cpu_topology.h"
#include "backends/cpu/cpu_weights.h"
#include "backends/cpu/read_stream.h"
#include "backends/cpu/thread_pool.h"
#include "core/finite.h"
#include "core/rotation.h"

namespace shiftadd {
namespace {

constexpr int kMaxThreads = 64;
constexpr uint32_t kAttentionTokens = 12;  // tokens of one attention item: two groups of six rows
constexpr size_t kElementwiseItem = 4096;

// Memory of every thread for one item of work. It grows before a step begins; pages are touched when used.
class ThreadScratch {
 public:
  explicit ThreadScratch(int threads) : memory_(static_cast<size_t>(threads)) {}
  ~ThreadScratch() {
    for (void* memory : memory_) std::free(memory);
  }
  ThreadScratch(const ThreadScratch&) = delete;
  ThreadScratch& operator=(const ThreadScratch&) = delete;

  Status reserve(size_t bytes) {
    if (bytes <= bytes_) return ok_status();
    for (void*& memory : memory_) {
      std::free(memory);
      memory = std::calloc(bytes + kLine, 1);
      bytes_ = 0;  // until every thread has it
      if (memory == nullptr) return out_of_memory("cannot allocate " + std::to_string(bytes) + " bytes of scratch memory");
    }
    bytes_ = bytes;
    return ok_status();
  }
  uint8_t* of(int thread) const {  // at a multiple of a cache line
    const uintptr_t address = reinterpret_cast<uintptr_t>(memory_[static_cast<size_t>(thread)]);
    return reinterpret_cast<uint8_t*>((address + kLine - 1) / kLine * kLine);
  }

 private:
  static constexpr size_t kLine = 64;
  std::vector<void*> memory_;
  size_t bytes_ = 0;
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(const Kernels& kernels, Precision precision, KvType kv_type, int threads)
      : kernels_(kernels), precision_(precision), kv_type_(kv_type), pool_(threads),
        scratch_(pool_.threads()) {}

  const char* isa() const override { return kernels_.isa; }
  int threads() const override { return pool_.threads(); }
  Status failure() const override { return ok_status(); }

  Status allocate(uint64_t bytes, Buffer* out) override {
    if (bytes > SIZE_MAX / 2) return out_of_memory("cannot allocate " + std::to_string(bytes) + " bytes");
    // calloc of a large block maps fresh zero pages: nothing is resident until it is written.
    void* data = std::calloc(bytes == 0 ? 1 : static_cast<size_t>(bytes), 1);
    if (data == nullptr) return out_of_memory("cannot allocate " + std::to_string(bytes) + " bytes");
    *out = {static_cast<float*>(data), static_cast<size_t>(bytes)};
    return ok_status();
  }
  void release(Buffer buffer) override { std::free(buffer.data); }
  void upload(const float* host, Buffer to, size_t floats) override {
    std::memcpy(to.data, host, floats * sizeof(float));
  }
  void download(Buffer from, float* host, size_t floats) override {
    std::memcpy(host, from.data, floats * sizeof(float));
  }

  Status reserve(uint32_t capacity, uint32_t columns) override {
    return scratch_.reserve(std::max(kAttentionTokens * padded_positions(capacity), size_t{columns}) * sizeof(float));
  }

  Status prepare(const DenseMatrix& matrix, Weights** out) override {
    return adopt(new (std::nothrow) CpuDenseWeights(kernels_, matrix), out);
  }
  Status prepare(const PackedMatrix& matrix, Weights** out) override {
    return adopt(new (std::nothrow) CpuPackedWeights(kernels_, precision_, matrix), out);
  }

  void begin(uint32_t, uint32_t) override {}
  void end() override {}

  void embed(const Weights& weights, const int32_t* tokens, uint32_t rows, Buffer out) override {
    const auto& table = static_cast<const CpuWeights&>(weights);
    pool_.run(rows, [&](size_t m, int) {
      table.read_row(static_cast<uint32_t>(tokens[m]), out.data + m * table.columns());
    });
  }

  void normalize(Buffer x, const NormShape& norm, uint32_t rows, uint32_t columns, Buffer out) override {
    pool_.run(rows, [&](size_t m, int) {
      const float* line = x.data + m * columns;
      float* target = out.data + m * columns;
      if (norm.centered) {
        double sum = 0;
        for (uint32_t c = 0; c < columns; ++c) sum += line[c];
        const float mean = static_cast<float>(sum / columns);
        for (uint32_t c = 0; c < columns; ++c) target[c] = line[c] - mean;
        line = target;
      }
      const float mean_square = kernels_.dot(line, line, columns) / static_cast<float>(columns);
      const float factor = 1.0f / std::sqrt(mean_square + norm.epsilon);
      for (uint32_t c = 0; c < columns; ++c) target[c] = line[c] * factor * norm.gain.data[c];
      if (norm.bias.data != nullptr)
        for (uint32_t c = 0; c < columns; ++c) target[c] += norm.bias.data[c];
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
    size_t total = 0;
    bool ready[PackedInputKind::kCount] = {};
    for (const LinearCall& call : calls) {
      const auto* weights = static_cast<const CpuWeights*>(call.weights);
      total += weights->items(rows);
      PackedInputKind kind;
      if (!weights->needs(rows, &kind) || ready[kind.index()]) continue;
      inputs_[kind.index()].prepare(kernels_, precision_, kind, input, stride, rows, static_cast<uint32_t>(stride / 16),
                                    [&](size_t count, FunctionRef<void(size_t)> work) { parallel(count, work); });
      ready[kind.index()] = true;
    }
    pool_.run(total, [&](size_t item, int thread) {
      for (const LinearCall& call : calls) {
        const auto* weights = static_cast<const CpuWeights*>(call.weights);
        const size_t items = weights->items(rows);
        if (item < items) return weights->multiply_item(item, view, call.out.data, scratch_.of(thread));
        item -= items;
      }
    });
  }

  void rotate(Buffer x, uint32_t rows, uint32_t heads, uint32_t head_size, uint32_t size, Buffer angles) override {
    const uint32_t half = size / 2;
    pool_.run(rows, [&](size_t m, int) {
      const float* angle = angles.data + m * size;
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

  // Keys: [key/value head][panel of 16 positions][head size][16]; values: [key/value head][position][head size].
  uint64_t kv_bytes(uint32_t kv_heads, uint32_t head_size, uint32_t capacity) const override {
    return uint64_t{kv_heads} * padded_positions(capacity) * head_size * kv_element_bytes();
  }
  uint64_t kv_position_bytes(uint32_t kv_heads, uint32_t head_size) const override {
    return uint64_t{2} * kv_heads * head_size * kv_element_bytes();
  }
  void read_kv(KvView cache, uint32_t kv_heads, uint32_t head_size, uint32_t first, uint32_t count, uint8_t* host,
               size_t stride) override {
    if (kv_type_ == KvType::f32) copy_kv<float, false>(cache, kv_heads, head_size, first, count, host, stride);
    else copy_kv<uint16_t, false>(cache, kv_heads, head_size, first, count, host, stride);
  }
  void write_kv(KvView cache, uint32_t kv_heads, uint32_t head_size, uint32_t first, uint32_t count, const uint8_t* host,
                size_t stride) override {
    uint8_t* from = const_cast<uint8_t*>(host);
    if (kv_type_ == KvType::f32) copy_kv<float, true>(cache, kv_heads, head_size, first, count, from, stride);
    else copy_kv<uint16_t, true>(cache, kv_heads, head_size, first, count, from, stride);
  }

  void attend(const AttentionShape& shape, Buffer q, Buffer k, Buffer v, KvView cache, uint32_t position, uint32_t rows,
              Buffer out) override {
    append(shape, k, v, cache, position, rows);
    const uint32_t chunk = rows == 1 ? 1 : kAttentionTokens, chunks = (rows + chunk - 1) / chunk;
    // A single token's query heads that share keys are the rows of one item; else its tokens are, head by head.
    const uint32_t shared = shape.heads / shape.kv_heads, per_item = rows == 1 && shared <= kAttentionTokens ? shared : 1;
    const size_t stride = padded_positions(position + rows);
    pool_.run(size_t{chunks} * shape.heads / per_item, [&](size_t item, int thread) {
      const uint32_t head = static_cast<uint32_t>(item % (shape.heads / per_item)) * per_item;
      const uint32_t first = static_cast<uint32_t>(item / (shape.heads / per_item)) * chunk;
      const uint32_t tokens = std::min(chunk, rows - first);
      const size_t head_bytes = padded_positions(cache.capacity) * shape.head_size * kv_element_bytes();
      const size_t token_stride = size_t{shape.heads} * shape.head_size;
      AttentionItem work;
      work.keys = cache.keys + head / shared * head_bytes;
      work.values = cache.values + head / shared * head_bytes;
      work.q = q.data + first * token_stride + size_t{head} * shape.head_size;
      work.out = out.data + first * token_stride + size_t{head} * shape.head_size;
      work.rows = tokens * per_item;
      work.slopes = shape.slopes.empty() ? nullptr : &shape.slopes[head];
      work.stride = rows == 1 ? shape.head_size : token_stride;
      work.visible = position + first + 1;
      attend_item(shape, work, stride, reinterpret_cast<float*>(scratch_.of(thread)), rows == 1);
    });
  }

  void activate(Activation activation, Buffer gate, Buffer up, size_t count) override {
    elementwise(count, [&](size_t first, size_t length) {
      kernels_.gate(activation, gate.data + first, up.data == nullptr ? nullptr : up.data + first, length);
    });
  }

  void add_bias(Buffer x, Buffer bias, uint32_t rows, uint32_t columns) override {
    for (uint32_t m = 0; m < rows; ++m)
      for (uint32_t c = 0; c < columns; ++c) x.data[size_t{m} * columns + c] += bias.data[c];
  }

  void scale(Buffer x, size_t count, float factor) override {
    for (size_t i = 0; i < count; ++i) x.data[i] *= factor;
  }

  void soft_cap(Buffer x, size_t count, float cap) override {
    elementwise(count, [&](size_t first, size_t length) { kernels_.soft_cap(x.data + first, length, cap); });
  }

  void change_basis(const Rotation& rotation, Buffer x, uint32_t rows, bool inverse, Buffer out) override {
    const size_t columns = rotation.signs.size();
    pool_.run(rows, [&](size_t m, int thread) {
      float* scratch = reinterpret_cast<float*>(scratch_.of(thread));
      rotation.apply(x.data + m * columns, out.data + m * columns, scratch, inverse);
    });
  }

  void add(Buffer x, Buffer y, size_t count) override {
    for (size_t i = 0; i < count; ++i) x.data[i] += y.data[i];
  }

  int32_t largest(Buffer values, size_t count) override {
    if (!all_finite({values.data, count})) return -1;
    return static_cast<int32_t>(std::max_element(values.data, values.data + count) - values.data);
  }

  void log_probabilities(Buffer logits, uint32_t rows, uint32_t vocabulary, const int32_t* targets, float* out) override {
    pool_.run(rows, [&](size_t m, int) {
      float* line = logits.data + m * vocabulary;
      const bool finite = all_finite({line, vocabulary});
      const float largest = *std::max_element(line, line + vocabulary), target = line[targets[m]];
      out[m] = finite ? (target - largest) - std::log(kernels_.exponentiate(line, vocabulary)) : NAN;
    });
  }

  void add_gram(Buffer x, uint32_t rows, uint32_t columns, float* h) override;

  uint64_t read(std::span<const uint8_t> bytes) override {
    const size_t threads = static_cast<size_t>(pool_.threads()), part = bytes.size() / threads / 128 * 128;
    std::atomic<uint64_t> sum{0};
    pool_.run(threads, [&](size_t t, int) { sum.fetch_add(read_stream(bytes.data() + t * part, part)); });
    return sum.load();
  }

  void parallel(size_t count, FunctionRef<void(size_t)> work) override {
    pool_.run(count, [&](size_t item, int) { work(item); });
  }

 private:
  Status adopt(CpuWeights* weights, Weights** out) {
    if (weights == nullptr) return out_of_memory("cannot allocate memory for a weight matrix");
    if (Status status = scratch_.reserve(weights->scratch_bytes()); !status.ok()) {
      delete weights;
      return status;
    }
    *out = weights;
    return ok_status();
  }

  static size_t padded_positions(uint32_t positions) { return (size_t{positions} + kKeyPanel - 1) / kKeyPanel * kKeyPanel; }
  size_t kv_element_bytes() const { return kv_type_ == KvType::f32 ? sizeof(float) : sizeof(uint16_t); }

  // Writes keys and values of new positions.
  void append(const AttentionShape& shape, Buffer k, Buffer v, KvView cache, uint32_t position, uint32_t rows) {
    const uint32_t size = shape.head_size;
    const size_t head = padded_positions(cache.capacity) * size;
    narrow_.resize(size);
    for (uint32_t m = 0; m < rows; ++m)
      for (uint32_t h = 0; h < shape.kv_heads; ++h) {
        const size_t from = (size_t{m} * shape.kv_heads + h) * size, at = position + m;
        const size_t key = h * head + at / kKeyPanel * kKeyPanel * size + at % kKeyPanel, value = h * head + at * size;
        if (kv_type_ == KvType::f32) {
          float* keys = reinterpret_cast<float*>(cache.keys) + key;
          for (uint32_t d = 0; d < size; ++d) keys[size_t{d} * kKeyPanel] = k.data[from + d];
          std::memcpy(reinterpret_cast<float*>(cache.values) + value, v.data + from, size * sizeof(float));
        } else {
          uint16_t* keys = reinterpret_cast<uint16_t*>(cache.keys) + key;
          kernels_.narrow_half(k.data + from, narrow_.data(), size);
          for (uint32_t d = 0; d < size; ++d) keys[size_t{d} * kKeyPanel] = narrow_[d];
          kernels_.narrow_half(v.data + from, reinterpret_cast<uint16_t*>(cache.values) + value, size);
        }
      }
  }

  // Host bytes may lie at any address, so that numbers of theirs are copied as bytes.
  template <class T, bool kWrite>
  void copy_kv(KvView cache, uint32_t kv_heads, uint32_t size, uint32_t first, uint32_t count, uint8_t* host, size_t stride) {
    const size_t head = padded_positions(cache.capacity) * size, head_bytes = size * sizeof(T);
    pool_.run(count, [&](size_t item, int) {
      const size_t at = first + item;
      for (uint32_t h = 0; h < kv_heads; ++h) {
        T* keys = reinterpret_cast<T*>(cache.keys) + h * head + at / kKeyPanel * kKeyPanel * size + at % kKeyPanel;
        T* values = reinterpret_cast<T*>(cache.values) + h * head + at * size;
        uint8_t* key = host + item * stride + h * head_bytes;
        uint8_t* value = key + kv_heads * head_bytes;
        for (uint32_t d = 0; d < size; ++d) {
          T* number = keys + size_t{d} * kKeyPanel;
          if constexpr (kWrite) std::memcpy(number, key + d * sizeof(T), sizeof(T));
          else std::memcpy(key + d * sizeof(T), number, sizeof(T));
        }
        if constexpr (kWrite) std::memcpy(values, value, head_bytes);
        else std::memcpy(value, values, head_bytes);
      }
    });
  }

  // Rows of queries against one head of the cache: row m sees `visible` positions, and m more where rows are tokens.
  struct AttentionItem {
    const uint8_t *keys, *values;
    const float* q;
    float* out;
    uint32_t rows, visible;
    size_t stride;  // between rows of q and out
    const float* slopes;  // of the first head, or null
  };

  // softmax(f(q k^T * scale)) v, the maximum subtracted; f: soft cap and ALiBi.
  void attend_item(const AttentionShape& shape, const AttentionItem& item, size_t score_stride, float* scores,
                   bool single_token) const {
    const uint32_t size = shape.head_size, last = item.visible + (single_token ? 0 : item.rows - 1);
    // Panels before the window of the first row, which reaches back farthest, are left out.
    const uint32_t skipped = first_seen(shape, item.visible) / kKeyPanel * kKeyPanel;
    const size_t skipped_bytes = size_t{skipped} * size * kv_element_bytes();
    const uint8_t *keys = item.keys + skipped_bytes, *values = item.values + skipped_bytes;
    const uint32_t panels = static_cast<uint32_t>((padded_positions(last) - skipped) / kKeyPanel);
    kernels_.score_keys(item.q, item.stride, item.rows, keys, kv_type_, size, panels, shape.scale, scores, score_stride);
    float inverse[kAttentionTokens];
    for (uint32_t m = 0; m < item.rows; ++m) {
      float* line = scores + m * score_stride;
      const uint32_t visible = item.visible + (single_token ? 0 : m), count = visible - skipped;
      const uint32_t first = first_seen(shape, visible) - skipped;
      if (shape.cap > 0) kernels_.soft_cap(line + first, count - first, shape.cap);
      if (item.slopes != nullptr) {
        const float slope = item.slopes[single_token ? m : 0];
        for (uint32_t p = first; p < count; ++p) line[p] -= slope * static_cast<float>(count - 1 - p);
      }
      std::fill(line, line + first, 0.0f);
      inverse[m] = 1.0f / kernels_.exponentiate(line + first, count - first);
      std::fill(item.out + m * item.stride, item.out + m * item.stride + size, 0.0f);
    }
    const uint32_t shared = item.visible - skipped;  // positions that every row may weigh
    kernels_.weigh_values(scores, score_stride, item.rows, values, kv_type_, shared, size, item.out, item.stride);
    for (uint32_t m = 0; m < item.rows; ++m) {
      float* out = item.out + m * item.stride;
      if (!single_token && m > 0)  // the positions that the first row does not see
        kernels_.weigh_values(scores + m * score_stride + shared, score_stride, 1,
                              values + size_t{shared} * size * kv_element_bytes(), kv_type_, m, size, out, 0);
      for (uint32_t d = 0; d < size; ++d) out[d] *= inverse[m];
    }
  }

  // The first position in the window of a token that could see `visible` positions.
  static uint32_t first_seen(const AttentionShape& shape, uint32_t visible) {
    return shape.window > 0 && visible > shape.window ? visible - shape.window : 0;
  }

  // work(first, length) over parts of `count` elements.
  template <typename Work>
  void elementwise(size_t count, const Work& work) {
    pool_.run((count + kElementwiseItem - 1) / kElementwiseItem, [&](size_t item, int) {
      const size_t first = item * kElementwiseItem;
      work(first, std::min(count - first, kElementwiseItem));
    });
  }

  const Kernels& kernels_;
  Precision precision_;
  KvType kv_type_;
  ThreadPool pool_;
  ThreadScratch scratch_;
  PackedInput inputs_[PackedInputKind::kCount];
  std::vector<uint16_t> narrow_;            // one head's key in the cache's element type
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
  if (options.kv_type == KvType::int8)
    return unsupported("an int8 KV cache needs the backend \"cuda\": on the processor, f16 is the smallest");
  const Kernels* kernels = nullptr;
  SHIFTADD_TRY(choose_kernels(options.isa, &kernels));
  const int threads = options.threads == 0 ? std::min(allowed_cores(), kMaxThreads) : options.threads;
  *out = std::make_unique<CpuBackend>(*kernels, options.precision, options.kv_type, threads);
  return ok_status();
}

}  // namespace shiftadd
