// Time of packed products on a GPU against reading the same bytes, in one process: a graph of launches over as many copies
// of the weights as the caches do not hold, replayed; medians of several replays.
//
//   cuda_bench [--planes 2,3,4] [--group-rows 0] [--group-columns 8] [--tokens 1] [--many-from 0] [--layouts 0]
//              [--megabytes 240] [--shape ROWSxCOLUMNS]...
//
// --group-rows 0: an eighth of the matrix; --layouts 1: tries other layouts than the backend's too. Prints one JSON line per
// shape, number of planes and layout:
//   us: rounding of the input and product, as in a model; product_us: without the rounding; read_us: reading as many bytes,
//   the best of several launch shapes; fraction, product_fraction: read_us divided by them; resident_us: us with one copy,
//   which the caches may hold;
//   tokens_per_second: as if the model were this matrix; teraops: 8-bit multiplications and additions that the product for
//   many tokens (--many-from N: from N on, 0: as the backend does) does in product_us, peak_share: of what the integer matrix unit can do at the highest clock, 0
//   where that is not known or the product is the one for few tokens. Launches overlap as in a model (backends/cuda/device.cuh), those that read too. On the emulated
//   device of the tests (device: "emulation") all times are made up.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backends/cuda/packed_linear.h"
#include "core/half.h"

using namespace shiftadd;

namespace {

constexpr int kReplays = 9, kLeastLaunches = 40, kCaptureRelaxed = 2;

struct Options {
  std::vector<uint32_t> planes = {2, 3, 4};
  uint32_t group_rows = 0, group_columns = 8, tokens = 1;
  size_t megabytes = 240;  // all copies together: several times the caches of any GPU of today
  uint32_t many_from = 0;
  bool layouts = false;
  std::vector<std::pair<uint32_t, uint32_t>> shapes;
};

struct RandomMatrix {
  PackedShape shape;
  std::vector<uint8_t> planes;
  std::vector<uint16_t> scales, row_scales;
  PackedMatrix view() const { return {shape, planes.data(), scales.data(), row_scales.data()}; }
};

RandomMatrix make_matrix(uint32_t rows, uint32_t columns, uint32_t planes, const Options& options) {
  RandomMatrix matrix;
  matrix.shape = {rows, columns, planes, options.group_rows ? options.group_rows : std::max(1u, rows / 8), options.group_columns, 1, true};
  matrix.planes.resize(matrix.shape.plane_bytes());
  uint64_t state = 1;
  for (size_t i = 0; i + 8 <= matrix.planes.size(); i += 8) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const uint64_t bits = state ^ state >> 29;
    std::memcpy(&matrix.planes[i], &bits, 8);
  }
  matrix.scales.resize(matrix.shape.scale_count());
  for (size_t i = 0; i < matrix.scales.size(); ++i)
    matrix.scales[i] = encode_scale(std::ldexp(0.02f, -static_cast<int>(i % planes)), matrix.shape.scale_exponent, 3);
  matrix.row_scales.assign(rows, float_to_half(1.0f));
  return matrix;
}

// Dense 8-bit operations per clock and multiprocessor, from the vendor's tables.
double operations_per_clock(int capability) {
  switch (capability) {
    case 90: return 8192;
    case 80: case 87: return 4096;
    case 86: case 89: return 2048;
    default: return 0;
  }
}

// Microseconds of one of `launches` launches, captured as a graph.
double time_launches(CudaDevice& device, int launches, const std::function<void(int)>& launch) {
  const CudaDriver& driver = device.driver();
  launch(0);  // grows scratch memory, which a capture may not
  device.synchronize();
  device.keep(driver.capture_begin(device.stream(), kCaptureRelaxed), "capturing a graph");
  for (int i = 0; i < launches; ++i) launch(i);
  CudaGraph graph = nullptr;
  CudaGraphExec exec = nullptr;
  CudaEvent start = nullptr, stop = nullptr;
  device.keep(driver.capture_end(device.stream(), &graph), "capturing a graph");
  if (!device.failure().ok()) return NAN;
  device.keep(driver.graph_instantiate(&exec, graph, 0), "making a graph");
  device.keep(driver.event_create(&start, 0), "making an event");
  device.keep(driver.event_create(&stop, 0), "making an event");
  if (!device.failure().ok()) return NAN;
  device.keep(driver.graph_launch(exec, device.stream()), "replaying a graph");
  std::vector<double> times;
  for (int i = 0; i < kReplays && device.failure().ok(); ++i) {
    float milliseconds = 0;
    device.keep(driver.event_record(start, device.stream()), "an event");
    device.keep(driver.graph_launch(exec, device.stream()), "replaying a graph");
    device.keep(driver.event_record(stop, device.stream()), "an event");
    device.keep(driver.event_synchronize(stop), "replaying a graph");
    device.keep(driver.event_elapsed(&milliseconds, start, stop), "an event");
    times.push_back(milliseconds * 1e3 / launches);
  }
  driver.graph_exec_destroy(exec);
  driver.graph_destroy(graph);
  driver.event_destroy(start);
  driver.event_destroy(stop);
  if (!device.failure().ok()) return NAN;
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

double time_read(CudaDevice& device, CudaAddress memory, size_t bytes, size_t copies, int launches, CudaAddress out) {
  const CudaFunction read = device.kernel("read_memory");
  const size_t stride = bytes / 16 * 16;
  double best = INFINITY;
  for (const unsigned per_multiprocessor : {1u, 2u, 4u, 8u})
    for (const unsigned threads : {256u, 512u, 1024u}) {
      if (per_multiprocessor * threads > 2048) continue;
      const unsigned blocks = per_multiprocessor * static_cast<unsigned>(device.multiprocessors());
      best = std::min(best, time_launches(device, launches, [&](int i) {
        const CudaAddress from = memory + static_cast<size_t>(i) % copies * stride;
        device.launch(read, {blocks}, threads, reinterpret_cast<const void*>(from), stride / 16,
                      reinterpret_cast<uint32_t*>(out));
      }));
    }
  return best;
}

bool run(CudaDevice& device, uint32_t rows, uint32_t columns, uint32_t planes, const Options& options) {
  const RandomMatrix matrix = make_matrix(rows, columns, planes, options);
  std::vector<std::unique_ptr<CudaPackedWeights>> copies;
  for (size_t bytes = 0; bytes < options.megabytes << 20 || copies.size() < 2; bytes += copies.back()->heap_bytes()) {
    copies.push_back(std::make_unique<CudaPackedWeights>(device));
    if (const Status status = copies.back()->load(matrix.view()); !status.ok()) {
      std::fprintf(stderr, "cuda_bench: %s\n", status.message.c_str());
      return false;
    }
  }
  DeviceScratch in(device), out(device), stream(device);
  std::vector<float> x(size_t{options.tokens} * columns);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i) * 1.7f) * (i % 97 == 0 ? 8.0f : 1.0f);
  device.upload(x.data(), in.reserve(x.size() * sizeof(float)), x.size() * sizeof(float));
  const Buffer input{reinterpret_cast<float*>(in.address()), 0};
  const Buffer output{reinterpret_cast<float*>(out.reserve(size_t{options.tokens} * rows * sizeof(float))), 0};
  PackedLinear linear(device);
  linear.many_from(options.many_from);
  const size_t bytes = copies[0]->heap_bytes();
  const int launches = std::max(kLeastLaunches, static_cast<int>(copies.size()));
  const double read = time_read(device, stream.reserve(bytes * copies.size()), bytes, copies.size(), launches, out.address());
  const auto time_part = [&](PackedLinear::Part part, const ProductPlan& plan, size_t used) {
    return time_launches(device, launches, [&](int i) {
      linear.multiply_part(part, plan, {copies[static_cast<size_t>(i) % used].get(), output}, input, options.tokens);
    });
  };
  const ProductPlan usual = plan_product(*copies[0]->packed(), copies[0]->packed()->tiles, device.multiprocessors());
  std::vector<ProductPlan> plans = {usual};
  if (options.layouts)
    for (uint32_t tile_warps = 1; tile_warps <= 4; tile_warps *= 2)
      for (uint32_t k_warps = 1; k_warps * tile_warps <= shiftadd_cuda::kMaxWarps; k_warps *= 2)
        for (const bool wide : {false, true})
          if (tile_warps * k_warps >= 4 && (tile_warps != usual.tile_warps || k_warps != usual.k_warps || wide != usual.wide))
            plans.push_back({k_warps, tile_warps, wide});
  for (const ProductPlan& plan : plans) {
    const double both = time_part(PackedLinear::Part::both, plan, copies.size());
    const double product = time_part(PackedLinear::Part::product, plan, copies.size());
    const double resident = time_part(PackedLinear::Part::both, plan, 1);
    if (!device.failure().ok()) {
      std::fprintf(stderr, "cuda_bench: %s\n", device.failure().message.c_str());
      return false;
    }
    // Each sign takes part in two operations with the high and two with the low byte of an activation.
    const bool many = options.many_from > 0 ? options.tokens >= options.many_from : is_worth_prefill(options.tokens, copies[0]->packed()->tiles);
    const double operations = 4.0 * rows * columns * planes * options.tokens;
    const double teraops = !many ? 0 : operations / product / 1e6;
    const double peak = operations_per_clock(device.capability()) * device.multiprocessors() * device.kilohertz() / 1e9;
    std::printf("{\"device\": \"%s\", \"rows\": %u, \"columns\": %u, \"planes\": %u, \"group_rows\": %u, \"group_columns\": %u, "
                "\"tokens\": %u, \"tile_warps\": %u, \"k_warps\": %u, \"wide\": %s, \"usual\": %s, \"bytes\": %zu, \"us\": %.3f, "
                "\"product_us\": %.3f, \"read_us\": %.3f, \"resident_us\": %.3f, \"fraction\": %.3f, \"product_fraction\": %.3f, "
                "\"gigabytes_per_second\": %.0f, \"tokens_per_second\": %.0f, \"teraops\": %.1f, \"peak_share\": %.3f}\n",
                device.name().c_str(), rows, columns, planes, matrix.shape.group_rows, options.group_columns, options.tokens,
                plan.tile_warps, plan.k_warps, plan.wide ? "true" : "false", &plan == &plans[0] ? "true" : "false", bytes, both, product, read, resident,
                read / both, read / product, static_cast<double>(bytes) / both / 1e3, options.tokens / both * 1e6, teraops,
                peak > 0 ? teraops / peak : 0);
    std::fflush(stdout);
  }
  return true;
}

bool parse(int count, char** arguments, Options* options) {
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = arguments[i];
    const char* value = arguments[i + 1];
    if (name == "--group-rows") options->group_rows = static_cast<uint32_t>(std::atoi(value));
    else if (name == "--group-columns") options->group_columns = static_cast<uint32_t>(std::atoi(value));
    else if (name == "--megabytes") options->megabytes = static_cast<size_t>(std::atoi(value));
    else if (name == "--tokens") options->tokens = static_cast<uint32_t>(std::atoi(value));
    else if (name == "--many-from") options->many_from = static_cast<uint32_t>(std::atoi(value));
    else if (name == "--layouts") options->layouts = std::atoi(value) != 0;
    else if (name == "--planes") {
      options->planes.clear();
      for (const char* p = value; *p; ++p)
        if (*p >= '1' && *p <= '8') options->planes.push_back(static_cast<uint32_t>(*p - '0'));
    } else if (name == "--shape") {
      const char* x = std::strchr(value, 'x');
      if (x == nullptr) return false;
      options->shapes.push_back({static_cast<uint32_t>(std::atoi(value)), static_cast<uint32_t>(std::atoi(x + 1))});
    } else return false;
  }
  return count % 2 == 1 && options->tokens > 0 && (options->group_columns == 8 || options->group_columns == 1);
}

}  // namespace

int main(int count, char** arguments) {
  Options options;
  if (!parse(count, arguments, &options)) {
    std::fprintf(stderr, "usage: cuda_bench [--planes 2,3,4] [--group-rows N] [--group-columns 8|1] [--tokens N] [--many-from N] "
                         "[--layouts 0|1] [--megabytes N] [--shape ROWSxCOLUMNS]...\n");
    return 2;
  }
  std::unique_ptr<CudaDevice> device;
  if (const Status status = CudaDevice::open(0, &device); !status.ok()) {
    std::fprintf(stderr, "cuda_bench: %s\n", status.message.c_str());
    return 1;
  }
  if (options.shapes.empty())
    options.shapes = {{2048, 2048}, {8192, 2048}, {2048, 8192}, {4096, 4096}, {11008, 4096}, {4096, 11008}, {14336, 4096},
                      {8192, 8192}, {28672, 8192}};
  for (const auto& [rows, columns] : options.shapes)
    for (uint32_t planes : options.planes)
      if (!run(*device, rows, columns, planes, options)) return 1;
  return 0;
}
