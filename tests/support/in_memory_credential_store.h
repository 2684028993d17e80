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
class InMemoryCredentialStore : public vault::CredentialStore {
 public:
  explicit InMemoryCredentialStore(audit::AuditLog& audit) : audit_(audit) {}

  using CredentialStore::put;
  Result<vault::CredentialMetadata> put(const TenantId& tenant, const vault::CredentialKey& key,
                                        std::optional<vault::Expected> expected, const Seal& seal,
                                        const Edit& edit,
                                        std::span<const audit::Event> events) override {
    const std::lock_guard lock(mutex_);
    auto after = find(tenant, key) == nullptr ? Entry() : *find(tenant, key);
    const auto latest = after.latest();
    if (expected && !expected->meets(latest, after.revision)) return changed();
    if (after.description.cas_required && !(expected && expected->named)) {
      return vault::cas_is_required();
    }
    POSTERN_CHECK(edited(edit, after.description));
    POSTERN_TRY(auto sealed, seal(++after.last_version));
    POSTERN_CHECK(vault::validate_version_metadata(sealed.metadata));
    POSTERN_CHECK(audit_.append(events));
    after.revision = 0;
    after.versions.push_back({std::move(sealed), {}, {}});
    while (after.versions.size() > after.description.max_versions) {
      after.versions.erase(after.versions.begin());
    }
    auto stored = describe(key, after);
    stored.replaces = latest != 0;
    tenants_[tenant].insert_or_assign(key, std::move(after));
    return stored;
  }

  Result<vault::SealedVersion> latest(const TenantId& tenant,
                                      const vault::CredentialKey& key) override {
    const std::lock_guard lock(mutex_);
    const auto* entry = present(tenant, key);
    if (entry == nullptr || !entry->versions.back().live()) return absent();
    return without_metadata(entry->versions.back().sealed);
  }

  Result<vault::SealedVersion> version(const TenantId& tenant, const vault::CredentialKey& key,
                                       std::uint32_t number) override {
    const std::lock_guard lock(mutex_);
    if (const auto* entry = present(tenant, key)) {
      for (const auto& each : entry->versions) {
        if (each.sealed.version == number && each.live()) return without_metadata(each.sealed);
      }
    }
    return absent_version();
  }

  Result<vault::CredentialMetadata> metadata(const TenantId& tenant,
                                             const vault::CredentialKey& key) override {
    const std::lock_guard lock(mutex_);
    const auto* entry = present(tenant, key);
    if (entry == nullptr) return absent();
    return describe(key, *entry);
  }

  Result<History> history(const TenantId& tenant, const vault::CredentialKey& key) override {
    const std::lock_guard lock(mutex_);
    const auto* entry = present(tenant, key);
    if (entry == nullptr) return absent();
    History found{describe(key, *entry), {}};
    for (const auto& [sealed, deleted_at, destroyed_at, withdrawn] : entry->versions) {
      found.versions.push_back({sealed.version, sealed.field_names, sealed.created_at,
                                sealed.expires_at, deleted_at, destroyed_at, withdrawn,
                                sealed.metadata});
    }
    return found;
  }

  Result<vault::CredentialMetadata> describe(const TenantId& tenant,
                                             const vault::CredentialKey& key,
                                             std::optional<vault::Expected> expected,
                                             const Edit& edit,
                                             std::span<const audit::Event> events) override {
    const std::lock_guard lock(mutex_);
    const auto* entry = present(tenant, key);
    if (entry == nullptr) return absent();
    if (expected && !expected->meets(entry->latest(), entry->revision)) return changed();
    auto after = *entry;
    POSTERN_CHECK(edited(edit, after.description));
    if (after.description != entry->description) ++after.revision;
    POSTERN_CHECK(audit_.append(events));
    auto described = describe(key, after);
    tenants_[tenant].insert_or_assign(key, std::move(after));
    return described;
  }

  Result<vault::CredentialMetadata> change_versions(const TenantId& tenant,
                                                    const vault::CredentialKey& key,
                                                    std::span<const std::uint32_t> versions,
                                                    VersionChange how,
                                                    std::optional<vault::Expected> expected,
                                                    sys_seconds now,
                                                    std::span<const audit::Event> events) override {
    const std::lock_guard lock(mutex_);
    const auto* entry = present(tenant, key);
    if (entry == nullptr) return absent();
    if (expected && !expected->meets(entry->latest(), entry->revision)) return changed();
    auto after = *entry;
    bool any = false, any_intact = false, any_changed = false;
    const bool deletes = how == VersionChange::Delete || how == VersionChange::Withdraw;
    for (auto& each : after.versions) {
      const auto number = each.sealed.version;
      const bool meant =
          versions.empty() ? number == entry->latest()
                           : std::find(versions.begin(), versions.end(), number) != versions.end();
      if (!meant) continue;
      any = true;
      if (each.destroyed_at) continue;
      any_intact = true;
      if (how == VersionChange::Undelete && each.withdrawn) return vault::version_is_withdrawn();
      if (how == VersionChange::Destroy) {
        each.sealed.sealed.clear();
        each.sealed.wrapped_dek.clear();
        each.destroyed_at = now;
      } else if (how == VersionChange::Withdraw ? each.withdrawn
                                                : each.deleted_at.has_value() == deletes) {
        continue;
      } else {
        each.deleted_at = deletes ? each.deleted_at.value_or(now) : std::optional<sys_seconds>();
        each.withdrawn = how == VersionChange::Withdraw;
      }
      any_changed = true;
    }
    if (!any) return absent_version();
    if (!any_intact && how != VersionChange::Destroy) return vault::version_is_destroyed();
    if (any_changed) ++after.revision;
    POSTERN_CHECK(audit_.append(events));
    auto described = describe(key, after);
    tenants_[tenant].insert_or_assign(key, std::move(after));
    return described;
  }

  Result<Page> list(const TenantId& tenant, const Filter& filter, std::string_view cursor,
                    std::uint32_t limit) override {
    std::optional<vault::CredentialKey> after;
    if (!cursor.empty()) {
      POSTERN_TRY(after, decode_cursor(cursor));
    }
    const std::size_t at_most = std::clamp<std::uint32_t>(limit, 1, 1000);
    const std::lock_guard lock(mutex_);
    Page page;
    for (const auto& [key, entry] : tenants_[tenant]) {
      if (entry.versions.empty() || !passes(filter, key, entry) || (after && key <= *after)) {
        continue;
      }
      if (page.items.size() == at_most) {
        page.next = encode_cursor(page.items.back().key);
        break;
      }
      page.items.push_back(describe(key, entry));
    }
    return page;
  }

  Status remove(const TenantId& tenant, const vault::CredentialKey& key,
                std::optional<vault::Expected> expected,
                std::span<const audit::Event> events) override {
    const std::lock_guard lock(mutex_);
    const auto* entry = present(tenant, key);
    if (entry == nullptr) return absent();
    if (expected && !expected->meets(entry->latest(), entry->revision)) return changed();
    POSTERN_CHECK(audit_.append(events));
    Entry nothing;
    nothing.last_version = entry->last_version;  // so that no number is given twice
    tenants_[tenant].insert_or_assign(key, std::move(nothing));
    return {};
  }

  Status note_uses(const TenantId& tenant, std::span<const Use> uses) override {
    const std::lock_guard lock(mutex_);
    for (const auto& use : uses) {
      const auto* entry = present(tenant, use.key);
      if (entry == nullptr || use.at < entry->versions.front().sealed.created_at) continue;
      auto& last = tenants_[tenant][use.key].last_used_at;
      last = std::max(last.value_or(use.at), use.at);
    }
    return {};
  }

 private:
  /// history() alone shows what was said about a version.
  static vault::SealedVersion without_metadata(vault::SealedVersion version) {
    version.metadata.clear();
    return version;
  }

  struct Version {
    vault::SealedVersion sealed;
    std::optional<sys_seconds> deleted_at, destroyed_at;
    bool withdrawn = false;
    bool live() const { return !deleted_at && !destroyed_at; }
  };
  struct Entry {
    std::uint32_t last_version = 0;  ///< ever given, so that none is given twice
    std::uint32_t revision = 0;
    std::vector<Version> versions;  ///< none: removed
    vault::CredentialDescription description;
    std::optional<sys_seconds> last_used_at;
    std::uint32_t latest() const { return versions.empty() ? 0 : versions.back().sealed.version; }
  };

  static Error absent() { return fail(ErrorCode::NotFound, "no such credential"); }
  static Error absent_version() { return fail(ErrorCode::NotFound, "no such version"); }
  static Error changed() {
    return fail(ErrorCode::PreconditionFailed, "the credential has another version");
  }

  static Status edited(const Edit& edit, vault::CredentialDescription& description) {
    if (!edit) return {};
    POSTERN_CHECK(edit(description));
    return vault::validate(description);
  }

  static bool passes(const Filter& filter, const vault::CredentialKey& key, const Entry& entry) {
    const auto& description = entry.description;
    if (filter.owner && key.owner != *filter.owner) return false;
    if (!filter.type.empty() && description.type != filter.type) return false;
    for (const auto& [name, text] : filter.labels) {
      const auto label = description.labels.find(name);
      if (label == description.labels.end() || label->second != text) return false;
    }
    const auto& due = description.rotation_due_at;
    return !filter.due_by || (entry.versions.back().live() && due && *due <= *filter.due_by);
  }

  static vault::CredentialMetadata describe(const vault::CredentialKey& key, const Entry& entry) {
    const auto& latest = entry.versions.back();
    const auto& sealed = latest.sealed;
    return {key,
            sealed.version,
            sealed.field_names,
            sealed.created_at,
            sealed.expires_at,
            false,
            latest.deleted_at,
            latest.destroyed_at,
            entry.revision,
            entry.description,
            entry.last_used_at};
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

  const Entry* present(const TenantId& tenant, const vault::CredentialKey& key) const {
    const auto* entry = find(tenant, key);
    return entry == nullptr || entry->versions.empty() ? nullptr : entry;
  }

  audit::AuditLog& audit_;
  std::mutex mutex_;
  std::map<TenantId, std::map<vault::CredentialKey, Entry>> tenants_;
};

}  // namespace postern::test
