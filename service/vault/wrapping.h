#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "audit/event.h"
#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "core/secret.h"
#include "crypto/hash.h"
#include "vault/keyring.h"

/// Response wrapping of Vault's API: an answer waits, sealed, for whoever shows a
/// token, and is given once. Who finds the token used knows that somebody else had it.
namespace postern::vault {

/// What wrapped answers are sealed for (Keyring::wrap_private).
inline constexpr std::string_view kWrappedAnswer = "wrapped-answer";

struct WrappedAnswer {
  crypto::Hash256 token_hash{};  ///< of the token there is no more than this
  std::string accessor;          ///< names it in audit records
  std::string maker;             ///< who had it wrapped
  std::string creation_path;     ///< whose answer it is, below `v1/`
  sys_seconds created_at{}, expires_at{};
  Keyring::OwnedPrivateKey sealed;
  Owner owner = Owner::tenant();  ///< whose share it takes, besides the tenant's key
};

/// All that is said of an answer beside its bytes: the key id it is sealed for, so
/// that none of it can be changed and no row is taken for another's. Its owner is bound by
/// the share.
std::string box_id(const WrappedAnswer& answer);

/// Where they wait. A change is one transaction with its audit events. What has
/// expired is not there. What seals and opens may wait for the share store, and so is
/// called while no transaction is open. Implemented by storage.
class WrappingStore {
 public:
  virtual ~WrappingStore() = default;

  /// `seal` is called again when the KEK was rotated meanwhile.
  /// Errors: RateLimited when `most` of its maker wait; TooLarge, NotFound, what
  /// `seal` answered, Unavailable.
  using Seal = std::function<Result<WrappedAnswer>()>;
  virtual Status add(const TenantId& tenant, const Seal& seal, std::uint32_t most, sys_seconds now,
                     std::span<const audit::Event> events) = 0;

  /// Errors: NotFound, Unavailable.
  virtual Result<WrappedAnswer> find(const TenantId& tenant, const crypto::Hash256& token_hash,
                                     sys_seconds now) = 0;

  /// Takes it away: of several at once one gets it. `open` sees it before that, may add
  /// to the events, and may leave another in its place; it may be called again, and what
  /// it saw is NotFound all the same when somebody else has taken it meanwhile.
  /// Errors: NotFound, what `open` answered (then it is still there), Unavailable.
  using Open = std::function<Result<std::optional<WrappedAnswer>>(const WrappedAnswer&)>;
  virtual Status take(const TenantId& tenant, const crypto::Hash256& token_hash, sys_seconds now,
                      const Open& open, std::span<const audit::Event> events) = 0;
};

/// Thread-safe; waits for the database.
class Wrapping {
 public:
  static constexpr std::string_view kPrefix = "postern_wt_";
  static constexpr std::size_t kMostBytes = 500'000;  ///< of an answer
  static constexpr std::uint32_t kMostWaiting = 100;  ///< of one maker
  static constexpr std::chrono::seconds kLongest = std::chrono::hours(24);

  Wrapping(Keyring& keyring, WrappingStore& store, const Clock& clock)
      : keyring_(keyring), store_(store), clock_(clock) {}

  struct Made {
    BearerToken token;
    WrappedAnswer answer;  ///< but for its bytes
  };
  /// The record is committed with it, and names it.
  /// @param owner  a principal when the answer is of what is theirs: it goes with their
  ///               erasure, and where there is a share store in backups too.
  /// Errors: RateLimited, TooLarge; as WrappingStore::add.
  Result<Made> wrap(const TenantId& tenant, const Owner& owner, const std::string& maker,
                    const std::string& creation_path, std::chrono::seconds expires_in,
                    Plaintext answer, audit::Event& record) const;

  /// Gives the answer, once. `record` has a digest of the token also when it is refused,
  /// if it has the form of one. Errors: MalformedRequest for a token that is unknown,
  /// used, expired or another tenant's, alike; as WrappingStore::take.
  Result<Plaintext> unwrap(const TenantId& tenant, std::string_view token,
                           audit::Event& record) const;

  /// What is said of it; it stays. Errors: as unwrap().
  Result<WrappedAnswer> look_up(const TenantId& tenant, std::string_view token,
                                audit::Event& record) const;

  /// The same answer under another token, for as long as the one before; that one is
  /// used up. Errors: as unwrap().
  Result<Made> rewrap(const TenantId& tenant, std::string_view token, audit::Event& record) const;

  /// Of a token that is not valid, without saying why.
  static Error not_valid();
  /// Whether a text could be a wrapping token at all.
  static bool has_form(std::string_view text);

 private:
  Result<WrappedAnswer> seal(const TenantId& tenant, WrappedAnswer facts,
                             const PrivateKey& answer) const;
  Result<PrivateKey> opened(const TenantId& tenant, const WrappedAnswer& row) const;

  Keyring& keyring_;
  WrappingStore& store_;
  const Clock& clock_;
};

}  // namespace postern::vault
