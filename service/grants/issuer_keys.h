#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "policy/snapshot.h"
#include "token/jwk.h"

namespace postern::outbound {
class Fetcher;
}

namespace postern::grants {

/// What this thread may wait for: nothing, the database, or also a call to the outside.
enum class Wait { No, Database, Yes };

/// The verification keys of trusted issuers: from the snapshot when they are
/// static, else fetched over HTTPS and cached.
class IssuerKeys {
 public:
  virtual ~IssuerKeys() = default;

  /// The issuer's current keys. With a `kid` that is unknown a fetched set is
  /// refreshed, at most once a minute for each issuer.
  /// Errors: NeedsOutbound when a fetch is due and `wait` is not Yes; Unavailable
  /// when the issuer never answered.
  virtual Result<std::shared_ptr<const token::JwkSet>> keys(const TenantId& tenant,
                                                            const policy::IssuerEntry& issuer,
                                                            const std::optional<std::string>& kid,
                                                            Wait wait) = 0;
};

/// The verification keys of clients (private_key_jwt), under the same terms.
class ClientKeySource {
 public:
  virtual ~ClientKeySource() = default;
  virtual Result<std::shared_ptr<const token::JwkSet>> keys_of(
      const TenantId& tenant, const policy::ClientKeys& client,
      const std::optional<std::string>& kid, Wait wait) = 0;
};

/// Cached by the issuer's Cache-Control within 5 minutes and 24 hours. One
/// fetch at a time for each issuer; who finds it under way is served the last
/// good set. When a fetch fails, that set serves on for up to 24 hours after it
/// was due, and the next attempt waits a minute.
class FetchedIssuerKeys final : public IssuerKeys, public ClientKeySource {
 public:
  FetchedIssuerKeys(outbound::Fetcher& fetcher, const Clock& clock)
      : fetcher_(fetcher), clock_(clock) {}

  Result<std::shared_ptr<const token::JwkSet>> keys(const TenantId& tenant,
                                                    const policy::IssuerEntry& issuer,
                                                    const std::optional<std::string>& kid,
                                                    Wait wait) override;
  Result<std::shared_ptr<const token::JwkSet>> keys_of(const TenantId& tenant,
                                                       const policy::ClientKeys& client,
                                                       const std::optional<std::string>& kid,
                                                       Wait wait) override;

 private:
  struct Entry {
    std::mutex fetching;  // held during a fetch, never with mutex_
    std::shared_ptr<const token::JwkSet> keys;
    sys_seconds fresh_until{};
    sys_seconds usable_until{};
    sys_seconds next_attempt{};
    bool busy = false;  // a fetch is under way
  };
  using Key = std::tuple<TenantId, std::string, std::uint64_t>;

  /// Whose keys, and where they are.
  struct Source {
    std::string name;  ///< "issuer/corp": issuers and clients may be called alike
    std::uint64_t revision = 0;
    std::string jwks_uri;
    std::string discovery;  ///< the issuer whose metadata names the jwks_uri, else empty
  };
  Result<std::shared_ptr<const token::JwkSet>> fetched(const TenantId& tenant, const Source& source,
                                                       const std::optional<std::string>& kid,
                                                       Wait wait);
  std::shared_ptr<Entry> entry_of(const TenantId& tenant, const Source& source);
  /// The cached set when it will do; nothing when a fetch is due and allowed now.
  std::optional<Result<std::shared_ptr<const token::JwkSet>>> cached(
      const Entry& entry, const std::optional<std::string>& kid, sys_seconds now);
  struct Fetched {
    token::JwkSet keys;
    std::chrono::seconds max_age;
  };
  Result<Fetched> fetch(const Source& source);

  outbound::Fetcher& fetcher_;
  const Clock& clock_;
  std::mutex mutex_;
  std::map<TenantId, int> waiting_;  // calls of a tenant that fetch or wait for a fetch
  std::map<Key, std::shared_ptr<Entry>> entries_;
};

}  // namespace postern::grants
