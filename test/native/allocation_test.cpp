// Decoding allocates nothing: every operator new of the process is counted while tokens are generated.
#include <atomic>
#include <cstdlib>
#include <new>

#include "test/native/random_model.h"
#include "test/native/tap.h"

namespace {

std::atomic<size_t> g_allocations{0};

void* counted(size_t size, size_t alignment) {
  g_allocations.fetch_add(1);
  size = (size + alignment - 1) / alignment * alignment;
  return alignment <= alignof(std::max_align_t) ? std::malloc(size) : std::aligned_alloc(alignment, size);
}

}  // namespace

void* operator new(size_t size) { return counted(size, alignof(std::max_align_t)); }
void* operator new[](size_t size) { return counted(size, alignof(std::max_align_t)); }
void* operator new(size_t size, std::align_val_t alignment) { return counted(size, static_cast<size_t>(alignment)); }
void* operator new[](size_t size, std::align_val_t alignment) { return counted(size, static_cast<size_t>(alignment)); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return counted(size, alignof(std::max_align_t)); }
void* operator new(size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return counted(size, static_cast<size_t>(alignment));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t, std::align_val_t) noexcept { std::free(p); }

using namespace shiftadd;

int main() {
  const RandomModel test;
  const sa_sampling greedy{0, 0, 1, 0, 1, 64}, random{0.8f, 40, 0.9f, 0.05f, 1.1f, 64};
  for (int precision : {0, 1})
    for (const sa_sampling& sampling : {greedy, random}) {
      sa_model* model = nullptr;
      sa_session* session = nullptr;
      test.open(precision, 2, &model);
      sa_session_open(model, kContext, &session);
      const int32_t prompt[] = {3, 1, 4, 1, 5};
      int32_t token = 0;
      sa_session_prefill(session, prompt, 5, nullptr);
      const auto step = [&] {
        return sa_session_sample(session, &sampling, &token) == 0 && sa_session_prefill(session, &token, 1, nullptr) == 0;
      };
      bool ran = step();  // buffers reach their size
      const size_t before = g_allocations.load();
      for (int i = 0; i < 200; ++i) ran = ran && step();
      const size_t during = g_allocations.load() - before;
      tap::check(ran && during == 0, std::string(precision == 0 ? "exact" : "fast") +
                                         (sampling.temperature > 0 ? ", sampled" : ", greedy") + ": " +
                                         std::to_string(during) + " allocations in 200 decode steps");
      sa_session_close(session);
      sa_model_close(model);
    }
  tap::check(g_allocations.load() > 100, "the counter counts");
  return tap::finish();
}
