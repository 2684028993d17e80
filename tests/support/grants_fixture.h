#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "audit/event.h"
#include "grants/client_credentials.h"
#include "grants/issuer_keys.h"
#include "grants/jwt_bearer.h"
#include "grants/opaque_tokens.h"
#include "grants/own_token.h"
#include "grants/release.h"
#include "grants/subject.h"
#include "grants/token_exchange.h"
#include "outbound/fetch.h"
#include "support/in_memory_audit_log.h"
#include "support/in_memory_credential_store.h"
#include "support/in_memory_replay_guard.h"
#include "support/in_memory_revocation_list.h"
#include "support/tenant_fixture.h"
#include "vault/envelope.h"

namespace postern::test {

/// The world outside, as a table of addresses. Counts what is asked.
class FakeFetcher final : public outbound::Fetcher {
 public:
  Result<outbound::FetchReply> get(const outbound::FetchRequest& request) override {
    std::function<void()> hook;
    std::optional<outbound::FetchReply> reply;
    {
      const std::lock_guard lock(mutex_);
      ++asked_[request.url];
      hook = hook_;
      if (const auto it = replies_.find(request.url); it != replies_.end()) reply = it->second;
    }
    if (hook) hook();
    if (!reply) return fail(ErrorCode::Unavailable, "the address did not answer", "fake: no route");
    return *reply;
  }

  /// What was posted, in the clear.
  struct Posted {
    std::string url, body, authorization;
  };
  Result<outbound::FetchReply> post(const outbound::PostRequest& request) override {
    Posted seen{request.url,
                request.body.expose([](ByteView bytes) { return std::string(as_text(bytes)); }),
                ""};
    if (request.authorization) {
      seen.authorization =
          request.authorization->expose([](ByteView bytes) { return std::string(as_text(bytes)); });
    }
    {
      const std::lock_guard lock(mutex_);
      posted_.push_back(std::move(seen));
    }
    return get({request.url, request.accept});
  }
  std::vector<Posted> posted() const {
    const std::lock_guard lock(mutex_);
    return posted_;
  }

  void serve(const std::string& url, const Json& body,
             std::optional<std::chrono::seconds> max_age = std::nullopt) {
    serve_text(url, 200, body.dump(), max_age);
  }
  void serve_text(const std::string& url, int status, std::string body,
                  std::optional<std::chrono::seconds> max_age = std::nullopt,
                  std::string content_type = "application/json") {
    const std::lock_guard lock(mutex_);
    replies_[url] = {status, std::move(content_type), max_age, std::move(body)};
  }
  void die(const std::string& url) {
    const std::lock_guard lock(mutex_);
    replies_.erase(url);
  }
  int asked(const std::string& url) const {
    const std::lock_guard lock(mutex_);
    const auto it = asked_.find(url);
    return it == asked_.end() ? 0 : it->second;
  }
  int asked() const {
    const std::lock_guard lock(mutex_);
    int total = 0;
    for (const auto& [url, count] : asked_) total += count;
    return total;
  }
  /// Runs during every fetch.
  void during(std::function<void()> hook) {
    const std::lock_guard lock(mutex_);
    hook_ = std::move(hook);
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, outbound::FetchReply> replies_;
  std::map<std::string, int> asked_;
  std::vector<Posted> posted_;
  std::function<void()> hook_;
};

/// The grants wired over the fixture's tenant, everything in memory.
struct GrantsFixture : TenantFixture {
  GrantsFixture() { revocations.add_tenant(tenant); }

  static constexpr std::string_view kAccessToken = "urn:ietf:params:oauth:token-type:access_token";
  static constexpr std::string_view kJwt = "urn:ietf:params:oauth:token-type:jwt";
  static constexpr std::string_view kIdToken = "urn:ietf:params:oauth:token-type:id_token";

  audit::Event record(std::string action = "token.exchange") const {
    return {tenant, clock.now(), std::move(action), audit::Outcome::Allowed, "req-1", {}};
  }

  /// A client that proved no key.
  grants::Caller caller(const char* id = "gw-01") const { return grants::Caller(gateway(id)); }

  Result<grants::VerifiedTokenPtr> verify(
      std::string_view token,
      policy::SubjectTokenType type = policy::SubjectTokenType::AccessToken) {
    return verifier.verify(*snapshot, caller(), token, type, grants::Wait::Yes);
  }

  /// A request for `files` with this token; change what the test is about.
  grants::TokenExchangeRequest request(std::string_view token) const {
    grants::TokenExchangeRequest request;
    request.subject_token = token;
    request.subject_token_type = kAccessToken;
    request.audiences = {"files"};
    return request;
  }
  Result<grants::IssuedToken> exchange(const grants::TokenExchangeRequest& request) {
    last_record = record();
    return token_exchange.exchange(*snapshot, caller(), request, grants::Wait::Yes, last_record);
  }

  /// Claims of a token of ours, after verifying it as a backend would: with the
  /// published key set and nothing else.
  Json open(const AccessToken& token) const {
    return token.expose([&](ByteView bytes) { return open(as_text(bytes)); });
  }
  Json open(std::string_view compact) const {
    const auto document = must(token::parse_json(snapshot->jwks_document()));
    const auto keys = must(token::JwkSet::parse(document, token::JwkSet::WeakKeys::Refuse));
    const auto jwt = must(token::UnverifiedJwt::parse(compact));
    if (jwt.typ() != "at+jwt") throw std::runtime_error("typ is not at+jwt");
    if (!jwt.kid()) throw std::runtime_error("no kid");
    return must(jwt.verify(keys));
  }

  /// Stores a credential of the user, or of the tenant when `subject` is empty.
  void store(const std::string& name, const std::string& subject,
             const std::map<std::string, std::string>& fields,
             std::optional<sys_seconds> expires_at = std::nullopt) {
    const vault::CredentialKey key{
        subject.empty() ? Owner::tenant() : Owner::principal({idp.issuer(), subject}),
        CredentialName(name)};
    vault::Fields values;
    for (const auto& [field, value] : fields) {
      values.emplace(field, FieldValue(SecureBuffer::copy_of(value)));
    }
    must(credentials.put(tenant, key, std::nullopt,
                         [&](std::uint32_t version) {
                           return envelope.seal(tenant, key, version, values, clock.now(),
                                                expires_at);
                         },
                         {}));
  }

  /// Deletes, brings back or destroys the latest version of a credential.
  void change(const std::string& name, const std::string& subject,
              vault::CredentialStore::VersionChange how) {
    const vault::CredentialKey key{
        subject.empty() ? Owner::tenant() : Owner::principal({idp.issuer(), subject}),
        CredentialName(name)};
    must(credentials.change_versions(tenant, key, {}, how, std::nullopt, clock.now(), {}));
  }

  FakeFetcher fetcher;
  InMemoryAuditLog audit_log;
  InMemoryCredentialStore credentials{audit_log};
  vault::Envelope envelope{tenants.keyring()};
  grants::FetchedIssuerKeys issuer_keys{fetcher, clock};
  grants::AskedOpaqueTokens opaque_tokens{fetcher, credentials, envelope, clock};
  InMemoryRevocationList revocations;
  grants::OwnTokens own_tokens{revocations, clock};
  grants::SubjectVerifier verifier{issuer_keys, opaque_tokens, own_tokens, clock};
  grants::ClientCredentials client_credentials{clock};
  grants::Release release{verifier, credentials, envelope, clock};
  grants::TokenExchange token_exchange{verifier, release, clock};
  InMemoryReplayGuard replays;
  grants::JwtBearer jwt_bearer{verifier, replays, clock};
  audit::Event last_record = record();
};

/// A field of an audit record; empty when it is not there.
inline std::string field_of(const audit::Event& record, std::string_view name) {
  for (const auto& [key, value] : record.fields) {
    if (key == name) return value;
  }
  return "";
}

}  // namespace postern::test
