#pragma once

#include <filesystem>

#include "app/config.h"

namespace postern::app {

struct DrillOptions {
  /// An archive of pg_dump, restored into a PostgreSQL of its own that is gone
  /// afterwards. Empty: the database that the configuration names, read only.
  std::filesystem::path dump;
  std::filesystem::path directory;  ///< where that PostgreSQL is kept; empty: the temporary one
  /// File with the URL of the share store; empty: that of the configuration.
  std::filesystem::path share_store_url_file;
  /// What takes a share that was destroyed is no problem: it was erased after the backup.
  bool accept_erased = false;
  bool json = false;
};

/// `posternd restore --drill`: opens everything that a backup has with the root keys
/// of the configuration, and walks every audit chain. Prints what it found, never a
/// value. Returns the program's exit code: 1 when anything does not open or verify.
int prove_backup(const Config& config, const DrillOptions& options);

}  // namespace postern::app
