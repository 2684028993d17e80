#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>

namespace postern::vault {

/// What differs when a file was replaced or written; all zero when there is none.
struct FileStamp {
  dev_t device = 0;
  ino_t inode = 0;
  std::int64_t size = 0, modified_ns = 0, status_ns = 0;
  bool operator==(const FileStamp&) const = default;

  static FileStamp of(const std::filesystem::path& file);
};

}  // namespace postern::vault
