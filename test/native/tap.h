// A minimal TAP producer for native tests: tap::check(condition, "name"), then return tap::finish() from main.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <string>

namespace tap {

inline int g_count = 0, g_failed = 0;

inline bool check(bool condition, const std::string& name) {
  if (g_count == 0) std::printf("TAP version 14\n");
  std::printf("%sok %d - %s\n", condition ? "" : "not ", ++g_count, name.c_str());
  std::fflush(stdout);
  if (!condition) ++g_failed;
  return condition;
}

__attribute__((format(printf, 1, 2))) inline void note(const char* format, ...) {
  std::va_list arguments;
  va_start(arguments, format);
  std::printf("# ");
  std::vprintf(format, arguments);
  std::printf("\n");
  va_end(arguments);
}

inline int finish() {
  std::printf("1..%d\n", g_count);
  return g_failed == 0 ? 0 : 1;
}

}  // namespace tap
