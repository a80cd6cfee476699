// Blocks of every quantized type of GGUF against what the gguf Python package makes of them, bit for bit; rows and parts of
// rows of matrices that hold them.
#include "core/gguf_blocks.h"

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "test/native/tap.h"

using namespace shiftadd;

namespace {

std::vector<uint8_t> read_file(const char* path) {
  std::vector<uint8_t> bytes;
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) return bytes;
  uint8_t part[4096];
  for (size_t count; (count = std::fread(part, 1, sizeof part, file)) > 0;) bytes.insert(bytes.end(), part, part + count);
  std::fclose(file);
  return bytes;
}

void test_matrix(DType dtype, const uint8_t* blocks, uint32_t columns, const std::vector<float>& values, const std::string& name) {
  DenseMatrix matrix{dtype, 1, columns, blocks, {}, false, columns};
  bool same = true;
  for (uint32_t first : {0u, 1u, 31u, columns / 2, columns - 1})
    for (uint32_t count : {1u, 16u, 33u, columns}) {
      if (first + count > columns) continue;
      std::vector<float> part(count);
      read_part(matrix, 0, first, count, part.data());
      same = same && std::memcmp(part.data(), &values[first], count * sizeof(float)) == 0;
    }
  tap::check(same, name + ": parts of a row");
}

}  // namespace

int main() {
  const std::vector<uint8_t> file = read_file(SHIFTADD_FIXTURES "/gguf/blocks.bin");
  const uint8_t* next = file.data();
  uint32_t seen = 0;
  while (next < file.data() + file.size()) {
    uint32_t head[3];
    std::memcpy(head, next, sizeof head);
    next += sizeof head;
    const auto dtype = static_cast<DType>(head[0]);
    const BlockFormat& format = format_of(dtype);
    const std::string name = "type " + std::to_string(head[0]);
    tap::check(head[1] * format.values == head[2], name + ": elements of a block");
    const uint8_t* blocks = next;
    next += size_t{head[1]} * format.bytes;
    std::vector<float> wanted(head[2]), got(head[2]);
    std::memcpy(wanted.data(), next, wanted.size() * sizeof(float));
    next += wanted.size() * sizeof(float);
    decode_blocks(dtype, blocks, head[1], got.data());
    tap::check(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)) == 0, name + ": the bits of the reference");
    test_matrix(dtype, blocks, head[2], wanted, name);
    ++seen;
  }
  tap::check(seen == kDTypeCount - 3, "every quantized type is there");
  return tap::finish();
}
