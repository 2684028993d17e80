#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "audit/log.h"
#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "policy/config_store.h"
#include "support/in_memory_kek_store.h"

namespace postern::test {

/// Tenants and their configuration in memory. Keys of new tenants go to the KEK
/// store, events to the audit log, which is asked last, under the same lock, so
/// that a change and its events happen together or not. Thread-safe.
class InMemoryConfigStore final : public policy::ConfigStore {
 public:
  InMemoryConfigStore(audit::AuditLog& log, InMemoryKekStore& keks) : log_(log), keks_(keks) {}

  Result<TenantPage> tenants(std::string_view cursor, std::uint32_t limit) override {
    if (!cursor.empty() && !TenantId::parse(cursor).ok()) {
      return fail(ErrorCode::MalformedRequest, "malformed cursor");
    }
    const std::size_t at_most = std::clamp<std::uint32_t>(limit, 1, 1000);
    const std::lock_guard lock(mutex_);
    TenantPage page;
    for (const auto& [tenant, stored] : tenants_) {
      if (tenant.str() <= cursor) continue;
      if (page.items.size() == at_most) {
        page.next = page.items.back().tenant.str();
        break;
      }
      page.items.push_back(stored.row);
    }
    return page;
  }

  Result<policy::StoredTenant> load(const TenantId& tenant) override {
    const std::lock_guard lock(mutex_);
    ++loads_;
    const auto found = tenants_.find(tenant);
    if (found == tenants_.end()) return absent();
    return found->second;
  }

  Result<std::uint64_t> apply(const TenantId& tenant, const policy::ConfigChange& change,
                              std::span<const audit::Event> events) override {
    check_events(tenant, events);
    const std::lock_guard lock(mutex_);
    POSTERN_TRY(auto next, begin(tenant, change));
    POSTERN_CHECK(change_objects(next, change));
    POSTERN_CHECK(change_keys(next, change));
    if (change.create) keks_.add(tenant, change.create->kek);
    if (const auto audited = log_.append(events); !audited.ok()) {
      if (change.create) keks_.erase(tenant);
      return audited.error();
    }
    tenants_.insert_or_assign(tenant, next);
    return next.row.epoch;
  }

  Status remove(const TenantId& tenant, std::span<const audit::Event> events) override {
    check_events(tenant, events);
    const std::lock_guard lock(mutex_);
    if (!tenants_.contains(tenant)) return absent();
    POSTERN_CHECK(log_.append(events));
    tenants_.erase(tenant);
    keks_.erase(tenant);
    removed_.insert(tenant);
    return {};
  }

  Result<bool> was_removed(const TenantId& tenant) override {
    const std::lock_guard lock(mutex_);
    return removed_.contains(tenant);
  }

  std::size_t loads() const {
    const std::lock_guard lock(mutex_);
    return loads_;
  }

 private:
  static Error absent() { return fail(ErrorCode::NotFound, "no such tenant"); }
  static Error missing(const char* what) {
    return fail(ErrorCode::NotFound, std::string("no such ") + what);
  }
  static Error exists() { return fail(ErrorCode::Conflict, "it exists already"); }

  static void check_events(const TenantId& tenant, std::span<const audit::Event> events) {
    for (const auto& event : events) {
      if (event.tenant != tenant) throw std::logic_error("an event of another tenant");
    }
  }

  /// The tenant as it is, or new, with the next epoch and its own columns changed.
  Result<policy::StoredTenant> begin(const TenantId& tenant, const policy::ConfigChange& change) {
    const auto found = tenants_.find(tenant);
    const bool there = found != tenants_.end();
    if (change.create && (there || removed_.contains(tenant))) return exists();
    if (!change.create && !there) return absent();
    auto next = there ? found->second
                      : policy::StoredTenant{
                            {tenant, "", true, "{}", 0, SystemClock().now()}, {}, {}, {}, {}};
    if (change.expected_epoch && *change.expected_epoch != next.row.epoch) {
      return fail(ErrorCode::PreconditionFailed, "the tenant has changed meanwhile");
    }
    ++next.row.epoch;
    if (change.display_name) next.row.display_name = *change.display_name;
    if (change.enabled) next.row.enabled = *change.enabled;
    if (change.settings) next.row.settings = *change.settings;
    return next;
  }

  static Status change_objects(policy::StoredTenant& next, const policy::ConfigChange& change) {
    for (const auto& [kind, name] : change.remove) {
      const auto removed =
          std::erase_if(next.objects, [&, kind = kind, &name = name](auto& object) {
            return object.kind == kind && object.name == name;
          });
      if (removed == 0) return missing("configuration object");
      if (kind == policy::Kind::Client) {
        std::erase_if(next.client_secrets,
                      [&name = name](auto& secret) { return secret.client.str() == name; });
      }
    }
    for (auto object : change.put) {
      if (object.name.find('\0') != std::string::npos) {
        return fail(ErrorCode::MalformedRequest, "a text holds a NUL character");
      }
      std::erase_if(next.objects, [&](auto& other) {
        return other.kind == object.kind && other.name == object.name;
      });
      object.revision = next.row.epoch;
      next.objects.push_back(std::move(object));
    }
    return {};
  }

  static Status change_keys(policy::StoredTenant& next, const policy::ConfigChange& change) {
    for (const auto& [client, secret_id] : change.remove_client_secrets) {
      if (std::erase_if(next.client_secrets,
                        [&client = client, &secret_id = secret_id](auto& secret) {
                          return secret.client == client && secret.secret_id == secret_id;
                        }) == 0) {
        return missing("client secret");
      }
    }
    for (const auto& secret : change.add_client_secrets) {
      if (std::none_of(next.objects.begin(), next.objects.end(), [&](auto& object) {
            return object.kind == policy::Kind::Client && object.name == secret.client.str();
          })) {
        return missing("client");
      }
      next.client_secrets.push_back(secret);
    }
    for (const auto& token_id : change.remove_admin_tokens) {
      if (std::erase_if(next.admin_tokens,
                        [&](auto& token) { return token.token_id == token_id; }) == 0) {
        return missing("admin token");
      }
    }
    for (const auto& token : change.add_admin_tokens) {
      if (std::any_of(next.admin_tokens.begin(), next.admin_tokens.end(),
                      [&](auto& other) { return other.token_id == token.token_id; })) {
        return exists();
      }
      next.admin_tokens.push_back(token);
    }
    for (const auto& token_id : change.remove_initial_tokens) {
      if (std::erase_if(next.initial_tokens,
                        [&](auto& token) { return token.token_id == token_id; }) == 0) {
        return missing("initial access token");
      }
    }
    for (const auto& token : change.add_initial_tokens) {
      if (std::any_of(next.initial_tokens.begin(), next.initial_tokens.end(),
                      [&](auto& other) { return other.token_id == token.token_id; })) {
        return exists();
      }
      next.initial_tokens.push_back(token);
    }
    for (const auto& token_id : change.use_initial_tokens) {
      const auto found = std::find_if(
          next.initial_tokens.begin(), next.initial_tokens.end(),
          [&](auto& token) { return token.token_id == token_id && token.uses < token.max_uses; });
      if (found == next.initial_tokens.end()) return missing("initial access token");
      ++found->uses;
    }
    for (const auto& kid : change.remove_signing_keys) {
      if (std::erase_if(next.signing_keys, [&](auto& key) { return key.kid == kid; }) == 0) {
        return missing("signing key");
      }
    }
    for (const auto& key : change.add_signing_keys) {
      if (std::any_of(next.signing_keys.begin(), next.signing_keys.end(),
                      [&](auto& other) { return other.kid == key.kid; })) {
        return exists();
      }
      next.signing_keys.push_back(key);
    }
    for (const auto& [kid, state] : change.set_signing_key_state) {
      const auto found = std::find_if(next.signing_keys.begin(), next.signing_keys.end(),
                                      [&kid = kid](auto& key) { return key.kid == kid; });
      if (found == next.signing_keys.end()) return missing("signing key");
      found->state = state;
      if (state != policy::SigningKeyState::Retired) {
        found->retired_at.reset();
      } else if (!found->retired_at) {
        found->retired_at = SystemClock().now();
      }
    }
    return {};
  }

  audit::AuditLog& log_;
  InMemoryKekStore& keks_;
  mutable std::mutex mutex_;
  std::map<TenantId, policy::StoredTenant> tenants_;
  std::set<TenantId> removed_;
  std::size_t loads_ = 0;
};

}  // namespace postern::test
