#include "storage/postgres_config_store.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "storage/kek_row.h"
#include "storage/session.h"

namespace postern::storage {
namespace {

using policy::ConfigChange;
using policy::SigningKeyState;

constexpr Statement kSetDirectory{"tenant.set_directory",
                                  "SELECT set_config('postern.scope', 'directory', true)"};
// Across tenants, and so under the policy `directory`, which shows this table only.
constexpr Statement kTenants{"tenant.list", R"sql(
    SELECT tenant_id, display_name, enabled, settings, epoch,
           extract(epoch FROM created_at)::bigint
      FROM tenant
     WHERE tenant_id > $1
     ORDER BY tenant_id
     LIMIT $2)sql"};
constexpr Statement kTenant{"tenant.load", R"sql(
    SELECT tenant_id, display_name, enabled, settings, epoch,
           extract(epoch FROM created_at)::bigint
      FROM tenant
     WHERE tenant_id = $1)sql"};
constexpr Statement kObjects{"config_object.load", R"sql(
    SELECT kind, name, spec, revision
      FROM config_object
     WHERE tenant_id = $1
     ORDER BY kind, name)sql"};
constexpr Statement kClientSecrets{"client_secret.load", R"sql(
    SELECT client_id, secret_id, hash, extract(epoch FROM expires_at)::bigint
      FROM client_secret
     WHERE tenant_id = $1
     ORDER BY client_id, secret_id)sql"};
constexpr Statement kAdminTokens{"admin_token.load", R"sql(
    SELECT token_id, description, hash, extract(epoch FROM created_at)::bigint,
           extract(epoch FROM expires_at)::bigint
      FROM admin_token
     WHERE tenant_id = $1
     ORDER BY token_id)sql"};
constexpr Statement kSigningKeys{"signing_key.load", R"sql(
    SELECT kid, algorithm, public_jwk, state, kek_version, wrapped,
           extract(epoch FROM created_at)::bigint, extract(epoch FROM retired_at)::bigint,
           extract(epoch FROM active_from)::bigint
      FROM signing_key
     WHERE tenant_id = $1
     ORDER BY created_at, kid)sql"};

constexpr Statement kInitialTokens{"initial_access_token.load", R"sql(
    SELECT token_id, description, hash, extract(epoch FROM created_at)::bigint,
           extract(epoch FROM expires_at)::bigint, max_uses, uses
      FROM initial_access_token
     WHERE tenant_id = $1
     ORDER BY created_at, token_id)sql"};

constexpr Statement kCreateTenant{"tenant.create", R"sql(
    INSERT INTO tenant (tenant_id, display_name, enabled, settings)
    VALUES ($1, $2, $3, $4))sql"};
constexpr Statement kFindTombstone{"tenant_tombstone.find", R"sql(
    SELECT 1 FROM tenant_tombstone WHERE tenant_id = $1)sql"};
constexpr Statement kCreateKek{"kek.create", R"sql(
    INSERT INTO kek (tenant_id, version, root_key_id, wrapped, share_id)
    VALUES ($1, $2, $3, $4, nullif($5, ''::bytea)))sql"};
constexpr Statement kCreateHead{"audit_head.create", R"sql(
    INSERT INTO audit_head (tenant_id, sequence, hash, mac, kek_version)
    VALUES ($1, 0, $2, $3, $4))sql"};
constexpr Statement kChangeTenant{"tenant.change", R"sql(
    UPDATE tenant
       SET epoch = epoch + 1,
           display_name = CASE WHEN $2 THEN $3 ELSE display_name END,
           enabled      = CASE WHEN $4 THEN $5 ELSE enabled END,
           settings     = CASE WHEN $6 THEN $7 ELSE settings END
     WHERE tenant_id = $1
 RETURNING epoch)sql"};
constexpr Statement kPutObject{"config_object.put", R"sql(
    INSERT INTO config_object (tenant_id, kind, name, spec, revision)
    VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (tenant_id, kind, name)
        DO UPDATE SET spec = excluded.spec, revision = excluded.revision)sql"};
constexpr Statement kRemoveObject{"config_object.remove", R"sql(
    DELETE FROM config_object WHERE tenant_id = $1 AND kind = $2 AND name = $3)sql"};
constexpr Statement kAddClientSecret{"client_secret.add", R"sql(
    INSERT INTO client_secret (tenant_id, client_id, secret_id, hash, expires_at)
    VALUES ($1, $2, $3, $4, to_timestamp(nullif($5, '')::bigint)))sql"};
constexpr Statement kRemoveClientSecret{"client_secret.remove", R"sql(
    DELETE FROM client_secret WHERE tenant_id = $1 AND client_id = $2 AND secret_id = $3)sql"};
constexpr Statement kAddAdminToken{"admin_token.add", R"sql(
    INSERT INTO admin_token (tenant_id, token_id, description, hash, created_at, expires_at)
    VALUES ($1, $2, $3, $4, to_timestamp($5), to_timestamp(nullif($6, '')::bigint)))sql"};
constexpr Statement kRemoveAdminToken{"admin_token.remove", R"sql(
    DELETE FROM admin_token WHERE tenant_id = $1 AND token_id = $2)sql"};
constexpr Statement kAddSigningKey{"signing_key.add", R"sql(
    INSERT INTO signing_key
           (tenant_id, kid, algorithm, public_jwk, state, kek_version, wrapped, created_at,
            retired_at, active_from)
    VALUES ($1, $2, $3, $4, $5, $6, $7, to_timestamp($8),
            to_timestamp(nullif($9, '')::bigint), to_timestamp(nullif($10, '')::bigint)))sql"};
constexpr Statement kRemoveSigningKey{"signing_key.remove", R"sql(
    DELETE FROM signing_key WHERE tenant_id = $1 AND kid = $2)sql"};
constexpr Statement kSetSigningKeyState{"signing_key.set_state", R"sql(
    UPDATE signing_key
       SET state = $3,
           retired_at = CASE WHEN $3 = 'retired' THEN coalesce(retired_at, now()) END
     WHERE tenant_id = $1 AND kid = $2)sql"};
constexpr Statement kAddInitialToken{"initial_access_token.add", R"sql(
    INSERT INTO initial_access_token
           (tenant_id, token_id, description, hash, created_at, expires_at, max_uses, uses)
    VALUES ($1, $2, $3, $4, to_timestamp($5), to_timestamp($6), $7, $8))sql"};
constexpr Statement kRemoveInitialToken{"initial_access_token.remove", R"sql(
    DELETE FROM initial_access_token WHERE tenant_id = $1 AND token_id = $2)sql"};
constexpr Statement kUseInitialToken{"initial_access_token.use", R"sql(
    UPDATE initial_access_token
       SET uses = uses + 1
     WHERE tenant_id = $1 AND token_id = $2 AND uses < max_uses)sql"};
constexpr Statement kNotify{"tenant.notify", "SELECT pg_notify('postern_epoch', $1)"};

// First, so that an erasure that begins now waits, and finds no tenant.
constexpr Statement kLockTenant{"tenant.lock", R"sql(
    SELECT 1 FROM tenant WHERE tenant_id = $1 FOR UPDATE)sql"};
constexpr Statement kOpenErasure{"erasure.any_open", R"sql(
    SELECT 1 FROM erasure WHERE tenant_id = $1 AND done_at IS NULL
     UNION ALL
    SELECT 1 FROM tenant_erasure WHERE tenant_id = $1 AND done_at IS NULL)sql"};
constexpr Statement kRemoveTenant{"tenant.remove", R"sql(
    DELETE FROM tenant WHERE tenant_id = $1)sql"};
constexpr Statement kAddTombstone{"tenant_tombstone.add", R"sql(
    INSERT INTO tenant_tombstone (tenant_id) VALUES ($1))sql"};
constexpr Statement kCloseHead{"audit_head.close", R"sql(
    UPDATE audit_head SET closed = true WHERE tenant_id = $1)sql"};

Error absent() { return fail(ErrorCode::NotFound, "no such tenant"); }

crypto::Hash256 hash_in(const pqxx::field& field) {
  const auto raw = bytes(field);
  crypto::Hash256 out{};
  if (raw.size() != out.size()) throw std::logic_error("a stored hash has another length");
  std::copy(raw.begin(), raw.end(), out.begin());
  return out;
}

const char* text_of(SigningKeyState state) {
  switch (state) {
    case SigningKeyState::Pending: return "pending";
    case SigningKeyState::Active: return "active";
    case SigningKeyState::Retired: return "retired";
  }
  throw std::logic_error("no such state");
}
SigningKeyState state_in(const pqxx::field& field) {
  for (const auto state :
       {SigningKeyState::Pending, SigningKeyState::Active, SigningKeyState::Retired}) {
    if (text(field) == text_of(state)) return state;
  }
  throw std::logic_error("no such state");
}

policy::TenantRow tenant_in(const pqxx::row& row) {
  return {TenantId(text(row[0])),        text(row[1]),   number<bool>(row[2]), text(row[3]),
          number<std::uint64_t>(row[4]), instant(row[5])};
}

void check_events(const TenantId& tenant, std::span<const audit::Event> events) {
  for (const auto& event : events) {
    if (event.tenant != tenant) throw std::logic_error("an event of another tenant");
  }
}

/// Creates the tenant, or raises its epoch. Returns the epoch.
Result<std::uint64_t> write_tenant(TenantTransaction& tx, const TenantId& tenant,
                                   const ConfigChange& change) {
  const auto name = change.display_name.value_or("");
  const auto enabled = change.enabled.value_or(true);
  if (!change.create) {
    const auto rows = tx.run(kChangeTenant, tenant.str(), change.display_name.has_value(), name,
                             change.enabled.has_value(), enabled, change.settings.has_value(),
                             change.settings.value_or(""));
    if (rows.empty()) return absent();
    const auto epoch = number<std::uint64_t>(rows[0][0]);
    if (change.expected_epoch && *change.expected_epoch != epoch - 1) {
      return fail(ErrorCode::PreconditionFailed, "the tenant has changed meanwhile");
    }
    return epoch;
  }

  if (change.expected_epoch.value_or(0) != 0) {
    return fail(ErrorCode::PreconditionFailed, "the tenant does not exist yet");
  }
  tx.run(kCreateTenant, tenant.str(), name, enabled, change.settings.value_or("{}"));
  // After the insert, which waits for a removal under way: so that one is seen.
  if (!tx.run(kFindTombstone, tenant.str()).empty()) {
    return fail(ErrorCode::Conflict, "a tenant of this id was deleted; an id is never used again");
  }
  const auto& kek = change.create->kek;
  tx.run(kCreateKek, tenant.str(), static_cast<std::uint32_t>(kek.version), kek.root_key_id,
         ByteView(kek.wrapped), bytes_of(kek.share));
  const audit::ChainHead empty;
  const auto mac = audit::head_mac(change.create->chain_key.key, tenant, empty);
  tx.run(kCreateHead, tenant.str(), ByteView(empty.hash), ByteView(mac),
         static_cast<std::uint32_t>(change.create->chain_key.kek_version));
  return std::uint64_t{1};
}

Status write_objects(TenantTransaction& tx, const TenantId& tenant, const ConfigChange& change,
                     std::uint64_t epoch) {
  const auto exactly_one = [](const pqxx::result& result, const char* what) -> Status {
    if (result.affected_rows() == 1) return {};
    return fail(ErrorCode::NotFound, std::string("no such ") + what);
  };
  for (const auto& [kind, name] : change.remove) {
    POSTERN_CHECK(exactly_one(tx.run(kRemoveObject, tenant.str(), policy::to_string(kind), name),
                              "configuration object"));
  }
  for (const auto& object : change.put) {
    tx.run(kPutObject, tenant.str(), policy::to_string(object.kind), object.name, object.spec,
           epoch);
  }
  for (const auto& [client, secret_id] : change.remove_client_secrets) {
    POSTERN_CHECK(exactly_one(tx.run(kRemoveClientSecret, tenant.str(), client.str(), secret_id),
                              "client secret"));
  }
  for (const auto& secret : change.add_client_secrets) {
    tx.run(kAddClientSecret, tenant.str(), secret.client.str(), secret.secret_id,
           ByteView(secret.hash), seconds_of(secret.expires_at));
  }
  for (const auto& token_id : change.remove_admin_tokens) {
    POSTERN_CHECK(exactly_one(tx.run(kRemoveAdminToken, tenant.str(), token_id), "admin token"));
  }
  for (const auto& token : change.add_admin_tokens) {
    tx.run(kAddAdminToken, tenant.str(), token.token_id, token.description, ByteView(token.hash),
           seconds_of(token.created_at), seconds_of(token.expires_at));
  }
  for (const auto& kid : change.remove_signing_keys) {
    POSTERN_CHECK(exactly_one(tx.run(kRemoveSigningKey, tenant.str(), kid), "signing key"));
  }
  for (const auto& key : change.add_signing_keys) {
    tx.run(kAddSigningKey, tenant.str(), key.kid, key.algorithm, key.public_jwk, text_of(key.state),
           static_cast<std::uint32_t>(key.wrapped.kek_version), ByteView(key.wrapped.wrapped),
           seconds_of(key.created_at), seconds_of(key.retired_at), seconds_of(key.active_from));
  }
  for (const auto& [kid, state] : change.set_signing_key_state) {
    POSTERN_CHECK(
        exactly_one(tx.run(kSetSigningKeyState, tenant.str(), kid, text_of(state)), "signing key"));
  }
  for (const auto& token_id : change.remove_initial_tokens) {
    POSTERN_CHECK(
        exactly_one(tx.run(kRemoveInitialToken, tenant.str(), token_id), "initial access token"));
  }
  for (const auto& token : change.add_initial_tokens) {
    tx.run(kAddInitialToken, tenant.str(), token.token_id, token.description, ByteView(token.hash),
           seconds_of(token.created_at), seconds_of(token.expires_at), token.max_uses, token.uses);
  }
  for (const auto& token_id : change.use_initial_tokens) {
    POSTERN_CHECK(
        exactly_one(tx.run(kUseInitialToken, tenant.str(), token_id), "initial access token"));
  }
  return {};
}

}  // namespace

Result<policy::ConfigStore::TenantPage> PostgresConfigStore::tenants(std::string_view cursor,
                                                                     std::uint32_t limit) {
  if (!cursor.empty() && !TenantId::parse(cursor).ok()) {
    return fail(ErrorCode::MalformedRequest, "malformed cursor");
  }
  const std::size_t at_most = std::clamp<std::uint32_t>(limit, 1, 1000);
  return named(kTenants.name, database_.pool(), [&](Session& session) -> Result<TenantPage> {
    pqxx::work tx(session.link());
    ++session.counters().transactions;
    session.run(tx, kSetDirectory);
    TenantPage page;
    for (const auto& row : session.run(tx, kTenants, cursor, at_most + 1)) {
      if (page.items.size() == at_most) {
        page.next = page.items.back().tenant.str();
        break;
      }
      page.items.push_back(tenant_in(row));
    }
    return page;
  });
}

Result<policy::StoredTenant> PostgresConfigStore::load(const TenantId& tenant) {
  return named(
      kTenant.name, database_.pool(), [&](Session& session) -> Result<policy::StoredTenant> {
        TenantTransaction tx(session, tenant, TenantTransaction::Mode::Snapshot);
        const auto found = tx.run(kTenant, tenant.str());
        if (found.empty()) return absent();
        policy::StoredTenant out{tenant_in(found[0]), {}, {}, {}, {}};
        for (const auto& row : tx.run(kObjects, tenant.str())) {
          const auto kind = policy::parse_kind(text(row[0]));
          if (!kind) throw std::logic_error("no such kind");
          out.objects.push_back({*kind, text(row[1]), text(row[2]), number<std::uint64_t>(row[3])});
        }
        for (const auto& row : tx.run(kClientSecrets, tenant.str())) {
          out.client_secrets.push_back(
              {ClientId(text(row[0])), text(row[1]), hash_in(row[2]), optional_instant(row[3])});
        }
        for (const auto& row : tx.run(kAdminTokens, tenant.str())) {
          out.admin_tokens.push_back({text(row[0]), text(row[1]), hash_in(row[2]), instant(row[3]),
                                      optional_instant(row[4])});
        }
        for (const auto& row : tx.run(kSigningKeys, tenant.str())) {
          out.signing_keys.push_back({text(row[0]),
                                      text(row[1]),
                                      text(row[2]),
                                      state_in(row[3]),
                                      {KekVersion{number<std::uint32_t>(row[4])}, bytes(row[5])},
                                      instant(row[6]),
                                      optional_instant(row[7]),
                                      optional_instant(row[8])});
        }
        for (const auto& row : tx.run(kInitialTokens, tenant.str())) {
          out.initial_tokens.push_back(
              {text(row[0]), text(row[1]), hash_in(row[2]), instant(row[3]), instant(row[4]),
               number<std::uint32_t>(row[5]), number<std::uint32_t>(row[6])});
        }
        return out;
      });
}

Result<std::uint64_t> PostgresConfigStore::apply(const TenantId& tenant, const ConfigChange& change,
                                                 std::span<const audit::Event> events) {
  check_events(tenant, events);
  std::optional<audit::ChainKey> current;
  if (!change.create) {
    POSTERN_TRY(current, log_.key_of(tenant));
  }
  const auto& chain_key = change.create ? change.create->chain_key : *current;
  std::optional<audit::ChainHead> head;
  auto result =
      named("config.apply", database_.pool(), [&](Session& session) -> Result<std::uint64_t> {
        TenantTransaction tx(session, tenant);
        POSTERN_TRY(const auto epoch, write_tenant(tx, tenant, change));
        POSTERN_CHECK(write_objects(tx, tenant, change, epoch));
        tx.run(kNotify, tenant.str() + " " + std::to_string(epoch));
        POSTERN_TRY(head, log_.append_in(tx, tenant, chain_key, events));
        tx.commit();
        return epoch;
      });
  log_.ended(tenant, result.ok() ? head : std::nullopt);
  // A new signing key under the KEK before: the caller makes it again.
  if (!result.ok() && kek_was_rotated(result.error())) log_.forget_keys(tenant);
  return result;
}

Status PostgresConfigStore::remove(const TenantId& tenant, std::span<const audit::Event> events) {
  check_events(tenant, events);
  POSTERN_TRY(const auto chain_key, log_.key_of(tenant));
  auto status = named(kRemoveTenant.name, database_.pool(), [&](Session& session) -> Status {
    TenantTransaction tx(session, tenant);
    // It takes everything the tenant has with it.
    tx.work().exec("SET LOCAL statement_timeout = '60s'");
    session.allow(std::chrono::seconds(61));
    if (tx.run(kLockTenant, tenant.str()).empty()) return absent();
    // Its share would stay, and nobody would know whose it was.
    if (!tx.run(kOpenErasure, tenant.str()).empty()) {
      return fail(ErrorCode::Conflict, "an erasure of this tenant has not ended yet");
    }
    tx.run(kRemoveTenant, tenant.str());
    tx.run(kAddTombstone, tenant.str());
    POSTERN_CHECK(log_.append_in(tx, tenant, chain_key, events));
    tx.run(kCloseHead, tenant.str());
    tx.run(kNotify, tenant.str() + " 0");
    tx.commit();
    return {};
  });
  log_.ended(tenant, std::nullopt);
  return status;
}

Result<bool> PostgresConfigStore::was_removed(const TenantId& tenant) {
  return named(kFindTombstone.name, database_.pool(), [&](Session& session) -> Result<bool> {
    TenantTransaction tx(session, tenant);
    return !tx.run(kFindTombstone, tenant.str()).empty();
  });
}

}  // namespace postern::storage
