#pragma once

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
/// and bounded for each tenant; failures are not kept at all (draft §4.4). So a
/// tenant's failing fetches are bounded by time and by number instead. A document
/// that cannot be fetched any more is no client any more. Thread-safe.
class ClientDocuments {
 public:
  ClientDocuments(outbound::Fetcher& fetcher, const Clock& clock)
      : fetcher_(fetcher), clock_(clock) {}

  /// Errors: InvalidClient when the tenant takes no such client, or the document
  /// is not there or does not say what it must; NeedsOutbound; RateLimited,
  /// Unavailable when the tenant has too many fetches failing or under way.
  Result<std::shared_ptr<const DocumentClient>> find(const policy::TenantSnapshot& snapshot,
                                                     std::string_view client_id, Wait wait);

 private:
  struct Entry {
    std::string text;         ///< the document
    std::uint64_t epoch = 0;  ///< of the tenant that `made` was made for
    std::shared_ptr<const DocumentClient> made;
    sys_seconds fresh_until{};
    sys_seconds used{};
  };
  struct OfTenant {
    std::map<std::string, Entry, std::less<>> entries;
    int busy = 0;  ///< fetches under way
    int failures = 0;
    sys_seconds failures_since{};
  };
  struct Fetched {
    std::string text;
    std::chrono::seconds max_age{};
  };

  Result<Fetched> fetch(const std::string& url) const;

  outbound::Fetcher& fetcher_;
  const Clock& clock_;
  std::mutex mutex_;
  std::map<TenantId, OfTenant> tenants_;
};

/// Reads a document as the client that it describes, held to what the tenant
/// allows. Errors: InvalidClient.
Result<DocumentClient> read_client_document(std::string_view text, std::string_view client_id,
                                            const policy::Registration& allowed,
                                            const std::set<crypto::Algorithm>& signs);

}  // namespace postern::grants
