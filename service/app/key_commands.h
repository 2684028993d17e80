#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "app/config.h"
#include "core/result.h"
#include "vault/root_key_pkcs11.h"
#include "vault/rotation.h"

namespace postern::app {

/// `posternd keys …`: root keys and tenants' KEKs, beside running replicas, over
/// the database and root keys that the configuration names. Each prints what it did
/// and returns the program's exit code. All may be stopped at any moment and run again.
struct KeyOptions {
  std::string tenant;  ///< empty: all of them
  bool json = false;
  std::optional<std::uint32_t> per_second;  ///< 0: as fast as it goes; not given: a default
  std::string older_than;  ///< rotate_tenants(): as instant_before() reads it; empty: of any age
  bool force = false;      ///< also when replicas are there that have not the root key
};

/// Which root key wraps how many KEKs, which KEK how many rows, and what is left to do.
int show_keys(const Config& config, const KeyOptions& options);
/// Wraps every KEK under the active root key.
int rotate_root(const Config& config, const KeyOptions& options);
/// Gives tenants a new KEK for what is sealed from now on, those whose newest is older than asked.
int rotate_tenants(const Config& config, const KeyOptions& options);
/// Wraps what is under tenants' older KEKs under their newest.
int rewrap_tenants(const Config& config, const KeyOptions& options);

/// What seals the keys in a root key file; nothing: they are in it as they are.
struct RootKeySource {
  std::filesystem::path passphrase_file;  ///< stretched from the first line of it
  vault::RootKeyPkcs11::Where pkcs11;     ///< encrypted by this token
  std::string pkcs11_key = "postern";     ///< under this key of it, made when it has none
};
/// Makes a root key file, or puts a fresh key first in one.
int create_root_key(const std::filesystem::path& file, const RootKeySource& source);
int add_root_key(const std::filesystem::path& file, const RootKeySource& source);

/// What both `posternd keys status --json` and GET /api/v1/keys say, as JSON text.
/// @param given  ids of the root keys that are here, the active one first.
/// @param held  of `backlog`: held_backlog().
std::string key_summary(const std::vector<std::string>& given,
                        const std::vector<vault::RootKeyUse>& uses, const vault::Backlog& backlog,
                        const vault::Backlog& held);

}  // namespace postern::app
