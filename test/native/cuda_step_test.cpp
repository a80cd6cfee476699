// Steps that are replayed as graphs: results and order are those of launches one by one. On a GPU, else on the emulated device.
#include "test/native/cuda_devices.h"

#ifdef SHIFTADD_CUDA_BACKEND
#include "backends/cuda/cuda_device.h"
#include "backends/cuda/parameters.h"
#endif

using namespace shiftadd;

#ifdef SHIFTADD_CUDA_BACKEND
namespace {

constexpr unsigned kCount = 100;

struct Numbers {
  explicit Numbers(CudaDevice& device) : device_(device) {
    if (!device.allocate(kCount * sizeof(float), &address).ok()) std::abort();
    set(1);
  }
  ~Numbers() { device_.release(address); }
  void set(float value) {
    const std::vector<float> values(kCount, value);
    device_.upload(values.data(), address, kCount * sizeof(float));
  }
  float read() {
    std::vector<float> values(kCount);
    device_.download(address, values.data(), kCount * sizeof(float));
    return values[kCount / 2];
  }
  float* pointer() const { return reinterpret_cast<float*>(address); }
  CudaAddress address = 0;

 private:
  CudaDevice& device_;
};

void test_steps(CudaDevice& device) {
  const CudaFunction scale = device.kernel("scale"), add = device.kernel("add");
  Numbers x(device), y(device);
  const auto multiply = [&](float factor) {
    device.launch(scale, {1}, shiftadd_cuda::kThreads, x.pointer(), factor, uint64_t{kCount});
  };
  const auto add_y = [&] {
    device.launch(add, {1}, shiftadd_cuda::kThreads, x.pointer(), static_cast<const float*>(y.pointer()), uint64_t{kCount});
  };
  // x = 2 x + y, over and over: y is what changes from step to step.
  float wanted = 1;
  bool right = true;
  for (int step = 0; step < 6; ++step) {
    y.set(static_cast<float>(step));
    device.begin_step();
    multiply(2);
    add_y();
    device.end_step();
    wanted = 2 * wanted + static_cast<float>(step);
    right = right && x.read() == wanted;
  }
  tap::check(right, "a step six times: its launches, in their order, with what memory holds");
  tap::check(device.replayed_steps() == 5, "from the second time on it is a graph");
  tap::note("%zu replayed", device.replayed_steps());

  const size_t before = device.replayed_steps();
  x.set(1);
  for (int round = 0; round < 3; ++round)
    for (int factor = 1; factor <= 12; ++factor) {  // more than are kept
      device.begin_step();
      multiply(static_cast<float>(factor));
      multiply(1 / static_cast<float>(factor));
      device.end_step();
    }
  tap::check(std::fabs(x.read() - 1) < 1e-5f && device.replayed_steps() == before, "steps that are forgotten before they come again");

  x.set(1);
  for (int step = 0; step < 3; ++step) {
    device.begin_step();
    multiply(2);
    y.set(10);  // interrupts: what was collected comes first
    add_y();
    device.end_step();
  }
  tap::check(x.read() == ((1 * 2 + 10) * 2 + 10) * 2 + 10, "a step that something interrupts");

  x.set(3);
  device.begin_step();
  multiply(2);
  tap::check(x.read() == 6, "a download in a step waits for it");
  device.end_step();
  device.begin_step();
  device.end_step();
  tap::check(x.read() == 6 && device.failure().ok(), "an empty step");
}

}  // namespace
#endif

int main(int, char** arguments) {
  Devices devices;
  if (!open_devices(arguments, &devices)) return 0;
#ifdef SHIFTADD_CUDA_BACKEND
  std::unique_ptr<CudaDevice> device;
  if (!CudaDevice::open(0, &device).ok()) std::abort();
  test_steps(*device);
#endif
  return tap::finish();
}
