// Weights as the CPU reads them: dense rows of a mapped file, or packed blocks of a mapped file with decoded scales.
#pragma once

#include <cstdint>
#include <vector>

#include "backends/cpu/kernels.h"
#include "core/backend.h"

namespace shiftadd {

class CpuWeights : public Weights {
 public:
  // Bytes of scratch a thread needs in multiply_item.
  virtual size_t scratch_bytes() const = 0;
  // Number of independent items that make up x W^T for `rows` rows of x.
  virtual size_t items(uint32_t rows) const = 0;
  // Computes one item. x: rows x x_stride, zero-padded to a multiple of 16 columns; out: rows x rows().
  virtual void multiply_item(size_t item, const float* x, size_t x_stride, uint32_t rows, float* out,
                             void* scratch) const = 0;
  virtual void read_row(uint32_t row, float* out) const = 0;
};

class CpuDenseWeights final : public CpuWeights {
 public:
  CpuDenseWeights(const Kernels& kernels, const DenseMatrix& matrix) : kernels_(kernels), matrix_(matrix) {}
  uint32_t rows() const override { return matrix_.rows; }
  uint32_t columns() const override { return matrix_.columns; }
  size_t heap_bytes() const override { return 0; }
  size_t scratch_bytes() const override;
  size_t items(uint32_t rows) const override;
  void multiply_item(size_t item, const float* x, size_t x_stride, uint32_t rows, float* out,
                     void* scratch) const override;
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
  size_t scratch_bytes() const override;
  size_t items(uint32_t rows) const override;
  void multiply_item(size_t item, const float* x, size_t x_stride, uint32_t rows, float* out,
                     void* scratch) const override;
  void read_row(uint32_t row, float* out) const override;

 private:
  const Kernels& kernels_;
  Precision precision_;
  PackedMatrix matrix_;
  std::vector<float> scales_;      // [row group][k-block][plane][column group of the k-block], padded with zeros
  std::vector<float> row_scales_;  // empty when the matrix has none
};

}  // namespace shiftadd
