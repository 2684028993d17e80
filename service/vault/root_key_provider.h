#pragma once

#include <filesystem>
#include <optional>
#include <utility>

#include "core/result.h"
#include "vault/file_stamp.h"
#include "vault/root_key.h"

namespace postern::vault {

/// Where a process has its root keys from. Used by one thread at a time.
class RootKeyProvider {
 public:
  virtual ~RootKeyProvider() = default;

  /// The root keys as they are now. Errors: Unavailable with what to do about it.
  virtual Result<RootKeys> load() = 0;

  /// Whether load() may answer otherwise than it did last. Cheap: asked every second.
  virtual bool changed() = 0;
};

/// A file of root keys, see RootKeys.
class RootKeyFile final : public RootKeyProvider {
 public:
  explicit RootKeyFile(std::filesystem::path path) : path_(std::move(path)) {}

  Result<RootKeys> load() override;
  bool changed() override;

 private:
  const std::filesystem::path path_;
  std::optional<FileStamp> loaded_;
};

}  // namespace postern::vault
