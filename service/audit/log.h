#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "audit/chain.h"
#include "audit/event.h"
#include "core/result.h"

namespace postern::audit {

struct Query {
  std::uint64_t after = 0;    ///< records with a greater sequence
  std::uint32_t limit = 100;  ///< at most 1000
  bool newest_first = false;  ///< then `after`, when not 0, is a bound above: lesser ones
  std::string action;         ///< exact, or a prefix ending in `.`; empty: all
};

/// What verifying a chain found.
struct Verification {
  bool intact = false;
  std::uint64_t records = 0;
  std::uint64_t first_bad = 0;  ///< sequence of the first record that does not fit, 0 when none
  /// "", "record altered", "record missing", "head does not match", "head forged",
  /// "records missing at the end"
  std::string problem;
  crypto::Hash256 head{};
};

/// The tenant's audit records. Implemented by storage and, in memory, by
/// tests/support; one suite holds both to this contract.
class AuditLog {
 public:
  virtual ~AuditLog() = default;

  /// Appends all events, each to its own tenant's chain, in one transaction.
  /// Returns when they are durable. All or nothing. Thread-safe.
  /// Errors: Unavailable (nothing, or in doubt), NotFound (a tenant is gone).
  virtual Status append(std::span<const Event> events) = 0;

  virtual Result<std::vector<Record>> read(const TenantId& tenant, const Query& query) = 0;

  /// Reads the whole chain, oldest first, and checks every link and the head's MAC.
  virtual Result<Verification> verify(const TenantId& tenant) = 0;
};

}  // namespace postern::audit
