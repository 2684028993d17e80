#include "storage/postgres_credential_rotations.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <stdexcept>
#include <utility>

#include "policy/rotation_settings.h"
#include "storage/credential_row.h"
#include "storage/session.h"
#include "storage/write_audited.h"
#include "token/json.h"

namespace postern::storage {
namespace {

using vault::CredentialRotation;
using vault::RotationPhase;
using Effect = vault::CredentialRotationStore::Effect;

// What rotation_in() reads, of a credential `c`, its latest version `v` and what is kept of
// its rotation `r`, if there is anything.
#define ROTATION_OF_CREDENTIALS                                                                  \
  "SELECT c.owner_issuer, c.owner_subject, c.name, v.version, c.revision, "                      \
  "extract(epoch FROM v.deleted_at)::bigint, extract(epoch FROM v.destroyed_at)::bigint, "       \
  "c.type, c.max_versions, extract(epoch FROM c.rotation_due_at)::bigint, "                      \
  "r.name IS NOT NULL, r.settings, r.phase, r.rotation_id, r.running, r.new_version, "           \
  "r.old_version, r.new_role, r.old_role, extract(epoch FROM r.started_at)::bigint, "            \
  "extract(epoch FROM r.retire_at)::bigint, r.attempts, r.problem, "                             \
  "CASE WHEN r.public_version IS NOT NULL THEN coalesce(r.current_public_half, '') "             \
  "WHEN r.phase IN ('none', 'previous') THEN r.public_half ELSE '' END, "                        \
  "extract(epoch FROM r.rotated_at)::bigint, extract(epoch FROM r.failed_at)::bigint, "          \
  "r.failures, extract(epoch FROM r.next_at)::bigint, r.lease, c.first_version, "                \
  "r.sent, r.wanted, c.cas_required, r.public_half, "                                            \
  "coalesce(r.public_version, v.version), extract(epoch FROM v.expires_at)::bigint, "            \
  "coalesce((SELECT t.enabled FROM tenant t WHERE t.tenant_id = c.tenant_id), false) "           \
  "FROM credential c JOIN credential_version v "                                                 \
  "ON v.tenant_id = c.tenant_id AND v.owner_issuer = c.owner_issuer "                            \
  "AND v.owner_subject = c.owner_subject AND v.name = c.name AND v.version = c.current_version " \
  "LEFT JOIN credential_rotation r ON r.tenant_id = c.tenant_id "                                \
  "AND r.owner_issuer = c.owner_issuer AND r.owner_subject = c.owner_subject AND r.name = c.name "
#define ONE_ROTATION "tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4"

constexpr Statement kFind{"rotation.find", ROTATION_OF_CREDENTIALS R"sql(
     WHERE c.tenant_id = $1 AND c.owner_issuer = $2 AND c.owner_subject = $3
       AND c.name = $4)sql"};
constexpr Statement kOf{"rotation.of", ROTATION_OF_CREDENTIALS R"sql(
      JOIN jsonb_to_recordset($2::jsonb) AS k (issuer text, subject text, name text)
        ON k.issuer = c.owner_issuer AND k.subject = c.owner_subject AND k.name = c.name
     WHERE c.tenant_id = $1 AND r.name IS NOT NULL
     ORDER BY c.owner_issuer, c.owner_subject, c.name)sql"};
// First, as everybody who changes a credential or its versions does.
constexpr Statement kLock{"rotation.lock", R"sql(
    SELECT current_version
      FROM credential
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
       FOR UPDATE)sql"};
constexpr Statement kStore{"rotation.store", R"sql(
    INSERT INTO credential_rotation
           (tenant_id, owner_issuer, owner_subject, name, settings, phase, rotation_id, running,
            new_version, old_version, new_role, old_role, started_at, retire_at, attempts, problem,
            public_half, rotated_at, failed_at, failures, next_at, due_at, sent, wanted,
            current_public_half, public_version)
    VALUES ($1, $2, $3, $4, nullif($5, '')::jsonb, $6, $7, nullif($8, '')::jsonb, $9, $10, $11,
            $12, to_timestamp(nullif($13, '')::bigint), to_timestamp(nullif($14, '')::bigint), $15,
            $16, $17, to_timestamp(nullif($18, '')::bigint),
            to_timestamp(nullif($19, '')::bigint), $20, to_timestamp(nullif($21, '')::bigint),
            to_timestamp(nullif($22, '')::bigint), $23, $24, $25, $26)
        ON CONFLICT (tenant_id, owner_issuer, owner_subject, name)
        DO UPDATE SET settings = EXCLUDED.settings, phase = EXCLUDED.phase,
                      rotation_id = EXCLUDED.rotation_id, running = EXCLUDED.running,
                      new_version = EXCLUDED.new_version, old_version = EXCLUDED.old_version,
                      new_role = EXCLUDED.new_role, old_role = EXCLUDED.old_role,
                      started_at = EXCLUDED.started_at, retire_at = EXCLUDED.retire_at,
                      attempts = EXCLUDED.attempts, problem = EXCLUDED.problem,
                      public_half = EXCLUDED.public_half, rotated_at = EXCLUDED.rotated_at,
                      failed_at = EXCLUDED.failed_at, failures = EXCLUDED.failures,
                      next_at = EXCLUDED.next_at, due_at = EXCLUDED.due_at,
                      sent = EXCLUDED.sent, wanted = EXCLUDED.wanted,
                      current_public_half = EXCLUDED.current_public_half,
                      public_version = EXCLUDED.public_version)sql"};
constexpr Statement kSetDue{"rotation.set_due", R"sql(
    UPDATE credential
       SET rotation_due_at = to_timestamp(nullif($5, '')::bigint), revision = revision + 1
     WHERE )sql" ONE_ROTATION};
constexpr Statement kNextVersion{"rotation.next_version", R"sql(
    UPDATE credential SET last_version = last_version + 1
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
 RETURNING last_version)sql"};
constexpr Statement kAddVersion{"rotation.add_version", R"sql(
    INSERT INTO credential_version
           (tenant_id, owner_issuer, owner_subject, name, version, kek_version, wrapped_dek,
            sealed, field_names, created_at, expires_at, share_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, string_to_array($9, ','),
            to_timestamp($10), to_timestamp(nullif($11, '')::bigint), nullif($12, ''::bytea)))sql"};
// As a put does it, but for the version that stays valid for its grace.
constexpr Statement kPromote{"rotation.promote", R"sql(
    UPDATE credential SET current_version = $5, first_version = $6, revision = 0
     WHERE )sql" ONE_ROTATION};
constexpr Statement kPrune{"rotation.prune", R"sql(
    DELETE FROM credential_version
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
       AND version < $5)sql"};
constexpr Statement kDropVersion{"rotation.drop_version", R"sql(
    DELETE FROM credential_version
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
       AND version = $5
       AND version > (SELECT c.current_version FROM credential c
                       WHERE c.tenant_id = $1 AND c.owner_issuer = $2 AND c.owner_subject = $3
                         AND c.name = $4))sql"};
constexpr Statement kDeleteOld{"rotation.delete_old", R"sql(
    UPDATE credential_version SET deleted_at = to_timestamp($6)
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
       AND version = $5 AND deleted_at IS NULL AND destroyed_at IS NULL)sql"};
constexpr Statement kDestroyOld{"rotation.destroy_old", R"sql(
    UPDATE credential_version
       SET sealed = NULL, wrapped_dek = NULL, kek_version = NULL, destroyed_at = to_timestamp($6)
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
       AND version = $5 AND destroyed_at IS NULL)sql"};
constexpr Statement kRevise{"rotation.revise", R"sql(
    UPDATE credential SET revision = revision + 1
     WHERE )sql" ONE_ROTATION};
constexpr Statement kTake{"rotation.take", R"sql(
    UPDATE credential_rotation SET lease = $5, lease_until = to_timestamp($6)
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
       AND (lease = '' OR lease = $5 OR lease_until <= to_timestamp($7)))sql"};
// Of a rotation that begins: whoever began it has the first step.
constexpr Statement kHold{"rotation.hold", R"sql(
    UPDATE credential_rotation SET lease = $5, lease_until = to_timestamp($6)
     WHERE )sql" ONE_ROTATION};
constexpr Statement kGiveBack{"rotation.give_back", R"sql(
    UPDATE credential_rotation SET lease = '', lease_until = NULL
     WHERE tenant_id = $1 AND owner_issuer = $2 AND owner_subject = $3 AND name = $4
       AND lease = $5)sql"};
constexpr Statement kVersion{"rotation.version", R"sql(
    SELECT v.version, v.kek_version, v.wrapped_dek, v.sealed, array_to_string(v.field_names, ','),
           extract(epoch FROM v.created_at)::bigint, extract(epoch FROM v.expires_at)::bigint,
           v.share_id
      FROM credential_version v
     WHERE v.tenant_id = $1 AND v.owner_issuer = $2 AND v.owner_subject = $3 AND v.name = $4
       AND v.version = $5 AND v.deleted_at IS NULL AND v.destroyed_at IS NULL)sql"};

constexpr Statement kSetScope{"rotation.set_scope",
                              "SELECT set_config('postern.scope', 'rotations', true)"};
constexpr Statement kSetDirectory{"rotation.set_directory",
                                  "SELECT set_config('postern.scope', 'directory', true)"};
constexpr Statement kDisabled{"rotation.disabled", R"sql(
    SELECT coalesce(string_agg(tenant_id, ','), '') FROM tenant WHERE NOT enabled)sql"};
// Across tenants, and so under the policy `rotations`, which shows this table only. Tenants
// take turns, so that one with many that hang does not keep the others waiting.
constexpr Statement kDue{"rotation.due", R"sql(
    SELECT tenant_id, owner_issuer, owner_subject, name
      FROM (SELECT tenant_id, owner_issuer, owner_subject, name, next_at,
                   row_number() OVER (PARTITION BY tenant_id
                                      ORDER BY next_at, owner_issuer, owner_subject, name) AS turn
              FROM credential_rotation
             WHERE next_at <= to_timestamp($1)
               AND (phase <> 'none' OR tenant_id NOT IN (SELECT unnest(string_to_array($3, ','))))
               AND (lease = '' OR lease_until <= to_timestamp($1))) due
     WHERE turn <= 5
     ORDER BY turn, next_at, tenant_id
     LIMIT $2)sql"};
constexpr Statement kCounts{"rotation.counts", R"sql(
    SELECT phase, count(*), count(*) FILTER (WHERE due_at <= to_timestamp($1)),
           count(*) FILTER (WHERE (failures > 0 AND settings IS NOT NULL) OR attempts > 0)
      FROM credential_rotation
     GROUP BY phase)sql"};

Error absent() { return fail(ErrorCode::NotFound, "no such credential"); }
Error taken() {
  return fail(ErrorCode::Conflict, "somebody else is at the next step of this rotation");
}

vault::RotationSettings settings_in(const pqxx::field& field) {
  const auto json = token::parse_json(text(field));
  auto read = json.ok() ? policy::read_rotation_settings(json.value())
                        : Result<vault::RotationSettings>(json.error());
  if (!read.ok()) throw std::runtime_error("settings of a rotation that are none");
  return std::move(read).value();
}

struct Row {
  CredentialRotation rotation;
  std::string lease;
  std::uint32_t first_version = 1;
};

Row row_in(const pqxx::row& row) {
  Row out{{{owner_of(text(row[0]), text(row[1])), CredentialName(text(row[2]))}}, {}, 1};
  auto& is = out.rotation;
  is.version = number<std::uint32_t>(row[3]);
  is.revision = number<std::uint32_t>(row[4]);
  is.state = !row[6].is_null()   ? vault::VersionState::Destroyed
             : !row[5].is_null() ? vault::VersionState::Deleted
                                 : vault::VersionState::Live;
  is.expires_at = optional_instant(row[35]);
  is.tenant_enabled = number<bool>(row[36]);
  is.description.type = text(row[7]);
  is.description.max_versions = number<std::uint32_t>(row[8]);
  is.description.rotation_due_at = optional_instant(row[9]);
  is.description.cas_required = number<bool>(row[32]);
  out.first_version = number<std::uint32_t>(row[29]);
  if (!number<bool>(row[10])) return out;
  if (!row[11].is_null()) is.settings = settings_in(row[11]);
  const auto phase = vault::parse_rotation_phase(text(row[12]));
  if (!phase) throw std::runtime_error("a phase that is none");
  is.phase = *phase;
  if (is.phase != RotationPhase::None) {
    auto& running = is.running;
    running.id = text(row[13]);
    running.settings = settings_in(row[14]);
    running.new_version = number<std::uint32_t>(row[15]);
    running.old_version = number<std::uint32_t>(row[16]);
    running.new_role = text(row[17]);
    running.old_role = text(row[18]);
    running.started_at = instant(row[19]);
    running.retire_at = optional_instant(row[20]);
    running.sent = number<bool>(row[30]);
    running.public_half = text(row[33]);
  }
  is.attempts = number<std::uint32_t>(row[21]);
  is.problem = text(row[22]);
  is.public_half = text(row[23]);
  is.rotated_at = optional_instant(row[24]);
  is.failed_at = optional_instant(row[25]);
  is.failures = number<std::uint32_t>(row[26]);
  is.next_at = optional_instant(row[27]);
  out.lease = text(row[28]);
  is.wanted = number<bool>(row[31]);
  is.public_version = number<std::uint32_t>(row[34]);
  return out;
}

/// One credential, in a transaction.
class One {
 public:
  One(TenantTransaction& tx, const TenantId& tenant, const vault::CredentialKey& key)
      : tx_(tx), tenant_(tenant), key_(key) {}

  template <class... Args>
  pqxx::result run(const Statement& statement, const Args&... args) {
    const auto& [issuer, subject] = key_.owner.principal();
    return tx_.run(statement, tenant_.str(), issuer, subject, key_.name.str(), args...);
  }

  Result<Row> locked() {
    const auto rows = run(kLock);
    if (rows.empty() || number<std::uint32_t>(rows[0][0]) == 0) return absent();
    return read();
  }
  Result<Row> read() {
    const auto rows = run(kFind);
    if (rows.empty()) return absent();
    return row_in(rows[0]);
  }

  void store(const CredentialRotation& is) {
    const bool none = is.phase == RotationPhase::None;
    const vault::RunningRotation nothing;
    const auto& running = none ? nothing : is.running;
    run(kStore, is.settings ? token::dump_json(policy::write(*is.settings)) : std::string(),
        to_string(is.phase), running.id,
        none ? std::string() : token::dump_json(policy::write(running.settings)),
        running.new_version, running.old_version, running.new_role, running.old_role,
        none ? std::string() : std::to_string(seconds_of(running.started_at)),
        seconds_of(running.retire_at), is.attempts, is.problem,
        none ? is.public_half : running.public_half,  // also for a release of before
        seconds_of(is.rotated_at), seconds_of(is.failed_at), is.failures, seconds_of(is.next_at),
        seconds_of(is.description.rotation_due_at), running.sent, is.wanted, is.public_half,
        is.public_version);
  }

  /// @param running  whose versions are meant
  void apply(Effect::Versions versions, const vault::RunningRotation& running, const Row& before,
             CredentialRotation& after, sys_seconds now) {
    switch (versions) {
      case Effect::Versions::None: return;
      case Effect::Versions::Promote: {
        const auto kept = after.description.max_versions;
        const auto oldest = running.new_version < kept ? 1 : running.new_version - kept + 1;
        const auto first = std::min(std::max(before.first_version, oldest), running.old_version);
        run(kPromote, running.new_version, first);
        run(kPrune, first);
        after.version = running.new_version;
        after.revision = 0;
        return;
      }
      case Effect::Versions::DropNew:
        if (running.new_version > before.rotation.version) run(kDropVersion, running.new_version);
        return;
      case Effect::Versions::DeleteOld:
      case Effect::Versions::DestroyOld: {
        if (running.old_version == before.rotation.version) return;
        const bool destroy = versions == Effect::Versions::DestroyOld;
        const auto done =
            run(destroy ? kDestroyOld : kDeleteOld, running.old_version, seconds_of(now));
        if (done.affected_rows() == 0) return;
        run(kRevise);
        ++after.revision;
        return;
      }
    }
    throw std::logic_error("an unknown effect");
  }

 private:
  TenantTransaction& tx_;
  const TenantId& tenant_;
  const vault::CredentialKey& key_;
};

/// As write_audited(), of events that the body answers.
template <class Body>
Result<CredentialRotation> write(const Statement& statement, Database& database,
                                 PostgresAuditLog& log, const TenantId& tenant,
                                 const vault::CredentialKey& key, const Body& body) {
  const auto chain_key = log.key_of(tenant);
  if (!chain_key.ok()) {
    return chain_key.error().code == ErrorCode::NotFound ? absent() : chain_key.error();
  }
  std::optional<audit::ChainHead> head;
  auto result =
      named(statement.name, database.pool(), [&](Session& session) -> Result<CredentialRotation> {
        TenantTransaction tx(session, tenant);
        One one(tx, tenant, key);
        CredentialRotation after{key};
        POSTERN_TRY(const auto events, body(one, after));
        POSTERN_TRY(head, log.append_in(tx, tenant, chain_key.value(), events));
        tx.commit();
        return after;
      });
  log.ended(tenant, result.ok() ? head : std::nullopt);
  return result;
}

using Events = std::vector<audit::Event>;

/// Edits what is there, and writes what came of it.
Result<Events> edit_and_store(One& one, const Row& before, CredentialRotation& after,
                              const vault::CredentialRotationStore::Edit& edit) {
  POSTERN_TRY(auto effect, edit(after));
  const auto now = effect.events.empty() ? sys_seconds() : effect.events.front().at;
  const bool begins = before.rotation.phase == RotationPhase::None;
  const auto running = begins ? after.running : before.rotation.running;
  one.apply(effect.versions, running, before, after, now);
  if (after.description.rotation_due_at != before.rotation.description.rotation_due_at) {
    one.run(kSetDue, seconds_of(after.description.rotation_due_at));
    ++after.revision;
  }
  one.store(after);
  return std::move(effect.events);
}

}  // namespace

Result<CredentialRotation> PostgresCredentialRotations::find(const TenantId& tenant,
                                                             const vault::CredentialKey& key) {
  return named(kFind.name, database_.pool(), [&](Session& session) -> Result<CredentialRotation> {
    TenantTransaction tx(session, tenant);
    POSTERN_TRY(auto row, One(tx, tenant, key).read());
    return std::move(row.rotation);
  });
}

Result<std::vector<CredentialRotation>> PostgresCredentialRotations::of(
    const TenantId& tenant, std::span<const vault::CredentialKey> keys) {
  auto wanted = token::Json::array();
  for (const auto& key : keys) {
    const auto& [issuer, subject] = key.owner.principal();
    wanted.push_back({{"issuer", issuer}, {"subject", subject}, {"name", key.name.str()}});
  }
  return named(kOf.name, database_.pool(),
               [&](Session& session) -> Result<std::vector<CredentialRotation>> {
                 TenantTransaction tx(session, tenant);
                 std::vector<CredentialRotation> out;
                 for (const auto& row : tx.run(kOf, tenant.str(), token::dump_json(wanted))) {
                   out.push_back(row_in(row).rotation);
                 }
                 return out;
               });
}

Result<CredentialRotation> PostgresCredentialRotations::change(const TenantId& tenant,
                                                               const vault::CredentialKey& key,
                                                               const std::string& lease,
                                                               const Edit& edit) {
  return write(kStore, database_, log_, tenant, key,
               [&](One& one, CredentialRotation& after) -> Result<Events> {
                 POSTERN_TRY(const auto before, one.locked());
                 if (!lease.empty() && before.lease != lease) return taken();
                 after = before.rotation;
                 return edit_and_store(one, before, after, edit);
               });
}

Result<CredentialRotation> PostgresCredentialRotations::begin(
    const TenantId& tenant, const vault::CredentialKey& key, vault::Expected expected,
    const Lease& lease, const vault::CredentialStore::Seal& seal, const Edit& edit) {
  const auto once = [&](One& one, CredentialRotation& after) -> Result<Events> {
    POSTERN_TRY(const auto before, one.locked());
    if (before.rotation.phase != RotationPhase::None) {
      return fail(ErrorCode::Conflict, "a rotation of this credential is under way");
    }
    if (!expected.meets(before.rotation.version, before.rotation.revision)) {
      return fail(ErrorCode::PreconditionFailed, "the credential has another version");
    }
    after = before.rotation;
    after.running.new_version = number<std::uint32_t>(one.run(kNextVersion)[0][0]);
    after.running.old_version = before.rotation.version;
    POSTERN_TRY(const auto sealed, seal(after.running.new_version));
    if (sealed.version != after.running.new_version) {
      throw std::logic_error("sealed as another version");
    }
    if (!sealed.metadata.empty()) throw std::logic_error("metadata of a version that is rotated");
    one.run(kAddVersion, sealed.version, static_cast<std::uint32_t>(sealed.kek_version),
            ByteView(sealed.wrapped_dek), ByteView(sealed.sealed), joined(sealed.field_names),
            seconds_of(sealed.created_at), seconds_of(sealed.expires_at), bytes_of(sealed.share));
    POSTERN_TRY(auto events, edit_and_store(one, before, after, edit));
    one.run(kHold, lease.id, seconds_of(lease.until));
    return events;
  };
  return under_newest_kek(log_, tenant,
                          [&] { return write(kAddVersion, database_, log_, tenant, key, once); });
}

Result<CredentialRotation> PostgresCredentialRotations::take(const TenantId& tenant,
                                                             const vault::CredentialKey& key,
                                                             const Lease& lease, sys_seconds now) {
  return named(kTake.name, database_.pool(), [&](Session& session) -> Result<CredentialRotation> {
    TenantTransaction tx(session, tenant);
    One one(tx, tenant, key);
    const auto done = one.run(kTake, lease.id, seconds_of(lease.until), seconds_of(now));
    if (done.affected_rows() == 0) return taken();
    POSTERN_TRY(auto row, one.read());
    tx.commit();
    return std::move(row.rotation);
  });
}

Status PostgresCredentialRotations::give_back(const TenantId& tenant,
                                              const vault::CredentialKey& key,
                                              const std::string& lease) {
  return named(kGiveBack.name, database_.pool(), [&](Session& session) -> Status {
    TenantTransaction tx(session, tenant);
    One(tx, tenant, key).run(kGiveBack, lease);
    tx.commit();
    return {};
  });
}

Result<vault::SealedVersion> PostgresCredentialRotations::version(const TenantId& tenant,
                                                                  const vault::CredentialKey& key,
                                                                  std::uint32_t number) {
  return named(kVersion.name, database_.pool(),
               [&](Session& session) -> Result<vault::SealedVersion> {
                 TenantTransaction tx(session, tenant);
                 const auto rows = One(tx, tenant, key).run(kVersion, number);
                 if (rows.empty()) return fail(ErrorCode::NotFound, "no such version");
                 return sealed_in(rows[0]);
               });
}

Result<std::vector<vault::CredentialRotationStore::Due>> PostgresCredentialRotations::due(
    sys_seconds now, std::uint32_t limit) {
  return named(kDue.name, database_.pool(), [&](Session& session) -> Result<std::vector<Due>> {
    pqxx::work tx(session.link());
    session.run(tx, kSetDirectory);
    const auto disabled = text(session.run(tx, kDisabled)[0][0]);
    session.run(tx, kSetScope);
    std::vector<Due> out;
    for (const auto& row : session.run(tx, kDue, seconds_of(now), limit, disabled)) {
      out.push_back({TenantId(text(row[0])),
                     {owner_of(text(row[1]), text(row[2])), CredentialName(text(row[3]))}});
    }
    return out;
  });
}

Result<vault::CredentialRotationStore::Counts> PostgresCredentialRotations::counts(
    sys_seconds now) {
  return named(kCounts.name, database_.pool(), [&](Session& session) -> Result<Counts> {
    pqxx::work tx(session.link());
    session.run(tx, kSetScope);
    Counts out;
    for (const auto& row : session.run(tx, kCounts, seconds_of(now))) {
      const auto phase = vault::parse_rotation_phase(text(row[0]));
      if (phase && *phase != RotationPhase::None) {
        out.by_phase[*phase] = number<std::uint64_t>(row[1]);
      }
      out.overdue += number<std::uint64_t>(row[2]);
      out.failing += number<std::uint64_t>(row[3]);
    }
    return out;
  });
}

}  // namespace postern::storage
