#include "grants/issuer_keys.h"

#include <algorithm>
#include <exception>

#include "outbound/fetch.h"

namespace postern::grants {

using namespace std::chrono_literals;

namespace {

constexpr auto kRetryAfter = 60s;
constexpr int kWaitingPerTenant = 3;
constexpr auto kMinFresh = 5min;
constexpr auto kMaxFresh = 24h;
constexpr std::size_t kMaxEntries = 50'000;

Error not_reachable(std::string diagnostic) {
  return fail(ErrorCode::Unavailable, "the keys that verify this cannot be fetched right now",
              std::move(diagnostic));
}

}  // namespace

std::shared_ptr<FetchedIssuerKeys::Entry> FetchedIssuerKeys::entry_of(const TenantId& tenant,
                                                                      const Source& source) {
  const std::lock_guard lock(mutex_);
  // Clients that nobody configured come and go: what nobody uses and is due anyway goes first.
  if (entries_.size() >= kMaxEntries) {
    const auto now = clock_.now();
    std::erase_if(entries_, [&](const auto& known) {
      return known.second.use_count() == 1 && now >= known.second->fresh_until &&
             now >= known.second->next_attempt;
    });
  }
  // Tenant and revision are part of the key: one tenant's set never serves
  // another, and a changed registration starts anew.
  auto& entry = entries_[Key(tenant, source.name, source.revision)];
  if (!entry) {
    entry = std::make_shared<Entry>();
    // Older revisions of the same issuer are of no further use.
    for (auto it = entries_.lower_bound(Key(tenant, source.name, 0));
         it != entries_.end() && std::get<0>(it->first) == tenant &&
         std::get<1>(it->first) == source.name;) {
      it = std::get<2>(it->first) < source.revision ? entries_.erase(it) : std::next(it);
    }
  }
  return entry;
}

std::optional<Result<std::shared_ptr<const token::JwkSet>>> FetchedIssuerKeys::cached(
    const Entry& entry, const std::optional<std::string>& kid, sys_seconds now) {
  const bool usable = entry.keys && now < entry.usable_until;
  const bool known = !kid || (entry.keys && entry.keys->has_kid(*kid));
  if (usable && now < entry.fresh_until && known) return entry.keys;
  if (entry.busy && usable && known) return entry.keys;
  if (now < entry.next_attempt) {
    if (usable) return entry.keys;  // verification will refuse an unknown kid
    return not_reachable("issuer keys: waiting before the next attempt");
  }
  return std::nullopt;
}

Result<std::shared_ptr<const token::JwkSet>> FetchedIssuerKeys::keys(
    const TenantId& tenant, const policy::IssuerEntry& issuer,
    const std::optional<std::string>& kid, Wait wait) {
  if (issuer.static_keys) return issuer.static_keys;
  const auto& config = issuer.config;
  return fetched(tenant,
                 {"issuer/" + config.name, issuer.revision, config.jwks_uri,
                  config.discovery ? config.issuer : std::string()},
                 kid, wait);
}

Result<std::shared_ptr<const token::JwkSet>> FetchedIssuerKeys::keys_of(
    const TenantId& tenant, const policy::ClientKeys& client, const std::optional<std::string>& kid,
    Wait wait) {
  if (client.static_keys) return client.static_keys;
  return fetched(tenant, {"client/" + client.client, client.revision, client.jwks_uri, ""}, kid,
                 wait);
}

Result<std::shared_ptr<const token::JwkSet>> FetchedIssuerKeys::fetched(
    const TenantId& tenant, const Source& source, const std::optional<std::string>& kid,
    Wait wait) {
  const auto entry = entry_of(tenant, source);
  {
    const std::lock_guard lock(mutex_);
    if (auto answer = cached(*entry, kid, clock_.now())) return std::move(*answer);
  }
  if (wait != Wait::Yes) return fail(ErrorCode::NeedsOutbound, "");

  // The outbound threads are everybody's: one tenant's slow issuers get few of them.
  {
    const std::lock_guard lock(mutex_);
    if (waiting_[tenant] >= kWaitingPerTenant) {
      Error error = not_reachable("issuer keys: tenant has too many fetches under way");
      error.retry_after = std::chrono::seconds(1);
      return error;
    }
    ++waiting_[tenant];
  }
  const std::shared_ptr<void> leave(nullptr, [&](void*) {
    const std::lock_guard lock(mutex_);
    if (--waiting_[tenant] == 0) waiting_.erase(tenant);
  });
  const std::lock_guard fetching(entry->fetching);
  {
    // Another request may have fetched while this one waited.
    const std::lock_guard lock(mutex_);
    if (auto answer = cached(*entry, kid, clock_.now())) return std::move(*answer);
    entry->busy = true;
  }
  auto answer = [&]() -> Result<Fetched> {
    try {
      return fetch(source);
    } catch (const std::exception&) {  // nothing may leave `busy` set
      return not_reachable("issuer keys: exception");
    }
  }();
  const auto now = clock_.now();
  const std::lock_guard lock(mutex_);
  entry->busy = false;
  entry->next_attempt = now + kRetryAfter;
  if (answer.ok()) {
    const auto fresh =
        std::clamp<std::chrono::seconds>(answer.value().max_age, kMinFresh, kMaxFresh);
    entry->keys = std::make_shared<const token::JwkSet>(std::move(answer.value().keys));
    entry->fresh_until = now + fresh;
    entry->usable_until = entry->fresh_until + kMaxFresh;
  } else if (!entry->keys || now >= entry->usable_until) {
    return std::move(answer).error();
  }
  return entry->keys;
}

Result<FetchedIssuerKeys::Fetched> FetchedIssuerKeys::fetch(const Source& source) {
  const auto get =
      [&](const std::string& url) -> Result<std::pair<token::Json, outbound::FetchReply>> {
    outbound::FetchRequest request;
    request.url = url;
    auto answer = fetcher_.get(request);
    if (!answer.ok()) return not_reachable(answer.error().diagnostic);
    auto reply = std::move(answer).value();
    if (reply.status != 200) {
      return not_reachable("issuer keys: status " + std::to_string(reply.status));
    }
    token::JsonLimits limits;
    limits.max_bytes = 256 * 1024;
    auto json = token::parse_json(reply.body, limits);
    if (!json.ok()) return not_reachable("issuer keys: not JSON");
    return std::pair(std::move(json).value(), std::move(reply));
  };

  std::string jwks_uri = source.jwks_uri;
  if (!source.discovery.empty()) {
    // OpenID Connect Discovery §4: the path is appended to the issuer.
    std::string base = source.discovery;
    if (base.ends_with('/')) base.pop_back();
    POSTERN_TRY(const auto found, get(base + "/.well-known/openid-configuration"));
    const auto& metadata = found.first;
    const auto text = [&](const char* name) {
      const auto it = metadata.is_object() ? metadata.find(name) : metadata.end();
      return it != metadata.end() && it->is_string() ? it->get<std::string>() : std::string();
    };
    // §4.3: the metadata must be of the issuer that was asked.
    if (text("issuer") != source.discovery || text("jwks_uri").empty()) {
      return not_reachable("issuer keys: metadata names another issuer or no keys");
    }
    jwks_uri = text("jwks_uri");
  }
  POSTERN_TRY(const auto document, get(jwks_uri));
  auto keys = token::JwkSet::parse(document.first, token::JwkSet::WeakKeys::Skip);
  if (!keys.ok()) return not_reachable("issuer keys: not a key set");
  return Fetched{std::move(keys).value(), document.second.cache_max_age.value_or(0s)};
}

}  // namespace postern::grants
