#pragma once

#include <cstdint>
#include <utility>

#include "audit/chain.h"
#include "audit/log.h"
#include "core/bytes.h"
#include "core/ids.h"
#include "core/result.h"

namespace postern::audit {

/// The end of a chain as the log keeps it, beside the records.
struct StoredHead {
  ChainHead head;
  KekVersion kek_version{};  ///< whose derived key made the MAC
  Bytes mac;                 ///< head_mac(); any other length is a forged one
};

/// Walks one tenant's chain, oldest record first, and says what does not fit.
/// Every AuditLog verifies with it; memory does not grow with the chain.
class ChainVerifier {
 public:
  explicit ChainVerifier(TenantId tenant) : tenant_(std::move(tenant)) {}

  /// The next record in order of sequence. False once one did not fit: reading on is of no use.
  bool add(const Record& record);

  /// Compares what was walked with the stored head, and checks its MAC.
  /// Errors: those of `keys`, except NotFound: the log knows the tenant, so it
  /// is the KEK version that does not exist, and the head is forged.
  Result<Verification> finish(const StoredHead& stored, ChainKeys& keys);

 private:
  void found(const char* problem, std::uint64_t first_bad);

  TenantId tenant_;
  ChainHead head_;
  Verification result_;
};

}  // namespace postern::audit
