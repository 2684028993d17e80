#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <thread>

#include "vault/credential.h"

namespace postern::vault {

/// Remembers when credentials were last handed out and writes that down now and
/// then, in batches: handing one out never waits for it, and costs no write.
///
/// What was noted since the last writing is lost when the process is killed, and
/// so is what is noted of a further credential while kMostNoted wait for a
/// database that is away: the audit trail has every use. Thread-safe.
class LastUses {
 public:
  static constexpr std::size_t kMostNoted = 50'000;  ///< credentials, some 15 MB

  explicit LastUses(CredentialStore& store) : store_(store) {}
  ~LastUses() { stop(); }
  LastUses(const LastUses&) = delete;
  LastUses& operator=(const LastUses&) = delete;

  void note(const TenantId& tenant, const CredentialKey& key, sys_seconds at);
  /// Writes what was noted. What could not be written is kept for the next time.
  Status write();

  /// Writes every `interval` from now on, and once more at stop().
  void start(std::chrono::milliseconds interval);
  void stop();  ///< idempotent

  std::uint64_t dropped() const;  ///< uses that found no room

 private:
  using Uses = std::map<CredentialKey, sys_seconds>;

  bool keep(const TenantId& tenant, const CredentialKey& key, sys_seconds at);  // under mutex_
  void run(std::chrono::milliseconds interval);

  CredentialStore& store_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::map<TenantId, Uses> noted_;
  std::size_t count_ = 0;
  std::uint64_t dropped_ = 0;
  std::uint64_t reported_ = 0;
  bool stopping_ = false;
  std::mutex writing_;  // one write() at a time, so that a batch that failed is not overtaken
  std::thread writer_;
};

}  // namespace postern::vault
