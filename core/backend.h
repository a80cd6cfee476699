// The interface between the transformer and hardware: a few coarse operations on buffers, none optional. The number of
// rows (tokens) travels with each call, so that one code path serves prefill (rows > 1) and decode (rows = 1), and
// begin / end bracket a step so that a device may record and replay it. A device may join an operation with the next one: what
// `activate` gave is not defined any more after the `linear` that reads it, nor q and k after `attend`, nor y after `add`.
//
// Buffers are row-major floats on the device. The caller checks sizes; operations inside a step cannot fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/function_ref.h"
#include "core/model_spec.h"
#include "core/packed_matrix.h"
#include "core/status.h"
#include "core/tensor.h"

namespace shiftadd {

// Device memory owned by a backend.
struct Buffer {
  float* data = nullptr;  // an address of the device
  size_t bytes = 0;
};

// A weight matrix on the backend: dense or packed, in the order that suits the device. Opaque outside the backend.
class Weights {
 public:
  virtual ~Weights() = default;
  virtual uint32_t rows() const = 0;
  virtual uint32_t columns() const = 0;
  virtual size_t heap_bytes() const = 0;  // memory held besides the mapped file
  // They are a copy in the memory that the file's pages also take, and do not read the file any more.
  virtual bool replaces_file() const { return false; }
};

struct LinearCall {
  const Weights* weights = nullptr;
  Buffer out;  // rows x weights->rows()
};

// One layer's cached keys and values for `capacity` positions, in the backend's own order and element type.
struct KvView {
  uint8_t* keys = nullptr;
  uint8_t* values = nullptr;
  uint32_t capacity = 0;
};

struct AttentionShape {
  uint32_t heads = 0, kv_heads = 0, head_size = 0;
  float scale = 0;
  uint32_t window = 0;    // positions that a token sees, itself included; 0: all
  float cap = 0;          // scores become cap * tanh(score / cap); 0: they stay
  std::span<const float> slopes;  // ALiBi, per head, on the host: slope * (key position - query position) is added
};

struct NormShape {
  Buffer gain, bias;      // the bias may be null
  bool centered = false;  // layer norm, else root mean square
  float epsilon = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* isa() const = 0;
  virtual int threads() const = 0;
  // The first failure of the device since it was opened. Operations cannot fail: results of one that did are NaN.
  virtual Status failure() const = 0;

  virtual Status allocate(uint64_t bytes, Buffer* out) = 0;  // zeroed; pages are touched when used
  virtual void release(Buffer buffer) = 0;
  virtual void upload(const float* host, Buffer to, size_t floats) = 0;
  virtual void download(Buffer from, float* host, size_t floats) = 0;

  // Makes room for attention over `capacity` positions and for rows of `columns` numbers, so that no operation of a step has to
  // ask for memory.
  virtual Status reserve(uint32_t capacity, uint32_t columns) = 0;
  // Bytes of one layer's keys, and of its values.
  virtual uint64_t kv_bytes(uint32_t kv_heads, uint32_t head_size, uint32_t capacity) const = 0;

  // What one layer keeps of a position, as it leaves the device: the keys, then the values, each [key/value head][head size] in
  // the cache's element type, little-endian; a head of 8-bit integers is followed by its scales. The same bytes on every backend.
  virtual uint64_t kv_position_bytes(uint32_t kv_heads, uint32_t head_size) const = 0;
  // Copies positions [first, first + count) of one layer to or from the host, where they begin `stride` bytes apart.
  virtual void read_kv(KvView cache, uint32_t kv_heads, uint32_t head_size, uint32_t first, uint32_t count, uint8_t* host,
                       size_t stride) = 0;
  virtual void write_kv(KvView cache, uint32_t kv_heads, uint32_t head_size, uint32_t first, uint32_t count, const uint8_t* host,
                        size_t stride) = 0;

  // The views must stay valid as long as the weights (they point into mapped files).
  virtual Status prepare(const DenseMatrix& matrix, Weights** out) = 0;
  virtual Status prepare(const PackedMatrix& matrix, Weights** out) = 0;

  // `position`: of the first row. Operations also work outside of a step.
  virtual void begin(uint32_t rows, uint32_t position) = 0;
  // out[m] = row tokens[m] of the matrix.
  virtual void embed(const Weights& weights, const int32_t* tokens, uint32_t rows, Buffer out) = 0;
  // out[m] = x[m] / rms(x[m]) * gain + bias, with centered after the mean was subtracted from x[m]. Sources: arXiv
  // 1910.07467, 1607.06450. `out` may be x.
  virtual void normalize(Buffer x, const NormShape& norm, uint32_t rows, uint32_t columns, Buffer out) = 0;
  // call.out = x W^T for every call; x: rows x columns, the same for all calls.
  virtual void linear(std::span<const LinearCall> calls, Buffer x, uint32_t rows) = 0;
  // Rotary positions of the first `size` numbers of each head, in the half-split order; angles: [rows][size / 2] pairs
  // (cosine, sine). arXiv 2104.09864.
  virtual void rotate(Buffer x, uint32_t rows, uint32_t heads, uint32_t head_size, uint32_t size, Buffer angles) = 0;
  // Appends rows of k and v at `position`, then causal attention of q over everything up to each row.
  virtual void attend(const AttentionShape& shape, Buffer q, Buffer k, Buffer v, KvView cache, uint32_t position,
                      uint32_t rows, Buffer out) = 0;
  // gate[i] = activation(gate[i]) * up[i], without the product where `up` is null.
  virtual void activate(Activation activation, Buffer gate, Buffer up, size_t count) = 0;
  // x[m] += bias
  virtual void add_bias(Buffer x, Buffer bias, uint32_t rows, uint32_t columns) = 0;
  // x[i] *= factor
  virtual void scale(Buffer x, size_t count, float factor) = 0;
  // x[i] = cap * tanh(x[i] / cap)
  virtual void soft_cap(Buffer x, size_t count, float cap) = 0;
  // out[m] = x[m] Q, or x[m] Q^T when inverse (core/rotation.h); columns: the hidden size. `out` may be x.
  virtual void change_basis(const Rotation& rotation, Buffer x, uint32_t rows, bool inverse, Buffer out) = 0;
  // x[i] += y[i]
  virtual void add(Buffer x, Buffer y, size_t count) = 0;
  virtual void end() = 0;

  // out[m] = ln softmax(logits[m])[targets[m]]; NaN where a logit is not finite. Overwrites the logits.
  virtual void log_probabilities(Buffer logits, uint32_t rows, uint32_t vocabulary, const int32_t* targets,
                                 float* out) = 0;

  // Index of the largest number, the first of equal ones; -1 where one is not finite.
  virtual int32_t largest(Buffer values, size_t count) = 0;

  // For calibration: h += x^T x over the rows; h: columns x columns on the host, only its upper triangle is kept valid.
  virtual void add_gram(Buffer x, uint32_t rows, uint32_t columns, float* h) = 0;
  // Reads weights as fast as memory delivers them: what limits a decode step. Returns a sum over them.
  virtual uint64_t read(std::span<const uint8_t> bytes) = 0;
  // For host-side stages that share the threads: work(item) for every item.
  virtual void parallel(size_t count, FunctionRef<void(size_t)> work) = 0;
};

}  // namespace shiftadd
