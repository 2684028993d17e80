#pragma once

// Rotations over a real database, with a world outside that may fail and a process that
// may die between any two things it does.

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "grants/credential_rotations.h"
#include "storage/postgres_credential_rotations.h"
#include "support/postgres_stores.h"
#include "support/tenant_fixture.h"
#include "vault/credential_rotation.h"
#include "vault/envelope.h"

namespace postern::test {

struct Died : std::runtime_error {
  Died() : std::runtime_error("the process died") {}
};

/// Counts what happens, and ends the process before or after the n-th.
struct Fate {
  int dies_at = 0;  ///< 0: never
  bool before = false;
  int happened = 0;

  template <class Body>
  auto pass(const Body& body) -> decltype(body()) {
    const bool now = ++happened == dies_at;
    if (now && before) throw Died();
    auto result = body();
    if (now) throw Died();
    return result;
  }
};

/// A server with roles and their passwords.
class RoleServer final : public vault::Rotator {
 public:
  explicit RoleServer(Fate& fate) : fate_(fate) {}

  Status check(const vault::RotationSettings&) const override {
    if (out_of_bounds) return *out_of_bounds;
    return {};
  }
  bool retires(const vault::RunningRotation& running) const override {
    return running.old_role != running.new_role;
  }
  Result<std::string> next_role(const vault::RotationSettings& settings,
                                const vault::Fields& current) const override {
    POSTERN_TRY(const auto log_in, vault::log_in_of(current, settings.field));
    for (const auto& role : settings.roles) {
      if (role != log_in.user) return role;
    }
    return settings.roles.front();
  }
  Status set(const Step& step) override {
    return fate_.pass([&]() -> Status {
      if (const auto refused = fails("connect")) return *refused;
      if (const auto may = step.before_change(); !may.ok()) return may;
      if (const auto refused = fails("set")) return *refused;
      if (on_set) on_set();
      remember(step.running.new_role, *step.made);
      return {};
    });
  }
  Status test(const Step& step) override {
    return fate_.pass([&]() -> Status {
      if (const auto refused = fails("test")) return *refused;
      const std::lock_guard lock(mutex);
      if (passwords[step.running.new_role] != password_of(*step.made)) {
        return fail(ErrorCode::Conflict, "the new password is not taken");
      }
      return {};
    });
  }
  Status retire(const Step& step) override {
    return fate_.pass([&]() -> Status {
      if (const auto refused = fails("retire")) return *refused;
      if (user_of(step.current) == step.running.old_role) return {};
      const std::lock_guard lock(mutex);
      passwords.erase(step.running.old_role);
      return {};
    });
  }
  Status undo(const Step& step) override {
    return fate_.pass([&]() -> Status {
      if (const auto refused = fails("undo")) return *refused;
      if (user_of(step.current) == step.running.new_role) {
        remember(step.running.new_role, *step.current);
      } else {
        const std::lock_guard lock(mutex);
        passwords.erase(step.running.new_role);
      }
      return {};
    });
  }

  static std::string password_of(const vault::Fields& fields) {
    auto log_in = must(vault::log_in_of(fields, "password"));
    return std::string(as_text(log_in.password.readable()));
  }

  std::map<std::string, std::string> passwords;
  std::map<std::string, std::vector<Error>> failures;  ///< of a step, taken from the front
  std::map<std::string, Error> refuses;                ///< a step, for good
  std::optional<Error> out_of_bounds;                  ///< what check() says
  std::function<void()> on_set;
  std::mutex mutex;

 private:
  static std::string user_of(const vault::Fields* fields) {
    return fields == nullptr ? "" : must(vault::log_in_of(*fields, "password")).user;
  }
  void remember(const std::string& role, const vault::Fields& fields) {
    const std::lock_guard lock(mutex);
    passwords[role] = password_of(fields);
  }
  std::optional<Error> fails(const char* step) {
    if (const auto refused = refuses.find(step); refused != refuses.end()) return refused->second;
    auto& left = failures[step];
    if (left.empty()) return std::nullopt;
    auto error = left.front();
    left.erase(left.begin());
    return error;
  }
  Fate& fate_;
};

/// The rows, of a process that may die before or after each change.
class MortalRotations final : public vault::CredentialRotationStore {
 public:
  MortalRotations(CredentialRotationStore& store, Fate& fate) : store_(store), fate_(fate) {}

  Result<vault::CredentialRotation> find(const TenantId& tenant,
                                         const vault::CredentialKey& key) override {
    return store_.find(tenant, key);
  }
  Result<std::vector<vault::CredentialRotation>> of(
      const TenantId& tenant, std::span<const vault::CredentialKey> keys) override {
    return store_.of(tenant, keys);
  }
  Result<vault::CredentialRotation> change(const TenantId& tenant, const vault::CredentialKey& key,
                                           const std::string& lease, const Edit& edit) override {
    return fate_.pass([&] { return store_.change(tenant, key, lease, edit); });
  }
  Result<vault::CredentialRotation> begin(const TenantId& tenant, const vault::CredentialKey& key,
                                          vault::Expected expected, const Lease& lease,
                                          const vault::CredentialStore::Seal& seal,
                                          const Edit& edit) override {
    return fate_.pass([&] { return store_.begin(tenant, key, expected, lease, seal, edit); });
  }
  Result<vault::CredentialRotation> take(const TenantId& tenant, const vault::CredentialKey& key,
                                         const Lease& lease, sys_seconds now) override {
    return fate_.pass([&] { return store_.take(tenant, key, lease, now); });
  }
  Status give_back(const TenantId& tenant, const vault::CredentialKey& key,
                   const std::string& lease) override {
    return fate_.pass([&] { return store_.give_back(tenant, key, lease); });
  }
  Result<vault::SealedVersion> version(const TenantId& tenant, const vault::CredentialKey& key,
                                       std::uint32_t number) override {
    return store_.version(tenant, key, number);
  }
  Result<std::vector<Due>> due(sys_seconds now, std::uint32_t limit) override {
    return store_.due(now, limit);
  }
  Result<Counts> counts(sys_seconds now) override { return store_.counts(now); }

 private:
  CredentialRotationStore& store_;
  Fate& fate_;
};

/// One tenant's database, a role server, and a credential `db` that logs in there.
struct RotationWorld {
  using Key = vault::CredentialKey;

  RotationWorld() { put("pg-admin", "postgres", "admin"); }

  /// A process; the one before is no more, or runs beside it.
  std::unique_ptr<grants::CredentialRotations> process() {
    return std::make_unique<grants::CredentialRotations>(
        mortal, stores.credentials, envelope, clock,
        grants::CredentialRotations::Rotators{&server, nullptr});
  }

  static Key key(const std::string& name) { return {Owner::tenant(), CredentialName(name)}; }
  static vault::Fields log_in(const std::string& user, const std::string& password) {
    vault::Fields fields;
    fields.emplace("username", FieldValue(SecureBuffer::copy_of(user)));
    fields.emplace("password", FieldValue(SecureBuffer::copy_of(password)));
    return fields;
  }
  std::uint32_t put(const std::string& name, const std::string& user, const std::string& password,
                    std::optional<sys_seconds> expires_at = {}) {
    const auto fields = log_in(user, password);
    return must(stores.credentials.put(tenant, key(name), std::nullopt,
                                       [&](std::uint32_t version) {
                                         return envelope.seal(tenant, key(name), version, fields,
                                                              clock.now(), expires_at);
                                       },
                                       {}))
        .version;
  }
  /// `user:password` of the latest value; the error's name when there is none.
  std::string value(const std::string& name) {
    const auto sealed = stores.credentials.latest(tenant, key(name));
    if (!sealed.ok()) return std::string(to_string(sealed.error().code));
    const auto fields = must(envelope.open(tenant, key(name), sealed.value()));
    return must(vault::log_in_of(fields, "password")).user + ':' + RoleServer::password_of(fields);
  }
  audit::Event record(const char* action = "credential.rotate") const {
    return {tenant, clock.now(), action, audit::Outcome::Allowed, "request", {}};
  }
  static vault::RotationSettings settings(std::vector<std::string> roles) {
    vault::RotationSettings out;
    out.kind = vault::RotationKind::Postgres;
    out.field = "password";
    out.host = "db.example";
    out.database = "main";
    out.roles = std::move(roles);
    out.secret_credential = "pg-admin";
    out.grace = std::chrono::hours(1);
    return out;
  }
  /// Goes on, as replicas do, until nothing is left to do now.
  vault::CredentialRotation settle(const std::string& name) {
    for (int i = 0; i < 40; ++i) {
      clock.advance(std::chrono::seconds(121));  // whoever died has no lease any more
      const auto now = must(rows.find(tenant, key(name)));
      if (!now.next_at || *now.next_at > clock.now()) return now;
      static_cast<void>(process()->go_on(tenant, key(name)));
    }
    throw std::runtime_error("it goes on for ever");
  }

  PostgresStores stores;
  vault::Envelope envelope{stores.keyring};
  FixedClock clock;
  const TenantId tenant = stores.add_tenant();
  storage::PostgresCredentialRotations rows{stores.database, stores.log};
  Fate fate;
  MortalRotations mortal{rows, fate};
  RoleServer server{fate};
};

}  // namespace postern::test
