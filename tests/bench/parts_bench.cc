// The parts of one token exchange, each alone, for the ratio that run.py prints:
// two signatures, parsing and serialising, and the request's share of a batched
// audit commit on a PostgreSQL with fsync on (CPU of client and server together).

#include <benchmark/benchmark.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "audit/event.h"
#include "core/clock.h"
#include "crypto/base64url.h"
#include "crypto/certificate.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "crypto/signature.h"
#include "crypto/wiping_memory.h"
#include "http/form.h"
#include "storage/database.h"
#include "storage/embedded_postgres.h"
#include "storage/postgres_audit_log.h"
#include "storage/postgres_config_store.h"
#include "storage/postgres_kek_store.h"
#include "storage/postgres_replay_guard.h"
#include "support/certificates.h"
#include "support/temporary_directory.h"
#include "token/jwk.h"
#include "token/jws.h"
#include "vault/keyring.h"

namespace {

// As in the service: what OpenSSL frees is overwritten. Before it allocates anything.
[[maybe_unused]] const bool kWiped = postern::crypto::wipe_freed_memory();

using namespace postern;
using crypto::Algorithm;

const std::string kMessage(420, 'm');  // about a token's signing input

void verify(benchmark::State& state, Algorithm algorithm) {
  const auto key = crypto::SigningKey::generate(algorithm);
  const auto signature = key.sign(as_bytes(kMessage));
  const auto verifier = key.public_key();
  for (auto _ : state) {
    if (!verifier.verify(algorithm, as_bytes(kMessage), signature)) state.SkipWithError("refused");
  }
}
BENCHMARK_CAPTURE(verify, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(verify, EdDSA, Algorithm::EdDSA);

void sign(benchmark::State& state, Algorithm algorithm) {
  const auto key = crypto::SigningKey::generate(algorithm);
  for (auto _ : state) benchmark::DoNotOptimize(key.sign(as_bytes(kMessage)));
}
BENCHMARK_CAPTURE(sign, ES256, Algorithm::ES256);
BENCHMARK_CAPTURE(sign, EdDSA, Algorithm::EdDSA);
BENCHMARK_CAPTURE(sign, RS256, Algorithm::RS256);

// A client's certificate as a proxy passes it on: base64 of its DER form.
void read_certificate(benchmark::State& state) {
  const auto text = crypto::base64(as_bytes(test::der_of(test::make_certificate("gw-01"))));
  for (auto _ : state) {
    const auto der = crypto::base64_decode(text);
    if (!crypto::Certificate::from_der(der.value()).ok()) state.SkipWithError("refused");
  }
}
BENCHMARK(read_certificate);

// Building the chain to an authority: one verification, and OpenSSL's way there.
void vouch_for_certificate(benchmark::State& state) {
  const auto authority = test::make_certificate("authority");
  const auto made = test::make_certificate("gw-01", &authority);
  const auto certificate = crypto::Certificate::from_pem(made.certificate_pem());
  const test::TemporaryDirectory directory;
  const auto authorities = crypto::CertificateAuthorities::load(
      directory.write("ca.pem", authority.certificate_pem()).string());
  const auto now = SystemClock().now();
  for (auto _ : state) {
    if (!authorities.value().vouch_for(certificate.value(), {}, now)) {
      state.SkipWithError("refused");
    }
  }
}
BENCHMARK(vouch_for_certificate);

token::Json subject_claims() {
  return {{"iss", "https://idp.bench.example"},
          {"sub", "user-123456"},
          {"aud", "gw-01"},
          {"iat", 1'795'000'000},
          {"exp", 1'795'007'200},
          {"jti", crypto::random_id()},
          {"groups", {"engineering", "everyone"}}};
}

// The request's form, the subject token's parts, the issued token's claims and
// the reply, without any signature.
void parse_and_serialise(benchmark::State& state) {
  const auto key = crypto::SigningKey::generate(Algorithm::EdDSA);
  const auto token = token::sign_jwt(key, "kid", "JWT", subject_claims());
  const std::string body =
      "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=" +
      token +
      "&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token"
      "&audience=files&client_id=gw-01&client_secret=" +
      crypto::random_token();
  for (auto _ : state) {
    const auto form = http::Form::parse(body);
    const auto parsed =
        token::UnverifiedJwt::parse(form.value().required_single("subject_token").value());
    benchmark::DoNotOptimize(parsed.ok());
    const token::Json claims{{"iss", "https://sts.example.com/t/bench"},
                             {"sub", "user-123456"},
                             {"aud", "https://files.example.com/mcp"},
                             {"client_id", "gw-01"},
                             {"iat", 1'795'000'000},
                             {"exp", 1'795'000'300},
                             {"jti", crypto::random_id()},
                             {"scope", "files:read files:write"}};
    benchmark::DoNotOptimize(token::dump_json(claims));
    const token::Json reply{{"access_token", token},
                            {"token_type", "Bearer"},
                            {"expires_in", 300},
                            {"scope", "files:read files:write"},
                            {"issued_token_type", "urn:ietf:params:oauth:token-type:access_token"}};
    benchmark::DoNotOptimize(token::dump_json(reply));
  }
}
BENCHMARK(parse_and_serialise);

double seconds_of_process(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::stringstream text;
  text << file.rdbuf();
  auto content = text.str();
  content.erase(0, content.rfind(')') + 2);
  std::istringstream fields(content);
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double seconds_of_server(pid_t postmaster) {
  const auto id = std::to_string(postmaster);
  double total = seconds_of_process(id);
  std::ifstream children("/proc/" + id + "/task/" + id + "/children");
  for (std::string child; children >> child;) total += seconds_of_process(child);
  return total;
}

double seconds_of_client() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void must(Status status) {
  if (!status.ok()) throw std::runtime_error(status.error().detail + status.error().diagnostic);
}
template <class T>
T must(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.error().detail + result.error().diagnostic);
  return std::move(result).value();
}

/// A PostgreSQL with fsync on, and the service's tenant `bench` in it.
class World {
 public:
  World() {
    char name[] = "/tmp/postern-parts-XXXXXX";
    if (mkdtemp(name) == nullptr) throw std::runtime_error("no temporary directory");
    directory_ = name;
    chmod(name, 0711);
    storage::EmbeddedPostgres::Options options;
    options.directory = directory_ / "postgres";
    postgres_.emplace(must(storage::EmbeddedPostgres::start(std::move(options))));
    if (!postgres_->provision().ok()) throw std::runtime_error("not provisioned");
    storage::DatabaseOptions database_options;
    database_options.conninfo = postgres_->service_conninfo();
    database.emplace(database_options);
    storage::PostgresKekStore keks(*database);
    keyring_.emplace(vault::RootKeys::generate(), keks);
    log.emplace(*database, *keyring_);
    storage::PostgresConfigStore config(*database, *log);

    policy::ConfigChange change;
    auto kek = keyring_->create(tenant, KekVersion{1});
    auto chain_key = must(keyring_->chain_key_under(kek, tenant));
    change.create.emplace(policy::ConfigChange::Create{std::move(kek), std::move(chain_key)});
    change.display_name = "bench";
    change.settings = "{}";
    const audit::Event created{tenant, now, "config.apply", audit::Outcome::Allowed, "r", {}};
    must(config.apply(tenant, change, {&created, 1}));
  }
  ~World() {
    log.reset();
    database.reset();
    postgres_.reset();
    std::filesystem::remove_all(directory_);
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  /// CPU of client and server so far.
  double seconds() const { return seconds_of_server(postgres_->pid()) + seconds_of_client(); }

  const TenantId tenant{"bench"};
  const sys_seconds now{std::chrono::seconds(1'795'000'000)};
  std::optional<storage::Database> database;
  std::optional<storage::PostgresAuditLog> log;

 private:
  std::filesystem::path directory_;
  std::optional<storage::EmbeddedPostgres> postgres_;
  std::optional<vault::Keyring> keyring_;
};

void audit_record_in_batch_of_64(benchmark::State& state) {
  World world;
  audit::Event event{world.tenant,      world.now, "token.exchange", audit::Outcome::Allowed,
                     "y7elvjix754yvl5", {}};
  event.with("source", "127.0.0.1")
      .with("client", "gw-01")
      .with("subject_issuer", "https://idp.bench.example")
      .with("subject", "user-123456")
      .with("subject_token", crypto::random_id())
      .with("backend", "es256")
      .with("audience", "https://es256.example.com/mcp")
      .with("scope", "es256:read es256:write")
      .with("jti", crypto::random_id())
      .with("expires_at", "1795000300");
  const std::vector<audit::Event> batch(64, event);
  for (int i = 0; i < 50; ++i) must(world.log->append(batch));
  constexpr int kBatches = 600;
  for (auto _ : state) {
    const double before = world.seconds();
    for (int i = 0; i < kBatches; ++i) must(world.log->append(batch));
    state.SetIterationTime((world.seconds() - before) / kBatches /
                           static_cast<double>(batch.size()));
  }
}
BENCHMARK(audit_record_in_batch_of_64)->UseManualTime()->Iterations(1);

/// What marking a `jti` as used takes: one row, committed.
void single_use_row(benchmark::State& state) {
  World world;
  storage::PostgresReplayGuard guard(*world.database);
  const auto use = [&] {
    must(guard.first_use(world.tenant, "bench", crypto::sha256(as_bytes(crypto::random_id())),
                         std::chrono::time_point_cast<std::chrono::seconds>(
                             std::chrono::system_clock::now() + std::chrono::minutes(10))));
  };
  for (int i = 0; i < 100; ++i) use();
  constexpr int kRows = 5000;
  for (auto _ : state) {
    const double before = world.seconds();
    for (int i = 0; i < kRows; ++i) use();
    state.SetIterationTime((world.seconds() - before) / kRows);
  }
}
BENCHMARK(single_use_row)->UseManualTime()->Iterations(1);

}  // namespace
