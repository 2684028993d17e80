// `postern explain` as a process against posternd as a process, and what of a
// question's secrets an explanation, its record and both programs' output show: nothing.

#include <gtest/gtest.h>
#include <sys/types.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "support/opa_server.h"
#include "support/service_fixture.h"
#include "support/temporary_directory.h"

namespace postern::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::HasSubstr;

/// posternd with a tenant, and what an administrator has on disk.
struct World {
  TempDirectory directory;
  PostgresDatabase database;
  ServiceProcess service;

  World()
      : service(made(directory.path() / "service"), database.service(),
                {{"log.level", "\"debug\""}, {"decision_point.allow_loopback", "true"}}) {
    service.start();
    made(directory.path() / "cli");
  }
  static fs::path made(fs::path path) {
    fs::create_directories(path);
    return path;
  }
  std::string secret_file(const std::string& name, const std::string& content) const {
    const auto path = directory.path() / "cli" / name;
    std::ofstream(path) << content << "\n";
    fs::permissions(path, fs::perms(0600));
    return path.string();
  }

  struct Said {
    int exit_code = 0;
    std::string output;
  };
  /// `postern explain --client gw-01 …`
  Said explain(const TestTenant& tenant, const std::vector<std::string>& more,
               const std::string& user_token = "") {
    const auto out = directory.path() / "cli" / ("run-" + std::to_string(++runs) + ".log");
    std::vector<std::string> command{program("postern"), "explain", "--client", "gw-01"};
    command.insert(command.end(), more.begin(), more.end());
    Pairs environment{{"PATH", "/usr/bin:/bin"},
                      {"POSTERN_URL", "http://127.0.0.1:" + std::to_string(service.port())},
                      {"POSTERN_TENANT", tenant.name},
                      {"POSTERN_TOKEN_FILE", secret_file("admin.token", tenant.admin)}};
    if (!user_token.empty()) {
      environment.emplace_back("POSTERN_SUBJECT_TOKEN_FILE", secret_file("user.token", user_token));
    }
    Process run(command, environment, out);
    const int code = run.wait();
    return {code, run.output()};
  }
  int runs = 0;
};

World& world() {
  static World made;
  return made;
}

std::vector<std::string> described(const TestTenant& tenant, const std::string& group) {
  return {"--issuer", tenant.idp.issuer(), "--subject", "alice", "--group", group};
}
std::vector<std::string> with(std::vector<std::string> options,
                              const std::vector<std::string>& more) {
  options.insert(options.end(), more.begin(), more.end());
  return options;
}

TEST(PosternExplain, SaysOfADescribedUserWhatWouldBe) {
  TestTenant t(world().service.endpoint(), "cli-described");
  auto said = world().explain(t, with(described(t, "engineering"), {"--target", "files"}));
  EXPECT_EQ(said.exit_code, 0) << said.output;
  EXPECT_THAT(said.output, HasSubstr("allowed  files  files:read files:write"));
  EXPECT_THAT(said.output, HasSubstr("developer (by developer)"));
  said = world().explain(t, with(described(t, "nobody"), {"--target", "files"}));
  EXPECT_EQ(said.exit_code, 1) << said.output;
  EXPECT_THAT(said.output, HasSubstr("at       roles"));
  EXPECT_THAT(said.output, HasSubstr("what would allow it"));
  said = world().explain(t, {"--as-client", "--target", "files"});
  EXPECT_EQ(said.exit_code, 0) << said.output;
  said = world().explain(t, {"--as-client", "--grant", "client_credentials", "--target", "github"});
  EXPECT_EQ(said.exit_code, 1) << said.output;
  said = world().explain(t, {"--target", "files"});  // nobody asks
  EXPECT_EQ(said.exit_code, 2) << said.output;
}

TEST(PosternExplain, SaysWhoMayActAndWhatIsStored) {
  TestTenant t(world().service.endpoint(), "cli-parties");
  const auto asked = with(described(t, "engineering"), {"--target", "github"});
  auto said = world().explain(t, asked);
  EXPECT_EQ(said.exit_code, 1) << said.output;
  EXPECT_THAT(said.output, HasSubstr("at       credential"));
  EXPECT_THAT(said.output, HasSubstr("credential github, owner principal"));
  t.store("alice", "github", {{"token", "t"}});
  said = world().explain(t, asked);
  EXPECT_EQ(said.exit_code, 0) << said.output;
  EXPECT_THAT(said.output, HasSubstr("credential  github of the principal"));

  const std::vector<std::string> actor{"--actor", "agent", "--actor-issuer", t.idp.issuer()};
  EXPECT_THAT(said.output, HasSubstr("allowed  by release  github"));
  // Only an exchange takes an actor, and none answers for this backend.
  said = world().explain(t, with(asked, actor));
  EXPECT_EQ(said.exit_code, 1) << said.output;
  EXPECT_THAT(said.output, HasSubstr("at       target"));
  const auto files = with(described(t, "engineering"), {"--target", "files"});
  EXPECT_EQ(world().explain(t, with(files, actor)).exit_code, 0);
  const auto file = world().secret_file("actor.token", t.user_token("bob"));
  said = world().explain(t, with(files, {"--actor-token-file", file}));
  EXPECT_EQ(said.exit_code, 0) << said.output;
  const auto broken = world().secret_file("broken.token", t.user_token("bob") + "x");
  said = world().explain(t, with(files, {"--actor-token-file", broken}));
  EXPECT_EQ(said.exit_code, 1) << said.output;
  EXPECT_THAT(said.output, HasSubstr("at       actor"));
  for (const std::vector<std::string>& wrong :
       std::vector<std::vector<std::string>>{{"--actor", "agent"},
                                             {"--actor-issuer", "x"},
                                             with(actor, {"--actor-token-file", file}),
                                             {"--actor", "", "--actor-issuer", "x"},
                                             {"--actor-token-file", ""},
                                             {"--actor-token-file", "/nowhere"}}) {
    EXPECT_EQ(world().explain(t, with(files, wrong)).exit_code, 2) << wrong.front();
  }
  said = world().explain(
      t, with(files, {"--actor-token-file", file, "--actor-token-type", "password"}));
  EXPECT_EQ(said.exit_code, 1) << said.output;
  EXPECT_THAT(said.output, HasSubstr("HTTP 400"));
}

TEST(PosternExplain, SaysOfToolsAndTheDecisionPoint) {
  std::atomic<bool> allow{true};
  OpaServer opa([&](const Json& input) {
    return Json{{"allow", allow.load() && input.at("subject").at("subject") == "alice"},
                {"scopes", {"files:read"}}};
  });
  TestTenant t(world().service.endpoint(), "cli-outside");
  t.part("roles", "developer")["tools"] = {"mcp:files:read_*:call"};
  ASSERT_THAT(t.apply(), HasStatus(200));
  // The other spelling is stored as the one.
  for (const auto& role : json_of(t.api("GET", "/manifest", t.admin), "roles")) {
    if (role.at("name") == "developer") {
      EXPECT_EQ(role.at("tools"), Json({"files:read_*:call"}));
    }
  }
  ASSERT_THAT(t.api("PUT", "/manifest", t.operator_token(),
                    {{"tenant", t.name},
                     {"guardrails", {{"decision_point", {{"url", opa.url()}, {"cache_for", 0}}}}}}),
              HasStatus(200));
  const auto asked = with(described(t, "engineering"), {"--target", "files"});
  auto said = world().explain(t, asked);
  EXPECT_EQ(said.exit_code, 0) << said.output;
  EXPECT_THAT(said.output, HasSubstr("decision point  allowed, at most: files:read\n"));
  EXPECT_THAT(said.output, HasSubstr("files:write  closed by decision_point"));
  EXPECT_THAT(said.output, HasSubstr("files:read_*:call (developer by developer)"));
  EXPECT_THAT(said.output, HasSubstr("limited to  "));
  // What is explained is what is granted.
  const auto issued = json_of(t.exchange(t.user_token("alice"), "files"));
  EXPECT_EQ(issued.at("scope"), "files:read");
  EXPECT_EQ(issued.at("authorization_details")[0].at("identifier"), "read_*");

  said = world().explain(
      t, with(asked, {"--authorization-details",
                      R"([{"type":"mcp_tool","identifier":"drop","actions":["call"]}])"}));
  EXPECT_EQ(said.exit_code, 1) << said.output;
  EXPECT_THAT(said.output, HasSubstr("at       tools"));
  allow = false;
  said = world().explain(t, asked);
  EXPECT_EQ(said.exit_code, 1) << said.output;
  EXPECT_THAT(said.output, HasSubstr("at       decision_point"));
  EXPECT_THAT(said.output, HasSubstr("decision point  refused"));
  EXPECT_THAT(t.exchange(t.user_token("alice"), "files"), IsOAuthError(400, "invalid_target"));
}

TEST(PosternExplain, OfAnAssertionDoesNotUseItUp) {
  TestTenant t(world().service.endpoint(), "cli-assertion");
  t.part("clients", "gw-01")["grants"] = {"token-exchange", "jwt-bearer"};
  t.part("issuers", "corp")["token_types"] = {"access_token", "jwt", "jwt_bearer"};
  ASSERT_THAT(t.apply(), HasStatus(200));
  auto claims = t.claims("alice");
  claims["aud"] =
      json_of(t.ask("GET", "/.well-known/oauth-authorization-server/t/" + t.name)).at("issuer");
  claims["jti"] = "explained-1";
  const auto assertion = t.idp.sign(claims);
  for (int i = 0; i < 2; ++i) {
    const auto said = world().explain(t, {"--grant", "jwt-bearer", "--target", "files"}, assertion);
    EXPECT_EQ(said.exit_code, 0) << said.output;
  }
  const Pairs fields{{"grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"},
                     {"assertion", assertion},
                     {"audience", "files"}};
  EXPECT_THAT(t.token(fields), HasStatus(200));
  // A user's token is no assertion, and says so.
  const auto said = world().explain(t, {"--grant", "jwt-bearer", "--target", "files", "--json"},
                                    t.user_token("alice"));
  EXPECT_EQ(said.exit_code, 1) << said.output;
  EXPECT_THAT(said.output, HasSubstr("InvalidGrant"));
}

/// Pieces of a secret, so that a part of it is found too.
struct Canaries {
  void plant(const std::string& value) {
    for (std::size_t at = 0; at + 16 <= value.size(); at += 8)
      pieces.push_back(value.substr(at, 16));
  }
  /// A JWT: its header is no secret, and its payload begins as others do.
  void plant_token(const std::string& token) {
    const auto payload = token.find('.') + 1;
    plant(token.substr(payload + 24, token.rfind('.') - payload - 24));
    plant(token.substr(token.rfind('.') + 1));
  }
  std::size_t found_in(const std::string& text) const {
    std::size_t found = 0;
    for (const auto& piece : pieces) found += text.find(piece) != text.npos;
    return found;
  }
  std::vector<std::string> pieces;
};

TEST(PosternExplain, LeaksNoTokenAndNoSecret) {
  OpaServer opa([](const Json&) { return Json(true); });
  TestTenant t(world().service.endpoint(), "cli-canary");
  t.part("clients", "gw-01")["grants"] = {"token-exchange", "client_credentials", "jwt-bearer"};
  t.part("issuers", "corp")["token_types"] = {"access_token", "jwt", "id_token", "jwt_bearer"};
  ASSERT_THAT(t.apply(), HasStatus(200));
  const std::string stored = "canary-of-the-vault-5ca1ab1e";
  t.store("alice", "github", {{"token", stored}});
  ASSERT_THAT(t.api("PUT", "/manifest", t.operator_token(),
                    {{"tenant", t.name},
                     {"guardrails", {{"decision_point", {{"url", opa.url()}, {"cache_for", 0}}}}}}),
              HasStatus(200));
  Canaries canaries;
  canaries.plant(stored);
  canaries.plant(t.secret);
  canaries.plant(t.admin.substr(t.admin.size() - 43));
  canaries.plant(t.operator_token().substr(11));

  // Good, for somebody else, expired, broken, an assertion; at every kind of target.
  std::vector<std::string> tokens{t.user_token("alice"), t.user_token("stranger")};
  auto claims = t.claims("alice");
  claims["private_note"] = "canary-claim-0123456789abcdef";
  tokens.push_back(t.idp.sign(claims));
  claims["aud"] = "gw-elsewhere";
  tokens.push_back(t.idp.sign(claims));
  claims["exp"] = seconds_of(SystemClock().now() - 3600s);
  tokens.push_back(t.idp.sign(claims));
  tokens.push_back(tokens.front().substr(0, tokens.front().size() - 2));
  tokens.push_back(Idp(t.idp.issuer()).sign(t.claims("mallory")));
  for (const auto& token : tokens) canaries.plant_token(token);
  canaries.plant("canary-claim-0123456789abcdef");
  const auto acting = t.user_token("bob");
  canaries.plant_token(acting);

  for (const auto& token : tokens) ASSERT_GT(canaries.found_in(token), 10u);  // would be seen

  std::string shown;
  for (const auto& token : tokens) {
    for (const char* grant : {"token-exchange", "jwt-bearer"}) {
      for (const char* target : {"files", "github", "nowhere"}) {
        Json question{
            {"client", "gw-01"}, {"subject_token", token}, {"audience", target}, {"grant", grant}};
        const auto reply = t.api("POST", "/explanations", t.admin, question);
        shown += reply.head + reply.body + "\n";
        auto with_actor = question;
        with_actor["actor_token"] = acting;
        const auto acted = t.api("POST", "/explanations", t.admin, with_actor);
        shown += acted.head + acted.body + "\n";
        // In the wrong places, as a confused caller may put them.
        for (const char* member :
             {"client", "audience", "resource", "scope", "grant", "subject_token_type",
              "authorization_details", "subject", "actor", "actor_token_type"}) {
          auto mistaken = question;
          mistaken[member] = token;
          const auto refused = t.api("POST", "/explanations", t.admin, mistaken);
          shown += refused.head + refused.body + "\n";
        }
      }
    }
    for (const char* grant : {"token-exchange", "jwt-bearer"}) {
      for (const char* target : {"files", "github"}) {
        for (const std::vector<std::string>& more : {std::vector<std::string>{}, {"--json"}}) {
          shown +=
              world().explain(t, with({"--grant", grant, "--target", target}, more), token).output;
        }
      }
    }
  }
  EXPECT_GT(shown.size(), 10'000u);
  EXPECT_EQ(canaries.found_in(shown), 0u);
  std::string records;
  for (const auto& record : t.audit()) records += record.dump() + "\n";
  EXPECT_THAT(records, HasSubstr("policy.explain"));
  EXPECT_EQ(canaries.found_in(records), 0u);
  EXPECT_THAT(world().service.logs(), HasSubstr("service.started"));
  EXPECT_EQ(canaries.found_in(world().service.logs()), 0u);
  std::string told;
  for (const auto& request : opa.requests()) told += request;
  EXPECT_THAT(told, HasSubstr("\"subject\":\"alice\""));
  EXPECT_EQ(canaries.found_in(told), 0u);
}

}  // namespace
}  // namespace postern::test
