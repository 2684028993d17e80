// The program as it runs in production, over a PostgreSQL that is durable:
// what leaks (nothing), and what a kill -9 of either costs (nothing that was
// acknowledged).

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <iomanip>
#include <map>
#include <mutex>
#include <pqxx/pqxx>
#include <set>
#include <sstream>
#include <thread>

#include "core/time_format.h"
#include "crypto/base64url.h"
#include "crypto/random.h"
#include "support/service_fixture.h"
#include "support/tcp_door.h"
#include "unit/outbound/local_server.h"

namespace postern::test {
namespace {

namespace fs = std::filesystem;
using testing::AnyOf;
using testing::HasSubstr;

class DurablePostgres {
 public:
  explicit DurablePostgres(fs::path directory) : directory_(std::move(directory)) { start(); }

  void start() {
    server_.reset();
    storage::EmbeddedPostgres::Options options;
    options.directory = directory_;
    auto started = storage::EmbeddedPostgres::start(std::move(options));
    server_ = std::make_unique<storage::EmbeddedPostgres>(must(std::move(started)));
    if (const auto done = server_->provision(); !done.ok()) {
      throw std::runtime_error("provision: " + done.error().diagnostic);
    }
  }
  storage::EmbeddedPostgres& operator*() { return *server_; }
  storage::EmbeddedPostgres* operator->() { return server_.get(); }

 private:
  fs::path directory_;
  std::unique_ptr<storage::EmbeddedPostgres> server_;
};

/// PostgreSQL and posternd, each in a process of its own.
struct World {
  TempDirectory directory;
  DurablePostgres postgres{directory.path() / "postgres"};
  ServiceProcess service;

  World()
      : service(made(directory.path() / "service"), postgres->service_conninfo(),
                {{"log.level", "\"debug\""}, {"outbound.allow_insecure_loopback", "true"}}) {
    service.start();
  }
  static fs::path made(fs::path path) {
    fs::create_directories(path);
    return path;
  }
};

/// Made once: a durable cluster takes seconds. Each test has a tenant of its own
/// and leaves both running.
World& shared_world() {
  static World world;
  return world;
}

bool ready(const World& world) {
  try {
    return http_ask(world.service.ops_port(), "GET", "/readyz").status == 200;
  } catch (const std::exception&) {
    return false;
  }
}

/// Every pool of connections works again. Each waits a moment after it failed to
/// connect, so readiness may be a moment ahead of them.
bool back(const World& world, const TestTenant& tenant) {
  try {
    return ready(world) && tenant.exchange(tenant.user_token("anybody"), "files").status == 200 &&
           tenant.api("GET", "/audit?limit=1", tenant.operator_token()).status == 200 &&
           tenant.api("GET", "/manifest", tenant.operator_token()).status == 200 &&
           tenant.api("GET", "/credentials", tenant.operator_token()).status == 200;
  } catch (const std::exception&) {
    return false;
  }
}

// ---- canaries ----

/// Texts that must be found nowhere, and the pieces of them to look for.
class Canaries {
 public:
  /// A secret value; also its pieces, so that a prefix in a log is found.
  void plant(const std::string& what, const std::string& value) {
    for (std::size_t at = 0; at + kPiece <= value.size(); at += kPiece) {
      pieces_.emplace_back(what, value.substr(at, kPiece));
    }
    if (value.size() < kPiece) throw std::logic_error("too short to look for");
    pieces_.emplace_back(what, value.substr(value.size() - kPiece));
  }
  /// Also what the text stands for in base64url.
  void plant_key(const std::string& what, const std::string& text) {
    plant(what, text);
    plant(what + " as bytes", std::string(as_text(must(crypto::base64url_decode(text)))));
  }
  /// A JWT: its header is no secret, the rest is.
  void plant_token(const std::string& what, const std::string& token) {
    const auto payload = token.find('.') + 1;
    const auto signature = token.rfind('.') + 1;
    // The payload's beginning may be like that of any other token.
    plant(what + " payload", token.substr(payload + kPiece, signature - 1 - payload - kPiece));
    plant(what + " signature", token.substr(signature));
  }

  /// Forgets pieces of payloads that stand in a text which is no secret: another token with
  /// claims that most have. Of each payload nearly all stays to be looked for.
  void forget_what_stands_in(std::string_view text) {
    std::map<std::string, int> forgotten;
    std::erase_if(pieces_, [&](const auto& piece) {
      const auto& [what, value] = piece;
      if (!what.ends_with(" payload") || text.find(value) == text.npos) return false;
      if (++forgotten[what] > 2) throw std::logic_error("too much of " + what);
      return true;
    });
  }

  /// What of it stands in the text.
  std::set<std::string> found_in(std::string_view text) const {
    std::set<std::string> found;
    for (const auto& [what, piece] : pieces_) {
      if (text.find(piece) != text.npos) found.insert(what);
    }
    return found;
  }
  std::size_t size() const { return pieces_.size(); }
  const std::vector<std::pair<std::string, std::string>>& pieces() const { return pieces_; }

 private:
  static constexpr std::size_t kPiece = 16;
  std::vector<std::pair<std::string, std::string>> pieces_;
};

std::string in_hex(ByteView bytes) {
  std::ostringstream out;
  for (const auto byte : bytes) {
    out << std::hex << std::setw(2) << std::setfill('0') << std::to_integer<int>(byte);
  }
  return out.str();
}

/// What of the canaries stands in the memory that a process can write to. It lets
/// nobody look but root.
[[maybe_unused]] std::set<std::string> found_in_memory(pid_t pid, const Canaries& canaries,
                                                       const fs::path& directory) {
  static constexpr const char* kSearch = R"py(
import re, sys
pid, needles = sys.argv[1], sys.argv[2]
pieces = [line.rstrip("\n").split("\t") for line in open(needles)]
names = {bytes.fromhex(piece): what for what, piece in pieces}
wanted = re.compile(b"|".join(sorted(re.escape(piece) for piece in names)))
read = 0
with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
    for line in maps:
        where, mode = line.split()[:2]
        if "w" not in mode or "r" not in mode: continue
        begin, end = (int(x, 16) for x in where.split("-"))
        memory.seek(begin)
        data = b""
        while len(data) < end - begin:
            part = memory.read(end - begin - len(data))
            if not part: break
            data += part
        read += len(data)
        for hit in wanted.finditer(data):
            print(names[hit[0]])
print(f"read\t{read}")
)py";
  const auto needles = directory / "needles";
  {
    std::ofstream out(needles);
    fs::permissions(needles, fs::perms(0600));
    for (const auto& [what, piece] : canaries.pieces()) {
      out << what << '\t' << in_hex(as_bytes(piece)) << '\n';
    }
  }
  const auto script = directory / "search.py";
  std::ofstream(script) << kSearch;
  const auto output = directory / "found";
  fs::remove(output);  // of the search before
  std::vector<std::string> command{"/usr/bin/python3", script, std::to_string(pid), needles};
  if (::geteuid() != 0) command.insert(command.begin(), {"/usr/bin/sudo", "-n"});
  Process search(command, {{"PATH", "/usr/bin:/bin"}}, output);
  EXPECT_EQ(search.wait(), 0) << read_text(output);
  std::istringstream lines(read_text(output));
  std::set<std::string> found;
  std::size_t bytes = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("read\t")) {
      bytes = std::stoull(line.substr(5));
    } else {
      found.insert(line);
    }
  }
  EXPECT_GT(bytes, std::size_t{8} << 20);  // it did look
  return found;
}

TEST(Canaries, AreFoundNowhere) {
  auto& world = shared_world();
  auto& service = world.service;
  Canaries canaries;
  canaries.plant("operator token", service.operator_token().substr(11));
  const auto root_key = read_text(world.directory.path() / "service/keys/root.key");
  const auto begin = root_key.find(':', root_key.find(':') + 1) + 1;  // after the key's id
  canaries.plant_key("root key", root_key.substr(begin, root_key.find('\n', begin) - begin));
  const auto conninfo = world.postgres->service_conninfo();
  canaries.plant("database password", conninfo.substr(conninfo.find("password='") + 10, 43));

  TestTenant tenant(service.endpoint(), "canary");
  canaries.plant("client secret", tenant.secret);
  canaries.plant("client secret in Basic", basic("gw-01", tenant.secret).substr(6));
  canaries.plant("admin token", tenant.admin.substr(tenant.admin.size() - 43));
  int number = 0;
  const auto secret = [&](const std::string& what) {
    auto value = crypto::random_token();
    canaries.plant(what + " " + std::to_string(++number), value);
    return value;
  };
  const auto token = [&](const std::string& user) {
    auto value = tenant.user_token(user);
    canaries.plant_token("token of " + user + " " + std::to_string(++number), value);
    return value;
  };

  std::string refusals;  // every error body
  const auto refused = [&](const WireReply& reply) {
    EXPECT_GE(reply.status, 400) << reply.body;
    refusals += reply.head + reply.body + "\n";
  };
  const auto granted = [&](const WireReply& reply) {
    EXPECT_LT(reply.status, 300) << reply.body;
    return reply;
  };
  const auto alice = token("alice");
  const std::string tenant_path = "/api/v1/tenants/canary";
  const auto raw = [&](const std::string& method, const std::string& target,
                       const std::string& authorization, const std::string& type,
                       const std::string& body) {
    return tenant.ask(method, target, {{"Authorization", authorization}, {"Content-Type", type}},
                      body);
  };
  const std::string form_type = "application/x-www-form-urlencoded";

  // Everything that works.
  const auto of_alice = secret("credential of alice");
  granted(tenant.api("PUT", "/credentials/github", alice, {{"fields", {{"token", of_alice}}}}));
  granted(tenant.api("PUT", "/credentials/shared-db", tenant.admin,
                     {{"fields", {{"url", secret("shared credential")}}}}));
  granted(tenant.api("PUT", "/credentials/github", alice,
                     {{"fields", {{"token", secret("second version")}}}}));
  // Versions, types, and a value that an admin is shown.
  const auto version = [&](const char* method, const char* rest) {
    granted(tenant.api(method, std::string("/credentials/github/versions/") + rest, alice));
  };
  version("DELETE", "2");
  version("POST", "2/undelete");
  version("POST", "1/destroy");
  granted(
      tenant.api("PUT", "/credentials/typed", tenant.admin,
                 {{"type", "database_url"},
                  {"fields", {{"url", "postgres://u:" + secret("password in a URL") + "@h"}}}}));
  for (const char* type :
       {"api_key", "basic", "oauth", "pem_key", "kubeconfig", "service_account", "database_url"}) {
    for (const char* field :
         {"api_key", "private_key", "kubeconfig", "service_account_json", "url"}) {
      refused(tenant.api(
          "PUT", "/credentials/typed", tenant.admin,
          {{"type", type}, {"fields", {{field, " {\"\n" + secret("of no format") + "@:"}}}}));
    }
  }
  const Json why{{"reason", "a drill"}};
  refused(tenant.api("POST", "/credentials/shared-db/reveal", tenant.admin, why));
  tenant.manifest["settings"]["reveal"] = true;
  granted(tenant.apply());
  EXPECT_THAT(granted(tenant.api("POST", "/credentials/shared-db/reveal", tenant.admin, why)).body,
              HasSubstr("\"url\":\""));

  // The same through the API of Vault: written, read, patched, and a client's token.
  {
    tenant.manifest["settings"]["vault_api"] = {{"clients", {"gw-01"}}};
    granted(tenant.apply());
    const auto vault = [&](const std::string& who, const char* method, const std::string& path,
                           const std::string& body = "") {
      return tenant.ask(method, "/t/canary/v1/" + path,
                        {{"X-Vault-Token", who}, {"Content-Type", "application/merge-patch+json"}},
                        body);
    };
    const auto data = [&](const std::string& field, const std::string& what) {
      return Json{{"data", {{field, secret(what)}}}}.dump();
    };
    const auto written = data("url", "written as to Vault");
    granted(vault(tenant.admin, "PUT", "secret/data/shared-db", written));
    granted(vault(tenant.admin, "PATCH", "secret/data/shared-db", data("more", "patched")));
    EXPECT_THAT(granted(vault(tenant.admin, "GET", "secret/data/shared-db")).body,
                HasSubstr("\"url\":\""));
    granted(vault(tenant.admin, "GET", "secret/metadata/shared-db"));
    granted(vault(tenant.admin, "GET", "auth/token/lookup-self"));
    const Json role{{"role_id", "gw-01"}, {"secret_id", tenant.secret}};
    const std::string session =
        json_of(granted(vault("", "PUT", "auth/approle/login", role.dump())))
            .at("auth")
            .at("client_token");
    canaries.plant("token of a client at the Vault subset", session.substr(session.rfind('.')));
    EXPECT_THAT(granted(vault(session, "GET", "secret/data/shared-db")).body,
                HasSubstr("\"url\":\""));
    refused(vault(session, "PUT", "secret/data/shared-db", data("url", "by a client")));
    // A session that holds a user's token, and what the user's view shows.
    tenant.manifest["settings"]["vault_api"]["views"] = {
        {{"path", "mcp-gateway/{sub}"}, {"backend", "github"}}};
    granted(tenant.apply());
    const auto user_login = [&](const std::string& user, const std::string& proof) {
      return tenant.ask("POST", "/t/canary/v1/auth/jwt/login",
                        {{"Authorization", basic("gw-01", proof)}},
                        Json{{"role", "gw-01"}, {"jwt", user}}.dump());
    };
    const std::string for_user =
        json_of(granted(user_login(alice, tenant.secret))).at("auth").at("client_token");
    canaries.plant("session with a user's token", for_user.substr(for_user.size() - 40));
    EXPECT_THAT(granted(vault(for_user, "GET", "secret/data/mcp-gateway/alice")).body,
                HasSubstr("\"token\":\""));
    refused(vault(for_user, "GET", "secret/data/" + secret("no view") + "/alice"));
    refused(vault(for_user, "GET", "secret/data/mcp-gateway/" + secret("no user")));
    refused(vault("postern_vu_canary.1." + secret("no user session"), "GET",
                  "secret/data/mcp-gateway/alice"));
    refused(user_login(secret("no user token"), tenant.secret));
    refused(user_login(alice, secret("wrong secret beside a user token")));
    granted(vault(for_user, "PUT", "auth/token/revoke-self"));
    refused(vault(alice, "PUT", "secret/data/not-wanted", data("url", "not wanted of users")));
    refused(vault(tenant.admin, "PUT", "secret/data/typed", data("other", "of the wrong type")));
    refused(vault(tenant.admin, "PUT", "secret/data/x", "{" + secret("no JSON to Vault")));
    refused(vault(tenant.admin, "PUT", "secret/data/x", data("bad name", "under a bad name")));
    refused(vault(tenant.admin, "PUT", "secret/data/x",
                  Json{{"data", {{"a", {secret("in a list")}}}}}.dump()));
    refused(
        vault(tenant.admin, "PUT", "secret/data/shared-db",
              Json{{"data", {{"url", secret("wrong cas")}}}, {"options", {{"cas", 99}}}}.dump()));
    refused(vault(secret("no token of Vault"), "GET", "secret/data/shared-db"));
    refused(vault("postern_vt_canary." + secret("no session"), "GET", "secret/data/shared-db"));
    refused(vault("", "PUT", "auth/approle/login",
                  Json{{"role_id", "gw-01"}, {"secret_id", secret("wrong secret")}}.dump()));
    refused(vault("", "PUT", "auth/approle/login",
                  Json{{"role_id", secret("secret as role")}, {"secret_id", "x"}}.dump()));
    refused(vault("", "PUT", "auth/jwt/login",
                  Json{{"role", "gw-01"}, {"jwt", secret("no JWT")}}.dump()));
    const auto wrap = [&](const std::string& who, const char* method, const std::string& path,
                          const std::string& body = "") {
      return json_of(
                 granted(tenant.ask(method, "/t/canary/v1/" + path,
                                    {{"X-Vault-Token", who}, {"X-Vault-Wrap-TTL", "5m"}}, body)))
          .at("wrap_info")
          .at("token")
          .get<std::string>();
    };
    const auto wrapped = [&](const char* what, std::string made) {
      canaries.plant(what, made.substr(made.size() - 43));
      return made;
    };
    const auto of_read =
        wrapped("wrapping token of a read", wrap(session, "GET", "secret/data/shared-db"));
    const auto of_text =
        wrapped("wrapping token of a text", wrap(tenant.admin, "PUT", "sys/wrapping/wrap",
                                                 Json{{"v", secret("wrapped by itself")}}.dump()));
    granted(vault(of_read, "PUT", "sys/wrapping/lookup"));
    const auto again = wrapped(
        "wrapping token made anew",
        json_of(granted(vault(of_read, "PUT", "sys/wrapping/rewrap"))).at("wrap_info").at("token"));
    refused(vault(of_read, "PUT", "sys/wrapping/unwrap"));
    EXPECT_THAT(granted(vault(again, "PUT", "sys/wrapping/unwrap")).body, HasSubstr("more"));
    granted(vault(session, "PUT", "sys/wrapping/unwrap", Json{{"token", of_text}}.dump()));
    refused(vault("postern_wt_" + secret("no wrapping token"), "PUT", "sys/wrapping/unwrap"));
    refused(vault(session, "PUT", "sys/wrapping/unwrap",
                  Json{{"token", secret("no wrapping token in the body")}}.dump()));
    // Keys that nobody sees, and what clients have encrypted with them.
    tenant.manifest["settings"]["vault_api"]["transit"] = {
        {"rules",
         {{{"clients", {"gw-01"}},
           {"keys", {"orders", "signer"}},
           {"operations", {"encrypt", "decrypt", "sign", "datakey"}}}}}};
    granted(tenant.apply());
    granted(vault(tenant.admin, "PUT", "transit/keys/orders"));
    granted(vault(tenant.admin, "PUT", "transit/keys/signer", R"({"type":"ecdsa-p256"})"));
    const auto base64_of = [&](const std::string& what) {
      const auto text = secret(what);
      auto encoded = crypto::base64(as_bytes(text));
      canaries.plant(what + " in base64", encoded.substr(0, 40));
      return encoded;
    };
    const auto encrypted =
        json_of(granted(vault(session, "POST", "transit/encrypt/orders",
                              Json{{"plaintext", base64_of("plaintext of transit")}}.dump())));
    const Json sent{{"ciphertext", encrypted.at("data").at("ciphertext")}};
    granted(vault(session, "POST", "transit/decrypt/orders", sent.dump()));
    refused(vault(tenant.admin, "POST", "transit/decrypt/orders", sent.dump()));
    refused(vault(session, "POST", "transit/decrypt/signer", sent.dump()));
    refused(vault(session, "POST", "transit/encrypt/orders",
                  Json{{"plaintext", secret("no base64 for transit") + "-"}}.dump()));
    refused(vault(session, "POST", "transit/encrypt/other",
                  Json{{"plaintext", base64_of("plaintext for no key")}}.dump()));
    granted(vault(session, "POST", "transit/sign/signer",
                  Json{{"input", base64_of("input to be signed")}}.dump()));
    const std::string data_key =
        json_of(granted(vault(session, "POST", "transit/datakey/plaintext/orders", "{}")))
            .at("data")
            .at("plaintext");
    canaries.plant("data key", data_key.substr(0, 40));
    granted(vault(session, "PUT", "auth/token/revoke-self"));
    refused(vault(session, "GET", "secret/data/shared-db"));
  }

  const auto exchanged = json_of(granted(tenant.exchange(alice, "files")));
  canaries.plant_token("minted token", exchanged.at("access_token"));
  const auto released = tenant.release(alice, {{{"backend", "github"}}, {{"backend", "files"}}});
  canaries.plant_token("released token", item_of(released, 1).at("env").at("FILES_TOKEN"));
  tenant.part("backends", "github")["token_field"] = "token";
  granted(tenant.apply());
  granted(tenant.exchange(alice, "github"));
  refused(tenant.exchange(token("bob"), "github"));
  refused(tenant.exchange(alice, "github", {{"scope", secret("as scope of a credential")}}));
  const auto rotated =
      json_of(granted(tenant.api("POST", "/clients/gw-01/secrets", tenant.admin, Json::object())));
  canaries.plant("rotated secret", rotated.at("client_secret"));
  tenant.part("clients", "gw-files")["secret"] = secret("given secret");
  granted(tenant.apply());

  // Tokens of ours come back, and are taken back.
  const auto about = [&](const std::string& endpoint, const std::string& value) {
    return raw("POST", "/t/canary/" + endpoint, basic("gw-01", tenant.secret), form_type,
               form({{"token", value}}));
  };
  const std::string minted = exchanged.at("access_token");
  canaries.plant_token("chained token",
                       json_of(granted(tenant.exchange(minted, "files"))).at("access_token"));
  granted(about("introspect", minted));
  granted(about("introspect", secret("introspected")));
  granted(about("revoke", secret("given back")));
  granted(about("revoke", minted));
  refused(tenant.exchange(minted, "files"));
  refused(
      raw("POST", "/t/canary/introspect?token=" + secret("token in the query"), "", form_type, ""));
  // An opaque token, and the secret with which its issuer is asked about it.
  {
    const auto now = seconds_of(SystemClock().now());
    const std::string answer =
        Json{{"active", true}, {"token_type", "Bearer"},    {"sub", "dora"},
             {"aud", "gw-01"}, {"groups", {"engineering"}}, {"exp", now + 300}}
            .dump();
    const outbound::LocalServer provider(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " +
        std::to_string(answer.size()) + "\r\n\r\n" + answer);
    auto& issuer = tenant.manifest["issuers"][0];
    issuer["introspection"] = {{"endpoint", provider.url("/introspect")},
                               {"client_id", "postern"},
                               {"credential", "provider"}};
    granted(tenant.apply());
    granted(tenant.api("PUT", "/credentials/provider", tenant.admin,
                       {{"fields", {{"client_secret", secret("introspection secret")}}}}));
    granted(tenant.exchange(secret("opaque token"), "files"));
    granted(about("revoke", secret("opaque token given back")));
    EXPECT_FALSE(provider.heads().empty());
    issuer["introspection"]["endpoint"] = "http://127.0.0.1:9/nobody";
    granted(tenant.apply());
    refused(tenant.exchange(secret("opaque token of a dead issuer"), "files"));
    issuer.erase("introspection");
    granted(tenant.apply());
  }

  // A client registers itself, and others try to.
  {
    tenant.manifest["settings"]["registration"] = {{"dynamic", true},
                                                   {"authentication", {"client_secret"}},
                                                   {"backends", {"files"}},
                                                   {"scopes", {"files:read"}},
                                                   {"audiences", {"gw-01"}}};
    granted(tenant.apply());
    const std::string initial =
        json_of(granted(tenant.api("POST", "/initial-access-tokens", tenant.admin, Json::object())))
            .at("token");
    canaries.plant("initial access token", initial.substr(initial.size() - 43));
    const auto post = [&](const std::string& bearer_token, const std::string& body) {
      return raw("POST", "/t/canary/register", bearer(bearer_token), "application/json", body);
    };
    refused(post(initial, R"({"scope":")" + secret("as scope to register") + R"("})"));
    refused(post(initial, R"({"client_name":[")" + secret("as name") + R"("]})"));
    refused(post(initial, R"({"redirect_uris":[")" + secret("as redirect") + R"("]})"));
    refused(post(initial, "{" + secret("no JSON to register")));
    const auto client = json_of(granted(post(initial, "{}")));
    const std::string client_secret = client.at("client_secret");
    canaries.plant("registered secret", client_secret);
    granted(tenant.token(tenant.exchange_fields(alice, "files"),
                         basic(client.at("client_id").get<std::string>(), client_secret)));
    refused(post(initial, "{}"));
    refused(post("postern_ia_canary_" + secret("no initial token"), "{}"));
  }

  // The same in every way that fails: at the token endpoint…
  const auto fields = tenant.exchange_fields(alice, "files");
  refused(tenant.token(fields, basic("gw-01", secret("wrong secret"))));
  refused(tenant.token(fields, basic(secret("secret as id"), "x")));
  refused(tenant.token(fields, "Basic " + secret("no Basic")));
  refused(tenant.token(fields, "Bearer " + secret("bearer at token endpoint")));
  refused(
      raw("POST", "/t/canary/token?client_secret=" + secret("in the query"), "", form_type, ""));
  refused(tenant.exchange(secret("opaque subject"), "files"));
  refused(tenant.exchange(token("bob").substr(0, 60) + secret("spoilt signature"), "files"));
  refused(tenant.exchange(alice, secret("secret as audience")));
  refused(tenant.exchange(alice, "files", {{"scope", secret("secret as scope")}}));
  refused(tenant.exchange(
      alice, "files", {{"actor_token", secret("actor")}, {"actor_token_type", TestTenant::kJwt}}));
  refused(tenant.exchange(alice, "files", {{"requested_token_type", secret("as a type")}}));
  refused(tenant.exchange(alice, "files", {{"client_secret", secret("second method")}}));
  refused(tenant.exchange(alice, "files", {{"subject_token", secret("repeated parameter")}}));
  refused(tenant.token({{"grant_type", secret("as grant type")}}));
  refused(raw("POST", "/t/canary/token", basic("gw-01", tenant.secret), form_type,
              "grant_type=%zz" + secret("malformed form")));
  refused(raw("POST", "/t/canary/token", basic("gw-01", tenant.secret), "application/json",
              R"({"client_secret":")" + secret("as JSON") + R"("})"));
  // …with assertions, proofs and certificates in headers…
  const auto asserted = [&](const std::string& assertion) {
    auto all = fields;
    all.emplace_back("client_assertion_type",
                     "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    all.emplace_back("client_assertion", assertion);
    return tenant.token(all, "");
  };
  refused(asserted(secret("no assertion")));
  refused(asserted(token("gw-01")));
  const auto with_header = [&](const std::string& name, const std::string& value) {
    return tenant.ask("POST", "/t/canary/token",
                      {{"Authorization", basic("gw-01", tenant.secret)},
                       {"Content-Type", form_type},
                       {name, value}},
                      form(fields));
  };
  refused(with_header("DPoP", secret("no proof")));
  refused(with_header("DPoP", token("a proof of another kind")));
  granted(with_header("Client-Cert", ":" + secret("from no proxy") + ":"));
  // …at the REST API…
  for (const std::string& path :
       std::vector<std::string>{"", "/manifest", "/credentials", "/audit", "/admin-tokens"}) {
    refused(tenant.api("GET", path, secret("opaque bearer")));
    refused(tenant.api("GET", path, "postern_op_" + secret("no operator")));
    refused(tenant.api("GET", path, "postern_ta_canary_" + secret("no admin")));
  }
  refused(tenant.api("GET", "/manifest", token("carol")));
  for (const std::string& body : std::vector<std::string>{
           std::string("{\"fields\":{\"token\":\"*\""), std::string("[\"*\"]"),
           std::string("\"*\""), std::string(R"({"fields":{"token":["*"]}})"),
           std::string(R"({"fields":{"*":1}})"),
           std::string(R"({"fields":{"token":"a","token":"*"}})"),
           std::string(R"({"fields":{"bad name *":"*"}})"), std::string(R"({"*":"*"})"),
           std::string(R"({"fields":{"token":"x"},"expires_at":"*"})"), std::string("\xff*")}) {
    const auto value = secret("in a malformed body");
    auto text = body;
    for (auto at = text.find('*'); at != text.npos; at = text.find('*')) text.replace(at, 1, value);
    refused(
        raw("PUT", tenant_path + "/credentials/github", bearer(alice), "application/json", text));
    refused(
        raw("PATCH", tenant_path + "/credentials/github", bearer(alice), "application/json", text));
    refused(raw("POST", tenant_path + "/credentials/shared-db/reveal", bearer(tenant.admin),
                "application/json", text));
    refused(raw("PUT", tenant_path + "/manifest", bearer(tenant.admin), "application/json", text));
    refused(raw("POST", tenant_path + "/release", basic("gw-01", tenant.secret), "application/json",
                text));
    refused(raw("POST", tenant_path + "/admin-tokens", bearer(service.operator_token()),
                "application/json", text));
  }
  refused(tenant.api("PUT", "/credentials/other", alice,
                     {{"fields", {{"token", secret("not wanted")}}}}));
  refused(tenant.api("PUT", "/credentials/github", alice,
                     {{"fields", {{"token", secret("wrong version")}}}}, {{"If-Match", "\"99\""}}));
  refused(tenant.release(secret("opaque user token"), {{{"backend", "github"}}}));
  refused(tenant.release(alice, {{{"backend", "github"}, {"x", secret("unknown member")}}}));
  {
    const auto reply = tenant.release(alice, {{{"backend", secret("secret as backend")}}});
    EXPECT_EQ(item_of(reply).at("status"), "refused");  // names what was asked, as it should
  }
  auto manifest = tenant.manifest;
  manifest["clients"][0]["secret"] = secret("short");
  manifest["clients"][0]["secret"].get_ref<std::string&>().resize(31);
  refused(tenant.api("PUT", "/manifest", tenant.admin, manifest));
  manifest = tenant.manifest;
  manifest["credentials"] = {{{"name", "shared-db"}, {"value", secret("in a manifest")}}};
  refused(tenant.api("PUT", "/manifest", tenant.admin, manifest));
  manifest = tenant.manifest;
  manifest["clients"][0]["secret"] = secret("beside an error");
  manifest["roles"][0]["allow"].push_back("no-such-backend");
  refused(tenant.api("PUT", "/manifest", tenant.admin, manifest));
  // …before any endpoint sees it…
  for (const std::string& request : std::vector<std::string>{
           "GET /t/canary/jwks HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer *\r\n\r\n",
           "GET /t/canary/jwks HTTP/1.1\r\nHost: x\r\nX: *\n\r\n\r\n",
           "BREW* / HTTP/1.1\r\nHost: x\r\n\r\n", "GET * HTTP/9\r\n\r\n",
           "POST /t/canary/token HTTP/1.1\r\nHost: x\r\nContent-Length: *\r\n\r\n"}) {
    auto text = request;
    text.replace(text.find('*'), 1, secret("in a malformed request"));
    RawClient client(service.port());
    const auto reply = client.ask(text);
    refusals += reply.head + reply.body + "\n";
  }
  // …and in the database.
  {
    pqxx::connection connection(world.postgres->superuser_conninfo("postern"));
    pqxx::work lock(connection);
    lock.exec("LOCK TABLE postern.credential_version, postern.client_secret");
    refused(tenant.api("PUT", "/credentials/github", alice,
                       {{"fields", {{"token", secret("while locked")}}}}));
  }

  // A child that is meant to have one, and everybody else.
  const auto files = world.directory.path() / "cli";
  fs::create_directories(files);
  const auto secret_file = [&](const char* name, const std::string& content) {
    std::ofstream(files / name) << content << "\n";
    fs::permissions(files / name, fs::perms(0600));
    return (files / name).string();
  };
  Process child({program("postern"), "exec", "github", "--", "/bin/sh", "-c",
                 "echo started as $$; exec sleep 300"},
                {{"PATH", "/usr/bin:/bin"},
                 {"POSTERN_URL", "http://127.0.0.1:" + std::to_string(service.port())},
                 {"POSTERN_TENANT", "canary"},
                 {"POSTERN_CLIENT_ID", "gw-01"},
                 {"POSTERN_CLIENT_SECRET_FILE", secret_file("client.secret", tenant.secret)},
                 {"POSTERN_SUBJECT_TOKEN_FILE", secret_file("user.token", alice)}},
                files / "child.log");
  eventually([&] { return child.output().find("started as") != std::string::npos; }, "the child");
  std::string its_environment;  // none while the shell becomes `sleep`
  const auto environ = "/proc/" + std::to_string(child.pid()) + "/environ";
  eventually([&] { return !(its_environment = read_text(environ)).empty(); }, "its environment");
  EXPECT_EQ(canaries.found_in(its_environment), std::set<std::string>{"second version 4"})
      << its_environment;
  for (const auto& process : fs::directory_iterator("/proc")) {
    const auto name = process.path().filename().string();
    if (name.find_first_not_of("0123456789") != name.npos) continue;
    EXPECT_EQ(canaries.found_in(read_text(process.path() / "cmdline")), std::set<std::string>())
        << name;
    if (name == std::to_string(child.pid())) continue;
    EXPECT_EQ(canaries.found_in(read_text(process.path() / "environ")), std::set<std::string>())
        << name;
  }
  EXPECT_EQ(canaries.found_in(child.output()), std::set<std::string>());

  EXPECT_EQ(canaries.found_in(refusals), std::set<std::string>());
  EXPECT_EQ(canaries.found_in(http_ask(service.ops_port(), "GET", "/metrics").body),
            std::set<std::string>());
  // Keys rotate; what the program says of them is no key.
  {
    const auto directory = world.directory.path() / "service";
    int runs = 0;
    const auto keys = [&](std::vector<std::string> command) {
      const auto output = directory / ("keys." + std::to_string(++runs) + ".log");
      command.insert(command.begin(), {program("posternd"), "keys"});
      Process rotating(command, {}, output);
      EXPECT_EQ(rotating.wait(), 0) << read_text(output);
      EXPECT_EQ(canaries.found_in(read_text(output)), std::set<std::string>());
      return read_text(output);
    };
    const auto config = (directory / "posternd.toml").string();
    keys({"add", (directory / "keys/root.key").string()});
    const auto line = read_text(directory / "keys/root.key");
    canaries.plant_key("new root key", line.substr(37, 43));
    eventually(
        [&] {
          return service.logs().find("root_key.loaded active=" + line.substr(20, 16)) !=
                 std::string::npos;
        },
        "the new root key noticed");
    keys({"rotate-root", "--force", "-c", config});
    keys({"rotate-tenant", "canary", "-c", config});
    keys({"rewrap", "--all", "-c", config});
    keys({"status", "-c", config});
    granted(tenant.exchange(alice, "github"));
  }
  // A key holder's share, and what is taken for one.
  {
    const auto text = crypto::random_token();
    canaries.plant_key("share", text);
    const Json share{{"share", text}};
    granted(tenant.api("PUT", "/key-holder", tenant.admin, share));
    for (const auto& wrong : {secret("another share"), secret("no share") + "A"}) {
      refused(tenant.api("PUT", "/key-holder", tenant.admin, {{"share", wrong}}));
      refused(tenant.api("POST", "/key-holder/unseal", tenant.admin, {{"share", wrong}}));
      refused(tenant.api("POST", "/key-holder/unseal", alice, {{"share", wrong}}));
    }
    granted(tenant.api("POST", "/key-holder/seal", tenant.admin, Json::object()));
    refused(tenant.exchange(alice, "github"));
    granted(tenant.api("POST", "/key-holder/unseal", tenant.admin, share));
    granted(tenant.exchange(alice, "github"));
    EXPECT_EQ(canaries.found_in(refusals), std::set<std::string>());
  }

  // Values that take the place of others: given, made, and after a theft; and an erasure.
  {
    const auto rotate = [&](const std::string& who, const Json& body) {
      return tenant.api("POST", "/credentials/rotated/rotate", who, body);
    };
    const auto given = [&](const std::string& what) { return Json{{"token", secret(what)}}; };
    const auto shown = [&](const std::string& name, const char* field) {
      return json_of(
                 granted(tenant.api("POST", "/credentials/" + name + "/reveal", tenant.admin, why)))
          .at("fields")
          .at(field)
          .get<std::string>();
    };
    granted(tenant.api("PUT", "/credentials/rotated", tenant.admin,
                       {{"fields", given("before it was rotated")}}));
    granted(rotate(tenant.admin, {{"fields", given("rotated by hand")}, {"grace_seconds", 600}}));
    granted(tenant.api("POST", "/credentials/rotated/rotation/retire", tenant.admin));
    const Json password{{"kind", "password"}, {"field", "token"}, {"length", 40}};
    granted(rotate(tenant.admin, {{"generate", password}, {"grace_seconds", 0}}));
    canaries.plant("generated password", shown("rotated", "token"));
    granted(tenant.api("PUT", "/credentials/pair", tenant.admin,
                       {{"fields", given("before there was a key pair")}}));
    granted(tenant.api("POST", "/credentials/pair/rotate", tenant.admin,
                       {{"generate", {{"kind", "key_pair"}, {"field", "token"}}}}));
    const auto pair = shown("pair", "token");
    // PKCS#8 of Ed25519: 16 bytes that every one begins with, then the key.
    canaries.plant("generated key", pair.substr(pair.find('\n') + 1 + 24, 40));
    refused(rotate(tenant.admin, {{"fields", {{"not a name", secret("under no name")}}}}));
    refused(
        rotate(tenant.admin, {{"fields", given("beside a generator")}, {"generate", password}}));
    refused(rotate(tenant.admin, {{"generate", {{"kind", secret("as a kind")}}}}));
    refused(rotate(token("carol"), {{"fields", given("by a stranger")}}));
    refused(raw("POST", tenant_path + "/credentials/rotated/rotate", bearer(tenant.admin),
                "application/json", "{\"fields\":{\"token\":\"" + secret("cut short")));

    const auto owner = "?issuer=" + percent_encoded(tenant.idp.issuer()) + "&subject=alice";
    granted(tenant.api("PUT", "/credentials/github/rotation" + owner, tenant.admin, password));
    const auto of_alice_now = [&] {
      return item_of(tenant.release(alice, {{{"backend", "github"}}}));
    };
    Json order{{"principal", {{"issuer", tenant.idp.issuer()}, {"subject", "alice"}}},
               {"since", format_time(SystemClock().now() - std::chrono::hours(1))},
               {"action", "rotate"},
               {"reason", "a drill"}};
    const auto emergency = [&] {
      return granted(tenant.api("POST", "/emergency", tenant.admin, order)).body;
    };
    EXPECT_THAT(emergency(), HasSubstr("\"status\":\"rotated_here\""));
    canaries.plant("made after a theft", of_alice_now().at("env").at("GITHUB_TOKEN"));
    order["action"] = "disable";
    EXPECT_THAT(emergency(), HasSubstr("\"status\":\"disabled\""));
    EXPECT_EQ(of_alice_now().at("error"), "interaction_required");
    order["action"] = secret("as an action");
    refused(tenant.api("POST", "/emergency", tenant.admin, order));
    refused(tenant.api("POST", "/emergency", secret("nobody in an emergency"), order));

    const auto erin = token("erin");
    granted(tenant.api("PUT", "/credentials/github", erin, {{"fields", given("to be erased")}}));
    granted(tenant.release(erin, {{{"backend", "github"}}}));
    refused(tenant.api("POST", "/principals/erase", erin, {{"subject", secret("nobody")}}));
    for (const auto& who : {alice, erin}) {
      const auto erased =
          json_of(granted(tenant.api("POST", "/principals/erase", who, Json::object())));
      EXPECT_EQ(erased.at("state"), "done");
      // It is in the audit trail, and has an `iss` as the users' tokens have.
      const std::string statement = erased.at("statement");
      canaries.forget_what_stands_in(statement);
    }
    EXPECT_EQ(canaries.found_in(refusals), std::set<std::string>());
  }

  std::string records;
  for (const auto& record : tenant.audit()) records += record.dump() + "\n";
  EXPECT_GT(records.size(), 1000u);
  EXPECT_EQ(canaries.found_in(records), std::set<std::string>());
  EXPECT_EQ(tenant.verification().at("intact"), true);

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  // What the service keeps of all that, now that nothing is under way: the password for the
  // next connection, the root keys; and the share for as long as the tenant is unsealed.
  std::set<std::string> kept{"database password", "root key as bytes", "new root key as bytes",
                             "share as bytes"};
  const auto memory = World::made(world.directory.path() / "memory");
  EXPECT_EQ(found_in_memory(service.process().pid(), canaries, memory), kept);
  granted(tenant.api("POST", "/key-holder/seal", tenant.admin, Json::object()));
  kept.erase("share as bytes");
  EXPECT_EQ(found_in_memory(service.process().pid(), canaries, memory), kept);
#endif

  // No core file, though the limit allowed one; nor one that is sent elsewhere, as the system
  // may be set to (core_pattern): see IsClosedToOthersAndLeavesNoCoreFromItsFirstMoment.
  service.process().signal(SIGSEGV);
  // (AddressSanitizer takes the signal and ends the program itself.)
  EXPECT_THAT(service.process().wait(), AnyOf(-SIGSEGV, 1));
  for (const auto& entry : fs::directory_iterator(world.directory.path() / "service")) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("core")) << entry.path();
  }
  service.start();
  const auto logs = service.logs();
  EXPECT_NE(logs.find("service.started"), logs.npos);
  EXPECT_EQ(canaries.found_in(logs), std::set<std::string>());

  // All that PostgreSQL wrote: its log, tables, write-ahead log, statistics.
  {
    pqxx::connection connection(world.postgres->superuser_conninfo("postern"));
    pqxx::nontransaction(connection).exec("CHECKPOINT");
  }
  std::size_t searched = 0;
  for (const auto& entry : fs::recursive_directory_iterator(world.directory.path() / "postgres")) {
    if (!entry.is_regular_file() || entry.path().filename() == "passwords") continue;
    EXPECT_EQ(canaries.found_in(read_text(entry.path())), std::set<std::string>()) << entry.path();
    ++searched;
  }
  EXPECT_GT(searched, 500u);
  EXPECT_GT(canaries.size(), 200u);
}

/// Where libpq carries them in the clear: shares to and from the share store, passwords
/// to the server that a rotator works on.
TEST(Canaries, OfTheShareStoreAndOfRotatedRolesAreLeftNowhereInMemory) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "freed memory is the sanitizer's";
#endif
  auto& postgres = shared_postgres();
  const auto superuser = postgres.superuser_conninfo();
  const auto socket = superuser.substr(6, superuser.find('\'', 6) - 6);  // host='…'
  const TcpDoor door(socket + "/.s.PGSQL.5432");
  const PostgresDatabase database;
  const ShareDatabase shares;
  const TempDirectory directory;
  ServiceProcess service(
      directory.path(), database.service(),
      {{"share_store.url", '"' + shares.service() + '"'},
       {"rotation.postgres_hosts", "[\"127.0.0.1:" + std::to_string(door.port()) + "\"]"},
       {"rotation.allow_insecure_loopback", "true"}});
  service.start();
  Canaries canaries;
  const auto secret = [&](const std::string& what) {
    auto value = crypto::random_token();
    canaries.plant(what, value);
    return value;
  };
  const auto of_admin = secret("password of the admin");
  const auto first = secret("password of the role");
  {
    pqxx::connection connection(superuser);
    pqxx::nontransaction tx(connection);
    tx.exec("CREATE ROLE canary_admin LOGIN SUPERUSER PASSWORD " + tx.quote(of_admin));
    tx.exec("CREATE ROLE canary_role LOGIN PASSWORD " + tx.quote(first));
  }
  TestTenant tenant(service.endpoint(), "forgotten");
  tenant.store("alice", "github", {{"token", secret("credential of alice")}});
  service.stop();
  service.start();
  // One share is read from the store, one is put there.
  ASSERT_THAT(tenant.exchange(tenant.user_token("alice"), "files"), HasStatus(200));
  const auto released = tenant.release(tenant.user_token("alice"), {{{"backend", "github"}}});
  ASSERT_EQ(item_of(released).at("status"), "allowed");
  tenant.store("bob", "github", {{"token", secret("credential of bob")}});
  {
    pqxx::connection connection(shares.superuser());
    pqxx::nontransaction tx(connection);
    const auto rows = tx.exec("SELECT encode(share, 'hex') FROM postern.key_share");
    ASSERT_GE(rows.size(), 3u);  // the tenant's and the users'
    for (const auto& row : rows) {
      const std::string hex = row[0].c_str();
      std::string bytes;
      for (std::size_t i = 0; i < hex.size(); i += 2) {
        bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
      }
      canaries.plant("share in hex", hex);
      canaries.plant("share as bytes", bytes);
    }
  }
  const auto memory = World::made(directory.path() / "memory");
  EXPECT_EQ(found_in_memory(service.process().pid(), canaries, memory),
            std::set<std::string>{"share as bytes"});  // while keys are in use

  tenant.manifest["settings"]["reveal"] = true;
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto put = [&](const std::string& path, const Json& body) {
    const auto reply = tenant.api("PUT", "/credentials/" + path, tenant.admin, body);
    EXPECT_THAT(reply.status, AnyOf(200, 201)) << reply.body;
  };
  put("pg-admin", {{"fields", {{"username", "canary_admin"}, {"password", of_admin}}}});
  put("db", {{"type", "basic"}, {"fields", {{"username", "canary_role"}, {"password", first}}}});
  put("db/rotation", {{"kind", "postgres"},
                      {"host", "127.0.0.1"},
                      {"port", door.port()},
                      {"database", "postgres"},
                      {"roles", {"canary_role"}},
                      {"admin_credential", "pg-admin"},
                      {"grace_seconds", 3600}});
  ASSERT_THAT(tenant.api("POST", "/credentials/db/rotate", tenant.admin, Json::object()),
              HasStatus(202));
  eventually(
      [&] {
        const auto is = json_of(tenant.api("GET", "/credentials/db/rotation", tenant.admin));
        return is.contains("rotation") && is.at("rotation").at("phase") == "previous";
      },
      "the role is rotated");
  const auto shown =
      json_of(tenant.api("POST", "/credentials/db/reveal", tenant.admin, {{"reason", "a test"}}));
  canaries.plant("new password of the role", shown.at("fields").at("password"));

  const auto erased =
      tenant.api("POST", "/erase", tenant.operator_token(), Json{{"confirm", tenant.name}});
  ASSERT_THAT(erased, HasStatus(200));
  EXPECT_EQ(json_of(erased).at("state"), "done");
  EXPECT_EQ(found_in_memory(service.process().pid(), canaries, memory), std::set<std::string>());
}

/// Before it reads anything: here a configuration that never comes.
TEST(ServiceProcess, IsClosedToOthersAndLeavesNoCoreFromItsFirstMoment) {
  const TempDirectory directory;
  const auto executable = directory.path() / "posternd";  // where another user may run it
  fs::copy_file(program("posternd"), executable);
  const auto configuration = directory.path() / "posternd.toml";
  ASSERT_EQ(::mkfifo(configuration.c_str(), 0644), 0);
  std::vector<std::string> command{executable, "check-config", "-c", configuration};
  if (::geteuid() == 0) {  // whose are its files in /proc in any case
    command.insert(command.begin(),
                   {"/usr/bin/setpriv", "--reuid", "65534", "--clear-groups", "--"});
  }
  Process process(command, {}, directory.path() / "log");
  const auto proc = fs::path("/proc") / std::to_string(process.pid());
  eventually(
      [&] {
        struct stat of_memory {};
        // Those who may not look are not its user's any more (PR_SET_DUMPABLE).
        return read_text(proc / "comm") == "posternd\n" &&
               ::stat((proc / "mem").c_str(), &of_memory) == 0 && of_memory.st_uid == 0;
      },
      "its memory closed");
  std::istringstream limits(read_text(proc / "limits"));
  std::string core;
  for (std::string line; std::getline(limits, line);) {
    if (line.starts_with("Max core file size")) core = line.substr(18);
  }
  std::istringstream words(core);
  std::string soft, hard;
  words >> soft >> hard;
  EXPECT_EQ(soft, "0");
  EXPECT_EQ(hard, "0");
}

// ---- kill -9 ----

/// Writes without pause and remembers what was acknowledged.
class Writer {
 public:
  Writer(const TestTenant& tenant, std::string user) : tenant_(tenant), user_(std::move(user)) {
    token_ = tenant.user_token(user_);
  }

  void write_once() {
    ++sent_;
    const auto stored = attempt([&] {
      return tenant_.api("PUT", "/credentials/github", token_,
                         {{"fields", {{"token", "value-" + std::to_string(sent_)}}}});
    });
    if (stored.status == 200 || stored.status == 201) {
      acknowledged_ = sent_;
      version_ = json_of(stored).at("version");
      ++acknowledgements;
    } else if (stored.status != 0) {
      refused.insert(stored.status);
    }
    const auto exchanged = attempt([&] { return tenant_.exchange(token_, "files"); });
    if (exchanged.status == 200) {
      ids_.insert(claims_of(json_of(exchanged).at("access_token").get<std::string>()).at("jti"));
      ++acknowledgements;
    } else if (exchanged.status != 0) {
      refused.insert(exchanged.status);
    }
  }

  void check(const std::vector<Json>& audit) const {
    const auto item =
        item_of(tenant_.release(tenant_.user_token(user_), {{{"backend", "github"}}}));
    ASSERT_EQ(item.at("status"), "allowed") << item;
    const int value = std::stoi(item.at("env").at("GITHUB_TOKEN").get<std::string>().substr(6));
    EXPECT_GE(value, acknowledged_);
    EXPECT_LE(value, sent_);
    const int version = item.at("credential").at("version");
    EXPECT_GE(version, version_);
    // Each version has its record, and each record its version.
    int records = 0;
    std::set<std::string> recorded;
    for (const auto& record : audit) {
      const auto& event = record.at("event");
      if (event.at("outcome") != "allowed") continue;
      const auto& fields = event.at("fields");
      if (event.at("action") == "token.exchange") recorded.insert(fields.at("jti"));
      if (event.at("action") == "credential.put" && fields.at("subject") == user_) ++records;
    }
    EXPECT_EQ(records, version);
    for (const auto& id : ids_) EXPECT_TRUE(recorded.contains(id)) << "token without a record";
  }

  std::atomic<int> acknowledgements{0};
  std::set<int> refused;  ///< statuses of what was answered and not done

 private:
  template <class Ask>
  static WireReply attempt(Ask ask) {
    try {
      return ask();
    } catch (const std::runtime_error&) {
      return {};  // no answer: in doubt
    }
  }

  const TestTenant& tenant_;
  const std::string user_;
  std::string token_;
  int sent_ = 0, acknowledged_ = 0, version_ = 0;
  std::set<std::string> ids_;
};

/// Writers at work while `disturb` runs; then what they were told is looked up.
void disturbed(
    World& world, TestTenant& tenant, int rounds, const std::function<void()>& disturb,
    const std::function<void()>& during = [] {}) {
  std::vector<std::unique_ptr<Writer>> writers;
  for (int i = 0; i < 4; ++i) {
    writers.push_back(std::make_unique<Writer>(tenant, "writer-" + std::to_string(i)));
  }
  const auto progress = [&] {
    int sum = 0;
    for (const auto& writer : writers) sum += writer->acknowledgements;
    return sum;
  };
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (auto& writer : writers) {
    threads.emplace_back([&writer = *writer, &stop] {
      while (!stop) writer.write_once();
    });
  }
  const auto at_work = [&] {
    const auto seen = progress();
    eventually([&] { return progress() >= seen + 40; }, "writers at work");
  };
  try {
    for (int round = 0; round < rounds; ++round) {
      at_work();
      disturb();
      during();
      eventually([&] { return back(world, tenant); }, "the service back");
    }
    at_work();
  } catch (const std::exception& problem) {
    ADD_FAILURE() << problem.what() << "\n" << world.service.logs();
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  if (testing::Test::HasFailure()) return;

  std::vector<Json> audit;
  for (std::uint64_t after = 0;;) {
    const auto page = tenant.audit("limit=1000&after=" + std::to_string(after));
    if (page.empty()) break;
    after = page.back().at("sequence");
    audit.insert(audit.end(), page.begin(), page.end());
  }
  for (const auto& writer : writers) {
    writer->check(audit);
    for (const int status : writer->refused) EXPECT_EQ(status, 503);
  }
  const auto verification = tenant.verification();
  EXPECT_EQ(verification.at("intact"), true) << verification;
  EXPECT_EQ(verification.at("records").get<std::size_t>(), audit.size() + 4);  // 4 releases since
}

TEST(KillNine, OfTheServiceLosesNothingAcknowledged) {
  auto& world = shared_world();
  TestTenant tenant(world.service.endpoint(), "kill-service");
  disturbed(world, tenant, 5, [&] {
    world.service.process().signal(SIGKILL);
    EXPECT_EQ(world.service.process().wait(), -SIGKILL);
    world.service.start();
  });
}

TEST(KillNine, OfPostgresLosesNothingAcknowledged) {
  auto& world = shared_world();
  TestTenant tenant(world.service.endpoint(), "kill-postgres");
  const auto alice = tenant.user_token("alice");
  ASSERT_THAT(tenant.exchange(alice, "files"), HasStatus(200));
  disturbed(
      world, tenant, 3, [&] { ::kill(world.postgres->pid(), SIGKILL); },
      [&] {
        // No audit, no answer: not even what needs no other database work.
        eventually([&] { return tenant.exchange(alice, "files").status == 503; }, "refusals");
        EXPECT_THAT(tenant.exchange(alice, "files"), IsOAuthError(503, "temporarily_unavailable"));
        EXPECT_THAT(tenant.release(alice, {{{"backend", "github"}}}),
                    IsProblem(503, "unavailable"));
        EXPECT_TRUE(world.service.process().running());
        world.postgres.start();
      });
}

TEST(KillNine, OfOneDatabaseBackendLosesNothingAcknowledged) {
  auto& world = shared_world();
  TestTenant tenant(world.service.endpoint(), "kill-backend");
  disturbed(world, tenant, 3, [&] {
    // The postmaster then ends all sessions and recovers by itself.
    pqxx::connection connection(world.postgres->superuser_conninfo("postern"));
    pqxx::nontransaction tx(connection);
    const auto rows =
        tx.exec("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'posternd%' LIMIT 1");
    ASSERT_FALSE(rows.empty());
    ::kill(rows[0][0].as<pid_t>(), SIGKILL);
    eventually(
        [&] {
          try {
            tx.exec("SELECT 1");
            return false;
          } catch (const pqxx::failure&) {
            return true;
          }
        },
        "the end of this session too");
  });
}

TEST(KillNine, DuringAnApplyLeavesTheOldOrTheNewConfigurationWhole) {
  auto& world = shared_world();
  TestTenant tenant(world.service.endpoint(), "kill-apply");
  int acknowledged = 0;
  int sent = 0;
  for (int round = 0; round < 3; ++round) {
    std::atomic<int> applied{0};
    std::atomic<bool> stop{false};
    std::thread applying([&] {
      auto manifest = tenant.manifest;
      while (!stop) {
        ++sent;
        // All of these change together.
        manifest["display_name"] = "generation " + std::to_string(sent);
        for (auto& backend : manifest["backends"]) {
          if (backend["name"] == "files" || backend["name"] == "search") {
            backend["max_expires_in"] = 60 + sent % 600;
          }
        }
        try {
          if (tenant.api("PUT", "/manifest", tenant.operator_token(), manifest).status == 200) {
            acknowledged = sent;
            ++applied;
          } else {
            break;
          }
        } catch (const std::runtime_error&) {
          break;
        }
      }
    });
    eventually([&] { return applied >= 5; }, "applies");
    world.service.process().signal(SIGKILL);
    EXPECT_EQ(world.service.process().wait(), -SIGKILL);
    stop = true;
    applying.join();
    world.service.start();

    const auto now = json_of(tenant.api("GET", "/manifest", tenant.admin));
    const int generation = std::stoi(now.at("display_name").get<std::string>().substr(11));
    EXPECT_GE(generation, acknowledged);
    EXPECT_LE(generation, sent);
    for (const auto& backend : now.at("backends")) {
      if (backend["name"] == "files" || backend["name"] == "search") {
        EXPECT_EQ(backend.at("max_expires_in"), 60 + generation % 600);
      }
    }
    EXPECT_EQ(tenant.verification().at("intact"), true);
  }
}

TEST(ServiceProcess, StopsInGoodOrderAndSaysSo) {
  auto& world = shared_world();
  EXPECT_TRUE(ready(world));
  world.service.stop();
  world.service.start();
  EXPECT_THAT(world.service.logs(), testing::HasSubstr("service.draining"));
}

}  // namespace
}  // namespace postern::test
