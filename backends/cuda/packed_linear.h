// Products of several matrices with the same input, in as few launches as possible: one that rounds the input for all of
// them, one that multiplies.
#pragma once

#include <span>

#include "backends/cuda/cuda_device.h"
#include "backends/cuda/cuda_weights.h"
#include "core/backend.h"

namespace shiftadd {

// Device memory that grows to the largest request and stays. What it held is lost when it grows.
class DeviceScratch {
 public:
  explicit DeviceScratch(CudaDevice& device) : device_(device) {}
  ~DeviceScratch() { device_.release(address_); }
  DeviceScratch(const DeviceScratch&) = delete;
  DeviceScratch& operator=(const DeviceScratch&) = delete;
  // 0 when there is no memory: the failure is kept, and nothing is launched any more.
  CudaAddress reserve(size_t bytes);
  // The same, and zeros whenever it grows.
  CudaAddress reserve_cleared(size_t bytes);
  CudaAddress address() const { return address_; }

 private:
  CudaDevice& device_;
  CudaAddress address_ = 0;
  size_t bytes_ = 0;
};

// What products read: x, or what a norm or an activation makes of it in the launch that rounds it.
struct PackedInput {
  const float* x = nullptr;
  const shiftadd_cuda::InputNorm* norm = nullptr;
  const shiftadd_cuda::InputActivation* activation = nullptr;
};

class PackedLinear {
 public:
  explicit PackedLinear(CudaDevice& device);
  // A norm, an activation or a residual only with packed matrices; a norm only with one row. With `residual` the one result is
  // added to it instead of being written.
  void multiply(std::span<const LinearCall> calls, const PackedInput& input, uint32_t rows, float* residual = nullptr);

  // For measurements: one packed product in another layout than plan_product chooses, or a part of it. A product alone takes
  // the rounded input that is there.
  enum class Part { both, input, product };
  void multiply_part(Part part, const ProductPlan& plan, const LinearCall& call, Buffer x, uint32_t rows);
  void many_from(uint32_t tokens) { many_from_ = tokens; }  // instead of is_worth_prefill

 private:
  void multiply_packed(std::span<const LinearCall> calls, const ProductPlan& plan, const PackedInput& input, uint32_t rows, Part part,
                       float* residual = nullptr);
  void multiply_many(std::span<const LinearCall> calls, const ProductPlan& plan, const float* x, uint32_t rows, Part part);

  CudaDevice& device_;
  DeviceScratch vectors_;
  CudaFunction prepare_, prepare_normalized_, prepare_activated_, dense_;
  struct {
    CudaFunction one, wide, four;
  } products_[shiftadd_cuda::kMaxPlanes];
  CudaFunction prepare_many_, prefill_[2];  // narrow, wide
  uint32_t many_from_ = 0;
};

}  // namespace shiftadd
