// Erasing through the API, at two replicas with a share store.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <pqxx/pqxx>
#include <string>
#include <vector>

#include "policy/erasure_statement.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;
using testing::Not;

TestService::Adjust with_shares(const ShareDatabase& shares) {
  return [url = shares.service()](app::Config& config) { config.share_store_url = url; };
}

struct World {
  ShareDatabase shares;
  TestService one{with_shares(shares)};
  TestService two{one.database_url(), one.key_directory(), with_shares(shares)};
};
World& world() {
  static auto& postgres = shared_postgres();
  static_cast<void>(postgres);
  static World made;
  return made;
}

Endpoint endpoint_of(const TestService& service) {
  return {[&service] { return service.port(); }, service.operator_token()};
}

class ErasingTenant : public TestTenant {
 public:
  explicit ErasingTenant(const std::string& called)
      : TestTenant(endpoint_of(world().one), called), alice(user_token("alice")) {
    for (const char* user : {"alice", "bob"}) {
      store(user, "github", {{"token", std::string("ghp_of_") + user}});
    }
  }
  /// What a release of github answers for this user at a replica: the value, or the status.
  std::string released(const std::string& user, const TestService& at) const {
    const auto reply = http_ask(
        at.port(), "POST", "/api/v1/tenants/" + name + "/release",
        {{"Authorization", basic("gw-01", secret)}, {"Content-Type", "application/json"}},
        Json{{"subject_token", user_token(user)}, {"items", {{{"backend", "github"}}}}}.dump());
    return reply.body.find("ghp_of_" + user) != std::string::npos ? "released"
                                                                  : std::to_string(reply.status);
  }
  WireReply erase(const std::string& subject, const std::string& token) const {
    return api("POST", "/principals/erase", token,
               Json{{"issuer", idp.issuer()}, {"subject", subject}});
  }

  const std::string alice;
};

TEST(ServiceErasure, AnErasedUsersCredentialIsReleasedByNoReplica) {
  const ErasingTenant tenant("erase-one");
  for (const auto* replica : {&world().one, &world().two}) {
    ASSERT_EQ(tenant.released("alice", *replica), "released");
    ASSERT_EQ(tenant.released("bob", *replica), "released");
  }
  const auto reply = tenant.erase("alice", tenant.admin);
  ASSERT_THAT(reply, HasStatus(200));
  const auto erased = json_of(reply);
  EXPECT_EQ(erased.at("state"), "done");
  EXPECT_EQ(erased.at("credentials"), 1);
  for (const auto* replica : {&world().one, &world().two}) {
    EXPECT_NE(tenant.released("alice", *replica), "released");
    EXPECT_EQ(tenant.released("bob", *replica), "released");
  }
  const auto keys = json_of(world().two.ask("GET", "/api/v1/erasure-keys"));
  const auto said = policy::verify_statement(keys, erased.at("statement").get<std::string>());
  ASSERT_TRUE(said.ok());
  EXPECT_EQ(said.value().at("backups").at("covered"), true);
  EXPECT_EQ(tenant.verification().at("intact"), true);
}

TEST(ServiceErasure, AnswersThatWaitForAUserAreUnderTheirShareAndGo) {
  ErasingTenant tenant("erase-answers");
  tenant.manifest["settings"]["vault_api"] = {
      {"clients", {"gw-01"}}, {"views", {{{"path", "mcp-gateway/{sub}"}, {"backend", "github"}}}}};
  ASSERT_THAT(tenant.apply(), HasStatus(200));
  const auto vault = [&](const std::string& token, const char* method, const std::string& path,
                         const Json& body = nullptr, Pairs headers = {}) {
    if (!token.empty()) headers.emplace_back("X-Vault-Token", token);
    return tenant.ask(method, "/t/" + tenant.name + "/v1/" + path, headers,
                      body.is_null() ? "" : body.dump());
  };
  const auto wrapped = [&](const WireReply& reply) -> std::string {
    EXPECT_THAT(reply, HasStatus(200));
    return json_of(reply).at("wrap_info").at("token");
  };
  const Pairs wrap{{"X-Vault-Wrap-TTL", "5m"}};
  const auto login = vault("", "POST", "auth/jwt/login", {{"role", "gw-01"}, {"jwt", tenant.alice}},
                           {{"Authorization", basic("gw-01", tenant.secret)}});
  ASSERT_THAT(login, HasStatus(200));
  const std::string session = json_of(login).at("auth").at("client_token");
  const std::vector<std::string> hers{
      wrapped(vault(tenant.alice, "POST", "sys/wrapping/wrap", {{"a", "b"}}, wrap)),
      wrapped(vault(session, "GET", "secret/data/mcp-gateway/alice", nullptr, wrap))};
  const auto admins = wrapped(vault(tenant.admin, "POST", "sys/wrapping/wrap", {{"a", "b"}}, wrap));
  {
    pqxx::connection connection(world().one.database_url());
    pqxx::work tx(connection);
    tx.exec("SELECT set_config('postern.tenant_id', " + tx.quote(tenant.name) + ", true)");
    const auto rows = tx.exec(
        "SELECT count(*) FROM postern.wrapped_answer a JOIN postern.principal_share p"
        " USING (tenant_id, owner_issuer, owner_subject, share_id)"
        " WHERE owner_subject = 'alice'");
    EXPECT_STREQ(rows[0][0].c_str(), "2");
  }
  ASSERT_THAT(tenant.erase("alice", tenant.admin), HasStatus(200));
  for (const auto& token : hers) {
    EXPECT_THAT(vault(token, "PUT", "sys/wrapping/unwrap"), HasStatus(400));
  }
  EXPECT_THAT(vault(admins, "PUT", "sys/wrapping/unwrap"), HasStatus(200));
}

TEST(ServiceErasure, AUserErasesWhatIsTheirOwnAndNobodyElses) {
  const ErasingTenant tenant("erase-self");
  EXPECT_THAT(tenant.erase("bob", tenant.alice), HasStatus(403));
  EXPECT_THAT(tenant.api("POST", "/principals/erase", tenant.alice, Json::object()),
              HasStatus(200));
  EXPECT_NE(tenant.released("alice", world().one), "released");
  EXPECT_EQ(tenant.released("bob", world().one), "released");

  const auto bobs = json_of(tenant.erase("bob", tenant.admin)).at("erasure_id").get<std::string>();
  EXPECT_THAT(tenant.api("GET", "/erasures/" + bobs, tenant.alice), HasStatus(404));
  EXPECT_THAT(tenant.api("GET", "/erasures/" + bobs, tenant.user_token("bob")), HasStatus(200));
  EXPECT_THAT(tenant.api("GET", "/erasures", tenant.alice), HasStatus(403));
}

TEST(ServiceErasure, WrongIdsAreRefusedAndChangeNothing) {
  const ErasingTenant tenant("erase-wrong");
  EXPECT_THAT(tenant.erase("nobody", tenant.admin), HasStatus(404));
  EXPECT_THAT(tenant.erase("", tenant.admin), HasStatus(400));
  EXPECT_THAT(tenant.api("POST", "/principals/erase", tenant.admin, Json{{"subject", "alice"}}),
              HasStatus(400));
  EXPECT_THAT(tenant.api("POST", "/erase", tenant.admin, Json{{"confirm", tenant.name}}),
              HasStatus(403));
  EXPECT_THAT(tenant.api("POST", "/erase", tenant.operator_token(), Json{{"confirm", "other"}}),
              HasStatus(400));
  EXPECT_EQ(tenant.released("alice", world().one), "released");
}

TEST(ServiceErasure, AnErasedTenantAnswersNobody) {
  const ErasingTenant tenant("erase-all");
  ASSERT_EQ(tenant.released("alice", world().two), "released");
  const auto reply =
      tenant.api("POST", "/erase", tenant.operator_token(), Json{{"confirm", tenant.name}});
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_NE(tenant.released("alice", world().one), "released");
  eventually([&] { return tenant.released("alice", world().two) != "released"; }, "told");
  const auto kept =
      json_of(world().two.as_operator("GET", "/api/v1/tenant-erasures/" + tenant.name));
  EXPECT_EQ(kept.at("statement"), json_of(reply).at("statement"));
}

TEST(ServiceErasure, ReadinessAndMetricsSayWhenTheShareStoreIsAway) {
  ShareDatabase shares;
  TestService service{with_shares(shares)};
  const auto said = [&] {
    return json_of(service.ask("GET", "/readyz")).at("checks").at("share_store");
  };
  EXPECT_EQ(said(), "ok");
  pqxx::connection connection(shared_postgres().superuser_conninfo());
  const auto& name = shares.name();
  {
    pqxx::nontransaction tx(connection);
    tx.exec("ALTER DATABASE " + name + " ALLOW_CONNECTIONS false");
    tx.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = " +
            tx.quote(name));
  }
  eventually([&] { return said() == "unreachable"; }, "unreachable");
  EXPECT_THAT(service.ask("GET", "/readyz"), HasStatus(200)) << "it serves what is warm";
  const auto refused = service.as_operator("PUT", "/api/v1/tenants/no-shares/manifest",
                                           Json{{"tenant", "no-shares"}});
  EXPECT_THAT(refused, HasStatus(503)) << "a tenant's first key takes a share";
  {
    pqxx::nontransaction tx(connection);
    tx.exec("ALTER DATABASE " + name + " ALLOW_CONNECTIONS true");
  }
  eventually([&] { return said() == "ok"; }, "reachable again");
  EXPECT_THAT(service.as_operator("PUT", "/api/v1/tenants/no-shares/manifest",
                                  Json{{"tenant", "no-shares"}}),
              HasStatus(201));
}

}  // namespace
}  // namespace postern::test
