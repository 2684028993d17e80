#pragma once

#include <cstdint>
#include <string>

#include "audit/event.h"
#include "core/secret.h"
#include "crypto/hash.h"

namespace postern::audit {

/// The end of one tenant's chain. Sequence 0 and a zero hash before any record.
struct ChainHead {
  std::uint64_t sequence = 0;
  crypto::Hash256 hash{};
};

/// A record as stored: row `sequence` of the tenant's chain.
struct Record {
  std::uint64_t sequence = 0;
  std::string body;        ///< canonical(event)
  crypto::Hash256 hash{};  ///< see link()
};

/// hash = SHA-256 over the length-prefixed parts
///   "postern-audit-v1", tenant, sequence (8 bytes big-endian), previous hash, body.
/// Needs no key, so an auditor can verify an export with nothing but this rule.
crypto::Hash256 link(const TenantId& tenant, std::uint64_t sequence,
                     const crypto::Hash256& previous, std::string_view body);

/// The next record after `head`; moves head on.
Record append(const TenantId& tenant, ChainHead& head, const Event& event);

/// Authenticates the end of the chain under a key derived from the tenant's KEK,
/// so that whoever can write the database but has no root key can neither cut
/// records off the end nor rewrite the chain.
crypto::Hash256 head_mac(const DerivedKey& key, const TenantId& tenant, const ChainHead& head);

/// Gives the key head_mac() uses for a tenant, and the KEK version it comes from.
struct ChainKey {
  KekVersion kek_version{};
  DerivedKey key;
};
class ChainKeys {
 public:
  virtual ~ChainKeys() = default;
  /// The current key. Errors: NotFound, Unavailable.
  virtual Result<ChainKey> current(const TenantId& tenant) = 0;
  virtual Result<ChainKey> of_version(const TenantId& tenant, KekVersion version) = 0;
  /// The tenant's keys have changed: what is remembered of them goes.
  virtual void forget(const TenantId&) {}
};

}  // namespace postern::audit
