// Runs the scripts of sdk/tools, with the real `postern`, against a server that
// keeps just enough state.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "fake_server.h"
#include "run_program.h"
#include "temp_folder.h"

namespace postern {
namespace {

using nlohmann::json;
using test::FakeServer;
using test::Finished;
using test::json_reply;
using test::problem_reply;
using test::SeenRequest;
using test::TempFolder;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class Tools {
 public:
  Tools() : server([this](const SeenRequest& request) { return answer(request); }) {
    folder.write("token", "postern_op_x\n");
    std::filesystem::create_directories(folder.path("acme/credentials/db"));
    folder.write("acme/tenant.yaml", "# ours\ntenant: \"acme\"   # the first\n");
    folder.write("acme/credentials/db/url", "canary-url\n");
    folder.write("acme/credentials/db/user", "canary-user\n");
  }

  Finished run(const std::string& tool, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(),
                     {"/bin/bash", std::string(POSTERN_SOURCE_DIR) + "/sdk/tools/" + tool});
    auto finished = test::run_program(
        arguments,
        {"PATH=/usr/bin:/bin", "HOME=" + folder.path(), "POSTERN_PROGRAM=" POSTERN_PROGRAM,
         "POSTERN_URL=" + server.url(), "POSTERN_TOKEN_FILE=" + folder.path("token")});
    EXPECT_THAT(finished.out + finished.err, Not(HasSubstr("canary")));
    return finished;
  }

  /// Method and path of each request so far.
  std::vector<std::string> calls() const {
    std::vector<std::string> out;
    for (const auto& request : server.requests()) {
      const auto path = request.target.substr(0, request.target.find('?'));
      out.push_back(request.method + " " + path.substr(std::string("/api/v1/tenants/acme").size()));
    }
    return out;
  }

  std::string answer(const SeenRequest& request) {
    const auto has = [&](const char* part) {
      return request.target.find(part) != std::string::npos;
    };
    if (has("/manifest")) {
      return json_reply(200, R"({"tenant":"acme","epoch":1,"created":false,"dry_run":false,)"
                             R"("changes":[],"client_secrets":[],"warnings":[],)"
                             R"("missing_credentials":[]})");
    }
    if (has("/admin-tokens")) return json_reply(201, R"({"token_id":"t","token":"canary-admin"})");
    if (has("/credentials/")) {
      if (request.method == "PUT") stored = true;
      if (!stored) return problem_reply(404, "{}");
      return json_reply(200, R"({"name":"db","owner":{"type":"tenant"},"version":1,)"
                             R"("fields":["url"],"created_at":"2026-11-21T05:40:00Z"})");
    }
    if (request.method == "POST") {
      secrets.push_back("new");
      return json_reply(201, R"({"secret_id":"new","client_secret":"canary-secret"})");
    }
    if (request.method == "DELETE") return "HTTP/1.1 204 X\r\n\r\n";
    json items = json::array();
    for (const auto& id : secrets) items.push_back({{"secret_id", id}});
    return json_reply(200, json{{"items", items}}.dump());
  }

  TempFolder folder;
  bool stored = false;
  std::vector<std::string> secrets = {"old"};
  FakeServer server;  // last: it uses the others
};

TEST(OnboardTenant, StoresCredentialsOnceUntilTheyChange) {
  Tools tools;
  auto finished = tools.run("onboard-tenant", {tools.folder.path("acme")});
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_THAT(tools.calls(),
              ElementsAre("PUT /manifest", "POST /admin-tokens", "PUT /credentials/db"));
  EXPECT_EQ(json::parse(tools.server.requests()[2].body),
            json({{"fields", {{"url", "canary-url"}, {"user", "canary-user"}}}}));

  finished = tools.run("onboard-tenant", {tools.folder.path("acme") + "/"});
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("credential db of tenant: unchanged"));
  EXPECT_EQ(tools.calls().size(), 5u);  // the manifest, and whether the credential is there

  tools.folder.write("acme/credentials/db/url", "canary-other\n");
  tools.run("onboard-tenant", {tools.folder.path("acme")});
  EXPECT_EQ(tools.calls().back(), "PUT /credentials/db");

  tools.stored = false;  // deleted by somebody
  tools.run("onboard-tenant", {tools.folder.path("acme")});
  EXPECT_EQ(tools.calls().back(), "PUT /credentials/db");
  EXPECT_TRUE(tools.stored);
}

TEST(OnboardTenant, SendsNothingWhenAnInputIsDoubtful) {
  const std::vector<std::function<void(Tools&)>> faults = {
      [](Tools& t) { std::filesystem::remove(t.folder.path("acme/tenant.yaml")); },
      [](Tools& t) { t.folder.write("acme/tenant.yaml", "display_name: x\n"); },
      [](Tools& t) { t.folder.write("acme/tenant.yaml", "tenant: a\n---\ntenant: b\n"); },
      [](Tools& t) { t.folder.write("acme/credentials/db/url", "x", 0644); },
      [](Tools& t) { t.folder.write("acme/credentials/db/url", ""); },
      [](Tools& t) { std::filesystem::create_directory(t.folder.path("acme/credentials/empty")); },
      [](Tools& t) { std::filesystem::create_directory(t.folder.path("acme/credentials/a b")); },
  };
  for (const auto& fault : faults) {
    Tools tools;
    fault(tools);
    const auto finished = tools.run("onboard-tenant", {tools.folder.path("acme")});
    EXPECT_EQ(finished.code, 2) << finished.err;
    EXPECT_THAT(finished.err, HasSubstr("onboard-tenant: "));
    EXPECT_TRUE(tools.server.requests().empty());
  }
}

TEST(OnboardTenant, StopsWhenTheManifestIsRefused) {
  Tools tools;
  tools.folder.write("acme/tenant.yaml", "tenant: acme\ntenant: acme\n");
  EXPECT_EQ(tools.run("onboard-tenant", {tools.folder.path("acme")}).code, 2);
  EXPECT_TRUE(tools.server.requests().empty());
}

TEST(OnboardTenant, OnlyLooksInADryRun) {
  Tools tools;
  EXPECT_EQ(tools.run("onboard-tenant", {"--dry-run", tools.folder.path("acme")}).code, 0);
  EXPECT_THAT(tools.calls(), ElementsAre("PUT /manifest"));
  EXPECT_THAT(tools.server.requests()[0].target, HasSubstr("dry_run=true"));
  EXPECT_FALSE(std::filesystem::exists(tools.folder.path("acme/secrets")));
}

TEST(RotateClientSecret, RemovesTheOldOnlyAfterTheNewIsKept) {
  Tools tools;
  const auto finished =
      tools.run("rotate-client-secret", {"--tenant", "acme", "--client", "gw", "--file",
                                         tools.folder.path("gw.secret"), "--grace", "0"});
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_THAT(tools.calls(), ElementsAre("GET /clients/gw/secrets", "POST /clients/gw/secrets",
                                         "DELETE /clients/gw/secrets/old"));
  EXPECT_EQ(tools.folder.read("gw.secret"), "canary-secret\n");
}

TEST(RotateClientSecret, LeavesAnUnfinishedRotationToAPerson) {
  Tools tools;
  tools.secrets = {"one", "two"};
  const auto finished =
      tools.run("rotate-client-secret",
                {"--tenant", "acme", "--client", "gw", "--file", tools.folder.path("gw.secret")});
  EXPECT_EQ(finished.code, 2);
  EXPECT_THAT(finished.err, HasSubstr("an earlier rotation did not end"));
  EXPECT_THAT(tools.calls(), ElementsAre("GET /clients/gw/secrets"));
}

TEST(RotateClientSecret, RefusesWrongUse) {
  Tools tools;
  const auto file = tools.folder.path("gw.secret");
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {},
           {"--tenant", "acme", "--client", "gw"},
           {"--tenant", "acme", "--client", "gw", "--file", file, "--grace", "soon"},
           {"--tenant", "acme", "--client", "gw", "--file", "/nonexistent/x"},
           {"--tenant", "acme", "--client"},
           {"--secret", "x"}}) {
    EXPECT_EQ(tools.run("rotate-client-secret", arguments).code, 2);
  }
  EXPECT_TRUE(tools.server.requests().empty());
}

}  // namespace
}  // namespace postern
