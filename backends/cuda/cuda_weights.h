// Weights on the GPU: packed planes in the order of the binary matrix instruction, or dense rows.
#pragma once

#include <cstdint>
#include <span>

#include "backends/cuda/cuda_device.h"
#include "backends/cuda/parameters.h"
#include "core/backend.h"

namespace shiftadd {

class CudaWeights : public Weights {
 public:
  explicit CudaWeights(CudaDevice& device) : device_(device) {}
  // Exactly one of them is not null.
  virtual const shiftadd_cuda::Packed* packed() const { return nullptr; }
  virtual const shiftadd_cuda::Dense* dense() const { return nullptr; }
  bool replaces_file() const override { return device_.integrated(); }

 protected:
  CudaDevice& device_;
};

class CudaPackedWeights final : public CudaWeights {
 public:
  explicit CudaPackedWeights(CudaDevice& device) : CudaWeights(device) {}
  ~CudaPackedWeights() override;
  Status load(const PackedMatrix& matrix);
  uint32_t rows() const override { return packed_.rows; }
  uint32_t columns() const override { return packed_.columns; }
  size_t heap_bytes() const override { return bytes_; }
  const shiftadd_cuda::Packed* packed() const override { return &packed_; }

 private:
  Status load_planes(const PackedMatrix& matrix);
  Status load_through_window(const PackedMatrix& matrix);
  // Reorders the planes of some row groups, which lie at `file` as in the file.
  void repack(const PackedShape& shape, CudaAddress file, uint32_t first_group, uint32_t groups);
  Status load_scales(const PackedMatrix& matrix);

  shiftadd_cuda::Packed packed_{};
  CudaAddress planes_ = 0, scales_ = 0, row_scales_ = 0;
  size_t bytes_ = 0;
};

class CudaDenseWeights final : public CudaWeights {
 public:
  explicit CudaDenseWeights(CudaDevice& device) : CudaWeights(device) {}
  ~CudaDenseWeights() override { device_.release(data_); }
  Status load(const DenseMatrix& matrix);
  uint32_t rows() const override { return dense_.rows; }
  uint32_t columns() const override { return dense_.columns; }
  size_t heap_bytes() const override { return bytes_; }
  const shiftadd_cuda::Dense* dense() const override { return &dense_; }

 private:
  shiftadd_cuda::Dense dense_{};
  CudaAddress data_ = 0;
  size_t bytes_ = 0;
};

// How packed products of a launch are laid over the GPU. k_warps depends on the shape of a matrix alone, because the order of the
// sums does; the rest on the GPU.
struct ProductPlan {
  uint32_t k_warps = 1;     // warps that share the columns of a tile
  uint32_t tile_warps = 1;  // tiles of 32 rows of one block
  bool wide = false;        // fewer registers, so that more blocks run at once
};
// `tiles`: of all matrices of the launch, which have the same k_warps.
ProductPlan plan_product(const shiftadd_cuda::Packed& matrix, uint32_t tiles, int multiprocessors);

// Whether the product for many tokens takes less time than reading the weights once for every four; their bits are the same. Its blocks
// have many tokens, so that few tokens need many tiles to fill a GPU (benchmarks/results/2026-11-27-cuda-h100.md).
inline bool is_worth_prefill(uint32_t tokens, uint32_t tiles) {
  return tokens >= 48 || (tokens >= 12 && uint64_t{tokens} * tiles >= 6500);
}

// How a product with many tokens is laid over the GPU. Its bits are those of the ProductPlan; this decides only the time.
struct PrefillPlan {
  bool wide = false;         // packed_prefill_wide, else _narrow
  uint32_t tile_warps = 1;   // of a block: side by side over the rows of a group
  uint32_t token_warps = 1;  // and over the tokens
  uint32_t tiles() const { return tile_warps * (wide ? shiftadd_cuda::kWideTiles : shiftadd_cuda::kNarrowTiles); }
  uint32_t tokens() const;   // of a block
  uint32_t blocks(const shiftadd_cuda::Packed& matrix) const;  // over the rows
  uint32_t shared_bytes() const;
};
// For matrices that share a launch.
PrefillPlan plan_prefill(std::span<const shiftadd_cuda::Packed* const> matrices, uint32_t tokens, uint32_t multiprocessors);

}  // namespace shiftadd
