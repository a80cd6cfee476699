#include "core/mapped_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace shiftadd {

MappedFile::~MappedFile() {
  if (mapped_) munmap(const_cast<uint8_t*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(other.data_), size_(other.size_), path_(std::move(other.path_)), mapped_(other.mapped_) {
  other.mapped_ = false;
}

Status MappedFile::open(const std::string& path, MappedFile* out) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return not_found("cannot open " + path + ": " + std::strerror(errno));
  struct stat info;
  if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size <= 0) {
    ::close(file);
    return bad_format(path + " is not a file with content");
  }
  void* data = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, file, 0);
  const int error = errno;
  ::close(file);
  if (data == MAP_FAILED) return out_of_memory("cannot map " + path + ": " + std::strerror(error));
  out->data_ = static_cast<const uint8_t*>(data);
  out->size_ = static_cast<uint64_t>(info.st_size);
  out->path_ = path;
  out->mapped_ = true;
  return ok_status();
}

Status MappedFile::open_all(const std::vector<std::string>& paths, std::vector<MappedFile>* out) {
  for (const std::string& path : paths) {
    MappedFile file;
    SHIFTADD_TRY(open(path, &file));
    out->push_back(std::move(file));
  }
  return ok_status();
}

void MappedFile::give_back(uint64_t offset, uint64_t bytes) const {
#ifdef __linux__
  if (!mapped_) return;
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t first = (offset + page - 1) / page * page, end = offset + bytes;
  const uint64_t last = end == size_ ? (end + page - 1) / page * page : end / page * page;
  if (last <= first || madvise(const_cast<uint8_t*>(data_) + first, last - first, MADV_DONTNEED) != 0) return;
  const int file = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  // Advice: pages that others map stay.
  posix_fadvise(file, static_cast<off_t>(first), static_cast<off_t>(last - first), POSIX_FADV_DONTNEED);
  ::close(file);
#else
  (void)offset;
  (void)bytes;
#endif
}

MappedFile MappedFile::view(std::string path, const uint8_t* data, uint64_t size) {
  MappedFile file;
  file.data_ = data;
  file.size_ = size;
  file.path_ = std::move(path);
  return file;
}

}  // namespace shiftadd
