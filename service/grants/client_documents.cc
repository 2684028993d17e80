#include "grants/client_documents.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "core/bytes.h"
#include "outbound/fetch.h"
#include "policy/client_metadata.h"
#include "token/json.h"

namespace postern::grants {

using namespace std::chrono_literals;

namespace {

constexpr std::size_t kMaxDocumentBytes = 5 * 1024;  // draft §6.6
constexpr auto kMinFresh = 1min;
constexpr auto kDefaultFresh = 5min;
constexpr auto kMaxFresh = 1h;
constexpr std::size_t kKeptPerTenant = 500;
constexpr int kBusyPerTenant = 3;
constexpr int kFailuresPerMinute = 30;

Error refused(std::string diagnostic) {
  return fail(ErrorCode::InvalidClient, "client authentication failed",
              "client document: " + std::move(diagnostic));
}

bool is_json(std::string_view content_type) {
  auto media = content_type.substr(0, content_type.find(';'));
  while (!media.empty() && media.back() == ' ') media.remove_suffix(1);
  return media == "application/json" ||
         (media.starts_with("application/") && media.ends_with("+json"));
}

}  // namespace

Result<DocumentClient> read_client_document(std::string_view text, std::string_view client_id,
                                            const policy::Registration& allowed,
                                            const std::set<crypto::Algorithm>& signs) {
  if (!allowed.takes_metadata_of(client_id)) return refused("not one that the tenant takes");
  token::JsonLimits limits;
  limits.max_bytes = kMaxDocumentBytes;
  const auto json = token::parse_json(text, limits);
  if (!json.ok() || !json.value().is_object()) return refused("not a JSON object of 5 KiB");
  // Whoever can put a file on a host must not speak for another file's client.
  const auto id = json.value().find("client_id");
  if (id == json.value().end() || !id->is_string() ||
      id->get_ref<const std::string&>() != client_id) {
    return refused("client_id is not its URL");
  }
  auto metadata =
      policy::read_client_metadata(json.value(), allowed, signs, policy::MetadataSource::Document);
  if (!metadata.ok()) {
    // The document is public, and its author needs to know.
    auto error = refused("not accepted");
    error.detail = "the client's metadata document is not accepted: " +
                   metadata.error().pointer.substr(metadata.error().pointer.empty() ? 0 : 1) + " " +
                   metadata.error().detail;
    return error;
  }
  DocumentClient made{policy::client_of(ClientId(std::string(client_id)), metadata.value()), {}};
  policy::hold_to(allowed, made.client);
  // Another place for the keys is another set: their cache knows sources by name.
  const auto& rule = made.client.authentication;
  made.keys.client = std::string(client_id) + " " + rule.jwks_uri;
  made.keys.jwks_uri = rule.jwks_uri;
  if (!metadata.value().jwks.is_null() &&
      rule.method == policy::ClientAuthentication::PrivateKeyJwt) {
    auto keys = token::JwkSet::parse(metadata.value().jwks, token::JwkSet::WeakKeys::Refuse);
    if (!keys.ok()) return refused("keys");
    made.keys.static_keys = std::make_shared<const token::JwkSet>(std::move(keys).value());
  }
  return made;
}

Result<std::shared_ptr<const DocumentClient>> ClientDocuments::find(
    const policy::TenantSnapshot& snapshot, std::string_view client_id, Wait wait) {
  const auto& allowed = snapshot.settings().registration;
  if (!allowed || !allowed->takes_metadata_of(client_id)) {
    return refused("not one that the tenant takes");
  }
  const auto now = clock_.now();
  const auto made_of =
      [&](const std::string& text) -> Result<std::shared_ptr<const DocumentClient>> {
    POSTERN_TRY(auto made, read_client_document(text, client_id, *allowed,
                                                snapshot.introspection_algorithms()));
    return std::make_shared<const DocumentClient>(std::move(made));
  };
  {
    const std::lock_guard lock(mutex_);
    auto& tenant = tenants_[snapshot.tenant()];
    const auto known = tenant.entries.find(client_id);
    if (known != tenant.entries.end() && now < known->second.fresh_until) {
      auto& entry = known->second;
      entry.used = now;
      // What the tenant allows may have changed since it was read.
      if (entry.epoch != snapshot.epoch()) {
        POSTERN_TRY(entry.made, made_of(entry.text));
        entry.epoch = snapshot.epoch();
      }
      return entry.made;
    }
    if (wait != Wait::Yes) return fail(ErrorCode::NeedsOutbound, "");
    if (now >= tenant.failures_since + 1min) {
      tenant.failures = 0;
      tenant.failures_since = now;
    }
    if (tenant.failures >= kFailuresPerMinute) {
      Error error =
          fail(ErrorCode::RateLimited, "too many client metadata documents are not there");
      error.retry_after = tenant.failures_since + 1min - now;
      return error;
    }
    if (tenant.busy >= kBusyPerTenant) {
      Error error = fail(ErrorCode::Unavailable, "", "client documents: too many under way");
      error.retry_after = 1s;
      return error;
    }
    ++tenant.busy;
  }
  using Made = Result<std::shared_ptr<const DocumentClient>>;
  Fetched document;
  const auto made = [&]() -> Made {
    try {
      POSTERN_TRY(document, fetch(std::string(client_id)));
      return made_of(document.text);
    } catch (const std::exception&) {  // nothing may leave `busy` raised
      return refused("exception");
    }
  }();
  const std::lock_guard lock(mutex_);
  auto& tenant = tenants_[snapshot.tenant()];
  --tenant.busy;
  if (!made.ok()) {
    ++tenant.failures;
    tenant.entries.erase(std::string(client_id));
    return made;
  }
  if (tenant.entries.size() >= kKeptPerTenant) {
    tenant.entries.erase(std::min_element(
        tenant.entries.begin(), tenant.entries.end(),
        [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
  }
  tenant.entries.insert_or_assign(
      std::string(client_id),
      Entry{std::move(document.text), snapshot.epoch(), made.value(), now + document.max_age, now});
  return made;
}

Result<ClientDocuments::Fetched> ClientDocuments::fetch(const std::string& url) const {
  outbound::FetchRequest request;
  request.url = url;
  auto answer = fetcher_.get(request);
  if (!answer.ok()) return refused(answer.error().diagnostic);
  auto& reply = answer.value();
  if (reply.status != 200) return refused("status " + std::to_string(reply.status));
  if (!is_json(reply.content_type)) return refused("content type");
  if (reply.body.size() > kMaxDocumentBytes) return refused("too large");
  const auto fresh = reply.cache_max_age.value_or(kDefaultFresh);
  return Fetched{std::move(reply.body),
                 std::clamp<std::chrono::seconds>(fresh, kMinFresh, kMaxFresh)};
}

}  // namespace postern::grants
