// The subset of Vault's API on the wire: its shapes, who may what, what stays hidden.

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/time_format.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

/// `{"errors":[…]}` with this status; nothing cached, no challenge.
testing::Matcher<const WireReply&> IsVaultError(int status, const std::string& text = "") {
  const auto errors = [](const WireReply& reply) {
    const auto body = json_of(reply);
    return body.size() == 1 ? body.at("errors").dump() : "(other members) " + reply.body;
  };
  return testing::AllOf(
      HasStatus(status), testing::ResultOf("errors", errors, HasSubstr(text)),
      testing::ResultOf(
          "header", [](const WireReply& reply) { return reply.header("Cache-Control"); },
          "no-store"),
      testing::ResultOf(
          "challenge", [](const WireReply& reply) { return reply.header("WWW-Authenticate"); },
          "(none)"));
}
testing::Matcher<const WireReply&> IsNoSuchSecret() { return IsVaultError(404, "[]"); }

struct VaultTenant : TestTenant {
  explicit VaultTenant(const std::string& tenant_name) : TestTenant(tenant_name) {
    manifest["settings"]["vault_api"] = Json::object();
    manifest["settings"]["reveal"] = true;
    EXPECT_THAT(apply(), HasStatus(200));
  }

  /// Below `/t/{tenant}/v1/`; a body that is not null goes as Go's client sends it.
  WireReply as(const std::string& token, std::string_view method, const std::string& path,
               const Json& body = nullptr, Pairs headers = {}) const {
    headers.emplace_back("X-Vault-Request", "true");
    if (!token.empty()) headers.emplace_back("X-Vault-Token", token);
    return ask(method, "/t/" + name + "/v1/" + path, headers, body.is_null() ? "" : body.dump());
  }
  WireReply vault(std::string_view method, const std::string& path, const Json& body = nullptr,
                  Pairs headers = {}) const {
    return as(admin, method, path, body, std::move(headers));
  }
  WireReply put(const std::string& path, const Json& data, const Json& options = nullptr) const {
    Json body{{"data", data}};
    if (!options.is_null()) body["options"] = options;
    return vault("PUT", "secret/data/" + path, body);
  }
  /// The values of a path.
  Json values(const std::string& path) const {
    return json_of(vault("GET", "secret/data/" + path)).at("data").at("data");
  }
  Json keys(const std::string& path) const {
    const auto reply = vault("LIST", "secret/metadata/" + path);
    return reply.status == 404 ? Json::array() : json_of(reply).at("data").at("keys");
  }
};

// ---- data ----

TEST(VaultData, IsWrittenAndReadInVaultsShape) {
  VaultTenant tenant("vault-data");
  const auto written = tenant.put("team/db", {{"user", "app"}, {"password", "first"}});
  ASSERT_THAT(written, HasStatus(200));
  auto answer = json_of(written);
  EXPECT_TRUE(answer.at("request_id").is_string());
  EXPECT_EQ(answer.at("lease_duration"), 0);
  EXPECT_EQ(answer.at("renewable"), false);
  auto data = answer.at("data");
  EXPECT_EQ(data.at("version"), 1);
  EXPECT_EQ(data.at("deletion_time"), "");
  EXPECT_EQ(data.at("destroyed"), false);
  EXPECT_EQ(data.at("custom_metadata"), nullptr);
  EXPECT_EQ(written.body.find("first"), std::string::npos) << "a write shows no value";

  ASSERT_THAT(tenant.vault("POST", "secret/data/team/db",
                           {{"data", {{"user", "app"}, {"password", "second"}}},
                            {"options", Json::object()},
                            {"more", "is passed over"}}),
              HasStatus(200));
  const auto read = tenant.vault("GET", "secret/data/team/db");
  ASSERT_THAT(read, HasStatus(200));
  EXPECT_EQ(read.header("Cache-Control"), "no-store");
  data = json_of(read).at("data");
  EXPECT_EQ(data.at("data"), Json({{"user", "app"}, {"password", "second"}}));
  EXPECT_EQ(data.at("metadata").at("version"), 2);
  for (const char* query : {"?version=2", "?version=0"}) {
    EXPECT_EQ(tenant.values("team/db" + std::string(query)).at("password"), "second") << query;
  }
  EXPECT_EQ(tenant.values("team/db?version=1").at("password"), "first");
  EXPECT_THAT(tenant.vault("GET", "secret/data/team/db?version=3"), IsNoSuchSecret());
  EXPECT_THAT(tenant.vault("GET", "secret/data/team"), IsNoSuchSecret());
  EXPECT_THAT(tenant.vault("HEAD", "secret/data/team/db"), HasStatus(200));
}

TEST(VaultData, IsTheCredentialThatTheRestApiHas) {
  VaultTenant tenant("vault-same");
  ASSERT_THAT(tenant.put("shared-db", {{"url", "by-vault"}}), HasStatus(200));
  const auto shown = tenant.api("GET", "/credentials/shared-db", tenant.admin);
  ASSERT_THAT(shown, HasStatus(200));
  EXPECT_EQ(json_of(shown).at("owner").at("type"), "tenant");
  EXPECT_EQ(json_of(shown).at("fields"), Json({"url"}));

  ASSERT_THAT(
      tenant.api("PUT", "/credentials/a..b", tenant.admin, {{"fields", {{"token", "by-rest"}}}}),
      HasStatus(201));
  EXPECT_EQ(tenant.values("a/b").at("token"), "by-rest");
  // What has no path is not there, and nothing else is in its place.
  ASSERT_THAT(tenant.api("PUT", "/credentials/a...c", tenant.admin, {{"fields", {{"token", "x"}}}}),
              HasStatus(201));
  EXPECT_EQ(tenant.keys("a"), Json({"b"}));
  // The type holds here too.
  ASSERT_THAT(tenant.api("PUT", "/credentials/typed", tenant.admin,
                         {{"type", "api_key"}, {"fields", {{"api_key", "k"}}}}),
              HasStatus(201));
  EXPECT_THAT(tenant.put("typed", {{"password", "x"}}), IsVaultError(400));
  EXPECT_EQ(json_of(tenant.api("GET", "/credentials/typed", tenant.admin)).at("version"), 1);
}

TEST(VaultData, HoldsWritersToTheVersionTheyExpect) {
  VaultTenant tenant("vault-cas");
  EXPECT_THAT(tenant.put("db", {{"v", "1"}}, {{"cas", 1}}),
              IsVaultError(400, "check-and-set parameter did not match the current version"));
  ASSERT_THAT(tenant.put("db", {{"v", "1"}}, {{"cas", 0}}), HasStatus(200));
  for (const Json& cas : {Json(0), Json(2), Json("0")}) {
    EXPECT_THAT(tenant.put("db", {{"v", "x"}}, {{"cas", cas}}),
                IsVaultError(400, "did not match the current version"))
        << cas;
  }
  for (const Json& cas : {Json(-1), Json(1.5), Json("one"), Json(true), Json("1 "),
                          Json(4294967297), Json::array({1})}) {
    EXPECT_THAT(tenant.put("db", {{"v", "x"}}, {{"cas", cas}}), IsVaultError(400)) << cas;
  }
  ASSERT_THAT(tenant.put("db", {{"v", "2"}}, {{"cas", 1}}), HasStatus(200));
  ASSERT_THAT(tenant.put("db", {{"v", "3"}}, {{"cas", "2"}}), HasStatus(200));

  ASSERT_THAT(tenant.vault("POST", "secret/metadata/db", {{"cas_required", true}}), HasStatus(204));
  EXPECT_THAT(tenant.put("db", {{"v", "x"}}),
              IsVaultError(400, "check-and-set parameter required for this call"));
  EXPECT_THAT(tenant.vault("PATCH", "secret/data/db", {{"data", {{"v", "x"}}}},
                           {{"Content-Type", "application/merge-patch+json"}}),
              IsVaultError(400, "required for this call"));
  EXPECT_EQ(tenant.values("db"), Json({{"v", "3"}}));
}

TEST(VaultData, IsPatchedFieldByField) {
  VaultTenant tenant("vault-patch");
  const auto patch = [&](const Json& body, const char* type = "application/merge-patch+json") {
    return tenant.vault("PATCH", "secret/data/db", body, {{"Content-Type", type}});
  };
  EXPECT_THAT(patch({{"data", {{"a", "x"}}}}), IsNoSuchSecret());
  ASSERT_THAT(tenant.put("db", {{"a", "1"}, {"b", "2"}, {"c", "3"}}), HasStatus(200));
  const auto patched = patch({{"data", {{"a", "a-fresh-value"}, {"b", nullptr}, {"d", "4"}}}});
  ASSERT_THAT(patched, HasStatus(200));
  EXPECT_EQ(json_of(patched).at("data").at("version"), 2);
  EXPECT_EQ(patched.body.find("a-fresh-value"), std::string::npos);
  EXPECT_EQ(tenant.values("db"), Json({{"a", "a-fresh-value"}, {"c", "3"}, {"d", "4"}}));
  EXPECT_THAT(patch({{"data", {{"a", "x"}}}, {"options", {{"cas", 1}}}}),
              IsVaultError(400, "did not match"));
  EXPECT_THAT(patch({{"data", {{"a", "newer"}}}, {"options", {{"cas", 2}}}}), HasStatus(200));
  for (const char* type : {"application/json", "text/plain", ""}) {
    EXPECT_THAT(patch({{"data", {{"a", "x"}}}}, type), IsVaultError(400, "merge-patch")) << type;
  }
  EXPECT_THAT(patch({{"data", {{"a", nullptr}, {"c", nullptr}, {"d", nullptr}}}}),
              IsVaultError(400))
      << "nothing would be left";
  ASSERT_THAT(tenant.vault("DELETE", "secret/data/db"), HasStatus(204));
  EXPECT_THAT(patch({{"data", {{"a", "x"}}}}), HasStatus(404));
}

TEST(VaultData, APatchDoesNotMakeACredentialLiveLonger) {
  VaultTenant tenant("vault-patch-expiry");
  const Json expiring{{"fields", {{"a", "1"}}}, {"expires_at", "2999-01-01T00:00:00Z"}};
  ASSERT_THAT(tenant.api("PUT", "/credentials/db", tenant.admin, expiring), HasStatus(201));
  ASSERT_THAT(tenant.vault("PATCH", "secret/data/db", {{"data", {{"b", "2"}}}},
                           {{"Content-Type", "application/merge-patch+json"}}),
              HasStatus(200));
  EXPECT_EQ(json_of(tenant.api("GET", "/credentials/db", tenant.admin)).value("expires_at", ""),
            "2999-01-01T00:00:00Z");
}

TEST(VaultData, RefusesWhatItCannotKeepAsItIs) {
  VaultTenant tenant("vault-values");
  for (const Json& data :
       {Json{{"a", 1}}, Json{{"a", true}}, Json{{"a", nullptr}}, Json{{"a", {{"b", "c"}}}},
        Json{{"a", Json::array({"b"})}}, Json{{"a", ""}}, Json{{"api-key", "x"}}, Json{{"", "x"}},
        Json{{"1a", "x"}}, Json::object(), Json("text"), Json(nullptr)}) {
    EXPECT_THAT(tenant.put("x", data), IsVaultError(400)) << data;
  }
  EXPECT_THAT(tenant.vault("PUT", "secret/data/x", Json::object()),
              IsVaultError(400, "no data provided"));
  EXPECT_THAT(tenant.vault("PUT", "secret/data/x", {{"data", {{"a", "b"}}}, {"options", 1}}),
              IsVaultError(400));
  for (const char* body : {"", "[]", "{", "\"x\"", R"({"data":{"a":"b","a":"c"}})"}) {
    EXPECT_THAT(tenant.ask("PUT", "/t/vault-values/v1/secret/data/x",
                           {{"X-Vault-Token", tenant.admin}}, body),
                IsVaultError(400))
        << body;
  }
  EXPECT_THAT(tenant.put("x", {{"a", std::string(64 * 1024 + 1, 'v')}}), IsVaultError(413));
  EXPECT_THAT(tenant.vault("GET", "secret/data/x"), IsNoSuchSecret());
}

TEST(VaultData, PathsThatNoCredentialHasLeadNowhere) {
  VaultTenant tenant("vault-paths");
  ASSERT_THAT(tenant.put("a/b", {{"token", "of-a-b"}}), HasStatus(200));
  for (const char* path : {"a/b/", "a..b", "a./b", "a/.b", "a/b%20", "a/b%3fversion=1", "_a", "",
                           "a/b%5c", "a/b@x", "a/%7bsub%7d", "a%252fb", "a/b*"}) {
    EXPECT_THAT(tenant.vault("GET", std::string("secret/data/") + path), IsVaultError(400)) << path;
    EXPECT_THAT(tenant.put(path, {{"token", "x"}}), IsVaultError(400)) << path;
  }
  for (const char* path : {"a/../a/b", "a//b", "a/./b", "a/%2e%2e/b", "a%2fb", "a/b%00", "a/b%0a",
                           "%ff", "../data/a/b"}) {
    const auto reply = tenant.vault("GET", std::string("secret/data/") + path);
    EXPECT_THAT(reply, HasStatus(404)) << path;
    EXPECT_THAT(json_of(reply), Json({{"errors", Json::array()}})) << path;
  }
  for (const char* path :
       {"other/data/a/b", "secret/a/b", "sys/raw/core", "secret", "", "cubbyhole/x"}) {
    const auto reply = tenant.vault("GET", path);
    EXPECT_THAT(reply, HasStatus(404)) << path;
    EXPECT_THAT(json_of(reply), Json({{"errors", Json::array()}})) << path;
  }
  EXPECT_THAT(tenant.vault("TRACE", "secret/data/a/b"), HasStatus(405));
}

// ---- versions ----

TEST(VaultVersions, AreDeletedBroughtBackAndDestroyed) {
  VaultTenant tenant("vault-versions");
  for (const char* value : {"1", "2", "3"}) {
    ASSERT_THAT(tenant.put("db", {{"v", value}}), HasStatus(200));
  }
  ASSERT_THAT(tenant.vault("DELETE", "secret/data/db"), HasStatus(204));
  const auto gone = tenant.vault("GET", "secret/data/db");
  ASSERT_THAT(gone, HasStatus(404));
  const auto data = json_of(gone).at("data");
  EXPECT_EQ(data.at("data"), nullptr);
  EXPECT_NE(data.at("metadata").at("deletion_time"), "");
  EXPECT_EQ(data.at("metadata").at("version"), 3);
  EXPECT_EQ(tenant.values("db?version=2").at("v"), "2");

  // Go's client puts, the command sends numbers as text.
  ASSERT_THAT(tenant.vault("PUT", "secret/undelete/db", {{"versions", {"3"}}}), HasStatus(204));
  EXPECT_EQ(tenant.values("db").at("v"), "3");
  ASSERT_THAT(tenant.vault("POST", "secret/delete/db", {{"versions", {1, 2}}}), HasStatus(204));
  EXPECT_THAT(tenant.vault("GET", "secret/data/db?version=1"), HasStatus(404));
  EXPECT_THAT(tenant.vault("GET", "secret/data/db?version=2"), HasStatus(404));
  ASSERT_THAT(tenant.vault("PUT", "secret/destroy/db", {{"versions", {1}}}), HasStatus(204));
  ASSERT_THAT(tenant.vault("POST", "secret/undelete/db", {{"versions", {1, 2}}}), HasStatus(204));
  EXPECT_EQ(tenant.values("db?version=2").at("v"), "2");
  const auto destroyed = tenant.vault("GET", "secret/data/db?version=1");
  ASSERT_THAT(destroyed, HasStatus(404));
  EXPECT_EQ(json_of(destroyed).at("data").at("metadata").at("destroyed"), true);

  // As Vault has it, what cannot be changed any more is no error, and changes nothing.
  EXPECT_THAT(tenant.vault("POST", "secret/undelete/db", {{"versions", {1}}}), HasStatus(204));
  EXPECT_THAT(tenant.vault("POST", "secret/delete/none", {{"versions", {1}}}), HasStatus(204));
  EXPECT_THAT(tenant.vault("DELETE", "secret/data/none"), HasStatus(204));
  EXPECT_THAT(tenant.vault("GET", "secret/data/db?version=1"), HasStatus(404));
  for (const Json& body :
       {Json::object(), Json{{"versions", Json::array()}}, Json{{"versions", 1}},
        Json{{"versions", {0}}}, Json{{"versions", {-1}}}, Json{{"versions", {"x"}}},
        Json{{"versions", {1.5}}}, Json{{"versions", Json(std::vector(101, 1))}}}) {
    for (const char* what : {"delete", "undelete", "destroy"}) {
      EXPECT_THAT(tenant.vault("PUT", std::string("secret/") + what + "/db", body),
                  IsVaultError(400))
          << what << body;
    }
  }
  EXPECT_EQ(tenant.values("db").at("v"), "3");
}

// ---- metadata ----

TEST(VaultMetadata, IsReadWrittenAndRemoved) {
  VaultTenant tenant("vault-metadata");
  EXPECT_THAT(tenant.vault("GET", "secret/metadata/db"), IsNoSuchSecret());
  EXPECT_THAT(tenant.vault("POST", "secret/metadata/db", {{"max_versions", 5}}), IsNoSuchSecret())
      << "there is no metadata of what has no version";
  for (const char* value : {"1", "2", "3"}) {
    ASSERT_THAT(tenant.put("db", {{"v", value}}), HasStatus(200));
  }
  ASSERT_THAT(tenant.vault("POST", "secret/destroy/db", {{"versions", {1}}}), HasStatus(204));
  ASSERT_THAT(tenant.vault("PUT", "secret/metadata/db",
                           {{"max_versions", 2},
                            {"cas_required", false},
                            {"delete_version_after", "0s"},
                            {"custom_metadata", {{"owner", "team"}, {"ticket", "OPS-7"}}}}),
              HasStatus(204));
  auto data = json_of(tenant.vault("GET", "secret/metadata/db")).at("data");
  EXPECT_EQ(data.at("current_version"), 3);
  EXPECT_EQ(data.at("oldest_version"), 1);
  EXPECT_EQ(data.at("max_versions"), 2);
  EXPECT_EQ(data.at("cas_required"), false);
  EXPECT_EQ(data.at("delete_version_after"), "0s");
  EXPECT_EQ(data.at("custom_metadata"), Json({{"owner", "team"}, {"ticket", "OPS-7"}}));
  EXPECT_EQ(data.at("versions").size(), 3u);
  EXPECT_EQ(data.at("versions").at("1").at("destroyed"), true);
  EXPECT_EQ(data.at("versions").at("3").at("deletion_time"), "");
  EXPECT_EQ(json_of(tenant.vault("GET", "secret/data/db"))
                .at("data")
                .at("metadata")
                .at("custom_metadata"),
            data.at("custom_metadata"));

  ASSERT_THAT(tenant.vault("PATCH", "secret/metadata/db",
                           {{"custom_metadata", {{"owner", nullptr}, {"tier", "gold"}}}}),
              HasStatus(204));
  data = json_of(tenant.vault("GET", "secret/metadata/db")).at("data");
  EXPECT_EQ(data.at("custom_metadata"), Json({{"ticket", "OPS-7"}, {"tier", "gold"}}));
  ASSERT_THAT(tenant.vault("POST", "secret/metadata/db", {{"custom_metadata", {{"a", "b"}}}}),
              HasStatus(204));
  data = json_of(tenant.vault("GET", "secret/metadata/db")).at("data");
  EXPECT_EQ(data.at("custom_metadata"), Json({{"a", "b"}}));
  EXPECT_EQ(data.at("max_versions"), 2) << "what is not named stays";
  ASSERT_THAT(tenant.put("db", {{"v", "4"}}), HasStatus(200));
  data = json_of(tenant.vault("GET", "secret/metadata/db")).at("data");
  EXPECT_EQ(data.at("versions").size(), 2u);
  EXPECT_EQ(data.at("oldest_version"), 3);

  for (const Json& body :
       {Json{{"max_versions", 101}}, Json{{"max_versions", -1}}, Json{{"max_versions", "x"}},
        Json{{"cas_required", "yes"}}, Json{{"delete_version_after", "1h"}},
        Json{{"custom_metadata", "x"}}, Json{{"custom_metadata", {{"a", 1}}}},
        Json{{"custom_metadata", {{"a", std::string(513, 'x')}}}},
        Json{{"custom_metadata", {{"a", "two\nlines"}}}}}) {
    EXPECT_THAT(tenant.vault("POST", "secret/metadata/db", body), IsVaultError(400)) << body;
  }
  ASSERT_THAT(tenant.vault("DELETE", "secret/metadata/db"), HasStatus(204));
  EXPECT_THAT(tenant.vault("GET", "secret/metadata/db"), IsNoSuchSecret());
  EXPECT_THAT(tenant.vault("GET", "secret/data/db"), IsNoSuchSecret());
  EXPECT_THAT(tenant.vault("DELETE", "secret/metadata/db"), HasStatus(204));
}

TEST(VaultMetadata, ListsFoldersByEitherMethod) {
  VaultTenant tenant("vault-list");
  EXPECT_THAT(tenant.vault("LIST", "secret/metadata"), IsNoSuchSecret());
  for (const char* path : {"top", "team/a", "team/b/c", "team/b/d", "teams", "team-2/x"}) {
    ASSERT_THAT(tenant.put(path, {{"v", "x"}}), HasStatus(200));
  }
  const Json all{"team-2/", "team/", "teams", "top"};
  for (const auto& [method, path] : Pairs{{"LIST", "secret/metadata"},
                                          {"LIST", "secret/metadata/"},
                                          {"GET", "secret/metadata?list=true"},
                                          {"GET", "secret/metadata/?list=1"},
                                          {"GET", "secret/metadata/?list=true"}}) {
    const auto reply = tenant.vault(method, path);
    ASSERT_THAT(reply, HasStatus(200)) << method << path;
    EXPECT_EQ(json_of(reply).at("data").at("keys"), all) << method << path;
  }
  EXPECT_EQ(tenant.keys("team"), Json({"a", "b/"}));
  EXPECT_EQ(tenant.keys("team/"), Json({"a", "b/"}));
  EXPECT_EQ(tenant.keys("team/b"), Json({"c", "d"}));
  EXPECT_EQ(json_of(tenant.vault("GET", "secret/metadata/team/b/?list=true")).at("data").at("keys"),
            Json({"c", "d"}));
  EXPECT_EQ(tenant.keys("top"), Json::array()) << "no folder";
  EXPECT_THAT(tenant.vault("LIST", "secret/metadata/none"), IsNoSuchSecret());
  EXPECT_THAT(tenant.vault("LIST", "secret/metadata/te*m"), IsVaultError(400));
  ASSERT_THAT(tenant.vault("DELETE", "secret/data/top"), HasStatus(204));
  EXPECT_EQ(tenant.keys(""), all) << "a deleted one is listed, as in Vault";
}

// ---- who may ----

TEST(VaultAccess, IsOffUntilTheTenantSaysSo) {
  VaultTenant tenant("vault-off");
  ASSERT_THAT(tenant.put("db", {{"v", "1"}}), HasStatus(200));
  const auto refused = [&] {
    for (const auto& token : {tenant.admin, tenant.operator_token(), tenant.user_token("alice")}) {
      EXPECT_THAT(tenant.as(token, "GET", "secret/data/db"), IsVaultError(403, "does not answer"));
      EXPECT_THAT(tenant.as(token, "PUT", "secret/data/db", {{"data", {{"v", "x"}}}}),
                  IsVaultError(403, "does not answer"));
      EXPECT_THAT(tenant.as(token, "LIST", "secret/metadata"), IsVaultError(403));
      EXPECT_THAT(tenant.as(token, "GET", "auth/token/lookup-self"), IsVaultError(403));
    }
  };
  const auto limit = [&](bool on) {
    const Json part{{"tenant", tenant.name}, {"guardrails", {{"vault_api", on}}}};
    ASSERT_THAT(tenant.api("PUT", "/manifest", tenant.operator_token(), part), HasStatus(200));
  };
  limit(false);
  refused();
  limit(true);
  EXPECT_THAT(tenant.vault("GET", "secret/metadata/db"), HasStatus(200));
  tenant.manifest["settings"].erase("vault_api");
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  refused();
  tenant.manifest["settings"]["vault_api"] = {{"mount", "kv"}};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_EQ(json_of(tenant.vault("GET", "kv/data/db")).at("data").at("data").at("v"), "1");
  EXPECT_THAT(tenant.vault("GET", "secret/data/db"), IsNoSuchSecret());
}

TEST(VaultAccess, ValuesAreShownToWhomRevealShowsThemAndOnRecord) {
  VaultTenant tenant("vault-reveal");
  ASSERT_THAT(tenant.put("db", {{"v", "the-value"}}), HasStatus(200));
  ASSERT_THAT(tenant.vault("GET", "secret/data/db"), HasStatus(200));
  ASSERT_THAT(tenant.as(tenant.operator_token(), "GET", "secret/data/db"), HasStatus(200));
  tenant.manifest["settings"]["reveal"] = false;
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  for (const char* path : {"db", "db?version=1", "none"}) {
    EXPECT_THAT(tenant.vault("GET", std::string("secret/data/") + path),
                IsVaultError(403, "reveals no stored value"))
        << path;
  }
  // Everything else is there: it shows no value.
  EXPECT_THAT(tenant.put("db", {{"v", "another"}, {"w", "x"}}), HasStatus(200));
  EXPECT_THAT(tenant.vault("PATCH", "secret/data/db", {{"data", {{"w", "y"}}}},
                           {{"Content-Type", "application/merge-patch+json"}}),
              HasStatus(200));
  EXPECT_THAT(tenant.vault("GET", "secret/metadata/db"), HasStatus(200));

  const auto records = tenant.audit("action=credential.reveal");
  ASSERT_EQ(records.size(), 5u);
  const auto& shown = records.front().at("event");
  EXPECT_EQ(shown.at("outcome"), "allowed");
  EXPECT_EQ(shown.at("fields").at("api"), "vault");
  EXPECT_EQ(shown.at("fields").at("caller"), "tenant-admin");
  EXPECT_EQ(shown.at("fields").at("credential"), "db");
  EXPECT_EQ(shown.at("fields").at("credential_version"), "1");
  EXPECT_EQ(records.back().at("event").at("outcome"), "refused");
  for (const auto& record : tenant.audit()) {
    EXPECT_EQ(record.dump().find("the-value"), std::string::npos);
  }
  EXPECT_EQ(tenant.verification().at("intact"), true);
}

TEST(VaultAccess, AUserHasTheirOwnAndNoValueOfIt) {
  VaultTenant tenant("vault-user");
  const auto alice = tenant.user_token("alice");
  const auto bob = tenant.user_token("bob");
  ASSERT_THAT(tenant.put("github", {{"token", "of-the-tenant"}}), HasStatus(200));
  EXPECT_THAT(tenant.as(alice, "LIST", "secret/metadata"), IsNoSuchSecret());
  ASSERT_THAT(tenant.as(alice, "PUT", "secret/data/github", {{"data", {{"token", "of-alice"}}}}),
              HasStatus(200));
  EXPECT_EQ(json_of(tenant.as(alice, "LIST", "secret/metadata")).at("data").at("keys"),
            Json({"github"}));
  EXPECT_THAT(tenant.as(alice, "GET", "secret/metadata/github"), HasStatus(200));
  EXPECT_THAT(tenant.as(bob, "GET", "secret/metadata/github"), IsNoSuchSecret());
  for (const auto& token : {alice, bob}) {
    EXPECT_THAT(tenant.as(token, "GET", "secret/data/github"), IsVaultError(403, "is not shown"));
    EXPECT_THAT(tenant.as(token, "GET", "secret/data/none"), IsVaultError(403, "is not shown"));
  }
  EXPECT_THAT(tenant.as(alice, "PUT", "secret/data/free-store", {{"data", {{"a", "b"}}}}),
              IsVaultError(403, "no backend of this tenant asks"));
  EXPECT_EQ(tenant.values("github").at("token"), "of-the-tenant");
  const auto item = item_of(tenant.release(alice, {{{"backend", "github"}}}));
  EXPECT_EQ(item.at("env").at("GITHUB_TOKEN"), "of-alice");
  EXPECT_THAT(tenant.as(alice, "DELETE", "secret/metadata/github"), HasStatus(204));
  EXPECT_EQ(tenant.values("github").at("token"), "of-the-tenant");
}

TEST(VaultAccess, ATokenSaysWhoseItIs) {
  VaultTenant tenant("vault-self");
  const auto self = [&](const std::string& token) {
    return json_of(tenant.as(token, "GET", "auth/token/lookup-self")).at("data");
  };
  const auto of_admin = self(tenant.admin);
  EXPECT_EQ(of_admin.at("id"), tenant.admin) << "Vault's command reads it there";
  EXPECT_EQ(of_admin.at("policies"), Json({"tenant-admin"}));
  EXPECT_EQ(of_admin.at("expire_time"), nullptr);
  EXPECT_EQ(of_admin.at("ttl"), 0);
  EXPECT_EQ(self(tenant.operator_token()).at("policies"), Json({"operator"}));
  const auto of_user = self(tenant.user_token("alice"));
  EXPECT_EQ(of_user.at("display_name"), "alice");
  EXPECT_GT(of_user.at("ttl"), 0);
  EXPECT_LE(of_user.at("ttl"), of_user.at("creation_ttl"));
  // A bearer token, as the REST API takes it, will do.
  EXPECT_THAT(tenant.as("", "GET", "auth/token/lookup-self", nullptr,
                        {{"Authorization", bearer(tenant.admin)}}),
              HasStatus(200));
  EXPECT_THAT(tenant.vault("GET", "auth/token/lookup-self", nullptr,
                           {{"Authorization", bearer(tenant.admin)}}),
              IsVaultError(400, "not both"));
  for (const auto& token :
       {std::string("hvs.guessed"), tenant.admin + "x", std::string("postern_op_") + "guessed",
        std::string("a b"), std::string("postern_ta_vault-self_guessed"), std::string()}) {
    EXPECT_THAT(tenant.as(token, "GET", "auth/token/lookup-self"),
                IsVaultError(403, "[\"permission denied\"]"))
        << token;
  }
  EXPECT_THAT(tenant.vault("GET", "auth/token/lookup-self", nullptr, {{"X-Vault-Token", "x"}}),
              IsVaultError(403, "permission denied"))
      << "two of one header";
}

TEST(VaultAccess, TheTenantStandsInThePathOrTheHeader) {
  VaultTenant tenant("vault-space");
  VaultTenant other("vault-space-2");
  ASSERT_THAT(tenant.put("db", {{"v", "of-one"}}), HasStatus(200));
  ASSERT_THAT(other.put("db", {{"v", "of-two"}}), HasStatus(200));
  const auto in = [&](const std::string& tenant_name, const std::string& token,
                      const std::string& path = "/v1/secret/data/db") {
    return tenant.ask("GET", path, {{"X-Vault-Namespace", tenant_name}, {"X-Vault-Token", token}});
  };
  for (const auto* spelled : {"vault-space", "vault-space/"}) {
    const auto reply = in(spelled, tenant.admin);
    ASSERT_THAT(reply, HasStatus(200));
    EXPECT_EQ(json_of(reply).at("data").at("data").at("v"), "of-one");
    EXPECT_THAT(in(spelled, tenant.admin, "/t/vault-space/v1/secret/data/db"), HasStatus(200));
  }
  EXPECT_EQ(json_of(in("vault-space-2", tenant.operator_token())).at("data").at("data").at("v"),
            "of-two");
  EXPECT_THAT(tenant.ask("GET", "/v1/secret/data/db", {{"X-Vault-Token", tenant.admin}}),
              IsVaultError(400, "X-Vault-Namespace"));
  EXPECT_THAT(in("vault-space-2", tenant.admin, "/t/vault-space/v1/secret/data/db"),
              IsVaultError(400, "another tenant"));
  for (const auto* spelled : {"vault-space-2", "Vault-Space", "vault-space//", "/vault-space",
                              "vault-space/child", "none", "", "..", "vault-space, none"}) {
    EXPECT_THAT(in(spelled, tenant.admin), IsVaultError(403, "[\"permission denied\"]")) << spelled;
  }
}

// ---- wrapping ----

const Pairs kFiveMinutes{{"X-Vault-Wrap-TTL", "5m"}};
testing::Matcher<const WireReply&> IsNoWrappingToken() {
  return IsVaultError(400, "[\"wrapping token is not valid or does not exist\"]");
}
Json wrap_info(const WireReply& reply) { return json_of(reply).at("wrap_info"); }

TEST(VaultWrapping, AReadWaitsForWhoHasTheTokenAndIsGivenOnce) {
  VaultTenant tenant("vault-wrap");
  ASSERT_THAT(tenant.put("db", {{"v", "the-value"}}), HasStatus(200));
  const auto reply = tenant.vault("GET", "secret/data/db", nullptr, kFiveMinutes);
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_THAT(reply.body, Not(HasSubstr("the-value")));
  EXPECT_EQ(json_of(reply).at("data"), nullptr);
  const auto info = wrap_info(reply);
  EXPECT_EQ(info.at("ttl"), 300);
  EXPECT_EQ(info.at("creation_path"), "secret/data/db");
  EXPECT_TRUE(parse_time(info.at("creation_time").get<std::string>()).has_value());
  const std::string token = info.at("token");

  const auto facts = tenant.vault("POST", "sys/wrapping/lookup", {{"token", token}});
  ASSERT_THAT(facts, HasStatus(200));
  EXPECT_EQ(json_of(facts).at("data").at("creation_path"), "secret/data/db");
  EXPECT_EQ(json_of(facts).at("data").at("creation_ttl"), 300);
  const auto unwrapped = tenant.as(token, "PUT", "sys/wrapping/unwrap");
  ASSERT_THAT(unwrapped, HasStatus(200));
  EXPECT_EQ(unwrapped.header("Cache-Control"), "no-store");
  EXPECT_EQ(json_of(unwrapped).at("data").at("data").at("v"), "the-value");
  EXPECT_EQ(json_of(unwrapped).at("wrap_info"), nullptr);
  for (const auto* use : {"unwrap", "lookup", "rewrap"}) {
    const auto path = std::string("sys/wrapping/") + use;
    EXPECT_THAT(tenant.as(token, "PUT", path), IsNoWrappingToken()) << use;
    EXPECT_THAT(tenant.vault("POST", path, {{"token", token}}), IsNoWrappingToken()) << use;
  }
  // It is nothing anywhere else.
  EXPECT_THAT(tenant.as(token, "GET", "auth/token/lookup-self"),
              IsVaultError(403, "permission denied"));

  const auto shown = tenant.audit("action=credential.reveal");
  ASSERT_EQ(shown.size(), 1u);
  EXPECT_EQ(shown[0].at("event").at("fields").at("wrapped"), info.at("accessor"));
  const auto records = tenant.audit("action=vault.unwrap");
  ASSERT_EQ(records.size(), 3u);
  const auto& first = records[0].at("event");
  EXPECT_EQ(first.at("outcome"), "allowed");
  EXPECT_EQ(first.at("fields").at("wrapped"), info.at("accessor"));
  EXPECT_EQ(first.at("fields").at("wrapped_path"), "secret/data/db");
  for (std::size_t i = 1; i < 3; ++i) {
    EXPECT_EQ(records[i].at("event").at("outcome"), "refused");
    EXPECT_EQ(records[i].at("event").at("fields").at("alarm"), "wrapping_token_not_valid");
    EXPECT_EQ(records[i].at("event").at("fields").at("wrapping_token"),
              shown[0].at("event").at("fields").at("wrapping_token"));
  }
  // What nobody could have been given says nothing of a theft.
  EXPECT_THAT(tenant.as("x", "PUT", "sys/wrapping/unwrap"), IsNoWrappingToken());
  EXPECT_THAT(tenant.vault("POST", "sys/wrapping/unwrap", {{"token", tenant.admin}}),
              IsNoWrappingToken());
  const auto of_nothing = tenant.audit("action=vault.unwrap");
  ASSERT_EQ(of_nothing.size(), 5u);
  for (std::size_t i = 3; i < 5; ++i) {
    EXPECT_EQ(of_nothing[i].at("event").at("outcome"), "refused");
    EXPECT_FALSE(of_nothing[i].at("event").at("fields").contains("alarm"));
  }
  for (const auto& record : tenant.audit()) {
    EXPECT_EQ(record.dump().find(token), std::string::npos);
    EXPECT_EQ(record.dump().find("the-value"), std::string::npos);
  }
}

TEST(VaultWrapping, SaysWhatPathWasReadWhateverTheTenantIsCalled) {
  VaultTenant tenant("v1");
  ASSERT_THAT(tenant.put("v1/db", {{"v", "the-value"}}), HasStatus(200));
  const auto path_of = [](const WireReply& reply) { return wrap_info(reply).at("creation_path"); };
  EXPECT_EQ(path_of(tenant.vault("GET", "secret/data/v1/db", nullptr, kFiveMinutes)),
            "secret/data/v1/db");
  Pairs headers{{"X-Vault-Token", tenant.admin}, {"X-Vault-Namespace", "v1"}};
  headers.push_back(kFiveMinutes.front());
  EXPECT_EQ(path_of(tenant.ask("GET", "/v1/secret/data/v1/db", headers)), "secret/data/v1/db");
}

TEST(VaultWrapping, AnyObjectIsWrappedAndWrappedAnew) {
  VaultTenant tenant("vault-wrap-any");
  const Json data{{"a", "b"}, {"n", 1}, {"deep", {{"x", nullptr}}}};
  EXPECT_THAT(tenant.vault("POST", "sys/wrapping/wrap", data),
              IsVaultError(400, "X-Vault-Wrap-TTL"));
  const auto made = tenant.vault("PUT", "sys/wrapping/wrap", data, kFiveMinutes);
  ASSERT_THAT(made, HasStatus(200));
  EXPECT_EQ(wrap_info(made).at("creation_path"), "sys/wrapping/wrap");
  const std::string token = wrap_info(made).at("token");
  const auto anew = tenant.vault("POST", "sys/wrapping/rewrap", {{"token", token}});
  ASSERT_THAT(anew, HasStatus(200));
  EXPECT_EQ(wrap_info(anew).at("creation_path"), "sys/wrapping/wrap");
  EXPECT_EQ(wrap_info(anew).at("ttl"), 300);
  EXPECT_THAT(tenant.as(token, "POST", "sys/wrapping/unwrap"), IsNoWrappingToken());
  // Go's client sends null when the token goes by itself.
  const auto unwrapped = tenant.ask(
      "PUT", "/v1/sys/wrapping/unwrap",
      {{"X-Vault-Token", wrap_info(anew).at("token")}, {"X-Vault-Namespace", "vault-wrap-any"}},
      "null");
  ASSERT_THAT(unwrapped, HasStatus(200));
  EXPECT_EQ(json_of(unwrapped).at("data"), data);
  for (const char* body : {"[]", "\"x\"", "{", ""}) {
    EXPECT_THAT(tenant.ask("POST", "/t/vault-wrap-any/v1/sys/wrapping/wrap",
                           {{"X-Vault-Token", tenant.admin}, {"X-Vault-Wrap-TTL", "60"}}, body),
                IsVaultError(400))
        << body;
  }
}

TEST(VaultWrapping, ATokenInTheBodyNeedsOneOfYourOwnBesideIt) {
  VaultTenant tenant("vault-wrap-who");
  VaultTenant other("vault-wrap-who-2");
  const auto made =
      tenant.vault("POST", "sys/wrapping/wrap", {{"a", "b"}}, {{"X-Vault-Wrap-TTL", "60"}});
  const std::string token = wrap_info(made).at("token");
  for (const auto* use : {"unwrap", "lookup", "rewrap"}) {
    const auto path = std::string("sys/wrapping/") + use;
    for (const auto& who : {std::string(), std::string("guessed"), token, other.admin}) {
      EXPECT_THAT(tenant.as(who, "POST", path, {{"token", token}}),
                  IsVaultError(403, "[\"permission denied\"]"))
          << use << who;
    }
    EXPECT_THAT(tenant.vault("POST", path), IsNoWrappingToken()) << "an admin's token is none";
    EXPECT_THAT(tenant.vault("POST", path, {{"token", 1}}), IsVaultError(400));
    EXPECT_THAT(other.as(token, "POST", path), IsNoWrappingToken());
    EXPECT_THAT(other.vault("POST", path, {{"token", token}}), IsNoWrappingToken());
    EXPECT_THAT(tenant.ask("POST", "/t/no-such/v1/" + path, {{"X-Vault-Token", token}}),
                IsNoWrappingToken());
    EXPECT_THAT(tenant.vault("POST", path, {{"token", token}}, kFiveMinutes), IsVaultError(400));
  }
  EXPECT_THAT(
      tenant.as(tenant.user_token("alice"), "POST", "sys/wrapping/unwrap", {{"token", token}}),
      HasStatus(200))
      << "anybody of the tenant who has it";
}

TEST(VaultWrapping, IsBoundedAndOfReadsAlone) {
  VaultTenant tenant("vault-wrap-bounds");
  ASSERT_THAT(tenant.put("db", {{"v", "the-value"}}), HasStatus(200));
  for (const char* ttl : {"0", "-1", "", "x", "5", "24h", "1h30m", "25h", "1d", "5 m", "1m1h",
                          "86401", "5m5m", "1.5h", "99999999999999999999"}) {
    const std::set<std::string> taken{"5", "24h", "1h30m"};
    const auto reply = tenant.vault("GET", "secret/data/db", nullptr, {{"X-Vault-Wrap-TTL", ttl}});
    EXPECT_THAT(reply, HasStatus(taken.contains(ttl) ? 200 : 400)) << ttl;
    EXPECT_THAT(reply.body, Not(HasSubstr("the-value"))) << ttl;
  }
  for (const auto& [method, path] : Pairs{{"PUT", "secret/data/db"},
                                          {"DELETE", "secret/data/db"},
                                          {"GET", "sys/mounts"},
                                          {"GET", "auth/token/lookup-self"},
                                          {"POST", "auth/approle/login"}}) {
    EXPECT_THAT(tenant.vault(method, path, {{"data", {{"v", "other"}}}}, kFiveMinutes),
                IsVaultError(400, "wrapping is not offered"))
        << path;
  }
  EXPECT_THAT(tenant.vault("GET", "secret/data/none", nullptr, kFiveMinutes), IsNoSuchSecret());
  EXPECT_EQ(tenant.values("db"), Json({{"v", "the-value"}}));
  EXPECT_THAT(tenant.vault("LIST", "secret/metadata", nullptr, kFiveMinutes), HasStatus(200));
  EXPECT_THAT(
      tenant.vault("PUT", "sys/wrapping/wrap", {{"v", std::string(510'000, 'x')}}, kFiveMinutes),
      IsVaultError(413));
  WireReply last;
  for (int i = 0; i < 100 && last.status != 429; ++i) {
    last = tenant.vault("PUT", "sys/wrapping/wrap", {{"v", "x"}}, kFiveMinutes);
  }
  EXPECT_THAT(last, IsVaultError(429, "waiting"));
  EXPECT_THAT(tenant.vault("GET", "secret/data/db", nullptr, kFiveMinutes), HasStatus(429));
}

// ---- sys ----

TEST(VaultSystem, SaysHowItIsToAnybodyAndOfAnyTenant) {
  VaultTenant tenant("vault-sys");
  for (const auto* path : {"/v1/sys/health", "/t/vault-sys/v1/sys/health", "/t/none/v1/sys/health",
                           "/v1/sys/health?standbyok=true&perfstandbyok=1"}) {
    const auto reply = tenant.ask("GET", path);
    ASSERT_THAT(reply, HasStatus(200)) << path;
    auto body = json_of(reply);
    EXPECT_GT(body.at("server_time_utc"), 1'700'000'000);
    EXPECT_TRUE(body.at("version").is_string());
    EXPECT_EQ(body.at("initialized"), true);
    EXPECT_EQ(body.at("sealed"), false);
    EXPECT_EQ(body.at("standby"), false);
    const auto head = tenant.ask("HEAD", path);
    EXPECT_THAT(head, HasStatus(200)) << path;
    EXPECT_EQ(head.body, "");
  }
  for (const auto* path : {"/v1/sys/seal-status", "/t/none/v1/sys/seal-status"}) {
    const auto body = json_of(tenant.ask("GET", path));
    EXPECT_EQ(body.at("sealed"), false) << path;
    EXPECT_EQ(body.at("initialized"), true) << path;
    EXPECT_EQ(body.at("progress"), 0) << path;
  }
  EXPECT_THAT(tenant.ask("POST", "/v1/sys/health"), HasStatus(405));
}

TEST(VaultSystem, NamesTheOneMount) {
  VaultTenant tenant("vault-mounts");
  const auto body = json_of(tenant.vault("GET", "sys/mounts"));
  for (const auto& mounts : {body, body.at("data")}) {
    EXPECT_EQ(mounts.at("secret/").at("type"), "kv");
    EXPECT_EQ(mounts.at("secret/").at("options"), Json({{"version", "2"}}));
  }
  EXPECT_EQ(body.at("data").size(), 1u);
  const auto visible = json_of(tenant.vault("GET", "sys/internal/ui/mounts")).at("data");
  EXPECT_EQ(visible.at("secret").at("secret/").at("type"), "kv");
  EXPECT_EQ(visible.at("auth"), Json::object());
  // Vault's command asks so before each `kv get`.
  for (const auto* path : {"secret", "secret/", "secret/team/db", "secret/data/team/db"}) {
    const auto found = tenant.vault("GET", std::string("sys/internal/ui/mounts/") + path);
    ASSERT_THAT(found, HasStatus(200)) << path;
    const auto data = json_of(found).at("data");
    EXPECT_EQ(data.at("path"), "secret/") << path;
    EXPECT_EQ(data.at("options").at("version"), "2") << path;
  }
  for (const auto* path : {"other", "secrets", "other/secret/", "sys"}) {
    EXPECT_THAT(tenant.vault("GET", std::string("sys/internal/ui/mounts/") + path),
                IsVaultError(403))
        << path;
  }
  for (const auto* path :
       {"sys/mounts", "sys/internal/ui/mounts", "sys/internal/ui/mounts/secret"}) {
    EXPECT_THAT(tenant.as("", "GET", path), IsVaultError(403, "permission denied")) << path;
    EXPECT_THAT(tenant.as("guessed", "GET", path), IsVaultError(403, "permission denied")) << path;
  }
  EXPECT_THAT(tenant.vault("POST", "sys/mounts"), HasStatus(405));
}

// ---- clients that log in ----

/// A tenant with a vaulted backend for the tenant's own credential, and clients
/// that may log in: one by secret, one by its workload's token.
struct LoginTenant : VaultTenant {
  explicit LoginTenant(const std::string& tenant_name) : VaultTenant(tenant_name) {
    manifest["settings"]["vault_api"] = {{"clients", {"gw-01", "pod"}}};
    manifest["settings"]["reveal"] = false;  // that is about admins
    manifest["clients"].push_back(
        {{"id", "pod"},
         {"grants", {"client_credentials"}},
         {"backends", {"db"}},
         {"scopes", {"*"}},
         {"authentication",
          {{"method", "workload_identity"},
           {"workload",
            {{"issuer", manifest["issuers"][0]["name"]},
             {"audience", "gw-01"},
             {"claims", {{"sub", {"system:serviceaccount:mcp:pod"}}}}}}}}});
    EXPECT_THAT(apply(), HasStatus(200));
    EXPECT_THAT(put("shared-db", {{"url", "postgres://of-the-tenant"}}), HasStatus(200));
    EXPECT_THAT(put("other", {{"token", "not-theirs"}}), HasStatus(200));
  }
  WireReply login(const std::string& method, const Json& body, const char* verb = "POST") const {
    return as("", verb, "auth/" + method + "/login", body);
  }
  WireReply approle(const std::string& id, const std::string& with) const {
    return login("approle", {{"role_id", id}, {"secret_id", with}});
  }
  std::string session() const {
    return json_of(approle("gw-01", secret)).at("auth").at("client_token");
  }
};

TEST(VaultLogin, GivesAClientAShortTokenForWhatItsBackendsTakeOfTheTenant) {
  LoginTenant tenant("vault-login");
  for (const char* verb : {"POST", "PUT"}) {
    const auto reply =
        tenant.login("approle", {{"role_id", "gw-01"}, {"secret_id", tenant.secret}}, verb);
    ASSERT_THAT(reply, HasStatus(200));
    EXPECT_EQ(reply.header("Cache-Control"), "no-store");
    const auto auth = json_of(reply).at("auth");
    EXPECT_EQ(auth.at("policies"), Json({"client"}));
    EXPECT_EQ(auth.at("metadata").at("client"), "gw-01");
    EXPECT_GT(auth.at("lease_duration"), 0);
    EXPECT_LE(auth.at("lease_duration"), 3600);
  }
  const auto token = tenant.session();
  const auto get = [&](const std::string& path) { return tenant.as(token, "GET", path); };
  const auto read = get("secret/data/shared-db");
  ASSERT_THAT(read, HasStatus(200));
  EXPECT_EQ(json_of(read).at("data").at("data").at("url"), "postgres://of-the-tenant");
  EXPECT_THAT(get("secret/metadata/shared-db"), HasStatus(200));
  EXPECT_EQ(json_of(tenant.as(token, "LIST", "secret/metadata")).at("data").at("keys"),
            Json({"shared-db"}));
  for (const auto* path : {"secret/data/other", "secret/metadata/other", "secret/data/none",
                           "secret/metadata/none", "secret/data/github"}) {
    EXPECT_THAT(get(path), IsVaultError(403, "no backend gives this credential")) << path;
  }
  const Json write{{"data", {{"url", "x"}}}};
  for (const auto& [method, path] : Pairs{{"PUT", "secret/data/shared-db"},
                                          {"POST", "secret/data/new"},
                                          {"PATCH", "secret/data/shared-db"},
                                          {"DELETE", "secret/data/shared-db"},
                                          {"PUT", "secret/delete/shared-db"},
                                          {"PUT", "secret/undelete/shared-db"},
                                          {"PUT", "secret/destroy/shared-db"},
                                          {"POST", "secret/metadata/shared-db"},
                                          {"PATCH", "secret/metadata/shared-db"},
                                          {"DELETE", "secret/metadata/shared-db"}}) {
    EXPECT_THAT(tenant.as(token, method, path, write), IsVaultError(403, "may not do that"))
        << method << path;
  }
  // Only the latest version is one that a backend takes.
  ASSERT_THAT(tenant.put("shared-db", {{"url", "second"}}), HasStatus(200));
  EXPECT_THAT(get("secret/data/shared-db?version=1"), IsVaultError(403, "latest version alone"));
  EXPECT_THAT(get("secret/data/shared-db?version=2"), HasStatus(200));
  ASSERT_THAT(tenant.vault("DELETE", "secret/data/shared-db"), HasStatus(204));
  EXPECT_THAT(get("secret/data/shared-db"), HasStatus(404));
  const Json expiring{{"fields", {{"url", "x"}}},
                      {"expires_at", format_time(SystemClock().now() + std::chrono::seconds(3))}};
  ASSERT_THAT(tenant.api("PUT", "/credentials/shared-db", tenant.admin, expiring), HasStatus(200));
  eventually([&] { return get("secret/data/shared-db").status == 403; }, "its end");

  const auto records = tenant.audit("action=credential.release");
  ASSERT_GE(records.size(), 2u);
  const auto& fields = records.front().at("event").at("fields");
  EXPECT_EQ(fields.at("caller"), "client");
  EXPECT_EQ(fields.at("client"), "gw-01");
  EXPECT_EQ(fields.at("credential"), "shared-db");
  const auto logins = tenant.audit("action=vault.login");
  EXPECT_EQ(logins.front().at("event").at("fields").at("client"), "gw-01");
  EXPECT_TRUE(logins.back().at("event").at("fields").contains("session"));
  for (const auto& record : tenant.audit()) {
    EXPECT_EQ(record.dump().find("of-the-tenant"), std::string::npos);
    EXPECT_EQ(record.dump().find(token), std::string::npos);
  }
}

TEST(VaultLogin, TakesAWorkloadsTokenInEitherName) {
  LoginTenant tenant("vault-jwt");
  const auto of_pod = tenant.idp.sign(tenant.claims("system:serviceaccount:mcp:pod"));
  for (const char* method : {"jwt", "kubernetes"}) {
    const auto reply = tenant.login(method, {{"role", "pod"}, {"jwt", of_pod}});
    ASSERT_THAT(reply, HasStatus(200)) << method;
    const std::string token = json_of(reply).at("auth").at("client_token");
    EXPECT_THAT(tenant.as(token, "GET", "secret/data/shared-db"), HasStatus(200));
    for (const Json& body :
         {Json{{"role", "pod"}, {"jwt", tenant.user_token("alice")}},
          Json{{"role", "gw-01"}, {"jwt", of_pod}}, Json{{"role", "none"}, {"jwt", of_pod}},
          Json{{"role", "pod"}, {"jwt", of_pod + "x"}}}) {
      EXPECT_THAT(tenant.login(method, body), IsVaultError(403, "client authentication failed"))
          << method;
    }
    for (const Json& body : {Json{{"jwt", of_pod}}, Json{{"role", "pod"}}, Json::object(),
                             Json{{"role", 1}, {"jwt", of_pod}}}) {
      EXPECT_THAT(tenant.login(method, body), IsVaultError(400)) << method;
    }
  }
  EXPECT_THAT(tenant.approle("pod", of_pod), IsVaultError(403, "client authentication failed"));
}

TEST(VaultLogin, IsForClientsThatTheTenantNamesAlone) {
  LoginTenant tenant("vault-login-who");
  for (const auto& [id, with] : Pairs{{"gw-01", "wrong"},
                                      {"none", tenant.secret},
                                      {"gw-01", tenant.admin},
                                      {"gw-files", tenant.secret}}) {
    EXPECT_THAT(tenant.approle(id, with), IsVaultError(403, "client authentication failed")) << id;
  }
  EXPECT_THAT(tenant.approle("gw-files", tenant.files_secret), IsVaultError(403, "may not log in"));
  for (const Json& body : {Json{{"role_id", "gw-01"}}, Json{{"secret_id", tenant.secret}},
                           Json{{"role_id", "gw-01"}, {"secret_id", ""}}}) {
    EXPECT_THAT(tenant.login("approle", body), IsVaultError(400, "missing"));
  }
  const auto token = tenant.session();
  const auto works = [&] { return tenant.as(token, "GET", "secret/data/shared-db").status == 200; };
  ASSERT_TRUE(works());
  // Each of these takes the right of tokens that are out as well.
  const auto before = tenant.manifest;
  const auto without = [&](const char* what, const std::function<void(Json & manifest)>& change) {
    tenant.manifest = before;
    change(tenant.manifest);
    ASSERT_THAT(tenant.apply(), HasStatus(200)) << what;
    EXPECT_THAT(tenant.as(token, "GET", "secret/data/shared-db"), HasStatus(403)) << what;
    EXPECT_THAT(tenant.approle("gw-01", tenant.secret), HasStatus(403)) << what;
    tenant.manifest = before;
    ASSERT_THAT(tenant.apply(), HasStatus(200));
    EXPECT_TRUE(works()) << what;
  };
  const auto client = [](Json& manifest) -> Json& {
    for (auto& each : manifest["clients"]) {
      if (each["id"] == "gw-01") return each;
    }
    throw std::logic_error("no client");
  };
  without("setting", [](Json& m) { m["settings"]["vault_api"].erase("clients"); });
  without("subset", [](Json& m) { m["settings"].erase("vault_api"); });
  without("client", [&](Json& m) { client(m)["enabled"] = false; });
  without("grant", [&](Json& m) { client(m)["grants"] = {"token-exchange"}; });
  without("binding", [&](Json& m) { client(m)["dpop_bound"] = true; });
  const auto no_value = [&](const char* what, const std::function<void(Json & manifest)>& change) {
    tenant.manifest = before;
    change(tenant.manifest);
    ASSERT_THAT(tenant.apply(), HasStatus(200)) << what;
    EXPECT_FALSE(works()) << what;
    EXPECT_THAT(tenant.as(token, "LIST", "secret/metadata"), IsNoSuchSecret()) << what;
  };
  no_value("backend of the client", [&](Json& m) { client(m)["backends"] = {"files"}; });
  const auto backend = [](Json& manifest) -> Json& {
    for (auto& each : manifest["backends"]) {
      if (each.contains("credential") && each["credential"]["name"] == "shared-db") return each;
    }
    throw std::logic_error("no backend");
  };
  no_value("backend", [&](Json& m) { backend(m)["enabled"] = false; });
  no_value("owner", [&](Json& m) { backend(m)["credential"]["owner"] = "principal"; });
  no_value("demand", [&](Json& m) { backend(m)["require"] = {{"acr", {"mfa"}}}; });
}

TEST(VaultLogin, ATokenIsLookedUpRenewedAndGivenBack) {
  LoginTenant tenant("vault-renew");
  const auto token = tenant.session();
  const auto other = tenant.session();
  const auto self = json_of(tenant.as(token, "GET", "auth/token/lookup-self")).at("data");
  EXPECT_EQ(self.at("display_name"), "gw-01");
  EXPECT_EQ(self.at("renewable"), true);
  EXPECT_GT(self.at("ttl"), 0);
  for (const char* verb : {"POST", "PUT"}) {
    const auto renewed = tenant.as(token, verb, "auth/token/renew-self", {{"increment", "8760h"}});
    ASSERT_THAT(renewed, HasStatus(200));
    const auto auth = json_of(renewed).at("auth");
    EXPECT_EQ(auth.at("client_token"), token);
    EXPECT_LE(auth.at("lease_duration"), self.at("creation_ttl")) << "no longer than it was made";
  }
  EXPECT_THAT(tenant.vault("POST", "auth/token/renew-self"), IsVaultError(400, "not renewable"));
  EXPECT_THAT(tenant.vault("POST", "auth/token/revoke-self"), IsVaultError(403, "may not"));
  EXPECT_THAT(tenant.api("GET", "", tenant.admin), HasStatus(200)) << "an admin's token stays";

  ASSERT_THAT(tenant.as(token, "PUT", "auth/token/revoke-self"), HasStatus(204));
  EXPECT_THAT(tenant.as(token, "GET", "auth/token/lookup-self"),
              IsVaultError(403, "permission denied"));
  EXPECT_THAT(tenant.as(other, "GET", "auth/token/lookup-self"), HasStatus(200));
}

TEST(VaultLogin, ATokenInTheBodyIsOnesOwnOrAnotherOfTheSameClient) {
  LoginTenant tenant("vault-token-body");
  const auto token = tenant.session();
  const auto second = tenant.session();
  const auto login = tenant.login(
      "jwt",
      {{"role", "pod"}, {"jwt", tenant.idp.sign(tenant.claims("system:serviceaccount:mcp:pod"))}});
  const std::string of_pod = json_of(login).at("auth").at("client_token");
  const auto post = [&](const std::string& who, const std::string& what, const Json& body) {
    return tenant.as(who, "POST", "auth/token/" + what, body);
  };
  for (const auto& each : {token, second}) {
    const auto found = post(token, "lookup", {{"token", each}});
    ASSERT_THAT(found, HasStatus(200));
    EXPECT_EQ(json_of(found).at("data").at("id"), each);
    EXPECT_EQ(json_of(found).at("data").at("display_name"), "gw-01");
    const auto renewed = post(token, "renew", {{"token", each}, {"increment", "1h"}});
    EXPECT_EQ(json_of(renewed).at("auth").at("client_token"), each);
  }
  EXPECT_THAT(post(tenant.admin, "lookup", {{"token", tenant.admin}}), HasStatus(200));
  EXPECT_THAT(post(tenant.admin, "renew", {{"token", tenant.admin}}),
              IsVaultError(400, "not renewable"));
  const auto self = json_of(tenant.as(token, "GET", "auth/token/lookup-self")).at("data");
  const std::string accessor = self.at("accessor");
  const auto by_accessor = post(token, "lookup-accessor", {{"accessor", accessor}});
  ASSERT_THAT(by_accessor, HasStatus(200));
  EXPECT_EQ(json_of(by_accessor).at("data").at("id"), "") << "an accessor shows no token";
  EXPECT_EQ(json_of(by_accessor).at("data").at("accessor"), accessor);

  for (const auto* what : {"lookup", "renew", "revoke"}) {
    for (const auto& other :
         {of_pod, tenant.admin, tenant.user_token("alice"), token + "x", std::string("hvs.none")}) {
      EXPECT_THAT(post(token, what, {{"token", other}}), IsVaultError(403, "permission denied"))
          << what;
    }
    EXPECT_THAT(post(token, what, Json::object()), IsVaultError(400, "missing token")) << what;
    EXPECT_THAT(post("", what, {{"token", token}}), IsVaultError(403, "permission denied")) << what;
  }
  for (const auto* what : {"lookup-accessor", "revoke-accessor"}) {
    EXPECT_THAT(post(of_pod, what, {{"accessor", accessor}}), IsVaultError(403)) << what;
    EXPECT_THAT(post(token, what, {{"accessor", ""}}), IsVaultError(403)) << what;
    EXPECT_THAT(post(token, what, Json::object()), IsVaultError(400, "missing accessor")) << what;
  }
  EXPECT_THAT(post(tenant.admin, "lookup-accessor", {{"accessor", ""}}), IsVaultError(403));
  // There is no table of tokens, so not that of another session of the same client either.
  const Json of_second{
      {"accessor",
       json_of(tenant.as(second, "GET", "auth/token/lookup-self")).at("data").at("accessor")}};
  for (const auto* what : {"lookup-accessor", "revoke-accessor"}) {
    EXPECT_THAT(post(token, what, of_second), IsVaultError(403, "permission denied")) << what;
    EXPECT_THAT(post(tenant.admin, what, of_second), IsVaultError(403)) << what;
  }
  // What is not there, as docs/vault-api.md says.
  for (const auto& [method, path] : Pairs{{"POST", "create/some-role"},
                                          {"POST", "create-orphan"},
                                          {"POST", "renew-accessor"},
                                          {"POST", "revoke-orphan"},
                                          {"LIST", "accessors"},
                                          {"LIST", "roles"},
                                          {"GET", "roles/some-role"},
                                          {"POST", "tidy"}}) {
    for (const auto& who : {token, tenant.admin}) {
      EXPECT_THAT(tenant.as(who, method, "auth/token/" + path), IsVaultError(404)) << path;
    }
  }
  EXPECT_THAT(post(tenant.admin, "revoke", {{"token", tenant.admin}}), IsVaultError(403));
  EXPECT_THAT(post(tenant.admin, "create", Json::object()), IsVaultError(400, "by logging in"));

  const auto lives = [&](const std::string& each) {
    return tenant.as(each, "GET", "auth/token/lookup-self").status == 200;
  };
  ASSERT_THAT(post(token, "revoke", {{"token", second}}), HasStatus(204));
  EXPECT_FALSE(lives(second));
  EXPECT_TRUE(lives(token));
  ASSERT_THAT(post(token, "revoke-accessor", {{"accessor", accessor}}), HasStatus(204));
  EXPECT_FALSE(lives(token));
  EXPECT_TRUE(lives(of_pod));
}

TEST(VaultLogin, ATokenMakesOthersThatEndWithIt) {
  LoginTenant tenant("vault-token-create");
  const auto token = tenant.session();
  const auto create = [&](const std::string& who, const Json& body, const char* verb = "POST") {
    return tenant.as(who, verb, "auth/token/create", body);
  };
  const auto made_by = [&](const std::string& who, const Json& body = Json::object()) {
    const auto reply = create(who, body);
    EXPECT_THAT(reply, HasStatus(200));
    return json_of(reply).at("auth").at("client_token").get<std::string>();
  };
  const auto self = [&](const std::string& who) {
    return json_of(tenant.as(who, "GET", "auth/token/lookup-self")).at("data");
  };
  const auto lives = [&](const std::string& who) {
    return tenant.as(who, "GET", "auth/token/lookup-self").status == 200;
  };
  // As `vault token create -ttl=5m` of Go's client asks.
  const auto reply = create(token,
                            {{"ttl", "5m"},
                             {"explicit_max_ttl", "0s"},
                             {"period", "0s"},
                             {"display_name", "a part of the work"},
                             {"num_uses", 0},
                             {"renewable", true},
                             {"type", "service"},
                             {"policies", nullptr},
                             {"metadata", nullptr},
                             {"no_parent", false},
                             {"no_default_policy", false},
                             {"entity_alias", ""}},
                            "PUT");
  ASSERT_THAT(reply, HasStatus(200));
  const auto auth = json_of(reply).at("auth");
  const std::string child = auth.at("client_token");
  EXPECT_EQ(auth.at("orphan"), false);
  EXPECT_LE(auth.at("lease_duration"), 300);
  EXPECT_EQ(auth.at("policies"), Json({"client"}));
  EXPECT_EQ(self(child).at("orphan"), false);
  EXPECT_EQ(self(child).at("creation_ttl"), 300);
  EXPECT_EQ(self(child).at("display_name"), "gw-01");
  EXPECT_THAT(tenant.as(child, "GET", "secret/data/shared-db"), HasStatus(200));

  // Never longer than its parent, whatever is asked.
  const auto ends = [&](const std::string& who) {
    return self(who).at("expire_time").get<std::string>();
  };
  EXPECT_EQ(ends(made_by(token)), ends(token));
  // As node-vault asks for no more than that, and as Go's client may.
  for (const char* nothing : {"", "null"}) {
    const auto plain = tenant.ask("POST", "/t/vault-token-create/v1/auth/token/create",
                                  {{"X-Vault-Token", token}}, nothing);
    ASSERT_THAT(plain, HasStatus(200)) << nothing;
    const auto made = json_of(plain).at("auth").at("client_token").get<std::string>();
    EXPECT_EQ(ends(made), ends(token));
    EXPECT_EQ(self(made).at("orphan"), false);
  }
  for (const char* other : {"[]", "\"x\"", "{", "nul"}) {
    EXPECT_THAT(tenant.ask("POST", "/t/vault-token-create/v1/auth/token/create",
                           {{"X-Vault-Token", token}}, other),
                IsVaultError(400))
        << other;
  }
  EXPECT_EQ(ends(made_by(token, {{"ttl", "8760h"}})), ends(token));
  EXPECT_EQ(ends(made_by(child, {{"ttl", 3600}})), ends(child));
  EXPECT_EQ(self(made_by(token, {{"ttl", 300}, {"explicit_max_ttl", "1m"}})).at("creation_ttl"),
            60);

  for (const auto& [name, value] :
       std::vector<std::pair<std::string, Json>>{{"id", "hvs.mine"},
                                                 {"no_parent", true},
                                                 {"num_uses", 1},
                                                 {"period", "1h"},
                                                 {"entity_alias", "admin"},
                                                 {"meta", {{"a", "b"}}},
                                                 {"type", "batch"},
                                                 {"policies", {"root"}},
                                                 {"policies", "root"},
                                                 {"ttl", "1x"},
                                                 {"ttl", -1},
                                                 {"ttl", Json::array({1})},
                                                 {"ttl", "9000h"},
                                                 {"explicit_max_ttl", 1.5}}) {
    EXPECT_THAT(create(token, {{name, value}}), IsVaultError(400)) << name << value;
  }
  EXPECT_THAT(create("", Json::object()), IsVaultError(403, "permission denied"));
  EXPECT_THAT(create(tenant.user_token("alice"), Json::object()), IsVaultError(400));

  // Who ends one ends what it made, and what that made; nobody else's.
  const auto grandchild = made_by(child), sibling = made_by(token), stranger = tenant.session();
  ASSERT_THAT(tenant.as(token, "POST", "auth/token/revoke", {{"token", child}}), HasStatus(204));
  EXPECT_FALSE(lives(child));
  EXPECT_FALSE(lives(grandchild));
  EXPECT_TRUE(lives(sibling));
  EXPECT_THAT(create(grandchild, Json::object()), IsVaultError(403));
  auto deepest = token;
  for (int i = 0; i < 4; ++i) deepest = made_by(deepest);
  EXPECT_THAT(create(deepest, Json::object()), IsVaultError(400, "log in"));
  ASSERT_THAT(tenant.as(token, "POST", "auth/token/revoke-self"), HasStatus(204));
  for (const auto& each : {sibling, deepest}) EXPECT_FALSE(lives(each));
  EXPECT_TRUE(lives(stranger));

  const auto records = tenant.audit("action=vault.token_create");
  std::size_t told = 0;
  for (const auto& record : records) {
    EXPECT_EQ(record.dump().find("postern_vt_"), std::string::npos);
    told += record.at("event").at("fields").count("created");
  }
  EXPECT_GE(told, 10U);
}

TEST(VaultLogin, ItsTokenIsNothingAnywhereElse) {
  LoginTenant tenant("vault-elsewhere");
  LoginTenant other("vault-elsewhere-2");
  const auto token = tenant.session();
  EXPECT_THAT(other.as(token, "GET", "auth/token/lookup-self"),
              IsVaultError(403, "permission denied"));
  for (const auto* path : {"", "/manifest", "/credentials", "/credentials/shared-db", "/audit"}) {
    EXPECT_THAT(tenant.api("GET", path, token), IsProblem(401, "unauthenticated")) << path;
  }
  EXPECT_THAT(tenant.exchange(token, "files"), IsOAuthError(400, "invalid_request"));
  const auto renamed = "postern_vt_vault-elsewhere-2" + token.substr(token.find('.'));
  EXPECT_THAT(other.as(renamed, "GET", "auth/token/lookup-self"),
              IsVaultError(403, "permission denied"));
  auto flipped = token;
  flipped.back() = flipped.back() == 'A' ? 'E' : 'A';
  for (const auto& spoilt :
       {flipped, token + ".", token.substr(0, token.rfind('.')), token + "A"}) {
    EXPECT_THAT(tenant.as(spoilt, "GET", "auth/token/lookup-self"),
                IsVaultError(403, "permission denied"));
  }
}

// ---- transit ----

/// A tenant with clients that may use keys: one all of some, one a little.
struct TransitTenant : LoginTenant {
  explicit TransitTenant(const std::string& tenant_name) : LoginTenant(tenant_name) {
    const Json all{"encrypt", "decrypt", "rewrap", "sign", "verify", "hmac", "datakey"};
    manifest["settings"]["vault_api"]["transit"] = {
        {"rules",
         {{{"clients", {"gw-01"}},
           {"keys", {"orders", "signer", "point", "old"}},
           {"operations", all}},
          {{"clients", {"pod"}}, {"keys", {"orders"}}, {"operations", {"encrypt"}}}}}};
    EXPECT_THAT(apply(), HasStatus(200));
    client = session();
    const auto login_of_pod =
        login("jwt", {{"role", "pod"}, {"jwt", idp.sign(claims("system:serviceaccount:mcp:pod"))}});
    pod = json_of(login_of_pod).at("auth").at("client_token");
  }
  WireReply use(const std::string& what, const Json& body) const {
    return as(client, "POST", "transit/" + what, body);
  }
  Json used(const std::string& what, const Json& body) const {
    const auto reply = use(what, body);
    EXPECT_THAT(reply, HasStatus(200)) << what << reply.body;
    return reply.status == 200 ? json_of(reply).at("data") : Json::object();
  }
  void create(const std::string& of, const Json& body = Json::object()) const {
    EXPECT_THAT(vault("POST", "transit/keys/" + of, body), HasStatus(200)) << of;
  }
  Json key(const std::string& of) const {
    return json_of(vault("GET", "transit/keys/" + of)).at("data");
  }
  std::string client, pod;
};

TEST(VaultTransit, IsAMountOfWhoeverMayUseIt) {
  TransitTenant tenant("transit-mount");
  const auto alice = tenant.user_token("alice");
  const std::string ui = "sys/internal/ui/mounts";
  for (const auto& who : {tenant.admin, tenant.client, tenant.pod}) {
    const auto mounts = json_of(tenant.as(who, "GET", "sys/mounts"));
    EXPECT_EQ(mounts.at("data").at("transit/").at("type"), "transit");
    EXPECT_EQ(mounts.at("transit/"), mounts.at("data").at("transit/"));
    EXPECT_EQ(mounts.at("data").at("secret/").at("type"), "kv");
    EXPECT_EQ(json_of(tenant.as(who, "GET", ui)).at("data").at("secret").at("transit/").at("type"),
              "transit");
    for (const auto* path : {"/transit", "/transit/", "/transit/keys/orders"}) {
      const auto data = json_of(tenant.as(who, "GET", ui + path)).at("data");
      EXPECT_EQ(data.at("path"), "transit/") << path;
      EXPECT_EQ(data.at("type"), "transit") << path;
    }
  }
  EXPECT_THAT(tenant.vault("GET", ui + "/transits"), IsVaultError(403));
  const auto expect_none = [&](const std::string& who) {
    EXPECT_EQ(json_of(tenant.as(who, "GET", "sys/mounts")).at("data").size(), 1u);
    EXPECT_EQ(json_of(tenant.as(who, "GET", ui)).at("data").at("secret").size(), 1u);
    EXPECT_THAT(tenant.as(who, "GET", ui + "/transit/keys"), IsVaultError(403));
  };
  expect_none(alice);
  tenant.manifest["settings"]["vault_api"]["transit"]["rules"].erase(1);
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  expect_none(tenant.pod);
  tenant.manifest["settings"]["vault_api"].erase("transit");
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  expect_none(tenant.admin);
}

TEST(VaultTransit, IsOffUntilTheTenantSaysSo) {
  LoginTenant tenant("transit-off");
  for (const auto& [method, path] : Pairs{{"GET", "transit/keys/orders"},
                                          {"POST", "transit/keys/orders"},
                                          {"LIST", "transit/keys"},
                                          {"POST", "transit/keys/orders/rotate"}}) {
    EXPECT_THAT(tenant.vault(method, path, Json::object()), IsNoSuchSecret()) << path;
  }
  EXPECT_THAT(tenant.as(tenant.session(), "POST", "transit/encrypt/orders", {{"plaintext", ""}}),
              IsNoSuchSecret());
}

TEST(VaultTransit, WhatIsEncryptedIsDecryptedUnderEachVersion) {
  TransitTenant tenant("transit-encrypt");
  tenant.create("orders");
  const auto first = tenant.used("encrypt/orders", {{"plaintext", "dGV4dA=="}});
  EXPECT_EQ(first.at("key_version"), 1);
  const std::string ciphertext = first.at("ciphertext");
  EXPECT_EQ(ciphertext.rfind("vault:v1:", 0), 0u);
  EXPECT_EQ(tenant.used("decrypt/orders", {{"ciphertext", ciphertext}}),
            Json({{"plaintext", "dGV4dA=="}}));
  ASSERT_THAT(tenant.vault("PUT", "transit/keys/orders/rotate"), HasStatus(200));
  EXPECT_EQ(tenant.used("encrypt/orders", {{"plaintext", ""}}).at("key_version"), 2);
  EXPECT_EQ(tenant.used("decrypt/orders", {{"ciphertext", ciphertext}}).at("plaintext"),
            "dGV4dA==");
  const std::string anew =
      tenant.used("rewrap/orders", {{"ciphertext", ciphertext}}).at("ciphertext");
  EXPECT_EQ(anew.rfind("vault:v2:", 0), 0u);
  ASSERT_THAT(tenant.vault("POST", "transit/keys/orders/config", {{"min_decryption_version", "2"}}),
              HasStatus(200));
  EXPECT_THAT(tenant.use("decrypt/orders", {{"ciphertext", ciphertext}}),
              IsVaultError(400, "too old"));
  EXPECT_EQ(tenant.used("decrypt/orders", {{"ciphertext", anew}}).at("plaintext"), "dGV4dA==");

  const Json with{{"plaintext", "YQ=="}, {"associated_data", "YWFk"}};
  const std::string bound = tenant.used("encrypt/orders", with).at("ciphertext");
  EXPECT_THAT(tenant.use("decrypt/orders", {{"ciphertext", bound}}),
              IsVaultError(400, "unable to decrypt"));
  EXPECT_EQ(tenant.used("decrypt/orders", {{"ciphertext", bound}, {"associated_data", "YWFk"}})
                .at("plaintext"),
            "YQ==");
  const auto wrapped = tenant.as(tenant.client, "POST", "transit/decrypt/orders",
                                 {{"ciphertext", anew}}, kFiveMinutes);
  ASSERT_THAT(wrapped, HasStatus(200));
  EXPECT_THAT(wrapped.body, Not(HasSubstr("dGV4dA==")));
  const auto unwrapped = tenant.as(wrap_info(wrapped).at("token"), "PUT", "sys/wrapping/unwrap");
  EXPECT_EQ(json_of(unwrapped).at("data").at("plaintext"), "dGV4dA==");

  const auto records = tenant.audit("action=transit.decrypt");
  ASSERT_GE(records.size(), 5u);
  EXPECT_EQ(records[0].at("event").at("fields").at("key"), "orders");
  EXPECT_EQ(records[0].at("event").at("fields").at("client"), "gw-01");
  for (const auto& record : tenant.audit()) {
    EXPECT_EQ(record.dump().find("dGV4dA"), std::string::npos);
    EXPECT_EQ(record.dump().find(ciphertext.substr(9)), std::string::npos);
  }
}

TEST(VaultTransit, ABatchIsTakenItemByItem) {
  TransitTenant tenant("transit-batch");
  tenant.create("orders", {{"derived", true}});
  const Json items{{{"plaintext", "YQ=="}, {"context", "Y3R4"}, {"reference", "one"}},
                   {{"plaintext", "Yg=="}, {"context", "Y3R5"}}};
  const auto made = tenant.used("encrypt/orders", {{"batch_input", items}}).at("batch_results");
  ASSERT_EQ(made.size(), 2u);
  EXPECT_EQ(made[0].at("reference"), "one");
  Json back = Json::array();
  for (std::size_t i = 0; i < 2; ++i) {
    back.push_back({{"ciphertext", made[i].at("ciphertext")}, {"context", items[i].at("context")}});
  }
  const auto opened = tenant.used("decrypt/orders", {{"batch_input", back}}).at("batch_results");
  EXPECT_EQ(opened, Json({{{"plaintext", "YQ=="}}, {{"plaintext", "Yg=="}}}));
  std::swap(back[0]["context"], back[1]["context"]);
  back.push_back("no object");
  const auto refused = tenant.use("decrypt/orders", {{"batch_input", back}});
  ASSERT_THAT(refused, HasStatus(400));
  for (const auto& each : json_of(refused).at("data").at("batch_results")) {
    EXPECT_TRUE(each.contains("error")) << each;
  }
  back[0]["context"] = "Y3R4";
  const auto partly = tenant.use("decrypt/orders", {{"batch_input", back}});
  ASSERT_THAT(partly, HasStatus(400));
  EXPECT_EQ(json_of(partly).at("data").at("batch_results")[0].at("plaintext"), "YQ==");
  for (const Json& input : {Json::array(), Json(1), Json(std::vector(251, items[0]))}) {
    EXPECT_THAT(tenant.use("encrypt/orders", {{"batch_input", input}}), IsVaultError(400));
  }
}

TEST(VaultTransit, ABatchOfWhichAnItemIsRefusedIsNotShownToWhoAskedForItWrapped) {
  TransitTenant tenant("transit-wrap");
  tenant.create("orders");
  const std::string ciphertext =
      tenant.used("encrypt/orders", {{"plaintext", "dGV4dA=="}}).at("ciphertext");
  const Json good{{"ciphertext", ciphertext}}, bad{{"ciphertext", "x"}};
  const auto wrapped = [&](const Json& items) {
    return tenant.as(tenant.client, "POST", "transit/decrypt/orders", {{"batch_input", items}},
                     {{"X-Vault-Wrap-TTL", "60"}});
  };
  const auto refused = wrapped({good, bad});
  EXPECT_THAT(refused, HasStatus(400));
  EXPECT_EQ(refused.body.find("dGV4dA=="), std::string::npos) << refused.body;
  const auto whole = wrapped({good, good});
  EXPECT_THAT(whole, HasStatus(200));
  EXPECT_EQ(whole.body.find("dGV4dA=="), std::string::npos);
}

TEST(VaultTransit, SignaturesAndMacsAreVerified) {
  TransitTenant tenant("transit-sign");
  tenant.create("signer", {{"type", "ed25519"}});
  tenant.create("point", {{"type", "ecdsa-p256"}});
  const Json input{{"input", "dGV4dA=="}};
  const auto verified = [&](const std::string& path, Json body) {
    body["input"] = "dGV4dA==";
    return tenant.used("verify/" + path, body).at("valid");
  };
  for (const char* name : {"signer", "point"}) {
    const std::string key(name);
    for (const auto* marshaling : {"asn1", "jws"}) {
      const auto made =
          tenant.used("sign/" + key, {{"input", "dGV4dA=="}, {"marshaling_algorithm", marshaling}});
      const Json sent{{"signature", made.at("signature")}, {"marshaling_algorithm", marshaling}};
      EXPECT_EQ(verified(key, sent), true) << key << marshaling;
      EXPECT_EQ(verified(key + "/sha2-256", sent), true);
      auto other = sent;
      other["input"] = "b3RoZXI=";
      EXPECT_EQ(tenant.used("verify/" + key, other).at("valid"), false);
    }
    const auto mac = tenant.used("hmac/" + key + "/sha2-512", input).at("hmac");
    EXPECT_EQ(verified(key + "/sha2-512", {{"hmac", mac}}), true);
    EXPECT_EQ(verified(key, {{"hmac", mac}}), false) << "of another algorithm";
    for (const char* member : {"algorithm", "hash_algorithm"}) {
      EXPECT_EQ(
          tenant.used("hmac/" + key, {{"input", "dGV4dA=="}, {member, "sha2-512"}}).at("hmac"), mac)
          << member;
      EXPECT_EQ(verified(key, {{"hmac", mac}, {"signature", nullptr}, {member, "sha2-512"}}), true)
          << member;
    }
  }
  const auto shown = tenant.key("point").at("keys").at("1");
  EXPECT_EQ(shown.at("public_key").get<std::string>().rfind("-----BEGIN PUBLIC KEY-----", 0), 0u);
  EXPECT_EQ(tenant.key("signer").at("keys").at("1").at("public_key").get<std::string>().size(),
            44u);
  for (const auto& [path, body] : std::vector<std::pair<std::string, Json>>{
           {"sign/point", {{"input", "YQ=="}, {"prehashed", true}}},
           {"sign/point", {{"input", "YQ=="}, {"hash_algorithm", "sha2-512"}}},
           {"sign/point", {{"input", "YQ=="}, {"algorithm", "sha2-512"}}},
           {"sign/point/sha1", input},
           {"sign/point", {{"input", "YQ=="}, {"marshaling_algorithm", "raw"}}},
           {"sign/point", {{"input", "no base64"}}},
           {"sign/point", Json::object()},
           {"hmac/point/sha2-224", input},
           {"verify/point", input},
           {"verify/point", {{"input", "YQ=="}, {"hmac", "x"}, {"signature", "y"}}},
           {"verify/point", {{"input", "YQ=="}, {"signature", "vault:v2:YQ=="}}},
           {"encrypt/point", {{"plaintext", "YQ=="}}},
           {"datakey/wrapped/point", Json::object()}}) {
    EXPECT_THAT(tenant.use(path, body), IsVaultError(400)) << path << body;
  }
}

TEST(VaultTransit, WhatStandsBesideABatchOfSignaturesIsSaidOfEachItem) {
  TransitTenant tenant("transit-beside");
  tenant.create("signer", {{"type", "ed25519"}});
  tenant.create("point", {{"type", "ecdsa-p256"}});
  for (const char* key : {"signer", "point"}) {
    ASSERT_THAT(tenant.vault("POST", std::string("transit/keys/") + key + "/rotate"),
                HasStatus(200));
  }
  const auto results = [&](const std::string& path, Json body, Json items) {
    body["batch_input"] = std::move(items);
    return tenant.used(path, body).at("batch_results");
  };
  const Json text{{"input", "dGV4dA=="}, {"reference", "r"}};

  // MACs: the hash and the version.
  const Json beside{{"algorithm", "sha2-512"}, {"key_version", 1}};
  const auto macs = results("hmac/signer", beside, {text});
  EXPECT_EQ(
      macs[0].at("hmac"),
      tenant.used("hmac/signer/sha2-512", {{"input", "dGV4dA=="}, {"key_version", 1}}).at("hmac"));
  EXPECT_EQ(macs[0].at("reference"), "r");
  const Json mac{{"input", "dGV4dA=="}, {"hmac", macs[0].at("hmac")}};
  EXPECT_EQ(results("verify/signer", {{"hash_algorithm", "sha2-512"}}, {mac})[0].at("valid"), true);
  EXPECT_EQ(results("verify/signer", Json::object(), {mac})[0].at("valid"), false);
  auto with_its_own = mac;
  with_its_own["hash_algorithm"] = "sha2-512";
  EXPECT_EQ(
      results("verify/signer", {{"hash_algorithm", "sha2-384"}}, {with_its_own})[0].at("valid"),
      true)
      << "what an item says itself counts";

  // Signatures: how they are written, and the version.
  const Json jws{{"marshaling_algorithm", "jws"}, {"key_version", 1}};
  const std::string made = results("sign/point", jws, {text})[0].at("signature");
  EXPECT_EQ(made.rfind("vault:v1:", 0), 0u);
  EXPECT_EQ(made.size(), std::string("vault:v1:").size() + 86) << "R || S in base64url";
  const Json signature{{"input", "dGV4dA=="}, {"signature", made}};
  EXPECT_EQ(results("verify/point", jws, {signature})[0].at("valid"), true);

  // What is refused of one call is refused of a batch, each item in its place, with 200.
  for (const Json& refused : {Json{{"prehashed", true}}, Json{{"hash_algorithm", "sha2-512"}},
                              Json{{"algorithm", "nonsense"}}, Json{{"key_version", 3}}}) {
    const auto items = results("sign/point", refused, {text, text});
    ASSERT_EQ(items.size(), 2u);
    for (const auto& item : items) {
      EXPECT_TRUE(item.contains("error")) << refused;
      EXPECT_FALSE(item.contains("signature")) << refused;
      EXPECT_EQ(item.at("reference"), "r");
    }
  }
  const auto some = results("hmac/point", Json::object(), {text, {{"input", "!"}}});
  EXPECT_TRUE(some[0].contains("hmac"));
  EXPECT_TRUE(some[1].contains("error"));
  EXPECT_TRUE(
      tenant.used("hmac/point", {{"input", "YQ=="}, {"batch_input", nullptr}}).contains("hmac"));
}

TEST(VaultTransit, AnOlderVersionIsUsedWhereItIsAskedFor) {
  TransitTenant tenant("transit-older");
  tenant.create("orders");
  ASSERT_THAT(tenant.vault("PUT", "transit/keys/orders/rotate"), HasStatus(200));
  ASSERT_THAT(tenant.vault("PUT", "transit/keys/orders/rotate"), HasStatus(200));
  const Json first{{"plaintext", "YQ=="}, {"key_version", 1}};
  EXPECT_EQ(tenant.used("encrypt/orders", first).at("key_version"), 1);
  const auto configure = [&](const Json& body) {
    return tenant.vault("POST", "transit/keys/orders/config", body);
  };
  ASSERT_THAT(configure({{"min_decryption_version", 2}}), HasStatus(200));
  EXPECT_THAT(tenant.use("encrypt/orders", first), IsVaultError(400, "key_version"))
      << "nothing could decrypt it";
  EXPECT_EQ(
      tenant.used("encrypt/orders", {{"plaintext", "YQ=="}, {"key_version", 2}}).at("key_version"),
      2);
  ASSERT_THAT(configure({{"min_encryption_version", 3}}), HasStatus(200));
  EXPECT_THAT(tenant.use("encrypt/orders", {{"plaintext", "YQ=="}, {"key_version", 2}}),
              IsVaultError(400, "key_version"));
  // As Vault takes them: 0 is the first, and what is off is nothing.
  const auto all = configure({{"min_decryption_version", 0},
                              {"min_encryption_version", 0},
                              {"auto_rotate_period", "0s"},
                              {"min_available_version", 0}});
  ASSERT_THAT(all, HasStatus(200));
  EXPECT_EQ(json_of(all).at("data").at("min_decryption_version"), 1);
  EXPECT_EQ(tenant.used("encrypt/orders", first).at("key_version"), 1);
}

TEST(VaultTransit, ADataKeyIsShownOnceAndOpenedWithItsCiphertext) {
  TransitTenant tenant("transit-datakey");
  tenant.create("orders", {{"type", "chacha20-poly1305"}});
  for (const auto& [bits, size] :
       std::vector<std::pair<Json, std::size_t>>{{nullptr, 44}, {128, 24}, {256, 44}, {512, 88}}) {
    const auto made = tenant.used("datakey/plaintext/orders", {{"bits", bits}});
    EXPECT_EQ(made.at("plaintext").get<std::string>().size(), size) << bits;
    EXPECT_EQ(tenant.used("decrypt/orders", {{"ciphertext", made.at("ciphertext")}}),
              Json({{"plaintext", made.at("plaintext")}}));
  }
  EXPECT_FALSE(tenant.used("datakey/wrapped/orders", Json::object()).contains("plaintext"));
  // `vault write -f` sends null.
  EXPECT_TRUE(tenant.used("datakey/plaintext/orders", nullptr).contains("plaintext"));
  EXPECT_THAT(tenant.use("datakey/plaintext/orders", {{"bits", 64}}), IsVaultError(400, "bits"));
  EXPECT_THAT(tenant.use("datakey/other/orders", Json::object()), HasStatus(404));
}

TEST(VaultTransit, ClientsUseWhatARuleGivesThemAndAdminsUseNothing) {
  TransitTenant tenant("transit-who");
  tenant.create("orders");
  tenant.create("hidden");
  const Json plaintext{{"plaintext", "YQ=="}};
  const std::string made = tenant.used("encrypt/orders", plaintext).at("ciphertext");
  const Json ciphertext{{"ciphertext", made}};
  for (const auto& who : {tenant.admin, tenant.operator_token(), tenant.user_token("alice")}) {
    EXPECT_THAT(tenant.as(who, "POST", "transit/encrypt/orders", plaintext),
                IsVaultError(403, "may not do that"));
    EXPECT_THAT(tenant.as(who, "POST", "transit/decrypt/orders", ciphertext),
                IsVaultError(403, "may not do that"));
  }
  EXPECT_THAT(tenant.as(tenant.pod, "POST", "transit/encrypt/orders", plaintext), HasStatus(200));
  for (const auto& [path, body] :
       std::vector<std::pair<std::string, Json>>{{"decrypt/orders", ciphertext},
                                                 {"rewrap/orders", ciphertext},
                                                 {"datakey/plaintext/orders", Json::object()},
                                                 {"hmac/orders", {{"input", "YQ=="}}},
                                                 {"encrypt/hidden", plaintext},
                                                 {"encrypt/none", plaintext}}) {
    EXPECT_THAT(tenant.as(tenant.pod, "POST", "transit/" + path, body),
                IsVaultError(403, "may not do that with this key"))
        << path;
  }
  EXPECT_THAT(tenant.as(tenant.client, "GET", "transit/keys/orders"), HasStatus(200));
  EXPECT_THAT(tenant.as(tenant.client, "GET", "transit/keys/hidden"), HasStatus(403));
  EXPECT_THAT(tenant.as(tenant.client, "GET", "transit/keys/none"), HasStatus(403));
  EXPECT_EQ(json_of(tenant.as(tenant.client, "LIST", "transit/keys")).at("data").at("keys"),
            Json({"orders"}));
  EXPECT_EQ(json_of(tenant.vault("GET", "transit/keys?list=true")).at("data").at("keys"),
            Json({"hidden", "orders"}));
  for (const auto& [method, path] : Pairs{{"POST", "transit/keys/new"},
                                          {"POST", "transit/keys/orders/rotate"},
                                          {"POST", "transit/keys/orders/config"},
                                          {"DELETE", "transit/keys/orders"}}) {
    for (const auto& who : {tenant.client, tenant.user_token("alice")}) {
      EXPECT_THAT(tenant.as(who, method, path, Json::object()), IsVaultError(403)) << path;
    }
  }
  EXPECT_THAT(tenant.use("encrypt/old", plaintext), IsVaultError(400, "encryption key not found"));
  EXPECT_THAT(tenant.vault("GET", "transit/keys/old"), IsNoSuchSecret()) << "and none was made";
  // A rule that goes takes the right of tokens that are out.
  tenant.manifest["settings"]["vault_api"]["transit"]["rules"] = Json::array();
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_THAT(tenant.use("decrypt/orders", ciphertext), IsVaultError(403));
}

TEST(VaultTransit, KeysAreMadeOnceAndDeletedWhenThatIsAllowed) {
  TransitTenant tenant("transit-keys");
  tenant.create("orders");
  const std::string made = tenant.used("encrypt/orders", {{"plaintext", "YQ=="}}).at("ciphertext");
  tenant.create("orders", {{"type", "ed25519"}});
  const auto key = tenant.key("orders");
  EXPECT_EQ(key.at("type"), "aes256-gcm96") << "what is there stays";
  EXPECT_EQ(key.at("latest_version"), 1);
  EXPECT_EQ(key.at("min_decryption_version"), 1);
  EXPECT_EQ(key.at("deletion_allowed"), false);
  EXPECT_EQ(key.at("exportable"), false);
  EXPECT_TRUE(key.at("keys").at("1").is_number());
  for (const Json& body :
       {Json{{"type", "rsa-2048"}}, Json{{"type", 1}}, Json{{"exportable", true}},
        Json{{"allow_plaintext_backup", "true"}}, Json{{"convergent_encryption", true}},
        Json{{"type", "ed25519"}, {"derived", true}}, Json{{"auto_rotate_period", "24h"}},
        Json::array()}) {
    EXPECT_THAT(tenant.vault("POST", "transit/keys/new", body), IsVaultError(400)) << body;
  }
  for (const Json& body : {Json{{"min_decryption_version", 2}}, Json{{"min_encryption_version", 2}},
                           Json{{"deletion_allowed", "maybe"}}, Json{{"exportable", true}},
                           Json{{"auto_rotate_period", "24h"}}, Json{{"auto_rotate_period", 1}},
                           Json{{"min_available_version", 1}}}) {
    EXPECT_THAT(tenant.vault("POST", "transit/keys/orders/config", body), IsVaultError(400))
        << body;
  }
  for (const auto* name : {"a/b", "a%2fb", "..", "a%20b", "_a", ""}) {
    const auto reply = tenant.vault("POST", std::string("transit/keys/") + name, Json::object());
    EXPECT_THAT(reply.status, testing::AnyOf(400, 404, 405)) << name;
  }
  EXPECT_THAT(tenant.vault("DELETE", "transit/keys/orders"), IsVaultError(400, "not allowed"));
  ASSERT_THAT(tenant.vault("POST", "transit/keys/orders/config", {{"deletion_allowed", true}}),
              HasStatus(200));
  ASSERT_THAT(tenant.vault("DELETE", "transit/keys/orders"), HasStatus(204));
  EXPECT_THAT(tenant.vault("DELETE", "transit/keys/orders"), IsNoSuchSecret());
  EXPECT_THAT(tenant.vault("POST", "transit/keys/orders/rotate"), IsNoSuchSecret());
  tenant.create("orders");
  EXPECT_THAT(tenant.use("decrypt/orders", {{"ciphertext", made}}),
              IsVaultError(400, "unable to decrypt"))
      << "a key of that name is another key";
}

}  // namespace
}  // namespace postern::test
