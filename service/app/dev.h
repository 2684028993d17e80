#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "app/config.h"
#include "core/result.h"
#include "storage/embedded_postgres.h"

namespace postern::app {

/// The embedded default: everything `posternd serve` needs, made on the spot.
///
///   <directory>/root.key        root key, 0600
///   <directory>/operator.token  operator token, 0600
///   <directory>/postgres/       private PostgreSQL (storage/embedded_postgres.h)
struct DevOptions {
  std::filesystem::path directory;  ///< empty: default_dev_directory()
  std::string address = "127.0.0.1";
  std::uint16_t port = 8711;
  std::uint16_t ops_port = 8712;
};

/// /var/lib/postern for root, else $XDG_DATA_HOME/postern or ~/.local/share/postern.
std::filesystem::path default_dev_directory(const Environment& environment);

struct DevEnvironment {
  storage::EmbeddedPostgres postgres;
  Config config;
};

/// Makes what is missing, starts the database and brings the schema up to date.
/// Must be called on a thread that lives as long as the process.
/// Errors: Unavailable with what to do.
Result<DevEnvironment> prepare_dev(DevOptions options, const Environment& environment);

}  // namespace postern::app
