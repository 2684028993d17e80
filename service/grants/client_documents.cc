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
constexpr auto kKnownFor = 24h;
/// A fetch that failed after so long did so by time-out: a refusal is quicker.
constexpr auto kSilent = 2s;
// With kRefreshingOfTenant half of the outbound threads; for one source fewer than
// at one origin.
constexpr int kBusyOfTenant = 4;
constexpr int kBusyAtOrigin = 3;
constexpr int kBusyOfSource = 2;
/// How a URL that failed is asked for again.
constexpr Throttle::Options kPauses{
    .free_failures = 2, .max_delay = 30s, .report_every = 0s, .entries = 16'384};
/// How an origin that did not answer is: each time it may hold a thread to the end.
constexpr Throttle::Options kOriginPauses{
    .free_failures = 0, .max_delay = 30s, .report_every = 0s, .entries = 4'096};

Error refused(std::string diagnostic) {
  return fail(ErrorCode::InvalidClient, "client authentication failed",
              "client document: " + std::move(diagnostic));
}

Error too_many_failed(std::chrono::seconds retry_after) {
  Error error = fail(ErrorCode::RateLimited, "too many client metadata documents are not there");
  error.retry_after = retry_after;
  return error;
}

Error too_many_under_way() {
  Error error = fail(ErrorCode::Unavailable, "", "client documents: too many under way");
  error.retry_after = 1s;
  return error;
}

std::string origin_of(std::string_view url) {
  return std::string(url.substr(0, url.find('/', std::string_view("https://").size())));
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

ClientDocuments::ClientDocuments(outbound::Fetcher& fetcher, const Clock& clock)
    : fetcher_(fetcher), clock_(clock), urls_(clock, kPauses), origins_(clock, kOriginPauses) {}

Status ClientDocuments::may_fetch(const TenantId& id, OfTenant& tenant, const Fetch& fetch,
                                  sys_seconds now) {
  if (const auto pause = urls_.refuses(id, fetch.url, "")) {
    return too_many_failed(pause->retry_after);
  }
  if (fetch.known) {
    const auto origin = origin_of(fetch.url);
    if (const auto pause = origins_.refuses(id, origin, "")) {
      return too_many_failed(pause->retry_after);
    }
    if (tenant.refreshing.contains(origin) || tenant.refreshing.size() >= kRefreshingOfTenant) {
      return too_many_under_way();
    }
    return {};
  }
  if (now >= tenant.minute + 1min) {
    tenant.failures = 0;
    tenant.minute = now;
    for (auto& [name, source] : tenant.sources) source.failures = 0;
    std::erase_if(tenant.sources, [](const auto& entry) { return entry.second.busy == 0; });
  }
  // What is under way may fail as well.
  const auto source = tenant.sources.find(fetch.source);
  if (tenant.failures + tenant.busy >= kFailuresOfTenant ||
      (source != tenant.sources.end() &&
       source->second.failures + source->second.busy >= kFailuresOfSource)) {
    return too_many_failed(tenant.minute + 1min - now);
  }
  return {};
}

Status ClientDocuments::begin(OfTenant& tenant, const Fetch& fetch) {
  if (fetch.known) {
    tenant.refreshing.insert(origin_of(fetch.url));
    tenant.entries.find(fetch.url)->second.busy = true;
    return {};
  }
  auto& source = tenant.sources[fetch.source];
  auto& at = tenant.busy_at[origin_of(fetch.url)];
  if (source.busy >= kBusyOfSource || at >= kBusyAtOrigin || tenant.busy >= kBusyOfTenant) {
    return too_many_under_way();
  }
  ++source.busy;
  ++at;
  ++tenant.busy;
  return {};
}

void ClientDocuments::end(OfTenant& tenant, const Fetch& fetch) {
  if (fetch.known) {
    const auto entry = tenant.entries.find(fetch.url);
    if (entry != tenant.entries.end()) entry->second.busy = false;
    tenant.refreshing.erase(origin_of(fetch.url));
    return;
  }
  --tenant.busy;
  --tenant.sources[fetch.source].busy;
  const auto at = tenant.busy_at.find(origin_of(fetch.url));
  if (--at->second == 0) tenant.busy_at.erase(at);
}

void ClientDocuments::failed(const TenantId& id, OfTenant& tenant, const Fetch& fetch,
                             sys_seconds now) {
  urls_.failed(id, fetch.url, "");
  if (!fetch.known) {
    ++tenant.failures;
    ++tenant.sources[fetch.source].failures;
    return;
  }
  if (fetch.silent) origins_.failed(id, origin_of(fetch.url), "");
  const auto entry = tenant.entries.find(fetch.url);
  if (entry == tenant.entries.end()) return;
  if (fetch.silent && now < entry->second.fresh_until + kGrace) return;
  entry->second.made = nullptr;
  entry->second.text.clear();
  if (now >= entry->second.good_at + kKnownFor) tenant.entries.erase(entry);
}

Result<std::shared_ptr<const DocumentClient>> ClientDocuments::find(
    const policy::TenantSnapshot& snapshot, std::string_view client_id, std::string_view source,
    Wait wait) {
  const auto& allowed = snapshot.settings().registration;
  if (!allowed || !allowed->takes_metadata_of(client_id)) {
    return refused("not one that the tenant takes");
  }
  const auto now = clock_.now();
  const auto made_of = [&](const std::string& text) -> Made {
    POSTERN_TRY(auto made, read_client_document(text, client_id, *allowed,
                                                snapshot.introspection_algorithms()));
    return std::make_shared<const DocumentClient>(std::move(made));
  };
  const auto serve = [&](Entry& entry) -> Made {
    entry.used = now;
    // What the tenant allows may have changed since it was read.
    if (entry.epoch != snapshot.epoch()) {
      POSTERN_TRY(entry.made, made_of(entry.text));
      entry.epoch = snapshot.epoch();
    }
    return entry.made;
  };
  const auto& id = snapshot.tenant();
  Fetch asked{std::string(client_id), source_network(source)};
  {
    const std::lock_guard lock(mutex_);
    auto& tenant = tenants_[id];
    const auto known = tenant.entries.find(client_id);
    asked.known = known != tenant.entries.end();
    // While it is being fetched again, the last one serves: seconds at most.
    if (asked.known && known->second.made &&
        (known->second.busy || now < known->second.fresh_until)) {
      return serve(known->second);
    }
    // Before a thread that waits is taken up.
    if (auto may = may_fetch(id, tenant, asked, now); !may.ok()) {
      if (asked.known && known->second.made && now < known->second.fresh_until + kGrace) {
        return serve(known->second);
      }
      return std::move(may).error();
    }
    if (wait != Wait::Yes) return fail(ErrorCode::NeedsOutbound, "");
    POSTERN_CHECK(begin(tenant, asked));
  }
  Fetched document;
  const auto made = [&]() -> Made {
    try {
      POSTERN_TRY(document, fetch(asked));
      return made_of(document.text);
    } catch (const std::exception&) {  // nothing may stay under way for ever
      return refused("exception");
    }
  }();
  const std::lock_guard lock(mutex_);
  auto& tenant = tenants_[id];
  end(tenant, asked);
  if (asked.known && !asked.silent) origins_.succeeded(id, origin_of(asked.url), "");
  if (!made.ok()) {
    failed(id, tenant, asked, clock_.now());
    if (!asked.known || !asked.silent) return made;
    const auto left = tenant.entries.find(asked.url);
    return left != tenant.entries.end() && left->second.made ? serve(left->second) : made;
  }
  urls_.succeeded(id, asked.url, "");
  if (tenant.entries.size() >= kKeptPerTenant && !tenant.entries.contains(asked.url)) {
    tenant.entries.erase(std::min_element(
        tenant.entries.begin(), tenant.entries.end(),
        [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
  }
  tenant.entries.insert_or_assign(
      asked.url, Entry{std::move(document.text), snapshot.epoch(), made.value(), false, now,
                       now + document.max_age, now});
  return made;
}

std::size_t ClientDocuments::remembered() const {
  const std::lock_guard lock(mutex_);
  auto sum = urls_.entries() + origins_.entries();
  for (const auto& [id, tenant] : tenants_) sum += tenant.entries.size() + tenant.sources.size();
  return sum;
}

Result<ClientDocuments::Fetched> ClientDocuments::fetch(Fetch& fetch) const {
  outbound::FetchRequest request;
  request.url = fetch.url;
  const auto begun = clock_.now();
  auto answer = fetcher_.get(request);
  fetch.silent = !answer.ok() && clock_.now() >= begun + kSilent;
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
