#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/config.h"
#include "core/result.h"
#include "crypto/hash.h"
#include "grants/credential_rotations.h"
#include "grants/subject.h"
#include "http/server.h"
#include "policy/snapshot_cache.h"
#include "storage/database.h"
#include "vault/erasure.h"
#include "vault/root_key_watch.h"

namespace postern::app {

/// The whole service, built from a configuration and owned here: the only place
/// where things are put together.
class Service {
 public:
  /// Errors: Unavailable with what to do (schema not current, database unreachable,
  /// token file unreadable). Without the right root keys it is built all the same:
  /// it then opens nothing, and /readyz says why, until they are put in place.
  static Result<std::unique_ptr<Service>> create(Config config);
  ~Service();

  /// Binds both listeners and starts answering.
  Status start();
  /// Refuses new connections, lets requests in flight end.
  void drain();
  Status reload_tls();
  /// Looks at the root keys again now; otherwise when they seem to have changed.
  void reload_root_keys();
  /// Whether the root keys are those that the database needs. Errors: Unavailable.
  Status check_root_keys() const;

  std::uint16_t port() const;
  std::uint16_t ops_port() const;

  struct Stats {
    http::ServerStats http;
    storage::DatabaseStats database;
    storage::DatabaseStats audit_database;
    grants::SubjectVerifier::Stats tokens;
    policy::SnapshotCache::Stats snapshots;
    vault::RootKeyWatch::Facts root_keys;
    vault::Erasures::ShareStoreState share_store = vault::Erasures::ShareStoreState::None;
    grants::CredentialRotations::Stats rotations;
  };
  Stats stats() const;

 private:
  struct Impl;
  explicit Service(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Operator tokens, one a line, kept as hashes.
class OperatorTokens {
 public:
  /// Errors: Unavailable when the file is unreadable, open to others, or holds
  /// anything but `postern_op_…` tokens.
  static Result<OperatorTokens> load(const std::filesystem::path& file);
  /// A new file with one fresh token, mode 0600, never over an existing one.
  static Status create(const std::filesystem::path& file);
  bool contains(const BearerToken& token) const;

 private:
  std::vector<crypto::Hash256> hashes_;
};

/// No core dumps, no ptrace by others, no SIGPIPE: before any secret is read.
void harden_process();

}  // namespace postern::app
