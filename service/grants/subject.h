#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "crypto/hash.h"
#include "grants/caller.h"
#include "grants/issuer_keys.h"
#include "grants/opaque_tokens.h"
#include "policy/authorize.h"
#include "policy/snapshot.h"
#include "policy/tools.h"
#include "policy/view.h"

namespace postern::token {
class UnverifiedJwt;
}

namespace postern::grants {

/// RFC 8693 §3, the part after `urn:ietf:params:oauth:token-type:`.
/// Errors: MalformedRequest for a type that is not taken as input here.
Result<policy::SubjectTokenType> parse_token_type(std::string_view urn);

/// What a token is, where its header or claims tell (RFC 8725 §3.11).
enum class TokenKind { Unknown, Access, Id };
inline constexpr std::string_view kWrongKind = "the token is of a kind that is not accepted here";

/// What a verified token says, rebuilt from its claims; nothing else of it is kept.
struct VerifiedToken {
  Principal principal;
  std::string issued_subject;  ///< `sub` in tokens issued for this principal
  std::vector<std::string> groups;
  policy::Attributes attributes;  ///< claims that some binding of the tenant asks for
  std::optional<policy::ScopeSet> scope;
  std::vector<std::string> audiences;
  std::string authorized_party;  ///< `azp`, else `client_id`
  std::string typ;               ///< of the header, normalised
  TokenKind kind = TokenKind::Unknown;
  bool opaque = false;  ///< its issuer vouched for it (RFC 7662); nobody can read it
  std::optional<sys_seconds> issued_at;
  sys_seconds expires_at{};
  std::string fingerprint;   ///< for audit: 128 bits of the token's hash, base64url
  Confirmation bound_to;     ///< `cnf`
  token::Json act;           ///< null when absent
  token::Json may_act;       ///< null when absent
  token::Json auth_context;  ///< those of auth_time, acr, amr that were there
  /// Its `authorization_details` of type mcp_tool; nothing when there are none.
  std::optional<policy::ToolDetails> tools = {};
  policy::ViewClaims view_claims = {};  ///< where the tenant has views

  /// Ids by which it can be revoked: its own, then those of the tokens that it
  /// rests on, nearest first.
  std::vector<std::string> lineage;

  /// What a token that this tenant issued says besides (grants/own_token.h).
  struct Own {
    bool of_client = false;  ///< from client_credentials: no user is behind it
    std::string backend;     ///< it is for; empty when that is gone or disabled
    policy::ScopeSet scope;
    std::map<std::string, policy::ScopeSet> within;  ///< scope by backend along its chain
    std::optional<sys_seconds> rooted_at;
    std::uint64_t epoch = 0;
    /// Set when it tells all groups, and all values of these claims, of its root.
    std::optional<std::vector<std::string>> whole;
    token::Json claims;
  };
  std::optional<Own> own;

  policy::SubjectRights rights() const {
    return {principal, groups, scope, attributes, issued_subject};
  }
};
using VerifiedTokenPtr = std::shared_ptr<const VerifiedToken>;

class OwnTokens;
enum class OwnToken { Refuse, Accept };

/// An assertion that is itself a grant, and what it says of the grant.
struct VerifiedAssertion {
  VerifiedToken token;
  policy::SubjectTokenType type = policy::SubjectTokenType::JwtBearer;  ///< or IdJag
  std::string jti;                        ///< always there in an ID-JAG
  std::vector<std::string> resources;     ///< ID-JAG: what it is for; empty: it does not say
  std::optional<policy::ScopeSet> scope;  ///< ID-JAG: at most this
};

/// Verifies subject and actor tokens of a tenant's trusted issuers. The one
/// pipeline that every exchange and release goes through. Thread-safe.
///
/// A verified token is remembered under the SHA-256 of (tenant, token), so that
/// its next use costs no signature check. A remembered token counts only while
/// the tenant's epoch and the issuer's key set are those it was verified under,
/// and everything that depends on time or on the calling client is checked anew.
/// What an issuer said of an opaque token is remembered for as long as its
/// registration allows; that a token is not good is never remembered.
class SubjectVerifier {
 public:
  struct Options {
    std::size_t cache_entries = 50'000;
    std::size_t cache_bytes = 96 * 1024 * 1024;  ///< estimate of what they hold
  };
  SubjectVerifier(IssuerKeys& keys, const OwnTokens& own_tokens, const Clock& clock,
                  Options options);
  SubjectVerifier(IssuerKeys& keys, const OwnTokens& own_tokens, const Clock& clock)
      : SubjectVerifier(keys, own_tokens, clock, Options{}) {}
  /// With somebody to ask about opaque tokens; without, there are none.
  SubjectVerifier(IssuerKeys& keys, OpaqueTokens& opaque, const OwnTokens& own_tokens,
                  const Clock& clock)
      : SubjectVerifier(keys, own_tokens, clock) {
    opaque_ = &opaque;
  }

  /// @param caller  who presents the token: it must be its audience or
  ///                authorised party, which stops tokens stolen elsewhere, and
  ///                must have proven the key that the token is bound to, if any.
  /// @param own     whether a token that this tenant issued will do. Never where
  ///                the answer may open the vault.
  /// Errors: InvalidToken with a coarse reason; NeedsOutbound, Unavailable from IssuerKeys
  /// or when it cannot be known which tokens are revoked.
  Result<VerifiedTokenPtr> verify(const policy::TenantSnapshot& snapshot, const Caller& caller,
                                  std::string_view compact, policy::SubjectTokenType type,
                                  Wait wait, OwnToken own = OwnToken::Refuse);

  /// A foreign token that the caller may revoke here: as verify(), of any type and
  /// without proof of a key, for nothing is given for it.
  Result<VerifiedTokenPtr> verify_for_revocation(const policy::TenantSnapshot& snapshot,
                                                 const Caller& caller, std::string_view compact,
                                                 Wait wait);

  /// For the REST API, where a user acts without a gateway: the issuer's
  /// required audience is the only audience rule. Never an opaque token: nobody
  /// has authenticated before, so anybody could make us ask.
  Result<VerifiedTokenPtr> verify_user(const policy::TenantSnapshot& snapshot,
                                       std::string_view compact, Wait wait);

  /// An assertion of the jwt-bearer grant: made for this authorization server
  /// alone, by an issuer that may send such (`jwt_bearer`, or `id_jag` when the
  /// header says so). Verified as every token is, and never remembered.
  /// Errors: InvalidToken with a coarse reason; NeedsOutbound, Unavailable.
  Result<VerifiedAssertion> verify_assertion(const policy::TenantSnapshot& snapshot,
                                             const Caller& caller, std::string_view compact,
                                             Wait wait);

  /// For workload identity: whether this token of the rule's issuer is for the
  /// rule's audience and has the claims it names. Passes the same checks as any
  /// token of that issuer; may be presented until it expires, as platforms
  /// (Kubernetes) hand one token to a workload for an hour.
  /// Errors: InvalidToken; NeedsOutbound, Unavailable from IssuerKeys.
  Status verify_workload(const policy::TenantSnapshot& snapshot, const policy::WorkloadRule& rule,
                         std::string_view compact, Wait wait);

  struct Stats {
    std::uint64_t hits = 0, misses = 0;
    std::size_t entries = 0;
  };
  Stats stats() const;

 private:
  struct Remembered {
    crypto::Hash256 key;
    VerifiedTokenPtr token;
    std::string issuer;
    std::uint64_t epoch = 0;
    std::shared_ptr<const token::JwkSet> keys;  ///< null for an opaque token
    sys_seconds until{};                        ///< for an opaque token
    std::size_t cost = 0;                       ///< bytes, estimated from the token's length
  };
  struct HashOfHash {
    std::size_t operator()(const crypto::Hash256& hash) const noexcept {
      std::size_t out;
      static_assert(sizeof out <= sizeof hash);
      std::copy_n(reinterpret_cast<const unsigned char*>(hash.data()), sizeof out,
                  reinterpret_cast<unsigned char*>(&out));
      return out;
    }
  };
  struct Shard {
    std::mutex mutex;
    std::list<Remembered> order;  // newest first
    std::unordered_map<crypto::Hash256, std::list<Remembered>::iterator, HashOfHash> index;
    std::size_t bytes = 0;
    std::uint64_t hits = 0, misses = 0;
  };

  Result<VerifiedTokenPtr> verified(const policy::TenantSnapshot& snapshot,
                                    std::string_view compact, Wait wait,
                                    OwnToken own = OwnToken::Refuse);
  /// A token whose issuer's signature verifies; its claims are still to be judged.
  struct Opened {
    const policy::IssuerEntry* issuer = nullptr;
    std::shared_ptr<const token::JwkSet> keys;
    token::Json claims;
    std::string typ;
  };
  Result<Opened> open(const policy::TenantSnapshot& snapshot,
                      const token::UnverifiedJwt& unverified, Wait wait);
  /// What the issuer says, held to the tenant's rules for it, for one of these audiences.
  Result<VerifiedToken> read(const policy::TenantSnapshot& snapshot, const Opened& opened,
                             const std::vector<std::string>& expected) const;
  Result<VerifiedTokenPtr> verify_anew(const policy::TenantSnapshot& snapshot,
                                       std::string_view compact, const crypto::Hash256& key,
                                       Wait wait, OwnToken own);
  Result<VerifiedTokenPtr> verified_opaque(const policy::TenantSnapshot& snapshot,
                                           const policy::IssuerEntry& issuer,
                                           std::string_view token, Wait wait);
  Status check_presenter(const policy::Client& client, const VerifiedToken& token,
                         std::optional<policy::SubjectTokenType> type) const;
  Status check_now(const policy::TenantSnapshot& snapshot, const VerifiedToken& token,
                   std::optional<policy::SubjectTokenType> type) const;
  static constexpr std::size_t kShards = 16;
  Shard& shard_of(const crypto::Hash256& key) {
    return shards_[static_cast<std::size_t>(key[31]) % kShards];
  }
  VerifiedTokenPtr recall(const policy::TenantSnapshot& snapshot, const crypto::Hash256& key);
  void remember(Remembered entry);

  IssuerKeys& keys_;
  OpaqueTokens* opaque_ = nullptr;
  const OwnTokens& own_tokens_;
  const Clock& clock_;
  std::size_t entries_per_shard_;
  std::size_t bytes_per_shard_;
  mutable std::array<Shard, kShards> shards_;
};

}  // namespace postern::grants
