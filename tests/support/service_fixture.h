#pragma once

// The whole service over a database of its own, on free ports, and what speaks
// to it: in this process (TestService) or as the real program (ServiceProcess).

#include <gmock/gmock.h>
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/wiring.h"
#include "support/postgres_fixture.h"
#include "support/raw_client.h"
#include "support/tenant_fixture.h"
#include "support/tsan_suppressions.h"
#include "token/json.h"

namespace postern::test {

using Pairs = std::vector<std::pair<std::string, std::string>>;

std::string percent_encoded(std::string_view text);
std::string form(const Pairs& fields);  ///< application/x-www-form-urlencoded
std::string basic(std::string_view id, std::string_view secret);  ///< `Basic …`, both halves raw
std::string bearer(std::string_view token);                       ///< `Bearer …`

/// One request on a connection of its own.
WireReply http_ask(std::uint16_t port, std::string_view method, std::string_view target,
                   const Pairs& headers = {}, std::string_view body = "");

Json json_of(const WireReply& reply);  ///< throws when the body is not JSON
/// A copy of one member, safe to iterate over.
Json json_of(const WireReply& reply, const char* member);
inline void PrintTo(const WireReply& reply, std::ostream* out) {
  *out << reply.head << "\n" << reply.body;
}
/// Claims and header of a JWT, not verified.
Json claims_of(std::string_view compact);
Json header_of(std::string_view compact);
/// Claims of a token of ours, verified as a backend would: with the key set alone.
Json verified_claims(std::string_view compact, const Json& jwks);

/// RFC 6749 §5.2, whole: status, JSON, characters, no caching.
testing::Matcher<const WireReply&> IsOAuthError(int status, const std::string& error);
/// RFC 9457: status, media type, `type` ending in this name; nothing cached.
testing::Matcher<const WireReply&> IsProblem(int status, const std::string& type);
/// Any reply with this status; prints the body when it differs.
testing::Matcher<const WireReply&> HasStatus(int status);

/// app::Service in this process.
class TestService {
 public:
  using Adjust = std::function<void(app::Config&)>;

  explicit TestService(const Adjust& adjust = {});
  /// Over a database that is there already, with its keys.
  TestService(std::string database_url, std::filesystem::path key_directory, const Adjust& adjust);
  ~TestService();
  TestService(const TestService&) = delete;
  TestService& operator=(const TestService&) = delete;

  app::Service& service() { return *service_; }
  std::uint16_t port() const { return service_->port(); }
  const std::string& operator_token() const { return operator_token_; }
  const std::string& database_url() const { return config_.database_url; }
  PostgresDatabase& database() { return *database_; }
  const std::filesystem::path& key_directory() const { return keys_; }

  WireReply ask(std::string_view method, std::string_view target, const Pairs& headers = {},
                std::string_view body = "") const {
    return http_ask(port(), method, target, headers, body);
  }
  /// As an operator, with a JSON body unless it is null.
  WireReply as_operator(std::string_view method, std::string_view target,
                        const Json& body = nullptr, Pairs headers = {}) const;

 private:
  void start(const Adjust& adjust);

  std::unique_ptr<PostgresDatabase> database_;
  TempDirectory directory_;
  std::filesystem::path keys_;
  app::Config config_;
  std::string operator_token_;
  std::unique_ptr<app::Service> service_;
};

/// The service that the tests of this process share; each makes tenants of its own.
TestService& shared_service();

inline constexpr std::string_view kBaseUrlOfTests = "https://sts.example.com";

/// Anything that answers HTTP as the service does, and its operator.
struct Endpoint {
  std::function<std::uint16_t()> port;
  std::string operator_token;
};

/// One tenant, onboarded through the API, with a provider whose key the test
/// holds, two gateways and five backends. Tests change `manifest` and apply it.
class TestTenant {
 public:
  explicit TestTenant(std::string tenant) : TestTenant(shared_service(), std::move(tenant)) {}
  TestTenant(TestService& service, std::string tenant);
  TestTenant(Endpoint endpoint, std::string tenant);

  static constexpr const char* kExchange = "urn:ietf:params:oauth:grant-type:token-exchange";
  static constexpr const char* kAccessToken = "urn:ietf:params:oauth:token-type:access_token";
  static constexpr const char* kJwt = "urn:ietf:params:oauth:token-type:jwt";
  static constexpr const char* kIdToken = "urn:ietf:params:oauth:token-type:id_token";

  const std::string name;
  Idp idp;
  Json manifest;
  std::string secret;        ///< of gw-01, which may use everything
  std::string files_secret;  ///< of gw-files, which may only read files
  std::string admin;         ///< a tenant-admin token

  /// Parts of the manifest by section and name (`id` for clients).
  Json& part(const char* section, std::string_view called);
  /// PUT …/manifest. `query` as `?dry_run=true`.
  WireReply apply(const std::string& query = "", const Pairs& headers = {}) const;
  std::uint64_t epoch() const;

  /// Claims of an engineer, good for five minutes.
  Json claims(std::string_view subject) const;
  std::string user_token(std::string_view subject) const { return idp.sign(claims(subject)); }

  /// Fields of an exchange of this token at this audience.
  Pairs exchange_fields(std::string_view subject_token, std::string_view audience) const;
  /// POST to the token endpoint as gw-01 with Basic.
  WireReply token(const Pairs& fields) const { return token(fields, basic("gw-01", secret)); }
  WireReply token(const Pairs& fields, const std::string& authorization) const;
  WireReply exchange(std::string_view subject_token, std::string_view audience,
                     Pairs more = {}) const;

  /// POST …/release as gw-01.
  WireReply release(std::string_view subject_token, const Json& items) const {
    return release(subject_token, items, basic("gw-01", secret));
  }
  WireReply release(std::string_view subject_token, const Json& items,
                    const std::string& authorization) const;

  /// POST …/exchange or …/release for alice's token at files, with these members of the body
  /// besides.
  WireReply call_with(const std::string& endpoint, const Json& members,
                      const Pairs& headers = {}) const;

  /// A call below /api/v1/tenants/{name}; `path` begins with `/` or is empty.
  WireReply api(std::string_view method, const std::string& path, std::string_view bearer_token,
                const Json& body = nullptr, Pairs headers = {}) const;
  /// A user stores a secret of theirs, which must succeed.
  void store(std::string_view user, const std::string& credential, const Json& fields) const;

  /// Audit records, oldest first, as the API shows them.
  std::vector<Json> audit(const std::string& query = "limit=1000") const;
  /// Whether the whole chain verifies, and how many records it has.
  Json verification() const;

  WireReply ask(std::string_view method, std::string_view target, const Pairs& headers = {},
                std::string_view body = "") const {
    return http_ask(endpoint_.port(), method, target, headers, body);
  }
  const std::string& operator_token() const { return endpoint_.operator_token; }

 private:
  Endpoint endpoint_;
};

/// The item that a release answers for its first, or n-th, request.
Json item_of(const WireReply& reply, std::size_t index = 0);

/// A program of ours as a process, with standard output and error in a file and
/// that file's directory as its own.
class Process {
 public:
  Process(std::vector<std::string> command, Pairs environment, std::filesystem::path output);
  ~Process();  ///< SIGKILL when it still runs
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  int wait();  ///< exit status, or minus the number of the signal that ended it
  bool running();
  std::string output() const;

 private:
  pid_t pid_ = -1;
  std::filesystem::path output_;
};

/// The value of `name=` in the first line with this event in a log, once it is there.
std::string log_field(Process& process, std::string_view event, std::string_view name);

/// `posternd serve` on free ports.
class ServiceProcess {
 public:
  /// Makes keys in `directory` when they are not there.
  ServiceProcess(const std::filesystem::path& directory, const std::string& database_url,
                 Pairs settings = {});

  void start();  ///< returns when it answers
  void stop();   ///< SIGTERM, and waits
  /// One more variable of its environment, from the next start.
  void set_variable(std::string name, std::string value) {
    environment_.emplace_back(std::move(name), std::move(value));
  }
  Process& process() { return *process_; }
  std::uint16_t port() const { return port_; }
  std::uint16_t ops_port() const { return ops_port_; }
  const std::string& operator_token() const { return operator_token_; }
  Endpoint endpoint() const {
    return {[this] { return port_; }, operator_token_};
  }
  /// All that every run so far has written.
  std::string logs() const;

 private:
  std::filesystem::path directory_;
  Pairs environment_;
  std::string operator_token_;
  std::unique_ptr<Process> process_;
  int runs_ = 0;
  std::uint16_t port_ = 0;
  std::uint16_t ops_port_ = 0;
};

std::string program(std::string_view name);  ///< path of posternd or postern in the build
std::string read_text(const std::filesystem::path& file);
/// Waits until it is so; throws with `what` when it never is.
void eventually(const std::function<bool()>& is_so, const char* what);

}  // namespace postern::test
