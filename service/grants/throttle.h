#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/clock.h"
#include "core/ids.h"
#include "crypto/hash.h"

namespace postern::grants {

/// What counts as one source of requests: an IPv6 host has all of its /64.
std::string source_network(std::string_view address);

/// Slows down who guesses client credentials (RFC 6749 §2.3.1), by (tenant,
/// client as claimed, source address): after some failures each further one
/// doubles the time until the next attempt is looked at. Never a lock-out: the
/// time is bounded, a success ends it, other sources are not affected. In this
/// replica's memory, bounded; the entry that failed longest ago goes first.
/// Thread-safe.
class Throttle {
 public:
  struct Options {
    unsigned free_failures = 20;             ///< before the first delay
    std::chrono::seconds max_delay{30};      ///< the first is one second
    std::chrono::seconds forget_after{900};  ///< without a failure
    std::chrono::seconds report_every{60};   ///< refused attempts, into the audit trail
    std::size_t entries = 65'536;
  };
  Throttle(const Clock& clock, Options options) : clock_(clock), options_(options) {}

  struct Refusal {
    std::chrono::seconds retry_after{};
    /// Refused attempts to be recorded now, this one included; 0: only counted.
    std::uint64_t to_record = 0;
  };
  /// Whether this attempt must wait, before anything of it is looked at.
  std::optional<Refusal> refuses(const TenantId& tenant, std::string_view client,
                                 std::string_view source);
  /// Both answer the refused attempts that are in no record yet.
  std::uint64_t failed(const TenantId& tenant, std::string_view client, std::string_view source);
  std::uint64_t succeeded(const TenantId& tenant, std::string_view client, std::string_view source);

  std::size_t entries() const;

 private:
  struct Entry {
    crypto::Hash256 key{};
    unsigned failures = 0;
    sys_seconds last_failure{};
    sys_seconds blocked_until{};
    sys_seconds last_report{};
    std::uint64_t unreported = 0;
  };
  struct HashOfHash {
    std::size_t operator()(const crypto::Hash256& hash) const noexcept;
  };

  /// Null when there is none that still counts.
  Entry* find(const crypto::Hash256& key, sys_seconds now);

  const Clock& clock_;
  const Options options_;
  mutable std::mutex mutex_;
  std::list<Entry> order_;  // newest failure first
  std::unordered_map<crypto::Hash256, std::list<Entry>::iterator, HashOfHash> index_;
};

}  // namespace postern::grants
