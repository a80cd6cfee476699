#include "backends/cuda/cuda_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "backends/cpu/cpu_topology.h"
#include "backends/cpu/thread_pool.h"
#include "backends/cuda/cuda_device.h"
#include "backends/cuda/cuda_weights.h"
#include "backends/cuda/held_operations.h"
#include "backends/cuda/kv_layout.h"
#include "backends/cuda/kv_transfer.h"
#include "backends/cuda/packed_linear.h"
#include "core/rotation.h"

namespace shiftadd {
namespace {

using namespace shiftadd_cuda;

constexpr int kMaxThreads = 64;
constexpr unsigned kWideThreads = 1024;  // of a kernel that has one block per row
constexpr size_t kLargestBlocks = 64;    // that look for the largest number together
constexpr uint32_t kReplayedRows = 8;    // of a step that is worth a graph: decode, with or without a draft
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
      : device_(std::move(device)), kv_type_(kv_type), pool_(threads), linear_(*device_), tokens_(*device_), origin_(*device_),
        partial_(*device_), ended_(*device_), results_(*device_), largest_room_(*device_), basis_(*device_), rotation_(*device_), read_(*device_) {
    for (const auto& [function, name] : std::initializer_list<std::pair<CudaFunction*, const char*>>{
             {&embed_packed_, "embed_packed"}, {&embed_dense_, "embed_dense"}, {&normalize_, "normalize"},
             {&rotate_, "rotate"}, {&append_, is_int8() ? "append_kv_int8" : "append_kv"},
             {&attend_, is_int8() ? "attend_slice_int8" : "attend_slice"},
             {&attend_rows_, is_int8() ? "attend_rows_int8" : "attend_rows"}, {&largest_, "find_largest"},
             {&activate_, "activate"}, {&add_bias_, "add_bias"}, {&scale_, "scale"}, {&soft_cap_, "soft_cap"}, {&add_, "add"},
             {&basis_change_, "change_basis"}, {&gram_, "gram"},
             {&log_probabilities_, "log_probabilities"}, {&read_memory_, "read_memory"}})
      *function = device_->kernel(name);
  }

  Status failure() const override { return device_->failure(); }
  const char* isa() const override { return device_->name().c_str(); }
  int threads() const override { return pool_.threads(); }

  Status allocate(uint64_t bytes, Buffer* out) override {
    settle();
    CudaAddress address = 0;
    SHIFTADD_TRY(device_->allocate(bytes, &address));
    device_->clear(address, bytes);
    *out = {pointer_to<float>(address), bytes};
    return device_->failure();
  }
  void release(Buffer buffer) override {
    settle();
    device_->release(address_of(buffer));
  }
  void upload(const float* host, Buffer to, size_t floats) override {
    settle();
    device_->upload(host, address_of(to), floats * sizeof(float));
  }
  // Operations cannot fail, so that a device that has failed answers with NaN, which every caller checks.
  void download(Buffer from, float* host, size_t floats) override {
    settle();
    device_->download(address_of(from), host, floats * sizeof(float));
    if (!device_->failure().ok()) std::fill(host, host + floats, NAN);
  }

  // Memory on the device grows with what is launched.
  Status reserve(uint32_t, uint32_t) override { return ok_status(); }

  Status prepare(const DenseMatrix& matrix, Weights** out) override { return load<CudaDenseWeights>(matrix, out); }
  Status prepare(const PackedMatrix& matrix, Weights** out) override { return load<CudaPackedWeights>(matrix, out); }

  // The position lies in memory, so that the steps of a generation launch the same.
  void begin(uint32_t rows, uint32_t position) override {
    settle();
    if (rows > kReplayedRows) return;
    device_->upload(&position, origin_.reserve(sizeof position), sizeof position);
    step_position_ = position;
    in_step_ = true;
    device_->begin_step();
  }
  void end() override {
    settle();
    in_step_ = false;
    device_->end_step();
  }

  void embed(const Weights& weights, const int32_t* tokens, uint32_t rows, Buffer out) override {
    settle();
    const auto& table = static_cast<const CudaWeights&>(weights);
    const int32_t* indices = upload_tokens(tokens, rows);
    const Grid grid{blocks_of(table.columns()), rows};
    if (table.packed()) device_->launch(embed_packed_, grid, kThreads, *table.packed(), indices, out.data);
    else device_->launch(embed_dense_, grid, kThreads, *table.dense(), indices, out.data);
  }

  void normalize(Buffer x, const NormShape& norm, uint32_t rows, uint32_t columns, Buffer out) override {
    settle();
    const InputNorm input{norm.gain.data, norm.bias.data, out.data, uint32_t{norm.centered}, norm.epsilon};
    held_norm_ = HeldNorm{x.data, columns, input};
    if (rows > 1 || x.data == out.data) launch_norm(rows);
  }

  void linear(std::span<const LinearCall> calls, Buffer x, uint32_t rows) override {
    PackedInput input{x.data, nullptr, nullptr};
    HeldProduct product;
    const bool packed = std::all_of(calls.begin(), calls.end(), [](const LinearCall& call) {
      return static_cast<const CudaWeights*>(call.weights)->packed() != nullptr;
    });
    if (packed && rows == 1 && held_norm_ && held_norm_->norm.out == x.data) {
      product.norm = std::exchange(held_norm_, std::nullopt);
      input = {product.norm->x, &product.norm->norm, nullptr};
    } else if (packed && rows == 1 && held_activation_ && held_activation_->gate == x.data) {
      product.activation = std::exchange(held_activation_, std::nullopt);
      input.activation = &product.activation->activation;
    }
    settle();
    if (!packed || rows > 1 || calls.size() > 1) return linear_.multiply(calls, input, rows);
    product.call = calls[0];
    product.x = input.x;
    held_product_ = product;
  }

  void rotate(Buffer x, uint32_t rows, uint32_t heads, uint32_t head_size, uint32_t size, Buffer angles) override {
    if (held_rotations_.empty() || held_rotations_.size() == 2) settle();
    held_rotations_.push_back({x.data, rows, heads, head_size, size, angles.data});
    if (rows > 1) settle();
  }

  uint64_t kv_bytes(uint32_t kv_heads, uint32_t head_size, uint32_t capacity) const override {
    return KvLayout(kv_type_, kv_heads, head_size, capacity).bytes;
  }
  uint64_t kv_position_bytes(uint32_t kv_heads, uint32_t head_size) const override {
    return KvLayout(kv_type_, kv_heads, head_size, 0).position_bytes(kv_heads);
  }
  void read_kv(KvView cache, uint32_t kv_heads, uint32_t head_size, uint32_t first, uint32_t count, uint8_t* host,
               size_t stride) override {
    settle();
    kv_transfer_.read({kv_type_, kv_heads, head_size, cache.capacity}, cache, kv_heads, first, count, host, stride);
  }
  void write_kv(KvView cache, uint32_t kv_heads, uint32_t head_size, uint32_t first, uint32_t count, const uint8_t* host,
                size_t stride) override {
    settle();
    kv_transfer_.write({kv_type_, kv_heads, head_size, cache.capacity}, cache, kv_heads, first, count, host, stride);
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
    a.scales_offset = KvLayout(kv_type_, shape.kv_heads, shape.head_size, cache.capacity).scales_offset;
    a.scale = shape.scale;
    a.cap = shape.cap;
    if (rows == 1 && shape.head_size <= kMaxHead) {
      // The same launch rotates and stores the one new position.
      a.append = 1;
      const auto& held = held_rotations_;
      if (held.size() == 2 && held[0].x == q.data && held[1].x == k.data && held[0].angles == held[1].angles) {
        a.angles = held[0].angles;
        a.rotary_size = held[0].size;
        held_rotations_.clear();
      }
      settle();
    } else {
      settle();
      append(shape, rows, a);
    }
    if (in_step_ && a.append && position == step_position_) {
      a.position = 0;
      a.origin = pointer_to<const unsigned>(origin_.address());
    }
    // A part of the rows at a time, so that their partial results fit. The first row's window reaches back farthest.
    const size_t line = size_t{shape.heads} * shape.head_size, part = size_t{shape.heads} * (2 + shape.head_size) * sizeof(float);
    uint32_t count = 0;
    for (uint32_t first = 0; first < rows; first += count) {
      const uint32_t visible = position + first + 1, seen = shape.window > 0 && visible > shape.window ? visible - shape.window : 0;
      a.first_slice = seen / kSlice;
      const uint32_t most = (position + rows + kSlice - 1) / kSlice - a.first_slice;
      count = static_cast<uint32_t>(std::clamp<size_t>(kPartialBytes / (part * most), 1, rows - first));
      a.slices = (position + first + count + kSlice - 1) / kSlice - a.first_slice;
      if (a.origin == nullptr) a.position = position + first;
      a.rows = count;
      a.q = q.data + first * line;
      a.out = out.data + first * line;
      if (a.slices > 1) {
        a.partial = pointer_to<float>(partial_.reserve(part * a.slices * count));
        a.ended = pointer_to<unsigned>(ended_.reserve_cleared(size_t{count} * shape.heads * sizeof(unsigned)));
      }
      if (count > 1 && shape.window == 0 && shape.head_size <= kPiece) {
        const size_t pairs = size_t{count} * (shape.heads / shape.kv_heads);
        device_->launch(attend_rows_, {a.slices, shape.kv_heads, blocks_of(pairs, kAttentionRows)}, kThreads, a);
      } else {
        device_->launch(attend_, {a.slices, shape.heads, count}, kThreads, a);
      }
    }
  }

  void activate(Activation activation, Buffer gate, Buffer up, size_t count) override {
    settle();
    held_activation_ = HeldActivation{gate.data, count, {static_cast<uint32_t>(activation), 0, up.data}};
  }
  void add_bias(Buffer x, Buffer bias, uint32_t rows, uint32_t columns) override {
    settle();
    const size_t count = size_t{rows} * columns;
    device_->launch(add_bias_, {blocks_of(count)}, kThreads, x.data, bias.data, columns, count);
  }
  void scale(Buffer x, size_t count, float factor) override {
    settle();
    device_->launch(scale_, {blocks_of(count)}, kThreads, x.data, factor, count);
  }
  void soft_cap(Buffer x, size_t count, float cap) override {
    settle();
    device_->launch(soft_cap_, {blocks_of(count)}, kThreads, x.data, cap, count);
  }
  void add(Buffer x, Buffer y, size_t count) override {
    if (held_product_ && held_product_->call.out.data == y.data && held_product_->call.weights->rows() == count)
      return launch_product(x.data);
    settle();
    device_->launch(add_, {blocks_of(count)}, kThreads, x.data, y.data, count);
  }

  void change_basis(const Rotation& rotation, Buffer x, uint32_t rows, bool inverse, Buffer out) override {
    settle();
    const uint32_t hidden = static_cast<uint32_t>(rotation.signs.size());
    if (rotation_of_ != &rotation) {
      const CudaAddress to = rotation_.reserve((rotation.signs.size() + rotation.matrix.size()) * sizeof(float));
      device_->upload(rotation.signs.data(), to, hidden * sizeof(float));
      device_->upload(rotation.matrix.data(), to + hidden * sizeof(float), rotation.matrix.size() * sizeof(float));
      rotation_of_ = &rotation;
    }
    const float* signs = pointer_to<float>(rotation_.address());
    const Basis basis{x.data, signs, signs + hidden, out.data, rotation.size, hidden / rotation.size,
                      pointer_to<float>(basis_.reserve(size_t{rows} * hidden * sizeof(float)))};
    device_->launch(basis_change_, {rows}, kWideThreads, basis, uint32_t{inverse}, 1 / std::sqrt(static_cast<float>(hidden)));
  }

  int32_t largest(Buffer values, size_t count) override {
    settle();
    const size_t blocks = std::min(blocks_of(count, kWideThreads), kLargestBlocks);
    unsigned* room = pointer_to<unsigned>(largest_room_.reserve_cleared((2 + 2 * kLargestBlocks) * sizeof(unsigned)));
    const FindLargest find{values.data, reinterpret_cast<float*>(room + 2), room + 1, room, static_cast<uint32_t>(count), 0};
    device_->launch(largest_, {blocks}, kWideThreads, find);
    int32_t index = -1;
    device_->download(largest_room_.address(), &index, sizeof index);
    return device_->failure().ok() ? index : -1;
  }

  void log_probabilities(Buffer logits, uint32_t rows, uint32_t vocabulary, const int32_t* targets, float* out) override {
    settle();
    const int32_t* indices = upload_tokens(targets, rows);
    const CudaAddress results = results_.reserve(rows * sizeof(float));
    device_->launch(log_probabilities_, {rows}, kThreads, logits.data, indices, vocabulary, pointer_to<float>(results));
    download({pointer_to<float>(results), 0}, out, rows);
  }

  void add_gram(Buffer x, uint32_t rows, uint32_t columns, float* h) override {
    settle();
    const size_t bytes = size_t{columns} * columns * sizeof(float);
    const CudaAddress sums = results_.reserve(bytes);
    device_->clear(sums, bytes);  // tiles below the diagonal are not computed
    const size_t tiles = blocks_of(columns, 16);
    device_->launch(gram_, {tiles, tiles}, kThreads, x.data, rows, columns, pointer_to<float>(sums));
    std::vector<float> host(size_t{columns} * columns);
    download({pointer_to<float>(sums), 0}, host.data(), host.size());
    for (size_t i = 0; i < columns; ++i)
      for (size_t j = i; j < columns; ++j) h[i * columns + j] += host[i * columns + j];
  }

  // The bytes of a mapped file are not what the GPU reads: as many bytes of its own memory are.
  uint64_t read(std::span<const uint8_t> bytes) override {
    settle();
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
  bool is_int8() const { return kv_type_ == KvType::int8; }
  // Keys and values of new positions into the cache: a thread per number, or a warp per group of them.
  void append(const AttentionShape& shape, uint32_t rows, const Attention& a) {
    const size_t lines = size_t{rows} * shape.kv_heads, groups = blocks_of(shape.head_size, kScaleGroup);
    device_->launch(append_, {blocks_of(lines * (is_int8() ? groups * kWarp : shape.head_size))}, kThreads, a);
  }
  void launch_norm(uint32_t rows) {
    const auto& [x, columns, norm] = *held_norm_;
    device_->launch(normalize_, {rows}, kThreads, x, norm.gain, norm.bias, norm.out, columns, norm.centered, norm.epsilon);
    held_norm_.reset();
  }
  void launch_product(float* residual) {
    const HeldProduct product = *held_product_;
    held_product_.reset();
    const PackedInput input{product.x, product.norm ? &product.norm->norm : nullptr,
                            product.activation ? &product.activation->activation : nullptr};
    linear_.multiply({&product.call, 1}, input, 1, residual);
  }
  // Starts what is held back, each by itself. Every operation does so first, unless it takes what is held into its own launch.
  void settle() {
    if (held_product_) launch_product(nullptr);
    if (held_norm_) launch_norm(1);
    if (held_activation_) {
      const auto& [gate, count, activation] = *held_activation_;
      device_->launch(activate_, {blocks_of(count)}, kThreads, activation.kind, gate, activation.up, count);
      held_activation_.reset();
    }
    for (const auto& [x, rows, heads, head_size, size, angles] : held_rotations_) {
      const uint32_t pairs = rows * heads * (size / 2);
      device_->launch(rotate_, {blocks_of(pairs)}, kThreads, x, angles, heads, head_size, size, pairs);
    }
    held_rotations_.clear();
  }

  template <class Kind, class Matrix>
  Status load(const Matrix& matrix, Weights** out) {
    settle();
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
  DeviceScratch tokens_, origin_, partial_, ended_, results_, largest_room_, basis_, rotation_, read_;
  std::optional<HeldNorm> held_norm_;
  std::optional<HeldActivation> held_activation_;
  std::optional<HeldProduct> held_product_;
  KvTransfer kv_transfer_{*device_};
  std::vector<HeldRotation> held_rotations_;  // at most those of q and k
  bool in_step_ = false;
  uint32_t step_position_ = 0;  // what origin_ holds
  std::unique_ptr<DeviceScratch> slopes_;
  const float* slopes_of_ = nullptr;          // the host's numbers that are in slopes_
  const Rotation* rotation_of_ = nullptr;     // and in rotation_
  CudaFunction embed_packed_, embed_dense_, normalize_, rotate_, append_, attend_, attend_rows_, largest_, activate_, add_bias_, scale_, soft_cap_,
      add_, basis_change_, gram_, log_probabilities_, read_memory_;
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
