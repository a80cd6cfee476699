#include "devices/raspberry-pi/firmware.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

namespace shiftadd {
namespace {

// The property interface of the mailbox: a message of 32-bit words, answered in place.
constexpr uint32_t kCommandTag = 0x00030080;  // a text, answered by a text
constexpr uint32_t kAnswered = 0x80000000;
constexpr size_t kTextBytes = 1024;
struct Message {
  uint32_t size = sizeof(Message);
  uint32_t result = 0;  // 0 asks
  uint32_t tag = kCommandTag;
  uint32_t capacity = kTextBytes;
  uint32_t length = 0;
  uint32_t error = 0;
  char text[kTextBytes] = "";
  uint32_t end = 0;
};
constexpr unsigned long kProperty = _IOWR(100, 0, char*);

std::string reason(int code) { return std::strerror(code); }

}  // namespace

Status ask_firmware(const char* device, const std::string& command, std::string* answer) {
  if (command.size() >= kTextBytes) return invalid_argument("a command of the firmware has fewer than 1024 bytes");
  const int handle = open(device, O_RDWR | O_CLOEXEC);
  if (handle < 0) {
    const std::string message = std::string(device) + " cannot be opened: " + reason(errno);
    return errno == ENOENT ? not_found(message) : unsupported(message);
  }
  Message message;
  std::memcpy(message.text, command.data(), command.size());
  const int outcome = ioctl(handle, kProperty, &message);
  const int code = errno;
  close(handle);
  if (outcome < 0) return unsupported(std::string(device) + " does not answer: " + reason(code));
  if (message.result != kAnswered) return {Code::device_failed, "the firmware did not understand the question"};
  if (message.error != 0) return {Code::device_failed, "the firmware refused " + command + " (error " + std::to_string(message.error) + ")"};
  answer->assign(message.text, strnlen(message.text, kTextBytes));
  return ok_status();
}

}  // namespace shiftadd
