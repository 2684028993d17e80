#include "support/service_fixture.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "crypto/base64url.h"
#include "token/jwk.h"
#include "token/jws.h"
#include "vault/root_key.h"

namespace postern::test {
namespace {

void must_be_ok(const Status& status, const char* what) {
  if (status.ok()) return;
  throw std::runtime_error(std::string(what) + ": " + status.error().detail + " " +
                           status.error().diagnostic);
}

/// Keys and operator token in `directory`, made when missing. Returns the token.
std::string provide_keys(const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  if (!std::filesystem::exists(directory / "root.key")) {
    must_be_ok(vault::RootKeys::create(directory / "root.key"), "root key");
    must_be_ok(app::OperatorTokens::create(directory / "operator.token"), "operator token");
  }
  auto token = read_text(directory / "operator.token");
  while (!token.empty() && token.back() == '\n') token.pop_back();
  return token;
}

Json jwt_part(std::string_view compact, std::size_t index) {
  for (; index > 0; --index) compact.remove_prefix(compact.find('.') + 1);
  const auto bytes = must(crypto::base64url_decode(compact.substr(0, compact.find('.'))));
  return must(token::parse_json(as_text(bytes)));
}

std::optional<Json> parsed(const WireReply& reply) {
  auto json = token::parse_json(reply.body);
  if (!json.ok()) return std::nullopt;
  return std::move(json).value();
}

bool stored_nowhere(const WireReply& reply) { return reply.header("Cache-Control") == "no-store"; }

Json backends() {
  return {{{"name", "files"},
           {"audience", "https://files.example.com/mcp"},
           {"aliases", {"docs"}},
           {"scopes", {"files:read", "files:write"}},
           {"delivery", {{"env", {{"FILES_TOKEN", "{access_token}"}}}}}},
          {{"name", "search"}, {"audience", "https://search.example.com/mcp"}},
          {{"name", "github"},
           {"audience", "https://github.example.com/mcp"},
           {"scopes", {"repo:read", "repo:write"}},
           {"answer", "vaulted"},
           {"credential", {{"name", "github"}, {"owner", "principal"}}},
           {"delivery",
            {{"env", {{"GITHUB_TOKEN", "{token}"}}},
             {"headers", {{"Authorization", "Bearer {token}"}}},
             {"files",
              {{{"name", "github.json"},
                {"env", "GITHUB_CONFIG"},
                {"content", R"({{"token":"{token}"}})"}}}}}}},
          {{"name", "db"},
           {"audience", "https://db.example.com/mcp"},
           {"answer", "vaulted"},
           {"credential", {{"name", "shared-db"}, {"owner", "tenant"}}},
           {"delivery", {{"env", {{"DATABASE_URL", "{url}"}}}}}},
          {{"name", "jira"},
           {"audience", "https://jira.example.com/mcp"},
           {"answer", "vaulted"},
           {"credential", {{"name", "jira"}, {"owner", "principal_or_tenant"}}},
           {"delivery", {{"env", {{"JIRA_TOKEN", "{token}"}}}}}}};
}

Json first_manifest(const std::string& name, const Idp& idp) {
  return {
      {"tenant", name},
      {"display_name", "Tenant " + name},
      {"settings", {{"connect_url", "https://portal.example/connect?backend={backend}"}}},
      {"issuers",
       {{{"name", "corp"},
         {"issuer", idp.issuer()},
         {"jwks", idp.jwks()},
         {"audiences", {"gw-01"}},
         {"claims", {{"scope", "scope"}}}}}},
      {"clients",
       {{{"id", "gw-01"},
         {"grants", {"token-exchange", "client_credentials"}},
         {"backends", {"*"}},
         {"scopes", {"*"}}},
        {{"id", "gw-files"},
         {"grants", {"token-exchange"}},
         {"backends", {"files"}},
         {"scopes", {"files:read"}},
         {"audiences", {"gw-01"}},
         {"default_backend", "files"}}}},
      {"backends", backends()},
      {"roles",
       {{{"name", "developer"}, {"allow", {"files:*", "search:*", "github:*", "db:*", "jira:*"}}},
        {{"name", "reader"}, {"allow", {"files:files:read"}}}}},
      {"bindings",
       {{{"role", "developer"}, {"groups", {"engineering"}}},
        {{"role", "reader"}, {"groups", {"sales"}}}}},
  };
}

}  // namespace

std::string percent_encoded(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || (c != '\0' && std::string_view("-._~").find(c) != text.npos)) {
      out += c;
    } else {
      (out += '%') += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

std::string form(const Pairs& fields) {
  std::string out;
  for (const auto& [name, value] : fields) {
    if (!out.empty()) out += '&';
    out += percent_encoded(name) + "=" + percent_encoded(value);
  }
  return out;
}

std::string basic(std::string_view id, std::string_view secret) {
  const auto text = std::string(id) + ":" + std::string(secret);
  std::string encoded(4 * ((text.size() + 2) / 3), '\0');
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                  reinterpret_cast<const unsigned char*>(text.data()),
                  static_cast<int>(text.size()));
  return "Basic " + encoded;
}

std::string bearer(std::string_view token) { return "Bearer " + std::string(token); }

WireReply http_ask(std::uint16_t port, std::string_view method, std::string_view target,
                   const Pairs& headers, std::string_view body) {
  RawClient client(port);
  if (!client.connected()) return {};
  std::string request =
      std::string(method) + " " + std::string(target) + " HTTP/1.1\r\nHost: x\r\n";
  for (const auto& [name, value] : headers) request += name + ": " + value + "\r\n";
  if (!body.empty() || method == "POST" || method == "PUT") {
    request += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  }
  request += "\r\n";
  request += body;
  if (!client.send(request)) return {};
  return client.reply(method == "HEAD");
}

Json json_of(const WireReply& reply) {
  auto json = token::parse_json(reply.body);
  if (!json.ok()) {
    throw std::runtime_error("status " + std::to_string(reply.status) +
                             ", not JSON: " + reply.body);
  }
  return std::move(json).value();
}

Json json_of(const WireReply& reply, const char* member) {
  const auto json = json_of(reply);
  if (!json.contains(member)) {
    throw std::runtime_error("status " + std::to_string(reply.status) + ", no " + member + ": " +
                             reply.body);
  }
  return json.at(member);
}

Json claims_of(std::string_view compact) { return jwt_part(compact, 1); }
Json header_of(std::string_view compact) { return jwt_part(compact, 0); }

Json verified_claims(std::string_view compact, const Json& jwks) {
  const auto keys = must(token::JwkSet::parse(jwks, token::JwkSet::WeakKeys::Refuse));
  return must(must(token::UnverifiedJwt::parse(compact)).verify(keys));
}

namespace {

/// A predicate with words, and the reply as wire text when it does not hold.
class ReplyMatcher {
 public:
  using is_gtest_matcher = void;
  using Check = std::function<std::string(const WireReply&)>;  // what is wrong, or nothing
  ReplyMatcher(std::string words, Check check)
      : words_(std::move(words)), check_(std::move(check)) {}

  bool MatchAndExplain(const WireReply& reply, std::ostream* out) const {
    const auto problem = check_(reply);
    if (!problem.empty() && out != nullptr) {
      *out << problem;
    }
    return problem.empty();
  }
  void DescribeTo(std::ostream* out) const { *out << words_; }
  void DescribeNegationTo(std::ostream* out) const { *out << "not " << words_; }

 private:
  std::string words_;
  Check check_;
};

}  // namespace

testing::Matcher<const WireReply&> IsOAuthError(int status, const std::string& error) {
  return ReplyMatcher("is OAuth error " + std::to_string(status) + " " + error,
                      [=](const WireReply& reply) -> std::string {
                        if (reply.status != status) return "status differs";
                        if (reply.header("Content-Type") != "application/json")
                          return "not application/json";
                        if (!stored_nowhere(reply)) return "may be cached";
                        const auto json = parsed(reply);
                        if (!json || !json->is_object() || json->value("error", "") != error)
                          return "error differs";
                        for (const auto& [name, value] : json->items()) {
                          const bool remedy =
                              error == "interaction_required" ? name == "error_uri"
                              : error == "insufficient_user_authentication"
                                  ? name == "acr_values" || name == "max_age"
                                  : error == "temporarily_unavailable" && name == "reason";
                          if (name != "error" && name != "error_description" && !remedy) {
                            return "has " + name;
                          }
                          if (name == "max_age" && value.is_number_unsigned()) continue;
                          if (!value.is_string()) return name + " is no text";
                          for (const char c : value.get<std::string>()) {
                            if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')
                              return "characters of RFC 6749 §5.2";
                          }
                        }
                        return "";
                      });
}

testing::Matcher<const WireReply&> IsProblem(int status, const std::string& type) {
  return ReplyMatcher("is problem " + std::to_string(status) + " " + type,
                      [=](const WireReply& reply) -> std::string {
                        if (reply.status != status) return "status differs";
                        if (reply.header("Content-Type") != "application/problem+json")
                          return "not a problem";
                        if (!stored_nowhere(reply)) return "may be cached";
                        const auto json = parsed(reply);
                        if (!json || !json->is_object()) return "not JSON";
                        if (json->value("status", 0) != status) return "member status differs";
                        if (json->value("title", "").empty()) return "no title";
                        const auto name = json->value("type", "");
                        if (name != "about:blank" && name != "urn:postern:problem:" + type)
                          return "type differs";
                        return type == "about:blank" || name != "about:blank" ? "" : "type differs";
                      });
}

testing::Matcher<const WireReply&> HasStatus(int status) {
  return ReplyMatcher("has status " + std::to_string(status), [=](const WireReply& reply) {
    return std::string(reply.status == status ? "" : "status differs");
  });
}

TestService::TestService(const Adjust& adjust) : database_(std::make_unique<PostgresDatabase>()) {
  config_.database_url = database_->service();
  keys_ = directory_.path() / "keys";
  start(adjust);
}

TestService::TestService(std::string database_url, std::filesystem::path key_directory,
                         const Adjust& adjust)
    : keys_(std::move(key_directory)) {
  config_.database_url = std::move(database_url);
  start(adjust);
}

void TestService::start(const Adjust& adjust) {
  operator_token_ = provide_keys(keys_);
  config_.base_url = kBaseUrlOfTests;
  config_.root_key_file = keys_ / "root.key";
  config_.operator_token_file = keys_ / "operator.token";
  config_.log_level = log::Level::Error;
  config_.throttle.free_failures = 1000;  // every test comes from one address
  config_.listen.max_connections = 500;
  config_.listen.max_connections_per_address = 500;
  config_.ops.max_connections = 50;
  config_.ops.database_threads = 1;
  config_.ops.outbound_threads = 1;
  if (adjust) adjust(config_);
  service_ = must(app::Service::create(config_));
  must_be_ok(service_->start(), "service");
}

TestService::~TestService() {
  service_->drain();
  service_.reset();
}

WireReply TestService::as_operator(std::string_view method, std::string_view target,
                                   const Json& body, Pairs headers) const {
  headers.emplace_back("Authorization", bearer(operator_token_));
  if (!body.is_null()) headers.emplace_back("Content-Type", "application/json");
  return ask(method, target, headers, body.is_null() ? "" : body.dump());
}

TestService& shared_service() {
  // Before the service, so that PostgreSQL outlives it.
  static auto& postgres = shared_postgres();
  static_cast<void>(postgres);
  static TestService service;
  return service;
}

TestTenant::TestTenant(TestService& service, std::string tenant)
    : TestTenant(Endpoint{[&service] { return service.port(); }, service.operator_token()},
                 std::move(tenant)) {}

TestTenant::TestTenant(Endpoint endpoint, std::string tenant)
    : name(std::move(tenant)),
      idp("https://idp." + name + ".example"),
      manifest(first_manifest(name, idp)),
      endpoint_(std::move(endpoint)) {
  const auto reply = apply();
  if (reply.status != 201) throw std::runtime_error("tenant not created: " + reply.body);
  for (const auto& made : json_of(reply, "client_secrets")) {
    (made.at("client") == "gw-01" ? secret : files_secret) = made.at("client_secret");
  }
  admin = json_of(api("POST", "/admin-tokens", operator_token(), Json::object()), "token");
}

Json& TestTenant::part(const char* section, std::string_view called) {
  for (auto& item : manifest.at(section)) {
    if (item.value(item.contains("id") ? "id" : "name", "") == called) return item;
  }
  throw std::logic_error("no such part in the manifest");
}

WireReply TestTenant::apply(const std::string& query, const Pairs& headers) const {
  return api("PUT", "/manifest" + query, operator_token(), manifest, headers);
}

std::uint64_t TestTenant::epoch() const {
  return json_of(api("GET", "", operator_token()), "epoch");
}

Json TestTenant::claims(std::string_view subject) const {
  Json claims = idp.claims(subject, SystemClock().now());
  claims["groups"] = {"engineering"};
  return claims;
}

Pairs TestTenant::exchange_fields(std::string_view subject_token, std::string_view audience) const {
  return {{"grant_type", kExchange},
          {"subject_token", std::string(subject_token)},
          {"subject_token_type", kAccessToken},
          {"audience", std::string(audience)}};
}

WireReply TestTenant::token(const Pairs& fields, const std::string& authorization) const {
  Pairs headers{{"Content-Type", "application/x-www-form-urlencoded"}};
  if (!authorization.empty()) headers.emplace_back("Authorization", authorization);
  return ask("POST", "/t/" + name + "/token", headers, form(fields));
}

WireReply TestTenant::exchange(std::string_view subject_token, std::string_view audience,
                               Pairs more) const {
  auto fields = exchange_fields(subject_token, audience);
  fields.insert(fields.end(), more.begin(), more.end());
  return token(fields);
}

WireReply TestTenant::release(std::string_view subject_token, const Json& items,
                              const std::string& authorization) const {
  const Json body{{"subject_token", subject_token}, {"items", items}};
  return ask("POST", "/api/v1/tenants/" + name + "/release",
             {{"Authorization", authorization}, {"Content-Type", "application/json"}}, body.dump());
}

WireReply TestTenant::call_with(const std::string& endpoint, const Json& members,
                                const Pairs& headers) const {
  Json body{{"subject_token", user_token("alice")}, {"items", {{{"backend", "files"}}}}};
  body.update(members);
  Pairs all{{"Content-Type", "application/json"}};
  all.insert(all.end(), headers.begin(), headers.end());
  return ask("POST", "/api/v1/tenants/" + name + "/" + endpoint, all, body.dump());
}

WireReply TestTenant::api(std::string_view method, const std::string& path,
                          std::string_view bearer_token, const Json& body, Pairs headers) const {
  if (!bearer_token.empty()) headers.emplace_back("Authorization", bearer(bearer_token));
  if (!body.is_null()) headers.emplace_back("Content-Type", "application/json");
  return ask(method, "/api/v1/tenants/" + name + path, headers, body.is_null() ? "" : body.dump());
}

void TestTenant::store(std::string_view user, const std::string& credential,
                       const Json& fields) const {
  const auto reply =
      api("PUT", "/credentials/" + credential, user_token(user), {{"fields", fields}});
  if (reply.status != 200 && reply.status != 201) {
    throw std::runtime_error("credential not stored: " + reply.body);
  }
}

std::vector<Json> TestTenant::audit(const std::string& query) const {
  std::vector<Json> records;
  for (const auto& item : json_of(api("GET", "/audit?" + query, operator_token()), "items")) {
    records.push_back(item);
  }
  return records;
}

Json TestTenant::verification() const {
  return json_of(api("GET", "/audit/verification", operator_token()));
}

Json item_of(const WireReply& reply, std::size_t index) {
  return json_of(reply, "items").at(index);
}

Process::Process(std::vector<std::string> command, Pairs environment, std::filesystem::path output)
    : output_(std::move(output)) {
  std::vector<std::string> variables;
  for (const auto& [name, value] : environment) variables.push_back(name + "=" + value);
  std::vector<char*> arguments;
  std::vector<char*> envp;
  for (auto& argument : command) arguments.push_back(argument.data());
  for (auto& variable : variables) envp.push_back(variable.data());
  arguments.push_back(nullptr);
  envp.push_back(nullptr);
  const auto directory = output_.parent_path();
  const int out = ::open(output_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (out < 0) throw std::runtime_error("cannot open " + output_.string());
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(out, 1);
    ::dup2(out, 2);
    // Where a core file would be seen, and nothing of the system's keeps it from being written.
    const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
    ::setrlimit(RLIMIT_CORE, &unlimited);
    if (::chdir(directory.c_str()) != 0) ::_exit(126);
    ::execve(arguments[0], arguments.data(), envp.data());
    ::_exit(127);
  }
  ::close(out);
  if (pid_ < 0) throw std::runtime_error("fork");
}

Process::~Process() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Process::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

int Process::wait() {
  int status = 0;
  if (pid_ <= 0 || ::waitpid(pid_, &status, 0) != pid_) throw std::runtime_error("waitpid");
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

bool Process::running() {
  siginfo_t info{};
  return pid_ > 0 &&
         ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == 0;
}

std::string Process::output() const { return read_text(output_); }

std::string log_field(Process& process, std::string_view event, std::string_view name) {
  std::string value;
  eventually(
      [&] {
        const auto log = process.output();
        const auto line = log.find(" " + std::string(event) + " ");
        if (line != log.npos && log.find('\n', line) != log.npos) {
          const auto at = log.find(" " + std::string(name) + "=", line);
          if (at == log.npos || at > log.find('\n', line))
            throw std::runtime_error("no such field");
          const auto begin = at + name.size() + 2;
          value = log.substr(begin, log.find_first_of(" \n", begin) - begin);
          return true;
        }
        if (!process.running()) throw std::runtime_error("process ended: " + log);
        return false;
      },
      "an event in the log");
  return value;
}

ServiceProcess::ServiceProcess(const std::filesystem::path& directory,
                               const std::string& database_url, Pairs settings)
    : directory_(directory), operator_token_(provide_keys(directory / "keys")) {
  {
    const auto file = directory / "database.url";
    std::ofstream(file) << database_url << "\n";
    std::filesystem::permissions(file, std::filesystem::perms(0600));
  }
  std::ofstream config(directory / "posternd.toml");
  config << "base_url = \"" << kBaseUrlOfTests << "\"\n"
         << "listen.port = 0\nops.port = 0\n"
         << "database.url_file = \"" << (directory / "database.url").string() << "\"\n"
         << "keys.root_key_file = \"" << (directory / "keys/root.key").string() << "\"\n"
         << "operator.token_file = \"" << (directory / "keys/operator.token").string() << "\"\n";
  config << "authentication.free_failures = 1000\n";  // every test comes from one address
  for (const auto& [key, value] : settings) config << key << " = " << value << "\n";
}

void ServiceProcess::start() {
  process_.reset();
  process_ = std::make_unique<Process>(
      std::vector<std::string>{program("posternd"), "serve", "-c",
                               (directory_ / "posternd.toml").string()},
      environment_, directory_ / ("posternd." + std::to_string(++runs_) + ".log"));
  port_ = static_cast<std::uint16_t>(std::stoi(log_field(*process_, "service.started", "port")));
  ops_port_ =
      static_cast<std::uint16_t>(std::stoi(log_field(*process_, "service.started", "ops_port")));
}

void ServiceProcess::stop() {
  process_->signal(SIGTERM);
  if (process_->wait() != 0) throw std::runtime_error("posternd did not end well");
}

std::string ServiceProcess::logs() const {
  std::string all;
  for (int run = 1; run <= runs_; ++run) {
    all += read_text(directory_ / ("posternd." + std::to_string(run) + ".log"));
  }
  return all;
}

std::string program(std::string_view name) {
  return std::string(POSTERN_BINARY_DIR) + "/" + std::string(name);
}

std::string read_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

void eventually(const std::function<bool()>& is_so, const char* what) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!is_so()) {
    if (std::chrono::steady_clock::now() > until) {
      throw std::runtime_error(std::string("never happened: ") + what);
    }
    // Polling what another process does; nothing signals it.
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace postern::test
