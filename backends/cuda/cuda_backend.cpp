#include "backends/cuda/cuda_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "backends/cpu/cpu_topology.h"
#include "backends/cpu/thread_pool.h"
#include "backends/cuda/cuda_device.h"
#include "backends/cuda/cuda_weights.h"
#include "backends/cuda/packed_linear.h"
#include "core/rotation.h"

namespace shiftadd {
namespace {

using namespace shiftadd_cuda;

constexpr int kMaxThreads = 64;
constexpr size_t kPartialBytes = size_t{64} << 20;  // of attention parts; more rows than fit are computed one after the other
constexpr size_t kReadBytes = size_t{256} << 20;    // of the buffer whose reading is measured: more than any cache
constexpr unsigned kReadThreads = 512, kReadBlocks = 4;  // per multiprocessor

CudaAddress address_of(Buffer buffer) { return reinterpret_cast<CudaAddress>(buffer.data); }
template <class T>
T* pointer_to(CudaAddress address) {
  return reinterpret_cast<T*>(address);
}
size_t blocks_of(size_t count, size_t threads = kThreads) { return (count + threads - 1) / threads; }

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::unique_ptr<CudaDevice> device, KvType kv_type, int threads)
      : device_(std::move(device)), kv_type_(kv_type), pool_(threads), linear_(*device_), tokens_(*device_), partial_(*device_),
        results_(*device_), basis_(*device_), rotation_(*device_), read_(*device_) {
    for (const auto& [function, name] : std::initializer_list<std::pair<CudaFunction*, const char*>>{
             {&embed_packed_, "embed_packed"}, {&embed_dense_, "embed_dense"}, {&normalize_, "normalize"},
             {&rotate_, "rotate"}, {&append_, "append_kv"}, {&attend_, "attend_slice"}, {&attend_rows_, "attend_rows"}, {&join_, "join_slices"},
             {&activate_, "activate"}, {&add_bias_, "add_bias"}, {&scale_, "scale"}, {&soft_cap_, "soft_cap"}, {&add_, "add"},
             {&mix_, "mix_basis"}, {&walsh_, "walsh_level"}, {&signs_, "apply_signs"}, {&gram_, "gram"},
             {&log_probabilities_, "log_probabilities"}, {&read_memory_, "read_memory"}})
      *function = device_->kernel(name);
  }

  Status failure() const override { return device_->failure(); }
  const char* isa() const override { return device_->name().c_str(); }
  int threads() const override { return pool_.threads(); }

  Status allocate(uint64_t bytes, Buffer* out) override {
    CudaAddress address = 0;
    SHIFTADD_TRY(device_->allocate(bytes, &address));
    device_->clear(address, bytes);
    *out = {pointer_to<float>(address), bytes};
    return device_->failure();
  }
  void release(Buffer buffer) override { device_->release(address_of(buffer)); }
  void upload(const float* host, Buffer to, size_t floats) override {
    device_->upload(host, address_of(to), floats * sizeof(float));
  }
  // Operations cannot fail, so that a device that has failed answers with NaN, which every caller checks.
  void download(Buffer from, float* host, size_t floats) override {
    device_->download(address_of(from), host, floats * sizeof(float));
    if (!device_->failure().ok()) std::fill(host, host + floats, NAN);
  }

  // Memory on the device grows with what is launched.
  Status reserve(uint32_t, uint32_t) override { return ok_status(); }

  Status prepare(const DenseMatrix& matrix, Weights** out) override { return load<CudaDenseWeights>(matrix, out); }
  Status prepare(const PackedMatrix& matrix, Weights** out) override { return load<CudaPackedWeights>(matrix, out); }

  void begin(uint32_t) override {}
  void end() override {}

  void embed(const Weights& weights, const int32_t* tokens, uint32_t rows, Buffer out) override {
    const auto& table = static_cast<const CudaWeights&>(weights);
    const int32_t* indices = upload_tokens(tokens, rows);
    const Grid grid{blocks_of(table.columns()), rows};
    if (table.packed()) device_->launch(embed_packed_, grid, kThreads, *table.packed(), indices, out.data);
    else device_->launch(embed_dense_, grid, kThreads, *table.dense(), indices, out.data);
  }

  void normalize(Buffer x, const NormShape& norm, uint32_t rows, uint32_t columns, Buffer out) override {
    device_->launch(normalize_, {rows}, kThreads, x.data, norm.gain.data, norm.bias.data, out.data, columns,
                    uint32_t{norm.centered}, norm.epsilon);
  }

  void linear(std::span<const LinearCall> calls, Buffer x, uint32_t rows) override { linear_.multiply(calls, x, rows); }

  void rotate(Buffer x, uint32_t rows, uint32_t heads, uint32_t head_size, uint32_t size, Buffer angles) override {
    const uint32_t pairs = rows * heads * (size / 2);
    device_->launch(rotate_, {blocks_of(pairs)}, kThreads, x.data, angles.data, heads, head_size, size, pairs);
  }

  // Keys and values: [key/value head][position][head size].
  uint64_t kv_bytes(uint32_t kv_heads, uint32_t head_size, uint32_t capacity) const override {
    return size_t{kv_heads} * capacity * head_size * (kv_type_ == KvType::f32 ? sizeof(float) : sizeof(uint16_t));
  }

  void attend(const AttentionShape& shape, Buffer q, Buffer k, Buffer v, KvView cache, uint32_t position, uint32_t rows,
              Buffer out) override {
    Attention a{};
    a.q = q.data;
    a.k = k.data;
    a.v = v.data;
    a.keys = cache.keys;
    a.values = cache.values;
    a.out = out.data;
    a.slopes = upload_slopes(shape.slopes);
    a.heads = shape.heads;
    a.kv_heads = shape.kv_heads;
    a.head_size = shape.head_size;
    a.capacity = cache.capacity;
    a.position = position;
    a.rows = rows;
    a.window = shape.window;
    a.half_cache = kv_type_ == KvType::f16;
    a.scale = shape.scale;
    a.cap = shape.cap;
    device_->launch(append_, {blocks_of(size_t{rows} * shape.kv_heads * shape.head_size)}, kThreads, a);
    // A part of the rows at a time, so that their partial results fit. The first row's window reaches back farthest.
    const size_t line = size_t{shape.heads} * shape.head_size, part = size_t{shape.heads} * (2 + shape.head_size) * sizeof(float);
    uint32_t count = 0;
    for (uint32_t first = 0; first < rows; first += count) {
      const uint32_t visible = position + first + 1, seen = shape.window > 0 && visible > shape.window ? visible - shape.window : 0;
      a.first_slice = seen / kSlice;
      const uint32_t most = (position + rows + kSlice - 1) / kSlice - a.first_slice;
      count = static_cast<uint32_t>(std::clamp<size_t>(kPartialBytes / (part * most), 1, rows - first));
      a.slices = (position + first + count + kSlice - 1) / kSlice - a.first_slice;
      a.position = position + first;
      a.rows = count;
      a.q = q.data + first * line;
      a.out = out.data + first * line;
      a.partial = a.slices == 1 ? nullptr : pointer_to<float>(partial_.reserve(part * a.slices * count));
      if (count > 1 && shape.window == 0 && shape.head_size <= kMaxRowsHead) {
        const size_t pairs = size_t{count} * (shape.heads / shape.kv_heads);
        device_->launch(attend_rows_, {a.slices, shape.kv_heads, blocks_of(pairs, kAttentionRows)}, kThreads, a);
      } else {
        device_->launch(attend_, {a.slices, shape.heads, count}, kThreads, a);
      }
      if (a.slices > 1) device_->launch(join_, {shape.heads, count}, kThreads, a);
    }
  }

  void activate(Activation activation, Buffer gate, Buffer up, size_t count) override {
    device_->launch(activate_, {blocks_of(count)}, kThreads, static_cast<uint32_t>(activation), gate.data, up.data, count);
  }
  void add_bias(Buffer x, Buffer bias, uint32_t rows, uint32_t columns) override {
    const size_t count = size_t{rows} * columns;
    device_->launch(add_bias_, {blocks_of(count)}, kThreads, x.data, bias.data, columns, count);
  }
  void scale(Buffer x, size_t count, float factor) override {
    device_->launch(scale_, {blocks_of(count)}, kThreads, x.data, factor, count);
  }
  void soft_cap(Buffer x, size_t count, float cap) override {
    device_->launch(soft_cap_, {blocks_of(count)}, kThreads, x.data, cap, count);
  }
  void add(Buffer x, Buffer y, size_t count) override {
    device_->launch(add_, {blocks_of(count)}, kThreads, x.data, y.data, count);
  }

  void change_basis(const Rotation& rotation, Buffer x, uint32_t rows, bool inverse, Buffer out) override {
    const uint32_t hidden = static_cast<uint32_t>(rotation.signs.size()), width = hidden / rotation.size;
    const size_t count = size_t{rows} * hidden;
    if (rotation_of_ != &rotation) {
      const CudaAddress to = rotation_.reserve((rotation.signs.size() + rotation.matrix.size()) * sizeof(float));
      device_->upload(rotation.signs.data(), to, hidden * sizeof(float));
      device_->upload(rotation.matrix.data(), to + hidden * sizeof(float), rotation.matrix.size() * sizeof(float));
      rotation_of_ = &rotation;
    }
    const float* signs = pointer_to<float>(rotation_.address());
    const float* matrix = signs + hidden;
    float* scratch = pointer_to<float>(basis_.reserve(count * sizeof(float)));
    const float factor = 1 / std::sqrt(static_cast<float>(hidden));
    const auto walsh = [&] {
      for (uint32_t half = 1; half < width; half *= 2)
        device_->launch(walsh_, {blocks_of(count / 2)}, kThreads, scratch, half, count / 2);
    };
    const Grid mix_grid{blocks_of(hidden), rows};
    if (inverse) {
      device_->launch(mix_, mix_grid, kThreads, x.data, scratch, matrix, rotation.size, width, 1u);
      walsh();
      device_->launch(signs_, {blocks_of(count)}, kThreads, scratch, out.data, signs, factor, hidden, count);
    } else {
      device_->launch(signs_, {blocks_of(count)}, kThreads, x.data, scratch, signs, 1.0f, hidden, count);
      walsh();
      device_->launch(mix_, mix_grid, kThreads, scratch, out.data, matrix, rotation.size, width, 0u);
      device_->launch(scale_, {blocks_of(count)}, kThreads, out.data, factor, count);
    }
  }

  void log_probabilities(Buffer logits, uint32_t rows, uint32_t vocabulary, const int32_t* targets, float* out) override {
    const int32_t* indices = upload_tokens(targets, rows);
    const CudaAddress results = results_.reserve(rows * sizeof(float));
    device_->launch(log_probabilities_, {rows}, kThreads, logits.data, indices, vocabulary, pointer_to<float>(results));
    download({pointer_to<float>(results), 0}, out, rows);
  }

  void add_gram(Buffer x, uint32_t rows, uint32_t columns, float* h) override {
    const CudaAddress sums = results_.reserve(size_t{columns} * columns * sizeof(float));
    const size_t tiles = blocks_of(columns, 16);
    device_->launch(gram_, {tiles, tiles}, kThreads, x.data, rows, columns, pointer_to<float>(sums));
    std::vector<float> host(size_t{columns} * columns);
    download({pointer_to<float>(sums), 0}, host.data(), host.size());
    for (size_t i = 0; i < columns; ++i)
      for (size_t j = i; j < columns; ++j) h[i * columns + j] += host[i * columns + j];
  }

  // The bytes of a mapped file are not what the GPU reads: as many bytes of its own memory are.
  uint64_t read(std::span<const uint8_t> bytes) override {
    const size_t part = std::min(kReadBytes, (bytes.size() + 15) / 16 * 16);
    const unsigned blocks = kReadBlocks * static_cast<unsigned>(device_->multiprocessors());
    const CudaAddress data = read_.reserve(kReadBytes), sum = results_.reserve(sizeof(uint32_t));
    for (size_t done = 0; done < bytes.size(); done += part)
      device_->launch(read_memory_, {blocks}, kReadThreads, pointer_to<const void>(data), part / 16, pointer_to<uint32_t>(sum));
    device_->synchronize();
    return 0;
  }

  void parallel(size_t count, FunctionRef<void(size_t)> work) override {
    pool_.run(count, [&](size_t item, int) { work(item); });
  }

 private:
  template <class Kind, class Matrix>
  Status load(const Matrix& matrix, Weights** out) {
    std::unique_ptr<Kind> weights(new (std::nothrow) Kind(*device_));
    if (weights == nullptr) return out_of_memory("cannot allocate memory for a weight matrix");
    SHIFTADD_TRY(weights->load(matrix));
    *out = weights.release();
    return ok_status();
  }

  const int32_t* upload_tokens(const int32_t* tokens, uint32_t rows) {
    const CudaAddress to = tokens_.reserve(rows * sizeof(int32_t));
    device_->upload(tokens, to, rows * sizeof(int32_t));
    return pointer_to<int32_t>(to);
  }

  const float* upload_slopes(std::span<const float> slopes) {
    if (slopes.empty()) return nullptr;
    if (slopes_ == nullptr || slopes_of_ != slopes.data()) {
      slopes_ = std::make_unique<DeviceScratch>(*device_);
      device_->upload(slopes.data(), slopes_->reserve(slopes.size_bytes()), slopes.size_bytes());
      slopes_of_ = slopes.data();
    }
    return pointer_to<float>(slopes_->address());
  }

  std::unique_ptr<CudaDevice> device_;
  KvType kv_type_;
  ThreadPool pool_;
  PackedLinear linear_;
  DeviceScratch tokens_, partial_, results_, basis_, rotation_, read_;
  std::unique_ptr<DeviceScratch> slopes_;
  const float* slopes_of_ = nullptr;          // the host's numbers that are in slopes_
  const Rotation* rotation_of_ = nullptr;     // and in rotation_
  CudaFunction embed_packed_, embed_dense_, normalize_, rotate_, append_, attend_, attend_rows_, join_, activate_, add_bias_, scale_, soft_cap_,
      add_, mix_, walsh_, signs_, gram_, log_probabilities_, read_memory_;
};

}  // namespace

Status make_cuda_backend(const CudaOptions& options, std::unique_ptr<Backend>* out) {
  if (options.threads < 0 || options.threads > kMaxThreads)
    return invalid_argument("threads must be 0 to 64 but is " + std::to_string(options.threads));
  std::unique_ptr<CudaDevice> device;
  SHIFTADD_TRY(CudaDevice::open(options.device, &device));
  const int threads = options.threads == 0 ? std::min(allowed_cores(), kMaxThreads) : options.threads;
  auto backend = std::make_unique<CudaBackend>(std::move(device), options.kv_type, threads);
  SHIFTADD_TRY(backend->failure());  // a kernel is missing from the image
  *out = std::move(backend);
  return ok_status();
}

}  // namespace shiftadd
