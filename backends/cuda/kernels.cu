// All kernels of the CUDA backend, as one image per architecture.
#include "backends/cuda/attention.cuh"
#include "backends/cuda/attention_rows.cuh"
#include "backends/cuda/operations.cuh"
#include "backends/cuda/packed_prefill.cuh"
#include "backends/cuda/packed_product.cuh"
