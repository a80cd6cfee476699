// Weights as the CPU reads them: dense rows of a mapped file, or packed blocks of a mapped file with decoded scales.
#pragma once

#include <cstdint>
#include <vector>

#include "backends/cpu/kernels.h"
#include "backends/cpu/packed_input.h"
#include "core/backend.h"

namespace shiftadd {

// The input of a linear(): rows x stride floats, zero-padded to a multiple of 16 columns, and what was prepared from them.
struct LinearInputView {
  const float* x = nullptr;
  size_t stride = 0;
  uint32_t rows = 0;
  const PackedInput* prepared = nullptr;  // [PackedInputKind::kCount]
};

class CpuWeights : public Weights {
 public:
  // True, with the kind, when a product with `rows` rows reads a prepared input.
  virtual bool needs(uint32_t rows, PackedInputKind* kind) const = 0;
  // Bytes of scratch a thread needs in multiply_item.
  virtual size_t scratch_bytes() const = 0;
  // Number of independent items that make up x W^T for `rows` rows of x.
  virtual size_t items(uint32_t rows) const = 0;
  // Computes one item. out: rows x rows().
  virtual void multiply_item(size_t item, const LinearInputView& input, float* out, void* scratch) const = 0;
  virtual void read_row(uint32_t row, float* out) const = 0;
};

class CpuDenseWeights final : public CpuWeights {
 public:
  CpuDenseWeights(const Kernels& kernels, const DenseMatrix& matrix) : kernels_(kernels), matrix_(matrix) {}
  uint32_t rows() const override { return matrix_.rows; }
  uint32_t columns() const override { return matrix_.columns; }
  size_t heap_bytes() const override { return 0; }
  bool needs(uint32_t, PackedInputKind*) const override { return false; }
  size_t scratch_bytes() const override;
  size_t items(uint32_t rows) const override;
  void multiply_item(size_t item, const LinearInputView& input, float* out, void* scratch) const override;
  void read_row(uint32_t row, float* out) const override;

 private:
  const Kernels& kernels_;
  DenseMatrix matrix_;
};

class CpuPackedWeights final : public CpuWeights {
 public:
  CpuPackedWeights(const Kernels& kernels, Precision precision, const PackedMatrix& matrix);
  uint32_t rows() const override { return matrix_.shape.rows; }
  uint32_t columns() const override { return matrix_.shape.columns; }
  size_t heap_bytes() const override;
  bool needs(uint32_t rows, PackedInputKind* kind) const override;
  size_t scratch_bytes() const override;
  size_t items(uint32_t rows) const override;
  void multiply_item(size_t item, const LinearInputView& input, float* out, void* scratch) const override;
  void read_row(uint32_t row, float* out) const override;

 private:
  bool uses_panel(uint32_t rows) const;
  float build(const LinearInputView& input, const PackedInput& prepared, uint32_t token, uint32_t row_group, uint32_t quad,
              uint32_t quads, const uint8_t* ahead, LookupTables* tables) const;
  void multiply_tables(size_t item, const LinearInputView& input, float* out, void* scratch) const;
  void multiply_panel(size_t item, const LinearInputView& input, float* out, void* scratch) const;
  const int16_t* scales_of(uint32_t row_group, uint32_t quad) const;
  // Stores rows [first_row, first_row + count) of one token, row scales applied.
  void store(const float* sums, uint32_t first_row, uint32_t count, float* line) const;

  const Kernels& kernels_;
  Precision precision_;
  PackedMatrix matrix_;
  std::vector<int16_t> scales_;      // u of kernels.h: [row group][quad][plane][group of the quad], padded with zeros
  std::vector<float> block_scales_;  // S / U: [row group][scale block]
  std::vector<float> row_scales_;    // empty when the matrix has none
  uint32_t block_quads_, blocks_;    // quads of a scale block, scale blocks of a row group
};

}  // namespace shiftadd
