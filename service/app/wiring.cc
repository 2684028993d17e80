#include "app/wiring.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <csignal>

#include "app/key_commands.h"
#include "app/metrics.h"
#include "app/process_memory.h"
#include "app/root_keys.h"
#include "app/stores.h"
#include "audit/group_writer.h"
#include "core/log.h"
#include "grants/client_assertion.h"
#include "grants/client_documents.h"
#include "grants/client_release.h"
#include "grants/credential_rotations.h"
#include "grants/decision_point.h"
#include "grants/dpop.h"
#include "grants/issuer_keys.h"
#include "grants/opaque_tokens.h"
#include "grants/own_token.h"
#include "grants/throttle.h"
#include "grants/vault_sessions.h"
#include "grants/webhook_rotator.h"
#include "http/handlers/api.h"
#include "http/handlers/oauth_endpoints.h"
#include "http/handlers/rotation_endpoints.h"
#include "outbound/fetch.h"
#include "policy/erasure_statement.h"
#include "storage/epoch_watcher.h"
#include "storage/migrator.h"
#include "storage/postgres_audit_log.h"
#include "storage/postgres_config_store.h"
#include "storage/postgres_credential_rotations.h"
#include "storage/postgres_credential_store.h"
#include "storage/postgres_erasure_store.h"
#include "storage/postgres_kek_store.h"
#include "storage/postgres_replay_guard.h"
#include "storage/postgres_revocation_list.h"
#include "storage/postgres_rotation_store.h"
#include "storage/postgres_rotator.h"
#include "storage/postgres_transit_store.h"
#include "storage/postgres_wrapping_store.h"
#include "vault/envelope.h"
#include "vault/erasure.h"
#include "vault/key_holder.h"
#include "vault/keyring.h"
#include "vault/last_uses.h"
#include "vault/root_key.h"
#include "vault/root_key_watch.h"
#include "vault/row_mover.h"
#include "vault/transit.h"
#include "vault/wrapping.h"

namespace postern::app {

using std::chrono::steady_clock;

namespace {

constexpr std::string_view kVersion = POSTERN_VERSION;

/// How late a credential's last use is known at most, and how much of it a crash loses.
constexpr std::chrono::seconds kLastUsesWritten(20);
/// How often what did not end is tried again, and whether the share store answers.
constexpr std::chrono::seconds kErasuresLookedAt(5);
/// How late a rotation that is due begins at most, and goes on after a replica is lost.
constexpr std::chrono::seconds kRotationsLookedAt(5);

storage::DatabaseOptions database_options(const Config& config, std::size_t connections,
                                          const char* name) {
  storage::DatabaseOptions options;
  options.conninfo = config.database_url;
  options.max_connections = connections;
  options.application_name = name;
  return options;
}

/// No answer leaves without its audit record, so a database that hangs must be
/// noticed while the client still waits for the refusal.
storage::DatabaseOptions audit_database_options(const Config& config) {
  auto options = database_options(config, 3, "posternd-audit");
  options.statement_timeout = std::chrono::seconds(2);
  options.lock_timeout = std::chrono::milliseconds(500);
  return options;
}

outbound::FetchPolicy fetch_policy(const Config& config, std::vector<outbound::Network> networks) {
  outbound::FetchPolicy policy;
  policy.allow_insecure_loopback = config.outbound_allow_insecure_loopback;
  policy.allow_private = std::move(networks);
  policy.ca_file = config.outbound_ca_file;
  return policy;
}

/// Of decision points and rotators, which only the operator names: what is open to
/// them is not open to the addresses that tenants configure.
outbound::FetchPolicy operators_policy(const Config& config, bool allow_insecure_loopback,
                                       std::vector<outbound::Network> networks) {
  outbound::FetchPolicy policy;
  policy.allow_insecure_loopback = allow_insecure_loopback;
  policy.allow_private = std::move(networks);
  policy.ca_file = config.outbound_ca_file;
  policy.max_body_bytes = 64 * 1024;
  return policy;
}

/// As JSON. What stands in a row may be anything, so each is shown as an id or not at all.
std::string id_list(const std::vector<std::string>& ids) {
  std::string list;
  for (const auto& id : ids) {
    list += (list.empty() ? "\"" : ",\"") + vault::root_key_ids({id}) + '"';
  }
  return '[' + list + ']';
}

std::string_view name_of(vault::Erasures::ShareStoreState state) {
  using State = vault::Erasures::ShareStoreState;
  switch (state) {
    case State::None: return "none";
    case State::Ok: return "ok";
    case State::Unreachable: return "unreachable";
  }
  return "unreachable";
}

Result<std::vector<outbound::Network>> read_networks(const std::vector<std::string>& texts,
                                                     const char* key) {
  std::vector<outbound::Network> networks;
  for (const auto& text : texts) {
    auto network = outbound::Network::parse(text);
    if (!network.ok()) {
      return fail(ErrorCode::Unavailable, std::string(key) + ": not a network such as 10.1.0.0/16");
    }
    networks.push_back(std::move(network).value());
  }
  return networks;
}

}  // namespace

void harden_process() {
  // A crash must not write keys to disk, nor a neighbour read them.
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  ::prctl(PR_SET_DUMPABLE, 0);
  std::signal(SIGPIPE, SIG_IGN);
}

struct Service::Impl {
  Impl(Config given, std::unique_ptr<vault::RootKeyProvider> root_key_source, OperatorTokens tokens,
       std::vector<outbound::Network> networks, std::vector<outbound::Network> decision_networks,
       std::vector<outbound::Network> rotation_networks, std::vector<outbound::Network> proxies,
       std::optional<crypto::CertificateAuthorities> proxy_authorities)
      : config(std::move(given)),
        operator_tokens(std::move(tokens)),
        database(database_options(config, config.database_connections, "posternd")),
        // The writer and the keys it needs have connections of their own: whatever
        // happens to the others, an answer can be audited.
        audit_database(audit_database_options(config)),
        kek_store(audit_database),
        shares(share_store_of(config.share_store_url, "posternd")),
        keyring(vault::RootKeys::none(), kek_store, shares.store()),
        audit_log(audit_database, keyring, &database),
        config_store(database, audit_log),
        credentials(database, audit_log),
        envelope(keyring),
        last_uses(credentials),
        rotation_store(database, audit_log),
        key_holder(rotation_store, keyring, audit_log),
        row_mover(rotation_store, keyring, clock),
        root_keys(std::move(root_key_source), keyring, rotation_store, {}),
        watcher(
            config.database_url,
            [this](const TenantId& tenant, std::uint64_t epoch) {
              // Rotated, sealed, or gone: all raise the epoch too.
              keyring.forget(tenant);
              snapshots.observed(tenant, epoch);
              if (!keyring.has_share(tenant)) return;
              // Now, and not when somebody asks: it may have been sealed.
              if (const auto seal = keyring.seal_of(tenant); !seal.ok()) {
                log::warning("key_holder.seal_unknown", {{"tenant", tenant.str()}});
              }
              row_mover.look_at(tenant);
            },
            config.follow_interval,
            // For `posternd keys rotate-root`, which asks whether everybody has its key.
            [this] { return shown_root_keys(); }),
        snapshots(config_store, keyring,
                  {config.base_url, config.snapshot_memory_bytes, std::chrono::seconds(5),
                   config.max_staleness},
                  [this] { return watcher.last_confirmed(); }),
        fetcher(fetch_policy(config, std::move(networks))),
        decision_fetcher(operators_policy(config, config.decision_point_allow_loopback,
                                          std::move(decision_networks))),
        // Some threads are always left for issuers' keys.
        decision_point(
            decision_fetcher, clock,
            static_cast<std::size_t>(std::max(1, config.listen.outbound_threads * 3 / 4))),
        issuer_keys(fetcher, clock),
        revocations(database, config.database_url, clock,
                    {config.follow_interval, config.max_staleness}),
        own_tokens(revocations, clock),
        opaque_tokens(fetcher, credentials, envelope, clock, &last_uses),
        verifier(issuer_keys, opaque_tokens, own_tokens, clock),
        client_credentials(clock, &decision_point),
        release(verifier, credentials, envelope, clock, &decision_point, &last_uses),
        exchange(verifier, release, clock, &decision_point),
        replays(database),
        documents(fetcher, clock),
        assertions(issuer_keys, clock),
        nonces(keyring, clock),
        dpop(nonces,
             config.dpop_require_nonce ? grants::DpopProofs::Nonce::Required
                                       : grants::DpopProofs::Nonce::NotAsked,
             clock),
        throttle(clock, config.throttle),
        jwt_bearer(verifier, replays, clock, &decision_point),
        introspection(own_tokens),
        revocation(verifier, own_tokens, revocations),
        vault_sessions(keyring, revocations, clock),
        wrapped_answers(database, audit_log),
        wrapping(keyring, wrapped_answers, clock),
        transit_keys(database, audit_log),
        transit(keyring, transit_keys, clock),
        erasure_store(database, audit_log),
        erasures(
            erasure_store, keyring, shares.store(),
            [this](const TenantId& tenant, const vault::Erasure& erasure) {
              return policy::sign_statement(
                  keyring, {config.base_url, config.share_store_backup_days}, tenant, erasure);
            },
            clock),
        client_release(clock, &decision_point, &last_uses),
        rotation_rows(database, audit_log),
        postgres_rotator({config.rotation_postgres_hosts, config.rotation_postgres_ca_file,
                          config.rotation_allow_insecure_loopback}),
        rotation_fetcher(
            operators_policy(config, config.rotation_allow_insecure_loopback, rotation_networks)),
        webhook_rotator({config.rotation_webhook_hosts,
                         operators_policy(config, config.rotation_allow_insecure_loopback,
                                          std::move(rotation_networks))},
                        rotation_fetcher, clock),
        rotations(rotation_rows, credentials, envelope, clock,
                  {&postgres_rotator, &webhook_rotator}),
        audit_writer(audit_log),
        gate(
            audit_writer,
            [this](http::Pool pool, std::function<void()> work) {
              return server->post(pool, std::move(work));
            },
            config.base_url),
        services{snapshots,
                 config_store,
                 keyring,
                 credentials,
                 envelope,
                 audit_log,
                 verifier,
                 exchange,
                 client_credentials,
                 release,
                 introspection,
                 revocation,
                 {replays, assertions, dpop, throttle, std::move(proxies),
                  std::move(proxy_authorities), &documents},
                 clock,
                 config.base_url,
                 [this](const BearerToken& token) { return operator_tokens.contains(token); },
                 [this] { return status(); },
                 &jwt_bearer,
                 &decision_point,
                 [this] { return keys(); },
                 [this] {
                   return http::Services::Health{root_keys.facts().state == vault::RootKeyState::Ok,
                                                 is_current(), kVersion};
                 },
                 &vault_sessions,
                 &client_release,
                 &key_holder,
                 &row_mover,
                 &wrapping,
                 &transit,
                 &erasures,
                 &rotations} {
    http::add_oauth_endpoints(router, gate, services);
    http::add_token_status_endpoints(router, gate, services);
    http::add_admin_endpoints(router, gate, services);
    http::add_credential_endpoints(router, gate, services);
    http::add_credential_version_endpoints(router, gate, services);
    http::add_erasure_endpoints(router, gate, services);
    http::add_exchange_endpoint(router, gate, services);
    http::add_key_holder_endpoints(router, gate, services);
    http::add_registration_endpoints(router, gate, services);
    http::add_release_endpoint(router, gate, services);
    http::add_resource_metadata_endpoint(router, gate, services);
    http::add_credential_write_endpoints(router, gate, services, rotations);
    http::add_rotation_endpoints(router, gate, services, rotations);
    http::add_emergency_endpoint(router, gate, services, rotations, revocations);
    http::add_signing_key_endpoints(router, gate, services);
    http::add_audit_endpoints(router, gate, services);
    http::add_explanation_endpoint(router, gate, services);
    http::add_vault_kv_endpoints(router, gate, services);
    http::add_vault_system_endpoints(router, gate, services);
    http::add_vault_token_endpoints(router, gate, services);
    http::add_vault_transit_endpoints(router, gate, services);
    http::add_vault_wrapping_endpoints(router, gate, services);
    add_health(router);
    add_health(ops_router);
    ops_router.add("GET", "/metrics", http::Pool::Inline,
                   [this](std::shared_ptr<http::Request>, http::Responder responder) {
                     http::Reply reply(200);
                     reply.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
                     reply.body(metrics_text(stats(), audit_writer.stats()));
                     responder.send(std::move(reply));
                   });
    server = std::make_unique<http::Server>(config.listen, router);
    ops_server = std::make_unique<http::Server>(config.ops, ops_router);
  }

  void add_health(http::Router& to) {
    to.add("GET", "/livez", http::Pool::Inline,
           [](std::shared_ptr<http::Request>, http::Responder responder) {
             responder.send(http::Reply::text(200, "ok\n"));
           });
    to.add("GET", "/readyz", http::Pool::Inline,
           [this](std::shared_ptr<http::Request>, http::Responder responder) {
             const bool current = is_current();
             const auto keys = root_keys.facts();
             const bool has_keys = keys.state == vault::RootKeyState::Ok;
             const bool ready = current && has_keys && !draining.load();
             auto body = std::string(R"({"status":")") + (ready ? "ready" : "not ready") +
                         R"(","checks":{"database":")" + (current ? "ok" : "unreachable") +
                         R"(","accepting":")" + (draining.load() ? "draining" : "ok") +
                         R"(","root_key":")" + std::string(vault::to_string(keys.state)) +
                         R"(","share_store":")" + std::string(name_of(erasures.share_store())) +
                         R"("})";
             if (!has_keys) {
               body += R"(,"root_keys":{"given":)" + id_list(keys.given) + R"(,"wanted":)" +
                       id_list(keys.wanted) + "}";
             }
             auto reply = http::Reply::json(ready ? 200 : 503, body + '}');
             reply.set_header("Cache-Control", "no-store");
             responder.send(std::move(reply));
           });
  }

  /// Whether this replica knows what is configured and revoked.
  bool is_current() const {
    return steady_clock::now() - std::min(watcher.last_confirmed(), revocations.last_confirmed()) <=
           config.max_staleness;
  }

  Result<std::string> status() {
    POSTERN_TRY(const auto schema, storage::schema_state(config.database_url));
    const auto keys = root_keys.facts();
    const auto uptime =
        std::chrono::duration_cast<std::chrono::seconds>(steady_clock::now() - started).count();
    return std::string(R"({"version":")") + std::string(kVersion) + R"(","schema_version":)" +
           std::to_string(schema.applied) + R"(,"database":"ok","tenants":)" +
           std::to_string(watcher.known_tenants()) + R"(,"uptime_seconds":)" +
           std::to_string(uptime) + R"(,"root_key_id":")" +
           (keys.given.empty() ? "" : keys.given.front()) + R"(","root_key":")" +
           std::string(vault::to_string(keys.state)) + R"("})";
  }

  /// As many as fit into an application_name.
  std::string shown_root_keys() const {
    auto ids = root_keys.facts().given;
    if (ids.size() > 2) ids.resize(2);
    return vault::root_key_ids(ids);
  }

  Result<std::string> keys() {
    POSTERN_TRY(const auto uses, rotation_store.root_key_uses());
    POSTERN_TRY(const auto backlog, rotation_store.backlog());
    POSTERN_TRY(const auto held, vault::held_backlog(rotation_store));
    return key_summary(root_keys.facts().given, uses, backlog, held);
  }

  Stats stats() const {
    return {server->stats(),   database.stats(),  audit_database.stats(), verifier.stats(),
            snapshots.stats(), root_keys.facts(), erasures.share_store(), rotations.stats()};
  }

  Config config;
  OperatorTokens operator_tokens;
  SystemClock clock;
  steady_clock::time_point started = steady_clock::now();
  std::atomic<bool> draining{false};
  storage::Database database;
  storage::Database audit_database;
  storage::PostgresKekStore kek_store;
  ShareStoreHere shares;
  vault::Keyring keyring;
  storage::PostgresAuditLog audit_log;
  storage::PostgresConfigStore config_store;
  storage::PostgresCredentialStore credentials;
  vault::Envelope envelope;
  vault::LastUses last_uses;
  storage::PostgresRotationStore rotation_store;
  vault::KeyHolder key_holder;
  vault::RowMover row_mover;
  vault::RootKeyWatch root_keys;
  storage::EpochWatcher watcher;  // started in start(), after what it calls exists
  policy::SnapshotCache snapshots;
  outbound::CurlFetcher fetcher;
  outbound::CurlFetcher decision_fetcher;
  grants::DecisionPoint decision_point;
  grants::FetchedIssuerKeys issuer_keys;
  storage::PostgresRevocationList revocations;
  grants::OwnTokens own_tokens;
  grants::AskedOpaqueTokens opaque_tokens;
  grants::SubjectVerifier verifier;
  grants::ClientCredentials client_credentials;
  grants::Release release;
  grants::TokenExchange exchange;
  storage::PostgresReplayGuard replays;
  grants::ClientDocuments documents;
  grants::ClientAssertions assertions;
  grants::DpopNonces nonces;
  grants::DpopProofs dpop;
  grants::Throttle throttle;
  grants::JwtBearer jwt_bearer;
  grants::Introspection introspection;
  grants::Revocation revocation;
  grants::VaultSessions vault_sessions;
  storage::PostgresWrappingStore wrapped_answers;
  vault::Wrapping wrapping;
  storage::PostgresTransitStore transit_keys;
  vault::Transit transit;
  storage::PostgresErasureStore erasure_store;
  vault::Erasures erasures;
  grants::ClientRelease client_release;
  storage::PostgresCredentialRotations rotation_rows;
  storage::PostgresRotator postgres_rotator;
  outbound::CurlFetcher rotation_fetcher;
  grants::WebhookRotator webhook_rotator;
  grants::CredentialRotations rotations;
  // Declared before the servers, so destroyed after them: replies in flight
  // still pass the gate. Servers are stopped first, in ~Service.
  audit::GroupWriter audit_writer;
  http::Gate gate;
  http::Services services;
  http::Router router;
  http::Router ops_router;
  std::unique_ptr<http::Server> server;
  std::unique_ptr<http::Server> ops_server;
};

Service::Service(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Service::~Service() {
  // The watcher calls into the snapshots, which are destroyed before it.
  impl_->watcher.stop();
  impl_->rotations.stop();
  impl_->row_mover.stop();
  impl_->erasures.stop();
  impl_->revocations.stop();
  impl_->last_uses.stop();  // with what was noted up to now
  impl_->root_keys.stop();
}

Result<std::unique_ptr<Service>> Service::create(Config config) {
  log::set_level(config.log_level);
  POSTERN_TRY(auto tokens, OperatorTokens::load(config.operator_token_file));
  POSTERN_TRY(auto networks,
              read_networks(config.outbound_allow_private, "outbound.allow_private"));
  POSTERN_TRY(auto decision_networks,
              read_networks(config.decision_point_allow_private, "decision_point.allow_private"));
  POSTERN_TRY(auto rotation_networks,
              read_networks(config.rotation_allow_private, "rotation.allow_private"));
  POSTERN_TRY(auto proxies, read_networks(config.proxy_addresses, "proxy.addresses"));
  config.listen.takes_peer = peers_taken(config, proxies);
  std::optional<crypto::CertificateAuthorities> proxy_authorities;
  if (!config.proxy_client_ca_file.empty()) {
    POSTERN_TRY(proxy_authorities,
                crypto::CertificateAuthorities::load(config.proxy_client_ca_file));
  }
  POSTERN_TRY(const auto schema, storage::schema_state(config.database_url));
  if (schema.status != storage::SchemaStatus::Current) {
    return fail(ErrorCode::Unavailable,
                "the database schema is " + std::string(storage::to_string(schema.status)) +
                    " (it has " + std::to_string(schema.applied) + ", this release knows " +
                    std::to_string(schema.known) + "); run: posternd migrate");
  }
  POSTERN_CHECK(check_share_store(config.share_store_url));
  POSTERN_CHECK(lock_memory(config));
  auto root_key_source = root_key_provider(config);
  auto impl = std::make_unique<Impl>(std::move(config), std::move(root_key_source),
                                     std::move(tokens), std::move(networks),
                                     std::move(decision_networks), std::move(rotation_networks),
                                     std::move(proxies), std::move(proxy_authorities));
  impl->root_keys.check();
  return std::unique_ptr<Service>(new Service(std::move(impl)));
}

Status Service::check_root_keys() const {
  const auto facts = impl_->root_keys.facts();
  if (!facts.problem.empty()) return fail(ErrorCode::Unavailable, facts.problem);
  switch (facts.state) {
    case vault::RootKeyState::Ok: return {};
    case vault::RootKeyState::Missing: return fail(ErrorCode::Unavailable, "there is no root key");
    case vault::RootKeyState::Unknown:
      return fail(ErrorCode::Unavailable, "the database does not say which root keys it needs");
    case vault::RootKeyState::Wrong:
    case vault::RootKeyState::Incomplete: break;
  }
  return fail(ErrorCode::Unavailable, "the database has keys under root key " +
                                          vault::root_key_ids(facts.wanted) +
                                          ", and here is only " + vault::root_key_ids(facts.given));
}

Status Service::start() {
  POSTERN_CHECK(impl_->watcher.start());
  POSTERN_CHECK(impl_->revocations.start());
  impl_->last_uses.start(kLastUsesWritten);
  impl_->row_mover.start();
  impl_->erasures.start(kErasuresLookedAt);
  impl_->rotations.start(kRotationsLookedAt);
  POSTERN_CHECK(impl_->server->start());
  POSTERN_CHECK(impl_->ops_server->start());
  impl_->root_keys.start();
  log::info("service.started",
            {{"version", kVersion},
             {"port", std::to_string(port())},
             {"ops_port", std::to_string(ops_port())},
             {"root_key", vault::root_key_ids({impl_->keyring.active_root_key()})}});
  return {};
}

void Service::drain() {
  impl_->draining = true;
  log::info("service.draining");
  impl_->server->drain();
  impl_->ops_server->drain();
}

void Service::reload_root_keys() { impl_->root_keys.reload(); }
Status Service::reload_tls() { return impl_->server->reload_tls(); }
std::uint16_t Service::port() const { return impl_->server->port(); }
std::uint16_t Service::ops_port() const { return impl_->ops_server->port(); }
Service::Stats Service::stats() const { return impl_->stats(); }

}  // namespace postern::app
