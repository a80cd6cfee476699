// Time of a packed product against reading the same bytes, in one process and interleaved: medians of several rounds,
// weights cycled through more memory than the caches hold.
//
//   linear_bench [--threads 1] [--isa avx2] [--planes 2,3,4] [--rows 1] [--group-rows 0] [--group-columns 8] [--rounds 15]
//
// --rows: tokens of one product; --group-rows 0: an eighth of the matrix. Prints one JSON line per shape and precision.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/read_stream.h"
#include "core/half.h"

using namespace shiftadd;

namespace {

constexpr size_t kStreamBytes = size_t{640} << 20;  // all copies of one matrix: more than the caches of a server

struct Options {
  int threads = 1, rounds = 15;
  const char* isa = nullptr;
  std::vector<uint32_t> planes = {2, 3, 4};
  uint32_t rows = 1, group_rows = 0, group_columns = 8;
};

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct RandomMatrix {
  PackedShape shape;
  std::vector<uint8_t> planes;
  std::vector<uint16_t> scales, row_scales;
  PackedMatrix view() const {
    const uintptr_t address = reinterpret_cast<uintptr_t>(planes.data());
    return {shape, planes.data() + (64 - address % 64) % 64, scales.data(), row_scales.data()};
  }
};

RandomMatrix make_matrix(uint32_t rows, uint32_t columns, uint32_t planes, const Options& options, uint64_t seed) {
  RandomMatrix matrix;
  const uint32_t group_rows = options.group_rows ? options.group_rows : rows / 8;
  matrix.shape = {rows, columns, planes, group_rows, options.group_columns, 1, true};
  matrix.planes.resize(matrix.shape.plane_bytes() + 64);
  uint64_t state = seed;
  for (size_t i = 0; i + 8 <= matrix.planes.size(); i += 8) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const uint64_t bits = state ^ state >> 31;
    std::memcpy(&matrix.planes[i], &bits, 8);
  }
  std::vector<uint16_t> codes(37 * planes);  // halving from plane to plane, with a spread
  for (size_t i = 0; i < codes.size(); ++i)
    codes[i] = encode_scale(std::ldexp(0.6f + 0.01f * static_cast<float>(i / planes), -static_cast<int>(i % planes)), 1, 4);
  matrix.scales.resize(matrix.shape.scale_count());
  for (size_t i = 0; i < matrix.scales.size(); ++i) matrix.scales[i] = codes[i % codes.size()];
  matrix.row_scales.assign(rows, float_to_half(0.02f));
  return matrix;
}

struct Engine {
  std::unique_ptr<Backend> backend;
  std::vector<std::unique_ptr<Weights>> weights;
  Buffer in, out;
};

bool open_engine(Precision precision, const Options& options, const std::vector<RandomMatrix>& copies, Engine* engine) {
  CpuOptions cpu;
  cpu.threads = options.threads;
  cpu.isa = options.isa;
  cpu.precision = precision;
  Status status = make_cpu_backend(cpu, &engine->backend);
  for (size_t i = 0; status.ok() && i < copies.size(); ++i) {
    Weights* raw = nullptr;
    status = engine->backend->prepare(copies[i].view(), &raw);
    engine->weights.emplace_back(raw);
  }
  const PackedShape& shape = copies[0].shape;
  if (status.ok()) status = engine->backend->allocate(size_t{options.rows} * shape.columns * sizeof(float), &engine->in);
  if (status.ok()) status = engine->backend->allocate(size_t{options.rows} * shape.rows * sizeof(float), &engine->out);
  if (!status.ok()) {
    std::fprintf(stderr, "linear_bench: %s\n", status.message.c_str());
    return false;
  }
  for (size_t i = 0; i < size_t{options.rows} * shape.columns; ++i)
    engine->in.data[i] = std::sin(static_cast<float>(i) * 1.7f) * (i % 97 == 0 ? 8.0f : 1.0f);
  return true;
}

bool run(uint32_t rows, uint32_t columns, uint32_t planes, const Options& options) {
  std::vector<RandomMatrix> copies;
  for (size_t bytes = 0; bytes < kStreamBytes; bytes += copies.back().planes.size())
    copies.push_back(make_matrix(rows, columns, planes, options, copies.size() + 1));
  Engine engines[2];
  if (!open_engine(Precision::fast, options, copies, &engines[0]) ||
      !open_engine(Precision::exact, options, copies, &engines[1]))
    return false;
  const size_t bytes = copies[0].shape.plane_bytes(), threads = static_cast<size_t>(engines[0].backend->threads());
  std::vector<double> times[3];
  uint64_t sink = 0;
  size_t next = 0;
  const auto take = [&] { return next++ % copies.size(); };
  const size_t batch = std::max<size_t>(1, (size_t{8} << 20) / bytes);  // calls of one timing
  for (int round = 0; round < options.rounds; ++round) {
    double start = seconds();
    for (size_t n = 0; n < batch; ++n) {
      const uint8_t* data = copies[take()].view().planes;
      std::vector<uint64_t> sums(threads);
      engines[0].backend->parallel(threads, [&](size_t t) {
        const size_t first = bytes / threads * t / 64 * 64, last = t + 1 == threads ? bytes : bytes / threads * (t + 1) / 64 * 64;
        sums[t] = read_stream(data + first, last - first);
      });
      for (uint64_t sum : sums) sink += sum;
    }
    times[2].push_back((seconds() - start) / static_cast<double>(batch));
    for (int e = 0; e < 2; ++e) {
      start = seconds();
      for (size_t n = 0; n < batch; ++n) {
        const LinearCall calls[] = {{engines[e].weights[take()].get(), engines[e].out}};
        engines[e].backend->linear(calls, engines[e].in, options.rows);
      }
      times[e].push_back((seconds() - start) / static_cast<double>(batch));
    }
  }
  const double read = median(times[2]);
  for (int e = 0; e < 2; ++e) {
    const double time = median(times[e]);
    std::printf("{\"rows\": %u, \"columns\": %u, \"planes\": %u, \"tokens\": %u, \"threads\": %zu, \"isa\": \"%s\", "
                "\"precision\": \"%s\", \"us\": %.1f, \"gigabytes_per_second\": %.2f, \"read_us\": %.1f, "
                "\"ratio_to_read\": %.3f, \"gigaweights_per_second\": %.1f}\n",
                rows, columns, planes, options.rows, threads, engines[e].backend->isa(), e == 0 ? "fast" : "exact",
                time * 1e6, static_cast<double>(bytes) / time / 1e9, read * 1e6, time / read,
                static_cast<double>(rows) * columns * options.rows / time / 1e9);
  }
  std::fflush(stdout);
  for (Engine& engine : engines) {
    engine.backend->release(engine.in);
    engine.backend->release(engine.out);
  }
  return sink != 1;
}

bool parse(int count, char** arguments, Options* options, std::vector<std::pair<uint32_t, uint32_t>>* shapes) {
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = arguments[i];
    const char* value = arguments[i + 1];
    if (name == "--threads") options->threads = std::atoi(value);
    else if (name == "--rounds") options->rounds = std::atoi(value);
    else if (name == "--isa") options->isa = value;
    else if (name == "--rows") options->rows = static_cast<uint32_t>(std::atoi(value));
    else if (name == "--group-rows") options->group_rows = static_cast<uint32_t>(std::atoi(value));
    else if (name == "--group-columns") options->group_columns = static_cast<uint32_t>(std::atoi(value));
    else if (name == "--planes") {
      options->planes.clear();
      for (const char* p = value; *p; ++p)
        if (*p >= '1' && *p <= '8') options->planes.push_back(static_cast<uint32_t>(*p - '0'));
    } else if (name == "--shape") {
      const char* x = std::strchr(value, 'x');
      if (x == nullptr) return false;
      shapes->push_back({static_cast<uint32_t>(std::atoi(value)), static_cast<uint32_t>(std::atoi(x + 1))});
    } else return false;
  }
  return count % 2 == 1 && options->rows > 0 && options->rounds > 0;
}

}  // namespace

int main(int count, char** arguments) {
  Options options;
  std::vector<std::pair<uint32_t, uint32_t>> shapes;
  if (!parse(count, arguments, &options, &shapes)) {
    std::fprintf(stderr, "usage: linear_bench [--threads N] [--isa NAME] [--planes 2,3,4] [--rows TOKENS] [--group-rows N] "
                         "[--group-columns 8|1] [--rounds N] [--shape ROWSxCOLUMNS]...\n");
    return 2;
  }
  if (shapes.empty()) shapes = {{4096, 4096}, {2048, 2048}, {11008, 4096}, {4096, 11008}, {8192, 2048}};
  for (const auto& [rows, columns] : shapes)
    for (uint32_t planes : options.planes)
      if (!run(rows, columns, planes, options)) return 1;
  return 0;
}
