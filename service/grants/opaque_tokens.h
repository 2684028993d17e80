#pragma once

#include <chrono>
#include <cstdint>
#include <future>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "crypto/hash.h"
#include "grants/issuer_keys.h"
#include "policy/snapshot.h"
#include "token/json.h"
#include "vault/credential.h"
#include "vault/envelope.h"
#include "vault/last_uses.h"

namespace postern::outbound {
class Fetcher;
}

namespace postern::grants {

/// What issuers say of tokens that only they can read (RFC 7662, as its client).
class OpaqueTokens {
 public:
  virtual ~OpaqueTokens() = default;

  /// The claims of an active access token: the members of the issuer's answer.
  /// They are not held to any rule yet but those of RFC 7662 itself.
  /// Errors: InvalidToken when the issuer does not call it an active Bearer
  /// token of its own; NeedsOutbound when `wait` is not Yes; Unavailable when the
  /// issuer cannot be asked or its answer makes no sense.
  virtual Result<token::Json> ask(const TenantId& tenant, const policy::IssuerEntry& issuer,
                                  std::string_view token, Wait wait) = 0;
};

/// Whether a text can be an opaque token and nothing else we know: RFC 6750
/// characters, not a JOSE object, not a bearer token of this service. What is
/// not must never be shown to an issuer.
bool may_be_opaque(std::string_view token);

/// Asks the issuer's endpoint, with the client secret that the tenant stored as
/// the field `client_secret` of a credential of its own. Caches nothing.
///
/// Requests with one token at the same time share one call. An issuer that does
/// not answer is left alone for a second, then two, then four, up to half a
/// minute; and calls under way are limited for each tenant and in all, so that
/// one dead issuer never takes the threads that others need. Thread-safe.
class AskedOpaqueTokens final : public OpaqueTokens {
 public:
  AskedOpaqueTokens(outbound::Fetcher& fetcher, vault::CredentialStore& credentials,
                    vault::Envelope& envelope, const Clock& clock, vault::LastUses* uses = nullptr)
      : fetcher_(fetcher),
        credentials_(credentials),
        envelope_(envelope),
        clock_(clock),
        uses_(uses) {}

  Result<token::Json> ask(const TenantId& tenant, const policy::IssuerEntry& issuer,
                          std::string_view token, Wait wait) override;

 private:
  struct Pause {
    sys_seconds until{};
    std::chrono::seconds length{0};
  };
  using Key = std::tuple<TenantId, std::string, std::uint64_t>;  // with the issuer's revision
  using Call = std::pair<Key, crypto::Hash256>;                  // and the token's hash

  Result<token::Json> ask_now(const TenantId& tenant, const policy::Introspection& how,
                              std::string_view token, bool& unwell) const;
  void settle(const Key& key, bool unwell);
  Result<ClientSecret> secret_of(const TenantId& tenant, const CredentialName& name) const;

  outbound::Fetcher& fetcher_;
  vault::CredentialStore& credentials_;
  vault::Envelope& envelope_;
  const Clock& clock_;
  vault::LastUses* uses_;
  std::mutex mutex_;
  std::map<Call, std::shared_future<Result<token::Json>>> calls_;  // under way
  std::map<TenantId, int> calls_of_;
  int busy_ = 0;                 // threads that ask, or wait for one that does
  std::map<Key, Pause> pauses_;  // of issuers that did not answer
};

}  // namespace postern::grants
