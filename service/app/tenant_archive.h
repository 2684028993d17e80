#pragma once

#include <filesystem>
#include <string>

#include "app/config.h"

namespace postern::app {

struct ArchiveOptions {
  std::string tenant;                     ///< to export, or that is expected in the archive
  std::filesystem::path file;             ///< the archive
  std::filesystem::path passphrase_file;  ///< its first line
  bool resume = false;                    ///< go on with an import that did not end
  bool accept_guardrails = false;         ///< those that the archive brings
  bool enable = false;                    ///< the tenant, when all of it is imported
};

/// `posternd tenant export`: a tenant's configuration, credentials and transit keys, in an
/// archive of mode 0600 (vault/archive.h), with a record in its audit chain before the
/// first value is read. Not its signing keys and audit chain: they are this
/// installation's. Returns the program's exit code.
int export_tenant(const Config& config, const ArchiveOptions& options);

/// `posternd tenant import`: under the same id, into an installation that never had it,
/// with new keys. The archive is read to its end before anything is stored, and the
/// tenant is disabled until all of it is, and after that unless `enable` says otherwise:
/// whoever made the archive chose all that is in it.
int import_tenant(const Config& config, const ArchiveOptions& options);

}  // namespace postern::app
