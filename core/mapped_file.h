// Read-only bytes of a file: mapped, or in memory already.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"

namespace shiftadd {

class MappedFile {
 public:
  MappedFile() = default;
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  static Status open(const std::string& path, MappedFile* out);
  static Status open_all(const std::vector<std::string>& paths, std::vector<MappedFile>* out);
  // Bytes that their owner keeps as long as this object lives.
  static MappedFile view(std::string path, const uint8_t* data, uint64_t size);

  // Drops the pages that lie whole in the range from this process and from the system's file cache. They can be read again, from the
  // disk. Does nothing for bytes that this object did not map.
  void give_back(uint64_t offset, uint64_t bytes) const;

  const uint8_t* data() const { return data_; }
  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  std::string path_;
  bool mapped_ = false;  // by this object, which then unmaps it
};

}  // namespace shiftadd
