// Lowers the version of the GNU C library that the addon needs from 2.36 to 2.34. The compiler's own libraries, linked
// statically, call two functions that came later; JetPack 6 has 2.35 and RHEL 9 2.34. Both are hidden in the addon.
#include <features.h>

#if defined(__GLIBC__) && (defined(__x86_64__) || defined(__aarch64__))

#include <dlfcn.h>
#include <link.h>
#include <sys/random.h>

#include <cstdint>

#if defined(DLFO_STRUCT_HAS_EH_DBASE)

namespace {

struct Search {
  uintptr_t address;
  dl_find_object* found;
};

// Whether the object holds the address and has a table of unwinding; ends the iteration then.
int look_into(dl_phdr_info* object, size_t, void* data) {
  const auto search = static_cast<Search*>(data);
  bool holds = false;
  uintptr_t start = UINTPTR_MAX, end = 0, table = 0;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const auto& part = object->dlpi_phdr[i];
    const uintptr_t first = object->dlpi_addr + part.p_vaddr, last = first + part.p_memsz;
    if (part.p_type == PT_GNU_EH_FRAME) table = first;
    if (part.p_type != PT_LOAD) continue;
    if (search->address >= first && search->address < last) holds = true;
    if (first < start) start = first;
    if (last > end) end = last;
  }
  if (!holds || table == 0) return 0;
  search->found->dlfo_map_start = reinterpret_cast<void*>(start);
  search->found->dlfo_map_end = reinterpret_cast<void*>(end);
  search->found->dlfo_eh_frame = reinterpret_cast<void*>(table);
  return 1;
}

}  // namespace

// Of 2.35: where the unwinding table of the code at an address lies. Only used while an exception is thrown.
extern "C" __attribute__((visibility("hidden"))) int _dl_find_object(void* address, dl_find_object* out) noexcept {
  *out = {};
  Search search{reinterpret_cast<uintptr_t>(address), out};
  return dl_iterate_phdr(look_into, &search) == 1 ? 0 : -1;
}

#endif

// Of 2.36: the source of std::random_device.
extern "C" __attribute__((visibility("hidden"))) uint32_t arc4random() noexcept {
  uint32_t value = 0;
  while (getrandom(&value, sizeof value, 0) != sizeof value) {
  }
  return value;
}

#endif
