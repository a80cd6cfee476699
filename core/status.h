// The outcome of anything that can fail. Core code never throws, prints or aborts: it returns one of these, and the
// C boundary (c_api) turns it into a status code and a sentence.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace shiftadd {

enum class Code : int32_t {
  ok = 0,
  invalid_argument = 1,
  not_found = 2,
  bad_format = 3,
  unsupported = 4,
  out_of_memory = 5,
  device_failed = 6,
  cancelled = 7,
};

struct [[nodiscard]] Status {
  Code code = Code::ok;
  std::string message;  // one sentence for a person: names the file, tensor or argument; empty when ok

  bool ok() const { return code == Code::ok; }
};

inline Status ok_status() { return {}; }
inline Status invalid_argument(std::string message) { return {Code::invalid_argument, std::move(message)}; }
inline Status not_found(std::string message) { return {Code::not_found, std::move(message)}; }
inline Status bad_format(std::string message) { return {Code::bad_format, std::move(message)}; }
inline Status unsupported(std::string message) { return {Code::unsupported, std::move(message)}; }
inline Status out_of_memory(std::string message) { return {Code::out_of_memory, std::move(message)}; }
inline Status cancelled() { return {Code::cancelled, "cancelled"}; }

}  // namespace shiftadd

// Returns from the calling function when a Status is not ok.
#define SHIFTADD_TRY(expression)                       \
  do {                                                 \
    ::shiftadd::Status status_ = (expression);         \
    if (!status_.ok()) return status_;                 \
  } while (false)
