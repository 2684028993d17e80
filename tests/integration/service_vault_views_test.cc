// Views of the Vault subset on the wire: a client that holds a user's token reads that
// user's credential under a path of its own, and nothing else.

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "crypto/random.h"
#include "support/mtls_fixture.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kNothingThere = R"({"errors":[]})";

struct ViewsTenant : TestTenant {
  explicit ViewsTenant(const std::string& tenant_name)
      : ViewsTenant(shared_service(), tenant_name) {}
  ViewsTenant(TestService& service, const std::string& tenant_name)
      : TestTenant(service, tenant_name) {
    manifest["settings"]["vault_api"] = {{"clients", {"gw-01"}},
                                         {"views",
                                          {{{"path", "mcp-gateway/{sub}"}, {"backend", "github"}},
                                           {{"path", "{preferred_username}/{backend}"}}}}};
    EXPECT_THAT(apply(), HasStatus(200));
    store("1000", "github", {{"token", "of-alice"}, {"login", "alice"}});
    store("2000", "github", {{"token", "of-bob"}});
  }

  Json named(const std::string& subject, const Json& called) const {
    auto made = claims(subject);
    if (!called.is_null()) made["preferred_username"] = called;
    return made;
  }
  std::string alice() const { return idp.sign(named("1000", "alice")); }
  std::string bob() const { return idp.sign(named("2000", "bob")); }

  WireReply as(const std::string& token, std::string_view method, const std::string& path,
               const Json& body = nullptr, Pairs headers = {}) const {
    if (!token.empty()) headers.emplace_back("X-Vault-Token", token);
    return ask(method, "/t/" + name + "/v1/" + path, headers, body.is_null() ? "" : body.dump());
  }
  WireReply login(const std::string& user_token) const {
    return login_with({{"role", "gw-01"}, {"jwt", user_token}},
                      {{"Authorization", basic("gw-01", secret)}});
  }
  WireReply login_with(const Json& body, const Pairs& headers = {}) const {
    return as("", "POST", "auth/jwt/login", body, headers);
  }
  std::string session(const std::string& user_token) const {
    const auto reply = login(user_token);
    EXPECT_THAT(reply, HasStatus(200));
    return json_of(reply).at("auth").at("client_token");
  }
  WireReply read(const std::string& token, const std::string& path) const {
    return as(token, "GET", "secret/data/" + path);
  }
  /// What a path shows as `token`; "-" for nothing there.
  std::string value(const std::string& token, const std::string& path) const {
    const auto reply = read(token, path);
    if (reply.status == 200) return json_of(reply).at("data").at("data").at("token");
    EXPECT_THAT(reply, HasStatus(404)) << path;
    return "-";
  }
  /// The newest record of a release, and its fields.
  Json last_release() const {
    return audit("limit=1000&action=credential.release").back().at("event");
  }
};

void expect_nothing_there(const WireReply& reply, const std::string& what) {
  EXPECT_EQ(reply.status, 404) << what;
  EXPECT_EQ(reply.body, kNothingThere) << what;
  EXPECT_EQ(reply.header("Cache-Control"), "no-store") << what;
}
void expect_denied(const WireReply& reply, const std::string& what) {
  EXPECT_EQ(reply.status, 403) << what;
  EXPECT_THAT(reply.body, HasSubstr("permission denied")) << what;
}

TEST(VaultViews, ShowTheUsersCredentialAsKv2Does) {
  ViewsTenant tenant("views");
  const auto login = tenant.login(tenant.alice());
  ASSERT_THAT(login, HasStatus(200));
  const auto auth = json_of(login).at("auth");
  EXPECT_EQ(auth.at("policies"), Json({"views"}));
  EXPECT_LE(auth.at("lease_duration"), 300) << "no longer than the user's token";
  const std::string token = auth.at("client_token");
  EXPECT_EQ(token.rfind("postern_vu_views.", 0), 0u);
  EXPECT_LT(token.size(), 12u * 1024);

  for (const auto* path : {"mcp-gateway/1000", "alice/github", "al%69ce/git%68ub"}) {
    const auto reply = tenant.read(token, path);
    ASSERT_THAT(reply, HasStatus(200)) << path;
    EXPECT_EQ(reply.header("Cache-Control"), "no-store");
    const auto data = json_of(reply).at("data");
    EXPECT_EQ(data.at("data"), Json({{"token", "of-alice"}, {"login", "alice"}})) << path;
    EXPECT_EQ(data.at("metadata").at("version"), 1);
    EXPECT_EQ(data.at("metadata").at("destroyed"), false);
    EXPECT_EQ(data.at("metadata").at("deletion_time"), "");
    EXPECT_TRUE(data.at("metadata").at("created_time").is_string());
  }
  EXPECT_THAT(tenant.as(token, "HEAD", "secret/data/alice/github"), HasStatus(200));
  EXPECT_THAT(tenant.ask("GET", "/v1/secret/data/alice/github",
                         {{"X-Vault-Token", token}, {"X-Vault-Namespace", tenant.name}}),
              HasStatus(200));
  EXPECT_THAT(
      tenant.ask("GET", "/t/views/v1/secret/data/alice/github", {{"Authorization", bearer(token)}}),
      HasStatus(200));

  const auto record = tenant.last_release();
  EXPECT_EQ(record.at("outcome"), "allowed");
  const auto& fields = record.at("fields");
  EXPECT_EQ(fields.at("client"), "gw-01");
  EXPECT_EQ(fields.at("subject"), "1000");
  EXPECT_EQ(fields.at("backend"), "github");
  EXPECT_EQ(fields.at("credential"), "github");
  EXPECT_EQ(fields.at("credential_owner"), "principal");
  EXPECT_EQ(fields.at("view"), "{preferred_username}/{backend}");
  EXPECT_EQ(fields.at("api"), "vault");
  const auto of_login = tenant.audit("action=vault.login").back().at("event").at("fields");
  EXPECT_EQ(of_login.at("subject"), "1000");
  EXPECT_EQ(of_login.at("session"), fields.at("session"));
  for (const auto& each : tenant.audit()) {
    EXPECT_EQ(each.dump().find("of-alice"), std::string::npos);
    EXPECT_EQ(each.dump().find(token.substr(token.rfind('.'))), std::string::npos);
  }
  eventually(
      [&] {
        const auto shown = tenant.api("GET", "/credentials/github", tenant.user_token("1000"));
        return json_of(shown).contains("last_used_at");
      },
      "the use is noted");
}

TEST(VaultViews, ShowNobodyElses) {
  ViewsTenant tenant("views-others");
  const auto token = tenant.session(tenant.alice());
  ASSERT_EQ(tenant.value(token, "alice/github"), "of-alice");
  const auto before = tenant.audit("limit=1000&action=credential.release").size();
  int refused = 0;
  // Somebody else's, nobody's, a backend that is not there or takes nothing stored.
  for (const auto* path : {"mcp-gateway/2000",
                           "mcp-gateway/alice",
                           "mcp-gateway/3000",
                           "bob/github",
                           "1000/github",
                           "nobody/github",
                           "alice/none",
                           "alice/files",
                           "alice/docs",
                           "Alice/github",
                           "alice/GitHub",
                           "alice%20/github",
                           "alice/github%20",
                           "al%C3%ADce/github",
                           "%D0%B0lice/github",
                           "alice%E2%80%8B/github",
                           "%EF%BD%81lice/github",
                           "alice.github",
                           "alice..github",
                           "github",
                           "mcp-gateway",
                           "alice",
                           "alice/github/x",
                           "x/alice/github",
                           "alice/github/",
                           "alice/",
                           "%7Bpreferred_username%7D/github",
                           "mcp-gateway/%7Bsub%7D",
                           "*/github",
                           "alice/*",
                           "%25/github",
                           "alice%3Bx/github",
                           "alice%3Fx/github",
                           "https:%5C%5Cgithub.example.com%5Cmcp/x"}) {
    expect_nothing_there(tenant.read(token, path), path);
    ++refused;
  }
  // What the router lets nowhere: the same answer.
  for (const auto* path :
       {"alice%2fgithub", "alice%2Fgithub", "mcp-gateway%2f1000", "bob/../alice/github",
        "bob/%2e%2e/github", "./alice/github", "alice/./github", "alice//github", "//alice/github",
        "alice%00/github", "bob%00alice/github", "alice/github%00", "alice%0a/github",
        "alice/git%ZZhub", "alice/%", "%ff/github", "%c0%af/github"}) {
    expect_nothing_there(tenant.read(token, path), path);
  }
  expect_nothing_there(tenant.as(token, "GET", "kv/data/alice/github"), "another mount");
  const auto records = tenant.audit("limit=1000&action=credential.release");
  EXPECT_EQ(records.size(), before + static_cast<std::size_t>(refused) + 1);
  for (auto i = before; i < records.size(); ++i) {
    EXPECT_EQ(records[i].at("event").at("outcome"), "refused");
    EXPECT_EQ(records[i].dump().find("bob"), std::string::npos) << "no text of the path";
  }
  EXPECT_EQ(tenant.value(tenant.session(tenant.bob()), "bob/github"), "of-bob");
}

TEST(VaultViews, ANameFindsNothingByItself) {
  ViewsTenant tenant("views-names");
  const auto session = [&](const std::string& subject, const Json& name) {
    return tenant.session(tenant.idp.sign(tenant.named(subject, name)));
  };
  // Renamed: the path follows the name, the credential stays the principal's.
  const auto renamed = session("1000", "alice-smith");
  EXPECT_EQ(tenant.value(renamed, "alice-smith/github"), "of-alice");
  EXPECT_EQ(tenant.value(renamed, "alice/github"), "-");
  EXPECT_EQ(tenant.value(renamed, "mcp-gateway/1000"), "of-alice");
  // Whoever takes another's name gets what is their own.
  EXPECT_EQ(tenant.value(session("2000", "alice"), "alice/github"), "of-bob");
  EXPECT_EQ(tenant.read(session("3000", "alice"), "alice/github").status, 404);
  // Or another's subject for a name, or a word of a view.
  EXPECT_EQ(tenant.value(session("2000", "1000"), "1000/github"), "of-bob");
  EXPECT_EQ(tenant.value(session("2000", "1000"), "mcp-gateway/1000"), "-");
  EXPECT_EQ(tenant.value(session("2000", "mcp-gateway"), "mcp-gateway/github"), "-");
  EXPECT_EQ(tenant.value(session("2000", "mcp-gateway"), "mcp-gateway/2000"), "of-bob");
  // A claim that is not there, or is no text.
  for (const Json& name : {Json(nullptr), Json(""), Json(7), Json(true), Json({"alice"}),
                           Json({{"alice", "alice"}}), Json("a/b"), Json("../alice")}) {
    const auto token = session("1000", name);
    EXPECT_EQ(tenant.value(token, "mcp-gateway/1000"), "of-alice") << name;
    for (const auto* path : {"alice/github", "7/github", "true/github", "null/github", "a/b/github",
                             "a%2fb/github", "/github", "github"}) {
      expect_nothing_there(tenant.read(token, path), path + name.dump());
    }
  }
  // A name as it is, with what a URL has no place for.
  EXPECT_EQ(tenant.value(session("1000", "a b+c@x.example"), "a%20b+c%40x.example/github"),
            "of-alice");
  EXPECT_EQ(tenant.value(session("1000", "\xC3\xA9"), "%C3%A9/github"), "of-alice");
  EXPECT_EQ(tenant.value(session("1000", "\xC3\xA9"), "e%CC%81/github"), "-") << "another spelling";
  EXPECT_EQ(tenant.value(session("1000", "{backend}"), "%7Bbackend%7D/github"), "of-alice");
}

TEST(VaultViews, ANamesakeOfAnotherIssuerHasItsOwn) {
  ViewsTenant tenant("views-issuers");
  const Idp partner("https://idp.views-partner.example");
  tenant.manifest["issuers"].push_back({{"name", "partner"},
                                        {"issuer", partner.issuer()},
                                        {"jwks", partner.jwks()},
                                        {"audiences", {"gw-01"}},
                                        {"subject_prefix", "partner:"}});
  tenant.manifest["bindings"].push_back(
      {{"name", "partners"}, {"role", "developer"}, {"groups", {"partner:engineering"}}});
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  auto claims = partner.claims("1000", SystemClock().now());
  claims["groups"] = {"engineering"};
  claims["preferred_username"] = "alice";
  const auto theirs = tenant.session(partner.sign(claims));
  for (const auto* path : {"alice/github", "mcp-gateway/1000"}) {
    const auto reply = tenant.read(theirs, path);
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_THAT(reply.body, Not(HasSubstr("of-alice")));
  }
  ASSERT_THAT(tenant.api("PUT", "/credentials/github", partner.sign(claims),
                         {{"fields", {{"token", "of-the-partner"}}}}),
              HasStatus(201));
  EXPECT_EQ(tenant.value(theirs, "alice/github"), "of-the-partner");
  EXPECT_EQ(tenant.value(tenant.session(tenant.alice()), "alice/github"), "of-alice");
}

TEST(VaultViews, LoggingInTakesAProofOfTheClientAndTheUsersToken) {
  ViewsTenant tenant("views-login");
  const auto alice = tenant.alice();
  const Json body{{"role", "gw-01"}, {"jwt", alice}};
  const auto by_secret = [&](const std::string& secret) {
    auto with = body;
    with["client_secret"] = secret;
    return tenant.login_with(with);
  };
  EXPECT_THAT(by_secret(tenant.secret), HasStatus(200)) << "for clients without Basic";
  EXPECT_THAT(tenant.as("", "PUT", "auth/jwt/login", body,
                        {{"Authorization", basic("gw-01", tenant.secret)}}),
              HasStatus(200));
  // As any failed login, whatever was missing.
  const auto plain = tenant.login_with({{"role", "none"}, {"jwt", "x"}});
  ASSERT_EQ(plain.status, 403);
  const std::vector<std::pair<std::string, WireReply>> failed{
      {"no proof", tenant.login_with(body)},
      {"wrong secret", by_secret("wrong")},
      {"wrong Basic", tenant.login_with(body, {{"Authorization", basic("gw-01", "wrong")}})},
      {"another's Basic",
       tenant.login_with(body, {{"Authorization", basic("gw-files", tenant.files_secret)}})},
      {"unknown", tenant.login_with({{"role", "none"}, {"jwt", alice}},
                                    {{"Authorization", basic("none", tenant.secret)}})},
      {"bearer", tenant.login_with(body, {{"Authorization", bearer(alice)}})},
      {"admin", tenant.login_with(body, {{"Authorization", bearer(tenant.admin)}})},
      {"X-Vault-Token", tenant.as(tenant.admin, "POST", "auth/jwt/login", body)},
      {"two proofs", tenant.login_with({{"role", "gw-01"}, {"jwt", alice}, {"client_secret", "x"}},
                                       {{"Authorization", basic("gw-01", tenant.secret)}})},
      {"two ids", tenant.login_with({{"role", "gw-01"}, {"jwt", alice}, {"client_id", "gw-files"}},
                                    {{"Authorization", basic("gw-01", tenant.secret)}})},
      {"no assertion", tenant.login_with({{"role", "gw-01"},
                                          {"jwt", alice},
                                          {"client_assertion", alice},
                                          {"client_assertion_type", "none"}})},
      {"half an assertion",
       tenant.login_with({{"role", "gw-01"}, {"jwt", alice}, {"client_assertion_type", "x"}})},
      {"Kubernetes", tenant.as("", "POST", "auth/kubernetes/login", body,
                               {{"Authorization", basic("gw-01", tenant.secret)}})}};
  for (const auto& [what, reply] : failed) {
    EXPECT_EQ(reply.status, plain.status) << what;
    EXPECT_EQ(reply.body, plain.body) << what;
  }
  std::size_t recorded = 0;
  for (const auto& record : tenant.audit("limit=1000&action=vault.login")) {
    recorded += record.at("event").at("outcome") == "refused" ? 1 : 0;
  }
  EXPECT_EQ(recorded, failed.size() + 1);
  EXPECT_THAT(
      tenant.login_with({{"role", "gw-01"}}, {{"Authorization", basic("gw-01", tenant.secret)}}),
      HasStatus(400));
}

TEST(VaultViews, LoggingInTakesATokenThatAReleaseWouldTake) {
  ViewsTenant tenant("views-tokens");
  ViewsTenant other("views-tokens-2");
  const auto refused = [&](const char* what, const std::string& token) {
    const auto reply = tenant.login(token);
    EXPECT_EQ(reply.status, 400) << what << reply.body;
    EXPECT_THAT(reply.body, Not(HasSubstr("client_token"))) << what;
  };
  const auto with = [&](const char* claim, const Json& value) {
    auto claims = tenant.named("1000", "alice");
    claims[claim] = value;
    return tenant.idp.sign(claims);
  };
  const auto now = seconds_of(SystemClock().now());
  refused("expired", with("exp", now - 1));
  refused("another's", with("aud", "gw-02"));
  refused("bound", with("cnf", {{"jkt", std::string(43, 'A')}}));
  refused("bound to a certificate", with("cnf", {{"x5t#S256", std::string(43, 'A')}}));
  refused("may not act", with("may_act", {{"client_id", "gw-02"}}));
  refused("a refresh token", with("typ", "Refresh"));
  refused("another tenant's user", other.alice());
  refused("garbage", "garbage");
  refused("forged", tenant.alice() + "A");
  const std::string ours = json_of(tenant.exchange(tenant.alice(), "files")).at("access_token");
  refused("a token of ours", ours);
  const auto session = tenant.session(tenant.alice());
  refused("a session", session);
  refused("an admin's", tenant.admin);
  auto long_one = tenant.named("1000", "alice");
  long_one["more"] = std::string(7000, 'x');
  EXPECT_EQ(tenant.login(tenant.idp.sign(long_one)).status, 413);
  long_one["more"] = std::string(5000, 'x');
  EXPECT_EQ(tenant.value(tenant.session(tenant.idp.sign(long_one)), "alice/github"), "of-alice");
  // An ID token, where the issuer may send such.
  const auto id_token = with("nonce", "n");
  tenant.manifest["issuers"][0]["token_types"] = {"access_token"};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  refused("an ID token", id_token);
  tenant.manifest["issuers"][0]["token_types"] = {"id_token"};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  EXPECT_EQ(tenant.value(tenant.session(id_token), "alice/github"), "of-alice");
}

TEST(VaultViews, AClientLogsInForItselfOrForItsUserByWhatItShows) {
  ViewsTenant tenant("views-both");
  const std::string pod = "system:serviceaccount:mcp:pod";
  tenant.manifest["settings"]["vault_api"]["clients"] = {"gw-01", "pod"};
  tenant.manifest["clients"].push_back(
      {{"id", "pod"},
       {"grants", {"client_credentials", "token-exchange"}},
       {"audiences", {"gw-01"}},
       {"backends", {"*"}},
       {"scopes", {"*"}},
       {"authentication",
        {{"method", "workload_identity"},
         {"workload",
          {{"issuer", "corp"}, {"audience", "gw-01"}, {"claims", {{"sub", {pod}}}}}}}}});
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto of_pod = tenant.idp.sign(tenant.claims(pod));
  const auto alone = tenant.login_with({{"role", "pod"}, {"jwt", of_pod}});
  ASSERT_THAT(alone, HasStatus(200));
  EXPECT_EQ(json_of(alone).at("auth").at("policies"), Json({"client"}));
  const Json assertion_type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
  const auto for_user = [&](const std::string& user, const std::string& assertion) {
    return tenant.login_with({{"role", "pod"},
                              {"jwt", user},
                              {"client_assertion", assertion},
                              {"client_assertion_type", assertion_type}});
  };
  const auto both = for_user(tenant.alice(), of_pod);
  ASSERT_THAT(both, HasStatus(200));
  EXPECT_EQ(json_of(both).at("auth").at("policies"), Json({"views"}));
  EXPECT_EQ(tenant.value(json_of(both).at("auth").at("client_token"), "alice/github"), "of-alice");
  EXPECT_THAT(for_user(of_pod, tenant.alice()), HasStatus(403)) << "the user proves no client";
  EXPECT_THAT(tenant.login_with({{"role", "pod"}, {"jwt", tenant.alice()}}), HasStatus(403));

  // By itself a client sees no view, whatever it may read else.
  const std::string client = json_of(alone).at("auth").at("client_token");
  for (const auto& who : {client, tenant.admin, tenant.operator_token(), tenant.alice()}) {
    for (const auto* path : {"alice/github", "mcp-gateway/1000"}) {
      const auto reply = tenant.read(who, path);
      EXPECT_GE(reply.status, 400) << path;
      EXPECT_THAT(reply.body, Not(HasSubstr("of-alice"))) << path;
    }
  }
}

TEST(VaultViews, AnAssertionOfItsOwnProvesTheClientOnce) {
  ViewsTenant tenant("views-asserted");
  const Idp keyed("keyed"), stranger("keyed");
  tenant.manifest["settings"]["vault_api"]["clients"] = {"gw-01", "keyed"};
  tenant.manifest["clients"].push_back(
      {{"id", "keyed"},
       {"grants", {"client_credentials", "token-exchange"}},
       {"audiences", {"gw-01"}},
       {"backends", {"*"}},
       {"scopes", {"*"}},
       {"authentication", {{"method", "private_key_jwt"}, {"jwks", keyed.jwks()}}}});
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto assertion = [&](const Idp& by) {
    return by.sign({{"iss", "keyed"},
                    {"sub", "keyed"},
                    {"aud", std::string(kBaseUrlOfTests) + "/t/" + tenant.name},
                    {"jti", crypto::random_id()},
                    {"exp", seconds_of(SystemClock().now() + 60s)}});
  };
  const auto alone = [&](const std::string& proof) {
    return tenant.login_with({{"role", "keyed"}, {"jwt", proof}});
  };
  const auto for_alice = [&](const std::string& proof) {
    return tenant.login_with(
        {{"role", "keyed"},
         {"jwt", tenant.alice()},
         {"client_assertion", proof},
         {"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}});
  };
  const auto first = assertion(keyed), second = assertion(keyed);
  const auto by_itself = alone(first);
  ASSERT_THAT(by_itself, HasStatus(200));
  auto auth = json_of(by_itself).at("auth");
  EXPECT_EQ(auth.at("policies"), Json({"client"}));
  EXPECT_EQ(auth.at("metadata").at("client"), "keyed");
  EXPECT_THAT(tenant.as(auth.at("client_token"), "GET", "auth/token/lookup-self"), HasStatus(200));
  const auto for_user = for_alice(second);
  ASSERT_THAT(for_user, HasStatus(200));
  auth = json_of(for_user).at("auth");
  EXPECT_EQ(auth.at("policies"), Json({"views"}));
  EXPECT_EQ(tenant.value(auth.at("client_token"), "alice/github"), "of-alice");

  const auto expect_refused = [](const WireReply& reply) {
    EXPECT_EQ(reply.status, 403);
    EXPECT_EQ(json_of(reply), Json({{"errors", {"client authentication failed"}}}));
  };
  for (const auto& used : {first, second}) {
    expect_refused(alone(used));
    expect_refused(for_alice(used));
  }
  expect_refused(alone(assertion(stranger)));
  expect_refused(for_alice(assertion(stranger)));
  EXPECT_THAT(alone(assertion(keyed)), HasStatus(200)) << "another one";
}

TEST(VaultViews, ACertificateProvesTheClient) {
  static auto& postgres = shared_postgres();
  static_cast<void>(postgres);
  static MtlsWorld world("views-mtls");
  auto& tenant = world.tenant;
  tenant.manifest["settings"]["vault_api"] = {
      {"clients", {"gw-files"}}, {"views", {{{"path", "{preferred_username}/{backend}"}}}}};
  tenant.part("clients", "gw-files")["backends"] = {"*"};
  tenant.part("clients", "gw-files")["scopes"] = {"*"};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  tenant.store("1000", "github", {{"token", "of-alice"}});
  auto claims = tenant.claims("1000");
  claims["preferred_username"] = "alice";
  const auto login = [&](const Pairs& headers, const Json& user) {
    return tenant.ask("POST", "/t/" + tenant.name + "/v1/auth/jwt/login", headers,
                      Json{{"role", "gw-files"}, {"jwt", tenant.idp.sign(user)}}.dump());
  };
  const auto reply = login({{"Client-Cert", item(world.own)}}, claims);
  ASSERT_THAT(reply, HasStatus(200));
  const std::string token = json_of(reply).at("auth").at("client_token");
  EXPECT_THAT(tenant.ask("GET", "/t/" + tenant.name + "/v1/secret/data/alice/github",
                         {{"X-Vault-Token", token}}),
              HasStatus(200));
  EXPECT_THAT(login({}, claims), HasStatus(403));
  EXPECT_THAT(login({{"Client-Cert", item(world.forged)}}, claims), HasStatus(403));
  // Nobody would show the certificate when the session is used.
  claims["cnf"] = {{"x5t#S256", x5t(world.own)}};
  EXPECT_THAT(login({{"Client-Cert", item(world.own)}}, claims), HasStatus(400));
}

TEST(VaultViews, TheUsersTokenCountsForWhatItIsWhenItIsUsed) {
  ViewsTenant tenant("views-after");
  const auto alice = tenant.alice();
  const auto token = tenant.session(alice);
  ASSERT_EQ(tenant.value(token, "alice/github"), "of-alice");
  auto short_lived = tenant.named("1000", "alice");
  short_lived["exp"] = seconds_of(SystemClock().now()) + 4;
  const auto login = tenant.login(tenant.idp.sign(short_lived));
  ASSERT_THAT(login, HasStatus(200));
  EXPECT_LE(json_of(login).at("auth").at("lease_duration"), 4);
  const std::string ending = json_of(login).at("auth").at("client_token");

  tenant.manifest["guardrails"] = {{"vault_api", true}};
  const auto before = tenant.manifest;
  const auto with = [&](const char* what, int status,
                        const std::function<void(Json & manifest)>& change) {
    tenant.manifest = before;
    change(tenant.manifest);
    ASSERT_THAT(tenant.apply(), HasStatus(200)) << what;
    const auto reply = tenant.read(token, "alice/github");
    EXPECT_EQ(reply.status, status) << what << reply.body;
    EXPECT_THAT(reply.body, Not(HasSubstr("of-alice"))) << what;
    tenant.manifest = before;
    ASSERT_THAT(tenant.apply(), HasStatus(200));
    EXPECT_EQ(tenant.value(token, "alice/github"), "of-alice") << what;
  };
  const auto vault_api = [](Json& m) -> Json& { return m["settings"]["vault_api"]; };
  with("client disabled", 403, [](Json& m) { m["clients"][0]["enabled"] = false; });
  with("client not named", 403, [&](Json& m) { vault_api(m)["clients"] = {"gw-files"}; });
  with("grant", 403, [](Json& m) { m["clients"][0]["grants"] = {"client_credentials"}; });
  with("tokens bound", 403, [](Json& m) { m["clients"][0]["dpop_bound"] = true; });
  with("no views", 403, [&](Json& m) { vault_api(m).erase("views"); });
  with("no Vault", 403, [](Json& m) { m["settings"].erase("vault_api"); });
  with("another view", 404, [&](Json& m) {
    vault_api(m)["views"] = {{{"path", "x/{sub}"}, {"backend", "github"}}};
  });
  with("issuer disabled", 403, [](Json& m) { m["issuers"][0]["enabled"] = false; });
  with("audience", 403, [](Json& m) { m["issuers"][0]["audiences"] = {"other"}; });
  with("claim", 403, [](Json& m) { m["issuers"][0]["required_claims"] = {{"tid", {"1"}}}; });
  with("user disabled", 403, [](Json& m) { m["roles"][0]["deny"] = {"*:*"}; });
  with("no role", 404, [](Json& m) { m["roles"][0]["allow"] = {"files:*"}; });
  with("half the scopes", 404, [](Json& m) { m["roles"][0]["allow"] = {"github:repo:read"}; });
  with("client's scopes", 404, [](Json& m) { m["clients"][0]["scopes"] = {"repo:read"}; });
  with("client's backends", 404, [](Json& m) { m["clients"][0]["backends"] = {"files"}; });
  const auto backend = [](Json& m) -> Json& { return m["backends"][2]; };
  with("backend disabled", 404, [&](Json& m) { backend(m)["enabled"] = false; });
  with("owner", 404, [&](Json& m) { backend(m)["credential"]["owner"] = "tenant"; });
  with("another credential", 404, [&](Json& m) { backend(m)["credential"]["name"] = "jira"; });
  with("operator", 403, [](Json& m) { m["guardrails"] = {{"vault_api", false}}; });

  ASSERT_THAT(tenant.ask("POST", "/t/" + tenant.name + "/revoke",
                         {{"Authorization", basic("gw-01", tenant.secret)},
                          {"Content-Type", "application/x-www-form-urlencoded"}},
                         form({{"token", alice}})),
              HasStatus(200));
  expect_denied(tenant.read(token, "alice/github"), "revoked");
  expect_denied(tenant.as(token, "GET", "auth/token/lookup-self"), "revoked");
  const auto record = tenant.audit("limit=1000&action=vault.token").back().at("event");
  EXPECT_EQ(record.at("outcome"), "refused");
  EXPECT_EQ(record.at("fields").at("client"), "gw-01");
  EXPECT_TRUE(record.at("fields").contains("subject_token_refused"));
  eventually([&] { return tenant.read(ending, "alice/github").status == 403; }, "its end");
  expect_denied(tenant.read(ending, "alice/github"), "expired");
}

TEST(VaultViews, WhatIsNotStoredSaysWhereToConnectIt) {
  ViewsTenant tenant("views-connect");
  const auto carol = tenant.session(tenant.idp.sign(tenant.named("3000", "carol")));
  const auto reply = tenant.read(carol, "carol/github");
  ASSERT_THAT(reply, HasStatus(404));
  const auto body = json_of(reply);
  EXPECT_EQ(body.at("data"), nullptr);
  EXPECT_THAT(body.at("warnings").at(0).get<std::string>(),
              HasSubstr("https://portal.example/connect?backend=github"));
  EXPECT_EQ(tenant.last_release().at("fields").at("code"), "InteractionRequired");
  // Where the user may not go nobody says that something could be stored.
  const auto before = tenant.manifest;
  tenant.manifest["roles"][0]["allow"] = {"files:*"};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  expect_nothing_there(tenant.read(carol, "carol/github"), "no right");
  EXPECT_NE(tenant.last_release().at("fields").at("code"), "NotFound") << "the record says why";
  tenant.manifest = before;
  tenant.manifest["settings"].erase("connect_url");
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  expect_nothing_there(tenant.read(carol, "carol/github"), "no page to send the user to");
  // How the user is to authenticate.
  tenant.manifest = before;
  tenant.manifest["backends"][2]["require"] = {{"acr", {"mfa"}}, {"max_auth_age", 600}};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto stronger = tenant.read(tenant.session(tenant.alice()), "alice/github");
  ASSERT_THAT(stronger, HasStatus(404));
  EXPECT_THAT(json_of(stronger).at("warnings").at(0).get<std::string>(),
              HasSubstr("acr_values: mfa; max_age: 600"));
  auto claims = tenant.named("1000", "alice");
  claims["acr"] = "mfa";
  claims["auth_time"] = seconds_of(SystemClock().now()) - 5;
  EXPECT_EQ(tenant.value(tenant.session(tenant.idp.sign(claims)), "alice/github"), "of-alice");
}

TEST(VaultViews, ShowTheLatestVersionAlone) {
  ViewsTenant tenant("views-versions");
  tenant.store("1000", "github", {{"token", "second"}});
  const auto token = tenant.session(tenant.alice());
  for (const auto* query : {"", "?version=0", "?version=2"}) {
    EXPECT_EQ(tenant.value(token, "alice/github" + std::string(query)), "second") << query;
  }
  for (const auto* query : {"?version=1", "?version=3"}) {
    expect_nothing_there(tenant.read(token, "alice/github" + std::string(query)), query);
  }
  EXPECT_THAT(tenant.read(token, "alice/github?version=x"), HasStatus(400));
  ASSERT_THAT(tenant.api("DELETE", "/credentials/github", tenant.user_token("1000")),
              HasStatus(204));
  EXPECT_THAT(tenant.read(token, "alice/github"), HasStatus(404));
}

TEST(VaultViews, ASessionForAUserReadsViewsAndDoesNothingElse) {
  ViewsTenant tenant("views-only");
  tenant.manifest["settings"]["reveal"] = true;
  tenant.manifest["settings"]["vault_api"]["transit"] = {
      {"rules", {{{"clients", {"gw-01"}}, {"keys", {"*"}}, {"operations", {"encrypt"}}}}}};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  ASSERT_THAT(tenant.api("PUT", "/credentials/shared-db", tenant.admin,
                         {{"fields", {{"url", "of-the-tenant"}}}}),
              HasStatus(201));
  ASSERT_THAT(tenant.as(tenant.admin, "PUT", "transit/keys/orders"), HasStatus(200));
  const auto token = tenant.session(tenant.alice());
  const Json write{{"data", {{"token", "x"}}}};
  for (const auto& [method, path] : Pairs{{"PUT", "secret/data/alice/github"},
                                          {"POST", "secret/data/alice/github"},
                                          {"PATCH", "secret/data/alice/github"},
                                          {"DELETE", "secret/data/alice/github"},
                                          {"PUT", "secret/delete/alice/github"},
                                          {"PUT", "secret/destroy/alice/github"},
                                          {"GET", "secret/metadata/alice/github"},
                                          {"DELETE", "secret/metadata/alice/github"},
                                          {"LIST", "secret/metadata/alice"},
                                          {"LIST", "secret/metadata"},
                                          {"GET", "secret/metadata?list=true"},
                                          {"POST", "transit/encrypt/orders"},
                                          {"GET", "transit/keys/orders"},
                                          {"POST", "auth/token/create"},
                                          {"POST", "auth/token/lookup"},
                                          {"POST", "auth/token/revoke"}}) {
    const auto reply = tenant.as(token, method, path, write);
    EXPECT_EQ(reply.status, 403) << method << path << reply.body;
  }
  EXPECT_THAT(tenant.as(token, "POST", "sys/wrapping/wrap", write, {{"X-Vault-Wrap-TTL", "60"}}),
              HasStatus(403));
  // Not even what the client may read by itself.
  for (const auto* path : {"shared-db", "github"}) {
    expect_nothing_there(tenant.read(token, path), path);
  }
  for (const auto* path : {"", "/manifest", "/credentials", "/credentials/github", "/audit"}) {
    EXPECT_THAT(tenant.api("GET", path, token), IsProblem(401, "unauthenticated")) << path;
  }
  EXPECT_THAT(tenant.exchange(token, "files"), IsOAuthError(400, "invalid_request"));
  // Vault's command asks for the mount before it reads.
  EXPECT_THAT(tenant.as(token, "GET", "sys/internal/ui/mounts/secret/alice/github"),
              HasStatus(200));

  const auto self = json_of(tenant.as(token, "GET", "auth/token/lookup-self")).at("data");
  EXPECT_EQ(self.at("display_name"), "gw-01");
  EXPECT_EQ(self.at("policies"), Json({"views"}));
  EXPECT_EQ(self.at("renewable"), true);
  EXPECT_LE(self.at("ttl"), 300);
  const auto renewed = tenant.as(token, "POST", "auth/token/renew-self", {{"increment", "24h"}});
  ASSERT_THAT(renewed, HasStatus(200));
  EXPECT_EQ(json_of(renewed).at("auth").at("client_token"), token);
  EXPECT_LE(json_of(renewed).at("auth").at("lease_duration"), 300);
  const auto second = tenant.session(tenant.alice());
  ASSERT_THAT(tenant.as(token, "PUT", "auth/token/revoke-self"), HasStatus(204));
  expect_denied(tenant.read(token, "alice/github"), "given back");
  EXPECT_EQ(tenant.value(second, "alice/github"), "of-alice");
}

TEST(VaultViews, AnAnswerThatWaitsGoesWithWhomItIsOf) {
  ViewsTenant tenant("views-erased");
  const auto waiting = [&](const std::string& user_token, const std::string& path) -> std::string {
    const auto reply = tenant.as(tenant.session(user_token), "GET", "secret/data/" + path, nullptr,
                                 {{"X-Vault-Wrap-TTL", "5m"}});
    return json_of(reply).at("wrap_info").at("token");
  };
  const auto of_alice = waiting(tenant.alice(), "alice/github");
  const auto of_bob = waiting(tenant.bob(), "mcp-gateway/2000");
  ASSERT_THAT(tenant.api("POST", "/principals/erase", tenant.admin,
                         {{"issuer", tenant.idp.issuer()}, {"subject", "1000"}}),
              HasStatus(200));
  const auto unwrapped = tenant.as(of_alice, "PUT", "sys/wrapping/unwrap");
  EXPECT_THAT(unwrapped, HasStatus(400));
  EXPECT_THAT(unwrapped.body, HasSubstr("wrapping token is not valid"));
  EXPECT_THAT(tenant.as(of_bob, "PUT", "sys/wrapping/unwrap"), HasStatus(200));
}

TEST(VaultViews, AnAnswerIsWrappedAsOthersAre) {
  ViewsTenant tenant("views-wrap");
  const auto token = tenant.session(tenant.alice());
  const Pairs wrap{{"X-Vault-Wrap-TTL", "5m"}};
  const auto wrapped = tenant.as(token, "GET", "secret/data/alice/github", nullptr, wrap);
  ASSERT_THAT(wrapped, HasStatus(200));
  EXPECT_THAT(wrapped.body, Not(HasSubstr("of-alice")));
  const auto record = tenant.last_release();
  EXPECT_EQ(record.at("fields").at("subject"), "1000");
  EXPECT_TRUE(record.at("fields").contains("wrapped"));
  const std::string token_of = json_of(wrapped).at("wrap_info").at("token");
  const auto unwrapped = tenant.as(token_of, "PUT", "sys/wrapping/unwrap");
  ASSERT_THAT(unwrapped, HasStatus(200));
  EXPECT_EQ(json_of(unwrapped).at("data").at("data").at("token"), "of-alice");
  EXPECT_THAT(tenant.as(token_of, "PUT", "sys/wrapping/unwrap"), HasStatus(400));
  expect_nothing_there(tenant.as(token, "GET", "secret/data/bob/github", nullptr, wrap), "bob");
}

TEST(VaultViews, ASessionIsOfOneTenantAndAsItWasMade) {
  ViewsTenant tenant("views-tenant-a");
  ViewsTenant other("views-tenant-b");
  const auto token = tenant.session(tenant.alice());
  expect_denied(other.read(token, "alice/github"), "another tenant");
  auto renamed = token;
  renamed.replace(renamed.find("views-tenant-a"), 14, "views-tenant-b");
  expect_denied(other.read(renamed, "alice/github"), "renamed");
  auto middle = token;
  middle[token.size() / 2] = middle[token.size() / 2] == 'A' ? 'B' : 'A';
  for (const auto& spoilt : {middle, token + "A", token + ".", token.substr(0, token.size() - 1),
                             "postern_vt_" + token.substr(11), std::string("postern_vu_"),
                             "postern_vu_views-tenant-a.1." + std::string(15'000, 'A')}) {
    expect_denied(tenant.read(spoilt, "alice/github"), spoilt.substr(0, 40));
  }
  EXPECT_EQ(tenant.value(token, "alice/github"), "of-alice");
}

TEST(VaultViews, AreRefusedWhereTheyCouldMeanTwoThings) {
  ViewsTenant tenant("views-config");
  const auto before = tenant.manifest;
  const auto with = [&](const Json& views) {
    tenant.manifest = before;
    tenant.manifest["settings"]["vault_api"]["views"] = views;
    return tenant.apply("?dry_run=true");
  };
  EXPECT_THAT(with({{{"path", "a/{sub}"}, {"backend", "github"}}}), HasStatus(200));
  for (const Json& views : {Json({{{"path", "a/{sub}"}, {"backend", "github"}},
                                  {{"path", "a/{preferred_username}"}, {"backend", "jira"}}}),
                            Json({{{"path", "a/{sub}"}, {"backend", "none"}}}),
                            Json({{{"path", "a/{sub}"}, {"backend", "files"}}}),
                            Json({{{"path", "a/{sub}"}}}), Json({{{"path", "{email}/{backend}"}}}),
                            Json({{{"backend", "github"}}}), Json("a/{sub}")}) {
    EXPECT_THAT(with(views), IsProblem(400, "malformed-request")) << views;
  }
}

}  // namespace
}  // namespace postern::test
