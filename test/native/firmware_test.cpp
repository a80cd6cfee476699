// The mailbox of a Raspberry Pi: what is asked, and what comes back. The system call is replaced in this program; no board was tried.
#include "devices/raspberry-pi/firmware.h"

#include <sys/ioctl.h>

#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstring>

#include "test/native/tap.h"

using namespace shiftadd;

namespace {
uint32_t asked[6];
unsigned long request_asked = 0;
std::string text_asked;
std::string answer_given;
uint32_t error_given = 0;
bool refuses = false, understands = true;
}  // namespace

extern "C" int ioctl(int, unsigned long request, ...) noexcept {
  va_list arguments;
  va_start(arguments, request);
  auto* words = va_arg(arguments, uint32_t*);
  va_end(arguments);
  request_asked = request;
  if (refuses) return errno = ENOTTY, -1;
  std::memcpy(asked, words, sizeof asked);
  char* text = reinterpret_cast<char*>(words + 6);
  text_asked = text;
  words[1] = understands ? 0x80000000 : 0;
  words[5] = error_given;
  // All of the text, without an end where it fills the message.
  std::memset(text, 0, 1024);
  std::memcpy(text, answer_given.data(), answer_given.size() < 1024 ? answer_given.size() : 1024);
  return 0;
}

int main() {
  const char* device = "/dev/null";
  std::string answer;
  answer_given = " VDD_CORE_A current(7)=1.54489000A\n";
  tap::check(ask_firmware(device, "pmic_read_adc", &answer).ok() && answer == answer_given, "the answer is the text");
  tap::check(request_asked == 0xC0006400 + (sizeof(char*) << 16), "the request of the mailbox");
  const uint32_t words[6] = {263 * 4, 0, 0x30080, 1024, 0, 0};
  tap::check(std::memcmp(asked, words, sizeof words) == 0 && text_asked == "pmic_read_adc", "the message");
  answer_given = std::string(5000, 'x');
  tap::check(ask_firmware(device, "pmic_read_adc", &answer).ok() && answer.size() == 1024, "an answer without an end");
  error_given = 1;
  const Status refused = ask_firmware(device, "nonsense", &answer);
  tap::check(refused.code == Code::device_failed && refused.message.find("nonsense") != std::string::npos, "a command that the firmware refuses");
  understands = false;
  tap::check(ask_firmware(device, "pmic_read_adc", &answer).code == Code::device_failed, "a firmware that does not know the question");
  refuses = true;
  tap::check(ask_firmware(device, "pmic_read_adc", &answer).code == Code::unsupported, "another device");
  tap::check(ask_firmware("/nowhere/vcio", "pmic_read_adc", &answer).code == Code::not_found, "no device");
  tap::check(ask_firmware("/nowhere/vcio", std::string(1024, 'a'), &answer).code == Code::invalid_argument, "too long a command");
  return tap::finish();
}
