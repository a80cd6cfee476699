// A GPU that has one memory with the processor: weights are loaded without a second copy of a matrix, are the same, and the file's pages
// are given back. The first part runs on any GPU, the second on the emulated device, which can be told to be one of these.
#include <dlfcn.h>

#include <fstream>
#include <string>
#include <utility>

#include "core/session.h"
#include "test/native/cuda_devices.h"
#include "test/native/random_model.h"
#include "test/native/stories_model.h"

#ifdef SHIFTADD_CUDA_BACKEND
#include "backends/cuda/cuda_weights.h"
#endif

using namespace shiftadd;

#ifdef SHIFTADD_CUDA_BACKEND
namespace {

constexpr size_t kWindow = size_t{4} << 20;  // of cuda_weights.cpp

std::vector<uint32_t> planes_of(CudaDevice& device, const CudaPackedWeights& weights) {
  const shiftadd_cuda::Packed& packed = *weights.packed();
  std::vector<uint32_t> planes(size_t{packed.tiles} * packed.k_blocks * packed.plane_count * shiftadd_cuda::kUnitWords);
  device.download(reinterpret_cast<CudaAddress>(packed.planes), planes.data(), planes.size() * sizeof(uint32_t));
  return planes;
}

// What the GPU has of a matrix, read through embedding rows: every sign, every scale.
std::vector<float> rows_of(CudaDevice& device, const PackedMatrix& matrix, const CudaPackedWeights& weights) {
  const shiftadd_cuda::Packed& packed = *weights.packed();
  std::vector<int32_t> tokens(matrix.shape.rows);
  for (uint32_t r = 0; r < matrix.shape.rows; ++r) tokens[r] = static_cast<int32_t>(r);
  CudaAddress indices = 0, out = 0;
  std::vector<float> rows(size_t{matrix.shape.rows} * matrix.shape.columns);
  if (!device.allocate(tokens.size() * sizeof(int32_t), &indices).ok() || !device.allocate(rows.size() * sizeof(float), &out).ok()) std::abort();
  device.upload(tokens.data(), indices, tokens.size() * sizeof(int32_t));
  device.launch(device.kernel("embed_packed"), {(matrix.shape.columns + 255) / 256, matrix.shape.rows}, 256, packed,
                reinterpret_cast<const int32_t*>(indices), reinterpret_cast<float*>(out));
  device.download(out, rows.data(), rows.size() * sizeof(float));
  device.release(indices);
  device.release(out);
  return rows;
}

void test_loading(CudaDevice& device) {
  const PackedShape shapes[] = {{70, 130, 3, 16, 8, -2, true},   // many groups, the last one short
                                {33, 300, 2, 64, 1, -2, false},  // one short group
                                {96, 128, 8, 96, 8, -2, false},
                                {4100, 1024, 8, 1000, 8, -2, true}};  // two windows, the last group short
  for (const PackedShape& shape : shapes) {
    Random random{shape.rows};
    std::vector<uint8_t> codes(size_t{shape.rows} * shape.columns), planes(shape.plane_bytes());
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random.uniform() * (1u << shape.planes));
    pack_planes(shape, codes.data(), planes.data());
    std::vector<uint16_t> scales(shape.scale_count()), row_scales(shape.rows, float_to_half(0.75f));
    for (size_t i = 0; i < scales.size(); ++i) scales[i] = encode_scale(std::ldexp(0.2f, -static_cast<int>(i % 3)), shape.scale_exponent, 3);
    const PackedMatrix matrix{shape, planes.data(), scales.data(), shape.has_row_scales ? row_scales.data() : nullptr};
    CudaPackedWeights copied(device), shared(device);
    device.set_integrated(false);
    bool good = copied.load(matrix).ok();
    device.set_integrated(true);
    good = good && shared.load(matrix).ok();
    const std::string name = std::to_string(shape.rows) + " x " + std::to_string(shape.columns) + ", " + std::to_string(shape.planes) + " planes: ";
    tap::check(good && planes_of(device, copied) == planes_of(device, shared), name + "through a window as by a copy");
    if (shape.plane_bytes() > kWindow) continue;  // slow, and by now the same
    std::vector<float> wanted(size_t{shape.rows} * shape.columns);
    for (uint32_t r = 0; r < shape.rows; ++r) unpack_row(matrix, r, &wanted[size_t{r} * shape.columns]);
    tap::check(same_bits(rows_of(device, matrix, shared), wanted), name + "the matrix of the file");
  }
}

// ---- whole models, emulated ----

struct Loaded {
  Status status;
  std::vector<float> logits;
  size_t weight_bytes = 0, mapped_now = 0;  // pages of the file that are in this process after loading
  size_t memory[4] = {};                    // at the most while loading: of the GPU; of the processor
};

void memory_of(size_t (&bytes)[4]) {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  reinterpret_cast<void (*)(size_t (&)[4])>(dlsym(driver, "emulation_memory"))(bytes);
}

// Rss of the mappings of a file, in bytes.
size_t resident(const std::string& path) {
  std::ifstream maps("/proc/self/smaps");
  size_t bytes = 0;
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') < 20 && line.find(':') > 20) inside = line.find(path) != std::string::npos;
    if (inside && line.compare(0, 4, "Rss:") == 0) bytes += std::strtoull(line.c_str() + 4, nullptr, 10) << 10;
  }
  return bytes;
}

template <class Weights>
Loaded load(const Weights& random, bool integrated) {
  if (integrated) setenv("SHIFTADD_EMULATION_INTEGRATED", "1", 1);
  else unsetenv("SHIFTADD_EMULATION_INTEGRATED");
  Loaded loaded;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<Session> session;
  size_t before[4];
  memory_of(before);
  const auto run = [&]() -> Status {
    SHIFTADD_TRY(open_cuda(&backend));
    SHIFTADD_TRY(Model::open(random.spec.data(), random.spec.size(), mapped(random.path), std::move(backend), &model));
    memory_of(loaded.memory);
    for (int i = 0; i < 4; ++i) loaded.memory[i] -= before[i / 2 * 2];
    loaded.mapped_now = resident(random.path);
    loaded.weight_bytes = model->heap_bytes();
    SHIFTADD_TRY(Session::open(*model, 20, &session));
    const std::vector<int32_t> prompt = {5, 17, 99, 3, 42};
    SHIFTADD_TRY(session->prefill(prompt, Cancel(nullptr)));
    loaded.logits.resize(model->spec().vocabulary_size);
    return session->logits(loaded.logits);
  };
  loaded.status = run();
  return loaded;
}

void test_models() {
  const RandomModel random(true);
  const Loaded apart = load(random, false), shared = load(random, true);
  tap::check(apart.status.ok() && shared.status.ok() && same_bits(apart.logits, shared.logits), "a model: the same bits");
  tap::check(shared.weight_bytes == apart.weight_bytes && shared.memory[0] == apart.memory[0] && shared.memory[0] >= shared.weight_bytes,
             "the GPU holds the same bytes afterwards, the weights among them");
  tap::check(apart.memory[1] > apart.memory[0] && shared.memory[1] == shared.memory[0], "while loading it never holds more than that");
  tap::check(apart.memory[3] == 0 && shared.memory[2] == 0 && shared.memory[3] > 0 && shared.memory[3] <= kWindow,
             "one window at a time, closed in the end");
  tap::check(apart.mapped_now > 0 && shared.mapped_now == 0, "no page of the file stays in the process");
  tap::note("weights %zu bytes, the GPU holds %zu; most while loading %zu and %zu, window %zu; file pages %zu and %zu", shared.weight_bytes,
            shared.memory[0], apart.memory[1], shared.memory[1], shared.memory[3], apart.mapped_now, shared.mapped_now);
  const StoriesModel stories(SHIFTADD_FIXTURES "/stories-260k", 0);
  const Loaded dense_apart = load(stories, false), dense = load(stories, true);
  tap::check(dense_apart.status.ok() && dense.status.ok() && same_bits(dense_apart.logits, dense.logits), "a dense model: the same bits");
  tap::check(dense.memory[1] == dense.memory[0] && dense.memory[3] == 0 && dense_apart.mapped_now > 0 && dense.mapped_now == 0,
             "a dense model: copied to its place, and no page of the file stays");
  for (const auto& [function, code] : {std::pair("cuMemHostAlloc", 2), std::pair("cuMemHostGetDevicePointer_v2", 999)})
    for (const int call : {1, 4, 15}) {
      unsetenv("SHIFTADD_EMULATION_FAULT_HIT");
      setenv("SHIFTADD_EMULATION_FAULT", (std::string(function) + " " + std::to_string(call) + " " + std::to_string(code)).c_str(), 1);
      const Status status = load(random, true).status;
      tap::check(std::getenv("SHIFTADD_EMULATION_FAULT_HIT") != nullptr && status.code == (code == 2 ? Code::out_of_memory : Code::device_failed),
                 std::string("a failing ") + function + ", call " + std::to_string(call));
    }
  unsetenv("SHIFTADD_EMULATION_FAULT");
  size_t now[4], wanted[4];
  memory_of(wanted);
  tap::check(load(random, true).status.ok(), "and then it loads");
  memory_of(now);
  tap::check(now[0] == wanted[0] && now[2] == 0, "nothing of all that is still allocated");
}

}  // namespace
#endif

int main(int, char** arguments) {
  Devices devices;
  if (!open_devices(arguments, &devices)) return 0;
#ifdef SHIFTADD_CUDA_BACKEND
  std::unique_ptr<CudaDevice> device;
  if (!CudaDevice::open(0, &device).ok()) std::abort();
  test_loading(*device);
  if (std::strstr(devices.cuda->isa(), "emulation") != nullptr) test_models();
#endif
  return tap::finish();
}
