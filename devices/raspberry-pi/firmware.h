// Questions to the firmware of a Raspberry Pi, as its program vcgencmd asks them, without starting a program for each.
#pragma once

#include <string>

#include "core/status.h"

namespace shiftadd {

// `device` is /dev/vcio, or where a container has it. `command` as after "vcgencmd ". not_found without the device, unsupported
// where it may not be opened or is another device, device_failed when the firmware refuses the command.
Status ask_firmware(const char* device, const std::string& command, std::string* answer);

}  // namespace shiftadd
