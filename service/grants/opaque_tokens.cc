#include "grants/opaque_tokens.h"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include "crypto/base64url.h"
#include "outbound/fetch.h"

namespace postern::grants {

using namespace std::chrono_literals;
using token::Json;

namespace {

constexpr std::size_t kMaxOpaqueBytes = 4096;
constexpr int kCallsPerTenant = 4;
constexpr int kBusyInAll = 10;  // of the outbound threads, which fetch keys too
constexpr auto kLongestPause = 30s;
constexpr std::size_t kMaxPauses = 10'000;
constexpr token::JsonLimits kAnswerLimits{
    .max_bytes = 64 * 1024, .max_depth = 16, .max_values = 2000};

Error not_answered(std::string diagnostic,
                   std::optional<std::chrono::seconds> retry_after = std::nullopt) {
  Error error = fail(ErrorCode::Unavailable, "the token's issuer cannot be asked about it now",
                     "introspection: " + std::move(diagnostic));
  error.retry_after = retry_after;
  return error;
}

Error refused(std::string detail) { return fail(ErrorCode::InvalidToken, std::move(detail)); }

bool equals_ignoring_case(std::string_view text, std::string_view lower) {
  return text.size() == lower.size() &&
         std::equal(text.begin(), text.end(), lower.begin(), [](char a, char b) {
           return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + 32) : a) == b;
         });
}

bool is_json(std::string_view content_type) {
  return equals_ignoring_case(content_type.substr(0, content_type.find_first_of("; \t")),
                              "application/json");
}

/// RFC 6749 §2.3.1: both halves form-encoded, then base64.
outbound::Authorization basic(std::string_view id, const ClientSecret& secret) {
  const auto name = outbound::form_encoded(id);
  const auto key =
      secret.expose([](ByteView bytes) { return outbound::form_encoded(as_text(bytes)); });
  SecureBuffer pair(name.size() + 1 + key.size());
  auto* out = pair.writable().data();
  out = std::copy(name.readable().begin(), name.readable().end(), out);
  *out++ = std::byte{':'};
  std::copy(key.readable().begin(), key.readable().end(), out);
  auto encoded = crypto::base64(pair.readable());
  SecureBuffer header(6 + encoded.size());
  const std::string_view scheme = "Basic ";
  auto* at = std::copy_n(as_bytes(scheme).begin(), scheme.size(), header.writable().data());
  std::copy_n(as_bytes(encoded).begin(), encoded.size(), at);
  wipe(encoded);
  return outbound::Authorization(std::move(header));
}

/// RFC 7662 §2.2. Errors: InvalidToken, or Unavailable for what is no such answer.
Result<Json> read_answer(const std::string& body) {
  auto parsed = token::parse_json(body, kAnswerLimits);
  if (!parsed.ok() || !parsed.value().is_object()) return not_answered("not a JSON object");
  auto& answer = parsed.value();
  // CVE-2026-11717: what is not the boolean true is not active.
  const auto active = answer.find("active");
  if (active == answer.end() || !active->is_boolean()) {
    return not_answered("`active` is missing or no boolean");
  }
  if (!active->get<bool>()) return refused("the token is not active at its issuer");
  // Refresh tokens are active too, and most issuers answer for them: a Bearer
  // token says so.
  const auto type = answer.find("token_type");
  const auto called = [&](std::string_view name) {
    return type != answer.end() && type->is_string() &&
           equals_ignoring_case(type->get_ref<const std::string&>(), name);
  };
  // RFC 9449 §6.2; what it is bound to is read and proven with the other claims.
  if (!called("bearer") && !(called("dpop") && answer.contains("cnf"))) {
    return refused("the token's issuer does not call it a Bearer or DPoP token");
  }
  // Ory Hydra's word for it; it says Bearer of both.
  const auto use = answer.find("token_use");
  if (use != answer.end() && *use != Json("access_token")) {
    return refused("the token's issuer does not call it an access token");
  }
  return std::move(parsed).value();
}

}  // namespace

bool may_be_opaque(std::string_view token) {
  if (token.empty() || token.size() > kMaxOpaqueBytes) return false;
  const auto padding = token.find_last_not_of('=') + 1;
  const auto body = token.substr(0, padding);
  const bool b68 = !body.empty() && std::all_of(body.begin(), body.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("-._~+/").find(c) != std::string_view::npos;
  });
  // `eyJ` begins every JOSE object; three parts are a JWT that somebody broke.
  return b68 && !body.starts_with("eyJ") && std::count(body.begin(), body.end(), '.') != 2 &&
         !body.starts_with("postern_");
}

Result<ClientSecret> AskedOpaqueTokens::secret_of(const TenantId& tenant,
                                                  const CredentialName& name) const {
  const vault::CredentialKey key{Owner::tenant(), name};
  const auto sealed = credentials_.latest(tenant, key);
  if (!sealed.ok() && sealed.error().code == ErrorCode::NotFound) {
    return not_answered("the tenant has not stored the client secret");
  }
  POSTERN_CHECK(sealed);
  if (sealed.value().expires_at && *sealed.value().expires_at <= clock_.now()) {
    return not_answered("the stored client secret has expired");
  }
  POSTERN_TRY(auto fields, envelope_.open(tenant, key, sealed.value()));
  const auto field = fields.find("client_secret");
  if (field == fields.end()) return not_answered("the credential has no field client_secret");
  if (uses_ != nullptr) uses_->note(tenant, key, clock_.now());
  return field->second.expose(
      [](ByteView bytes) { return ClientSecret(SecureBuffer::copy_of(bytes)); });
}

Result<Json> AskedOpaqueTokens::ask_now(const TenantId& tenant, const policy::Introspection& how,
                                        std::string_view token, bool& unwell) const {
  POSTERN_TRY(const auto secret, secret_of(tenant, how.credential));
  const outbound::PostRequest request{
      how.endpoint, outbound::form_body({{"token", token}, {"token_type_hint", "access_token"}}),
      basic(how.client_id, secret)};
  auto answer = fetcher_.post(request);
  unwell = !answer.ok();
  if (!answer.ok()) return not_answered(answer.error().diagnostic);
  auto reply = std::move(answer).value();
  if (reply.status != 200) {
    // Our own fault or the issuer's, whatever the token: no use in asking on.
    unwell =
        reply.status == 401 || reply.status == 403 || reply.status == 429 || reply.status >= 500;
    return not_answered("status " + std::to_string(reply.status));
  }
  if (!is_json(reply.content_type)) return not_answered("the answer is not application/json");
  return read_answer(reply.body);
}

Result<Json> AskedOpaqueTokens::ask(const TenantId& tenant, const policy::IssuerEntry& issuer,
                                    std::string_view token, Wait wait) {
  const auto& config = issuer.config;
  if (!config.introspection) return refused("the token is malformed");
  const Key key(tenant, config.name, issuer.revision);
  {
    const std::lock_guard lock(mutex_);
    if (const auto it = pauses_.find(key); it != pauses_.end() && clock_.now() < it->second.until) {
      return not_answered("waiting before the next attempt", it->second.until - clock_.now());
    }
  }
  // Neither on a compute thread nor on one of those that everybody needs for the database.
  if (wait != Wait::Yes) return fail(ErrorCode::NeedsOutbound, "");

  const Call call(key, crypto::sha256(as_bytes(token)));
  std::promise<Result<Json>> promise;
  std::shared_future<Result<Json>> answer;
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    const auto under_way = calls_.find(call);
    first = under_way == calls_.end();
    if (busy_ >= kBusyInAll || (first && calls_of_[tenant] >= kCallsPerTenant)) {
      return not_answered("too many calls under way", 1s);
    }
    answer = first ? promise.get_future().share() : under_way->second;
    if (first) {
      calls_.emplace(call, answer);
      ++calls_of_[tenant];
    }
    ++busy_;
  }
  const std::shared_ptr<void> leave(nullptr, [&](void*) {
    const std::lock_guard lock(mutex_);
    --busy_;
    if (!first) return;
    calls_.erase(call);
    if (--calls_of_[tenant] == 0) calls_of_.erase(tenant);
  });
  if (!first) return answer.get();

  bool unwell = false;
  auto claims = [&]() -> Result<Json> {
    try {
      return ask_now(tenant, *config.introspection, token, unwell);
    } catch (const std::exception&) {  // others wait for this answer
      return not_answered("exception");
    }
  }();
  settle(key, unwell);
  promise.set_value(claims);
  return claims;
}

void AskedOpaqueTokens::settle(const Key& key, bool unwell) {
  const std::lock_guard lock(mutex_);
  if (!unwell) {
    pauses_.erase(key);
    return;
  }
  if (pauses_.size() >= kMaxPauses) pauses_.clear();
  auto& pause = pauses_[key];
  pause.length = std::clamp<std::chrono::seconds>(pause.length * 2, 1s, kLongestPause);
  pause.until = clock_.now() + pause.length;
}

}  // namespace postern::grants
