#include "app/tenant_archive.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "app/process_memory.h"
#include "app/root_keys.h"
#include "app/stores.h"
#include "app/tenant_record.h"
#include "core/log.h"
#include "core/new_file.h"
#include "crypto/base64url.h"
#include "crypto/hash.h"
#include "policy/guardrails.h"
#include "policy/manifest.h"
#include "policy/signing_keys.h"
#include "storage/postgres_credential_store.h"
#include "storage/postgres_inventory.h"
#include "storage/postgres_transit_store.h"
#include "token/json.h"
#include "vault/archive.h"
#include "vault/envelope.h"
#include "vault/transit.h"

namespace postern::app {
namespace {

namespace fs = std::filesystem;
using Place = vault::ArchiveWriter::Place;

constexpr std::size_t kBatch = 50;                    // credentials of one transaction
constexpr std::size_t kBatchBytes = 8 * 1024 * 1024;  // of their values

int say(const Error& error) {
  std::cerr << "posternd: " << (error.detail.empty() ? error.diagnostic : error.detail) << '\n';
  return 1;
}

Result<SecureBuffer> passphrase_in(const fs::path& file) {
  POSTERN_TRY(const auto content, read_secret_file(file));
  const auto text = as_text(content.readable());
  return SecureBuffer::copy_of(text.substr(0, text.find_first_of("\r\n")));
}

/// What both ways work with.
struct Tools : Stores {
  Tools(const Config& config, vault::RootKeys root_keys)
      : Stores(command_database(config.database_url, "posternd-archive", std::chrono::seconds(60)),
               std::move(root_keys), config.share_store_url) {}

  audit::Event event(const TenantId& tenant, const char* action) const {
    return audit::Event{tenant, clock.now(), action, audit::Outcome::Allowed, "", {}}.with(
        "caller", "posternd");
  }

  vault::Envelope envelope{keyring};
  storage::PostgresCredentialStore credentials{database, audit_log};
  storage::PostgresInventory inventory{database};
  storage::PostgresTransitStore transit{database, audit_log};
};

Result<std::unique_ptr<Tools>> open_tools(const Config& config) {
  POSTERN_CHECK(lock_memory(config));
  log::set_level(log::Level::Error);
  POSTERN_TRY(auto root_keys, root_key_provider(config)->load());
  POSTERN_CHECK(check_schema(config.database_url));
  return std::make_unique<Tools>(config, std::move(root_keys));
}

std::string counted(const ArchiveTotals& totals) {
  return std::to_string(totals.credentials) + " credentials with " +
         std::to_string(totals.versions) + " versions, " + std::to_string(totals.transit_keys) +
         " transit keys";
}

// ---- export ----

Result<ArchiveTotals> write_archive(Tools& tools, const TenantId& tenant,
                                    vault::ArchiveWriter& archive) {
  ArchiveTotals totals;
  POSTERN_TRY(const auto stored, tools.tenants.load(tenant));
  POSTERN_CHECK(archive.add(encode(stored).readable()));

  const auto each = [&](storage::PostgresInventory::Credential credential) -> Status {
    CredentialRecord record{std::move(credential.metadata), {}};
    for (auto& [info, sealed] : credential.versions) {
      auto& version = record.versions.emplace_back();
      version.info = std::move(info);
      if (!sealed) continue;
      POSTERN_TRY(version.fields, tools.envelope.open(tenant, record.metadata.key, *sealed));
      ++totals.versions;
    }
    if (record.versions.empty()) return {};
    ++totals.credentials;
    return archive.add(encode(record).readable());
  };
  POSTERN_CHECK(tools.inventory.each_credential(tenant, tools.credentials, each));

  POSTERN_TRY(const auto names, tools.transit.names(tenant));
  for (const auto& name : names) {
    POSTERN_TRY(auto found, tools.transit.find(tenant, vault::TransitName(name)));
    TransitRecord record{std::move(found.key), {}};
    POSTERN_TRY(const auto versions, tools.transit.versions(tenant, record.key.id));
    for (const auto& version : versions) {
      // Rotated between the two reads.
      if (version.version > record.key.latest_version) continue;
      const auto id = vault::transit_box_id(name, vault::to_string(record.key.type), record.key.id,
                                            version.version);
      POSTERN_TRY(auto key,
                  tools.keyring.unwrap_private(tenant, vault::kTransitKey, id, version.wrapped));
      record.versions.push_back({version.version, version.created_at, std::move(key)});
    }
    ++totals.transit_keys;
    POSTERN_CHECK(archive.add(encode(record).readable()));
  }
  POSTERN_CHECK(archive.add(encode(totals).readable(), Place::Last));
  return totals;
}

Result<ArchiveTotals> export_to(const Config& config, const ArchiveOptions& options) {
  POSTERN_TRY(const auto tenant, TenantId::parse(options.tenant));
  POSTERN_TRY(const auto passphrase, passphrase_in(options.passphrase_file));
  POSTERN_TRY(const auto tools, open_tools(config));
  POSTERN_TRY(const auto seal, tools->keyring.seal_of(tenant));
  if (seal == vault::Keyring::Seal::Sealed) {
    return fail(ErrorCode::TenantSealed,
                "what the tenant has is sealed with its key holder's share, which is in unsealed "
                "replicas alone; give the share back first: postern tenant release-key");
  }
  POSTERN_CHECK(make_private_file(options.file, ""));
  std::ofstream out(options.file, std::ios::binary);
  auto done = [&]() -> Result<ArchiveTotals> {
    POSTERN_TRY(auto archive, vault::ArchiveWriter::begin(out, passphrase.readable()));
    const auto event = tools->event(tenant, "tenant.export");
    POSTERN_CHECK(tools->audit_log.append({&event, 1}));
    return write_archive(*tools, tenant, archive);
  }();
  out.close();
  if (done.ok() && !out) done = fail(ErrorCode::Unavailable, "the archive cannot be written");
  // Whoever reads that it is exported may delete the tenant.
  if (done.ok()) {
    if (const auto synced = sync_file(options.file); !synced.ok()) done = synced.error();
  }
  if (!done.ok()) {
    std::error_code ignored;
    fs::remove(options.file, ignored);
  }
  return done;
}

// ---- import ----

struct Importer {
  std::function<Status(policy::StoredTenant)> tenant;
  std::function<Status(CredentialRecord)> credential;
  std::function<Status(TransitRecord)> transit;
};

/// Reads the archive to its end. Errors: MalformedRequest, and those of `importer`.
Result<ArchiveTotals> read_archive(vault::ArchiveReader archive, const Importer& importer) {
  const auto malformed =
      fail(ErrorCode::MalformedRequest, "the archive has what this release does not know");
  ArchiveTotals seen;
  std::optional<ArchiveTotals> said;
  for (bool first = true;; first = false) {
    POSTERN_TRY(const auto bytes, archive.next());
    if (!bytes) break;
    auto decoded = bytes->expose([](ByteView view) { return decode_record(view); });
    POSTERN_TRY(auto record, std::move(decoded));
    if (first != std::holds_alternative<policy::StoredTenant>(record) || said) return malformed;
    if (auto* tenant = std::get_if<policy::StoredTenant>(&record)) {
      POSTERN_CHECK(importer.tenant(std::move(*tenant)));
    } else if (auto* credential = std::get_if<CredentialRecord>(&record)) {
      ++seen.credentials;
      for (const auto& version : credential->versions) seen.versions += version.fields ? 1 : 0;
      POSTERN_CHECK(importer.credential(std::move(*credential)));
    } else if (auto* key = std::get_if<TransitRecord>(&record)) {
      ++seen.transit_keys;
      POSTERN_CHECK(importer.transit(std::move(*key)));
    } else {
      said = std::get<ArchiveTotals>(record);
    }
  }
  if (!said || *said != seen) return malformed;
  return seen;
}

/// What a new installation's tenant begins with: the archive's configuration, keys of its own.
Result<policy::ConfigChange> creation(Tools& tools, const policy::StoredTenant& stored) {
  const auto& tenant = stored.row.tenant;
  POSTERN_CHECK(tools.keyring.may_create());
  policy::ConfigChange change;
  POSTERN_TRY(const auto share, tools.keyring.make_share(tenant));
  auto kek = tools.keyring.create(tenant, KekVersion{1}, std::nullopt, share);
  POSTERN_TRY(auto chain_key, tools.keyring.chain_key_under(kek, tenant));
  change.create.emplace(policy::ConfigChange::Create{std::move(kek), std::move(chain_key)});
  change.display_name = stored.row.display_name;
  change.enabled = false;
  change.settings = stored.row.settings;
  change.put = stored.objects;
  change.add_client_secrets = stored.client_secrets;
  change.add_admin_tokens = stored.admin_tokens;
  change.add_initial_tokens = stored.initial_tokens;
  std::set<std::string> algorithms{"ES256", "EdDSA"};
  for (const auto& key : stored.signing_keys) algorithms.insert(key.algorithm);
  for (const auto& name : algorithms) {
    const auto algorithm = crypto::parse_algorithm(name);
    if (!algorithm) return fail(ErrorCode::MalformedRequest, "an algorithm that is not known");
    POSTERN_TRY(auto key, policy::make_signing_key(tools.keyring, tenant, *algorithm,
                                                   tools.clock.now(), &change.create->kek));
    change.add_signing_keys.push_back(std::move(key));
  }
  return change;
}

std::size_t bytes_of(const CredentialRecord& record) {
  std::size_t sum = 0;
  for (const auto& version : record.versions) {
    if (!version.fields) continue;
    for (const auto& [name, value] : *version.fields) sum += value.size();
  }
  return sum;
}

/// Reads all that is stored later, and keeps the configuration. Errors: MalformedRequest.
struct Look {
  std::optional<policy::StoredTenant> tenant;
  std::optional<vault::CredentialKey> last;
  std::set<std::string> transit_names, transit_ids;

  Importer importer() {
    const auto twice = fail(ErrorCode::MalformedRequest, "the archive has something twice");
    return {[this](policy::StoredTenant read) -> Status {
              tenant = std::move(read);
              return {};
            },
            [this, twice](const CredentialRecord& record) -> Status {
              // In order, and so each once.
              if (last && !(*last < record.metadata.key)) return twice;
              last = record.metadata.key;
              return {};
            },
            [this, twice](const TransitRecord& record) -> Status {
              const bool once = transit_names.insert(record.key.name.str()).second &&
                                transit_ids.insert(record.key.id).second;
              return once ? Status() : Status(twice);
            }};
  }
};

/// Whether an operator of here would have stored that. Errors: MalformedRequest; Forbidden
/// for guardrails that nobody here has accepted.
Status check_configuration(const policy::StoredTenant& stored, const ArchiveOptions& options,
                           sys_seconds now) {
  if (stored.row.tenant.str() != options.tenant) {
    return fail(ErrorCode::MalformedRequest, "the archive is of tenant " + stored.row.tenant.str() +
                                                 ", not of " + options.tenant);
  }
  const auto guardrails = policy::guardrails_of(stored.row);
  if (guardrails != policy::Guardrails() && !options.accept_guardrails) {
    std::cerr << token::dump_json(policy::write(guardrails)) << '\n';
    return fail(ErrorCode::Forbidden,
                "the archive brings these guardrails, which are yours to say: take them with "
                "--accept-guardrails, and change them when the tenant is there");
  }
  auto as_new = stored;
  as_new.signing_keys.clear();
  POSTERN_TRY(const auto manifest, policy::Manifest::read(policy::write_manifest(as_new)));
  POSTERN_CHECK(policy::plan(manifest, nullptr, policy::Prune::No, now));
  return {};
}

/// That the tenant is what an import of this archive has left. Errors: Conflict.
Status check_resumed(Tools& tools, const TenantId& tenant, const std::string& archive) {
  const auto other = fail(ErrorCode::Conflict,
                          "tenant " + tenant.str() + " is not what an import of this archive left");
  POSTERN_TRY(const auto records, tools.audit_log.read(tenant, {0, 1, true, "tenant.import."}));
  if (records.empty()) return other;
  const auto last = token::parse_json(records[0].body);
  if (!last.ok() || last.value().value("action", "") != "tenant.import.begin") return other;
  const auto fields = last.value().value("fields", token::Json::object());
  return fields.value("archive", "") == archive ? Status() : Status(other);
}

Status store_batch(Tools& tools, const TenantId& tenant, std::vector<CredentialRecord>& batch) {
  std::vector<storage::PostgresInventory::Credential> sealed;
  for (auto& record : batch) {
    sealed.push_back({std::move(record.metadata), {}});
    auto& credential = sealed.back();
    for (auto& version : record.versions) {
      auto& stored = credential.versions.emplace_back();
      stored.info = std::move(version.info);
      if (!version.fields) continue;
      POSTERN_TRY(
          stored.sealed,
          tools.envelope.seal(tenant, credential.metadata.key, stored.info.version, *version.fields,
                              stored.info.created_at, stored.info.expires_at));
    }
  }
  batch.clear();
  POSTERN_CHECK(tools.inventory.put_back(tenant, sealed));
  return {};
}

Status store_transit(Tools& tools, const TenantId& tenant, TransitRecord record) {
  const auto seal = [&](const vault::TransitKey& key,
                        std::uint32_t version) -> Result<vault::TransitVersion> {
    const auto& from = record.versions.at(version - 1);
    const auto id =
        vault::transit_box_id(key.name.str(), vault::to_string(key.type), key.id, version);
    POSTERN_TRY(auto wrapped, tools.keyring.wrap_private(tenant, vault::kTransitKey, id, from.key));
    return vault::TransitVersion{version, from.created_at, std::move(wrapped)};
  };
  auto first = record.key;
  first.latest_version = 1;
  first.min_decryption_version = 1;
  first.min_encryption_version = 0;
  const auto created = tools.transit.create(tenant, first, seal, UINT32_MAX, {});
  // Of an import before, which may have ended between two versions.
  if (!created.ok() && created.error().code != ErrorCode::Conflict) return created;
  for (;;) {
    POSTERN_TRY(const auto found, tools.transit.find(tenant, record.key.name));
    if (found.key.id != record.key.id) return fail(ErrorCode::Conflict, "another transit key");
    if (found.key.latest_version >= record.key.latest_version) break;
    POSTERN_CHECK(tools.transit.rotate(tenant, record.key.name, seal, UINT32_MAX, {}));
  }
  return tools.transit.configure(tenant, record.key.name,
                                 [&](vault::TransitKey& key) -> Status {
                                   key.deletion_allowed = record.key.deletion_allowed;
                                   key.min_decryption_version = record.key.min_decryption_version;
                                   key.min_encryption_version = record.key.min_encryption_version;
                                   return {};
                                 },
                                 {});
}

struct Imported {
  std::string tenant;
  ArchiveTotals totals;
};

Result<Imported> import_from(const Config& config, const ArchiveOptions& options) {
  POSTERN_TRY(const auto passphrase, passphrase_in(options.passphrase_file));
  std::ifstream in(options.file, std::ios::binary);
  if (!in) return fail(ErrorCode::Unavailable, options.file.string() + ": cannot be read");
  POSTERN_TRY(auto archive, vault::ArchiveReader::begin(in, passphrase.readable()));
  std::ifstream second(options.file, std::ios::binary);
  POSTERN_TRY(auto again, archive.again(second));
  const auto identity = crypto::base64url(crypto::sha256(as_bytes(archive.first_line())));
  // First to its end, so that nothing is stored of what does not open.
  Look look;
  POSTERN_TRY(const auto totals, read_archive(std::move(archive), look.importer()));
  const auto& stored = *look.tenant;
  const auto& tenant = stored.row.tenant;
  POSTERN_TRY(const auto tools, open_tools(config));
  POSTERN_CHECK(check_configuration(stored, options, tools->clock.now()));

  const auto there = tools->tenants.load(tenant);
  if (!there.ok() && there.error().code != ErrorCode::NotFound) return there.error();
  if (there.ok()) {
    if (!options.resume) {
      return fail(ErrorCode::Conflict, "there is a tenant " + tenant.str() +
                                           " already; if it is what an import left that did not "
                                           "end, run it again with --resume");
    }
    POSTERN_CHECK(check_resumed(*tools, tenant, identity));
  } else {
    POSTERN_TRY(const auto removed, tools->tenants.was_removed(tenant));
    if (removed) {
      return fail(ErrorCode::Conflict,
                  "a tenant of this id was deleted here; an id is never used again");
    }
    POSTERN_TRY(const auto change, creation(*tools, stored));
    const auto event = tools->event(tenant, "tenant.import.begin").with("archive", identity);
    POSTERN_CHECK(tools->tenants.apply(tenant, change, {&event, 1}));
  }

  std::vector<CredentialRecord> batch;
  std::size_t bytes = 0;
  Importer store;
  // Whoever has the passphrase may have changed the file between the two times.
  store.tenant = [&](const policy::StoredTenant& read) -> Status {
    if (read.row.tenant == tenant) return {};
    return fail(ErrorCode::Conflict, "the archive changed while it was read");
  };
  store.credential = [&](CredentialRecord record) -> Status {
    bytes += bytes_of(record);
    batch.push_back(std::move(record));
    if (batch.size() < kBatch && bytes < kBatchBytes) return {};
    bytes = 0;
    return store_batch(*tools, tenant, batch);
  };
  store.transit = [&](TransitRecord record) {
    return store_transit(*tools, tenant, std::move(record));
  };
  POSTERN_CHECK(read_archive(std::move(again), store));
  POSTERN_CHECK(store_batch(*tools, tenant, batch));

  policy::ConfigChange last;
  if (options.enable) last.enabled = true;
  const auto event = tools->event(tenant, "tenant.import.end")
                         .with("credentials", std::to_string(totals.credentials))
                         .with("versions", std::to_string(totals.versions))
                         .with("transit_keys", std::to_string(totals.transit_keys));
  POSTERN_CHECK(tools->tenants.apply(tenant, last, {&event, 1}));
  return Imported{tenant.str(), totals};
}

}  // namespace

int export_tenant(const Config& config, const ArchiveOptions& options) {
  const auto done = export_to(config, options);
  if (!done.ok()) return say(done.error());
  std::cout << "exported " << counted(done.value()) << " to " << options.file.string() << '\n'
            << "whoever has it and its passphrase has every value; delete it when it is imported\n";
  return 0;
}

int import_tenant(const Config& config, const ArchiveOptions& options) {
  const auto done = import_from(config, options);
  if (!done.ok()) return say(done.error());
  std::cout << "imported tenant " << done.value().tenant << ": " << counted(done.value().totals)
            << '\n'
            << "its signing keys are new, and its issuer is " << config.base_url << "/t/"
            << done.value().tenant << '\n';
  if (!options.enable) std::cout << "it is disabled: look at its manifest, then enable it\n";
  return 0;
}

}  // namespace postern::app
