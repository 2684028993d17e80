#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "grants/issuer_keys.h"
#include "grants/throttle.h"
#include "policy/config.h"
#include "policy/snapshot.h"

namespace postern::outbound {
class Fetcher;
}

namespace postern::grants {

/// A client that is known by its metadata document alone.
struct DocumentClient {
  policy::Client client;
  policy::ClientKeys keys;  ///< of private_key_jwt; else without any
};

/// Clients whose `client_id` is the https URL of a document about them
/// (draft-ietf-oauth-client-id-metadata-document), where the tenant takes them.
/// What such a client may have is the tenant's `settings.registration`; its
/// document can only ask for less.
///
/// Documents are kept as long as their server says, within a minute and an hour,
/// and bounded for each tenant; failures are not kept at all (draft §4.4). A
/// document that cannot be fetched any more is no client any more; only where its
/// host does not answer at all, or may not be asked now, it is kGrace later.
///
/// Anybody can name a document that is not there, so failing fetches are bounded by
/// who causes them: a URL that failed waits, a source of requests and a tenant may
/// cause so many a minute. A document that was good lately is none of these: it is
/// fetched again whatever others do, one at a time for each origin, and an origin
/// that did not answer waits. All of it in this replica's memory, bounded.
/// Thread-safe.
class ClientDocuments {
 public:
  static constexpr int kFailuresOfSource = 10;  ///< a minute
  static constexpr int kFailuresOfTenant = 300;
  /// Origins at which documents of a tenant that were good lately are fetched again.
  static constexpr std::size_t kRefreshingOfTenant = 4;
  /// How long one that is not fresh any more may serve.
  static constexpr std::chrono::minutes kGrace{10};

  ClientDocuments(outbound::Fetcher& fetcher, const Clock& clock);

  /// @param source  address that the request comes from.
  /// Errors: InvalidClient when the tenant takes no such client, or the document
  /// is not there or does not say what it must; NeedsOutbound; RateLimited,
  /// Unavailable when too many fetches fail or are under way.
  Result<std::shared_ptr<const DocumentClient>> find(const policy::TenantSnapshot& snapshot,
                                                     std::string_view client_id,
                                                     std::string_view source, Wait wait);

  /// Documents, sources and failing URLs in memory.
  std::size_t remembered() const;

 private:
  using Made = Result<std::shared_ptr<const DocumentClient>>;
  /// A document that is good, or was within the last day.
  struct Entry {
    std::string text;                            ///< the document
    std::uint64_t epoch = 0;                     ///< of the tenant that `made` was made for
    std::shared_ptr<const DocumentClient> made;  ///< null: it could not be fetched any more
    bool busy = false;                           ///< being fetched
    sys_seconds good_at{};                       ///< last fetched
    sys_seconds fresh_until{};
    sys_seconds used{};
  };
  struct OfSource {
    int busy = 0;
    int failures = 0;
  };
  struct OfTenant {
    std::map<std::string, Entry, std::less<>> entries;
    std::set<std::string> refreshing;  ///< origins that are asked for what has an entry
    // Of all other fetches:
    int busy = 0;
    std::map<std::string, int> busy_at;       ///< by origin
    std::map<std::string, OfSource> sources;  ///< with fetches under way, or failed this minute
    int failures = 0;
    sys_seconds minute{};  ///< when it began
  };
  /// One fetch: what it is counted by.
  struct Fetch {
    std::string url;
    std::string source;
    bool known = false;   ///< it has an entry
    bool silent = false;  ///< it ended by time-out
  };
  struct Fetched {
    std::string text;
    std::chrono::seconds max_age{};
  };

  /// All with mutex_ held. Errors: RateLimited, Unavailable.
  Status may_fetch(const TenantId& id, OfTenant& tenant, const Fetch& fetch, sys_seconds now);
  /// Errors: Unavailable.
  static Status begin(OfTenant& tenant, const Fetch& fetch);
  static void end(OfTenant& tenant, const Fetch& fetch);
  void failed(const TenantId& id, OfTenant& tenant, const Fetch& fetch, sys_seconds now);

  Result<Fetched> fetch(Fetch& fetch) const;

  outbound::Fetcher& fetcher_;
  const Clock& clock_;
  Throttle urls_;     ///< that failed, whoever named them
  Throttle origins_;  ///< that did not answer for what has an entry
  mutable std::mutex mutex_;
  std::map<TenantId, OfTenant> tenants_;
};

/// Reads a document as the client that it describes, held to what the tenant
/// allows. Errors: InvalidClient.
Result<DocumentClient> read_client_document(std::string_view text, std::string_view client_id,
                                            const policy::Registration& allowed,
                                            const std::set<crypto::Algorithm>& signs);

}  // namespace postern::grants
