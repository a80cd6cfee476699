// What the C++ library needs of a system, on Rust's allocator: only one thing may grow the memory. Without libc++.a and libc.a,
// which bring imports that a page does not have.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>

extern "C" {
void* shiftadd_rust_alloc(size_t size, size_t align);
void* shiftadd_rust_alloc_zeroed(size_t size, size_t align);
void shiftadd_rust_free(void* block);

void* malloc(size_t size) { return shiftadd_rust_alloc(size, 16); }
void* calloc(size_t count, size_t size) {
  if (size != 0 && count > SIZE_MAX / size) return nullptr;
  return shiftadd_rust_alloc_zeroed(count * size, 16);
}
void free(void* block) { shiftadd_rust_free(block); }
void abort() { __builtin_trap(); }
void __cxa_pure_virtual() { __builtin_trap(); }
long lrint(double value) { return static_cast<long>(__builtin_nearbyint(value)); }  // to nearest even: the one mode there is
int strcmp(const char* a, const char* b) {
  while (*a != 0 && *a == *b) ++a, ++b;
  return static_cast<unsigned char>(*a) - static_cast<unsigned char>(*b);
}
}

namespace {

// The core handles failure of large allocations itself (nothrow, calloc); what fails here is fatal, and the instance is lost.
void* must_allocate(size_t size, size_t align) {
  void* block = shiftadd_rust_alloc(size, align);
  if (block == nullptr) __builtin_trap();
  return block;
}

}  // namespace

void* operator new(size_t size) { return must_allocate(size, 16); }
void* operator new[](size_t size) { return must_allocate(size, 16); }
void* operator new(size_t size, std::align_val_t align) { return must_allocate(size, static_cast<size_t>(align)); }
void* operator new[](size_t size, std::align_val_t align) { return must_allocate(size, static_cast<size_t>(align)); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return shiftadd_rust_alloc(size, 16); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return shiftadd_rust_alloc(size, 16); }
void operator delete(void* block) noexcept { free(block); }
void operator delete[](void* block) noexcept { free(block); }
void operator delete(void* block, size_t) noexcept { free(block); }
void operator delete[](void* block, size_t) noexcept { free(block); }
void operator delete(void* block, std::align_val_t) noexcept { free(block); }
void operator delete[](void* block, std::align_val_t) noexcept { free(block); }
void operator delete(void* block, size_t, std::align_val_t) noexcept { free(block); }
void operator delete[](void* block, size_t, std::align_val_t) noexcept { free(block); }

namespace std {
const nothrow_t nothrow{};

inline namespace _LIBCPP_ABI_NAMESPACE {

[[noreturn]] void __libcpp_verbose_abort(const char*, ...) noexcept { __builtin_trap(); }

template class basic_string<char>;
template string& string::__assign_no_alias<true>(const char*, size_t);
template string& string::__assign_no_alias<false>(const char*, size_t);

string to_string(unsigned long long value) {
  char digits[20];
  size_t first = sizeof digits;
  do digits[--first] = static_cast<char>('0' + value % 10);
  while ((value /= 10) != 0);
  return string(digits + first, sizeof digits - first);
}
string to_string(unsigned value) { return to_string(static_cast<unsigned long long>(value)); }
string to_string(unsigned long value) { return to_string(static_cast<unsigned long long>(value)); }
string to_string(int value) {
  const string digits = to_string(static_cast<unsigned long long>(value < 0 ? -static_cast<long long>(value) : value));
  return value < 0 ? "-" + digits : digits;
}

}  // namespace _LIBCPP_ABI_NAMESPACE
}  // namespace std
