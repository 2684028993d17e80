#include "vault/root_key_provider.h"

#include <sys/stat.h>

#include <cstdint>
#include <ctime>

namespace postern::vault {

FileStamp FileStamp::of(const std::filesystem::path& file) {
  struct stat status {};
  if (::lstat(file.c_str(), &status) != 0) return {};
  const auto nanoseconds = [](const timespec& time) {
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  return {status.st_dev, status.st_ino, status.st_size, nanoseconds(status.st_mtim),
          nanoseconds(status.st_ctim)};
}

Result<RootKeys> RootKeyFile::load() {
  // Before reading: a change in between is then seen as one.
  loaded_ = FileStamp::of(path_);
  return RootKeys::load(path_);
}

bool RootKeyFile::changed() { return !loaded_ || *loaded_ != FileStamp::of(path_); }

}  // namespace postern::vault
