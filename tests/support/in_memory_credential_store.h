#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "audit/log.h"
#include "core/ids.h"
#include "core/result.h"
#include "crypto/base64url.h"
#include "vault/credential.h"

namespace postern::test {

/// Sealed credentials in memory. The audit log is asked last, under the same
/// lock, so that a write and its events happen together or not. Thread-safe.
class InMemoryCredentialStore final : public vault::CredentialStore {
 public:
  explicit InMemoryCredentialStore(audit::AuditLog& audit) : audit_(audit) {}

  Result<vault::CredentialMetadata> put(const TenantId& tenant, const vault::CredentialKey& key,
                                        std::optional<std::uint32_t> expected_version,
                                        const Seal& seal,
                                        std::span<const audit::Event> events) override {
    const std::lock_guard lock(mutex_);
    const auto* entry = find(tenant, key);
    const auto latest = entry == nullptr ? 0 : entry->latest();
    if (expected_version && *expected_version != latest) return changed();
    const auto version = (entry == nullptr ? 0 : entry->last_version) + 1;
    POSTERN_TRY(auto sealed, seal(version));
    POSTERN_CHECK(audit_.append(events));
    auto& written = tenants_[tenant][key];
    written.last_version = version;
    written.versions.push_back(std::move(sealed));
    auto stored = describe(key, written.versions.back());
    stored.replaces = latest != 0;
    return stored;
  }

  Result<vault::SealedVersion> latest(const TenantId& tenant,
                                      const vault::CredentialKey& key) override {
    const std::lock_guard lock(mutex_);
    const auto* entry = find(tenant, key);
    if (entry == nullptr || entry->versions.empty()) return absent();
    return entry->versions.back();
  }

  Result<vault::CredentialMetadata> metadata(const TenantId& tenant,
                                             const vault::CredentialKey& key) override {
    POSTERN_TRY(const auto version, latest(tenant, key));
    return describe(key, version);
  }

  Result<Page> list(const TenantId& tenant, const std::optional<Owner>& owner,
                    std::string_view cursor, std::uint32_t limit) override {
    std::optional<vault::CredentialKey> after;
    if (!cursor.empty()) {
      POSTERN_TRY(after, decode_cursor(cursor));
    }
    const std::size_t at_most = std::clamp<std::uint32_t>(limit, 1, 1000);
    const std::lock_guard lock(mutex_);
    Page page;
    for (const auto& [key, entry] : tenants_[tenant]) {
      if (entry.versions.empty() || (owner && key.owner != *owner) || (after && key <= *after)) {
        continue;
      }
      if (page.items.size() == at_most) {
        page.next = encode_cursor(page.items.back().key);
        break;
      }
      page.items.push_back(describe(key, entry.versions.back()));
    }
    return page;
  }

  Status remove(const TenantId& tenant, const vault::CredentialKey& key,
                std::optional<std::uint32_t> expected_version,
                std::span<const audit::Event> events) override {
    const std::lock_guard lock(mutex_);
    const auto* entry = find(tenant, key);
    if (entry == nullptr || entry->versions.empty()) return absent();
    if (expected_version && *expected_version != entry->latest()) return changed();
    POSTERN_CHECK(audit_.append(events));
    tenants_[tenant][key].versions.clear();  // the last version number stays
    return {};
  }

 private:
  struct Entry {
    std::uint32_t last_version = 0;  ///< ever given, so that none is given twice
    std::vector<vault::SealedVersion> versions;
    std::uint32_t latest() const { return versions.empty() ? 0 : versions.back().version; }
  };

  static Error absent() { return fail(ErrorCode::NotFound, "no such credential"); }
  static Error changed() {
    return fail(ErrorCode::PreconditionFailed, "the credential has another version");
  }

  static vault::CredentialMetadata describe(const vault::CredentialKey& key,
                                            const vault::SealedVersion& version) {
    return {key,  version.version, version.field_names, version.created_at, version.expires_at,
            false};
  }

  static std::string encode_cursor(const vault::CredentialKey& key) {
    const auto& [issuer, subject] = key.owner.principal();
    return crypto::base64url(as_bytes(issuer)) + '.' + crypto::base64url(as_bytes(subject)) + '.' +
           key.name.str();
  }

  static Result<std::optional<vault::CredentialKey>> decode_cursor(std::string_view cursor) {
    const auto first = cursor.find('.');
    const auto second = first == cursor.npos ? first : cursor.find('.', first + 1);
    const auto malformed = fail(ErrorCode::MalformedRequest, "malformed cursor");
    if (second == cursor.npos) return malformed;
    const auto issuer = crypto::base64url_decode(cursor.substr(0, first));
    const auto subject = crypto::base64url_decode(cursor.substr(first + 1, second - first - 1));
    const auto name = CredentialName::parse(cursor.substr(second + 1));
    if (!issuer.ok() || !subject.ok() || !name.ok()) return malformed;
    const auto owner = issuer.value().empty()
                           ? Owner::tenant()
                           : Owner::principal({std::string(as_text(issuer.value())),
                                               std::string(as_text(subject.value()))});
    return std::optional(vault::CredentialKey{owner, name.value()});
  }

  const Entry* find(const TenantId& tenant, const vault::CredentialKey& key) const {
    const auto credentials = tenants_.find(tenant);
    if (credentials == tenants_.end()) return nullptr;
    const auto entry = credentials->second.find(key);
    return entry == credentials->second.end() ? nullptr : &entry->second;
  }

  audit::AuditLog& audit_;
  std::mutex mutex_;
  std::map<TenantId, std::map<vault::CredentialKey, Entry>> tenants_;
};

}  // namespace postern::test
