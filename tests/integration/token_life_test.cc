// What ends a token's life, on two replicas over one database: whatever is
// disabled or revoked at one, the other stops issuing and honouring too, on every
// path. And signing keys rotate under verifiers that only know the key set.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "crypto/random.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = steady_clock::now() + 20s;
  while (!condition()) {
    if (steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(5ms);
  }
  return true;
}

struct Replicas {
  PostgresDatabase database;
  TempDirectory directory;
  TestService one{database.service(), directory.path() / "keys", [](app::Config&) {}};
  TestService two{database.service(), directory.path() / "keys", [](app::Config&) {}};
};
Replicas& replicas() {
  static Replicas shared;
  return shared;
}

enum class Path { ExchangeWarm, ExchangeCold, Chained, ClientCredentials, Release, Introspection };
const std::map<Path, const char*> kNames{{Path::ExchangeWarm, "exchange of a remembered token"},
                                         {Path::ExchangeCold, "exchange of a new token"},
                                         {Path::Chained, "exchange of a token of ours"},
                                         {Path::ClientCredentials, "client_credentials"},
                                         {Path::Release, "release"},
                                         {Path::Introspection, "introspection"}};
const std::set<Path> kOfUsers{Path::ExchangeWarm, Path::ExchangeCold, Path::Chained, Path::Release,
                              Path::Introspection};
const std::set<Path> kAll{Path::ExchangeWarm,      Path::ExchangeCold, Path::Chained,
                          Path::ClientCredentials, Path::Release,      Path::Introspection};

/// A tenant of the first replica, asked through either.
class Tenant : public TestTenant {
 public:
  /// Differs from any other, also from one of the same second.
  std::string new_token() const {
    auto claims = this->claims("alice");
    claims["jti"] = crypto::random_id();
    return idp.sign(claims);
  }
  explicit Tenant(const std::string& called) : TestTenant(replicas().one, called) {
    manifest["clients"].push_back({{"id", "files-rs"},
                                   {"grants", {"token-exchange"}},
                                   {"backends", {"*"}},
                                   {"scopes", {"*"}},
                                   {"introspects", {"files"}}});
    for (const auto& made : json_of(apply(), "client_secrets")) {
      if (made.at("client") == "files-rs") rs_secret_ = made.at("client_secret");
    }
    warm_ = user_token("alice");
    issued_ = json_of(exchange(warm_, "files")).at("access_token");
  }

  WireReply post(const TestService& at, const std::string& endpoint, const Pairs& fields,
                 const std::string& authorization) const {
    return http_ask(
        at.port(), "POST", "/t/" + name + endpoint,
        {{"Content-Type", "application/x-www-form-urlencoded"}, {"Authorization", authorization}},
        form(fields));
  }

  /// Whether this path still gives something for `files` and alice.
  bool open(const TestService& at, Path path) const {
    const auto gateway = basic("gw-01", secret);
    switch (path) {
      case Path::ExchangeWarm:
        return post(at, "/token", exchange_fields(warm_, "files"), gateway).status == 200;
      case Path::ExchangeCold:
        return post(at, "/token", exchange_fields(new_token(), "files"), gateway).status == 200;
      case Path::Chained:
        return post(at, "/token", exchange_fields(issued_, "files"), basic("files-rs", rs_secret_))
                   .status == 200;
      case Path::ClientCredentials:
        return post(at, "/token", {{"grant_type", "client_credentials"}, {"audience", "files"}},
                    gateway)
                   .status == 200;
      case Path::Release: {
        const auto reply =
            http_ask(at.port(), "POST", "/api/v1/tenants/" + name + "/release",
                     {{"Content-Type", "application/json"}, {"Authorization", gateway}},
                     Json{{"subject_token", warm_}, {"items", {{{"backend", "files"}}}}}.dump());
        return reply.status == 200 && item_of(reply).at("status") == "allowed";
      }
      case Path::Introspection: {
        const auto reply =
            post(at, "/introspect", {{"token", issued_}}, basic("files-rs", rs_secret_));
        return reply.status == 200 && json_of(reply).at("active") == Json(true);
      }
    }
    return false;
  }
  const std::string& issued() const { return issued_; }
  const std::string& warm() const { return warm_; }

 private:
  std::string rs_secret_, warm_, issued_;
};

struct Switch {
  const char* what;
  std::function<void(Tenant&)> off;
  std::set<Path> closes;
};

void apply(Tenant& tenant) { ASSERT_THAT(tenant.apply(), HasStatus(200)); }

const std::vector<Switch>& switches() {
  static const std::vector<Switch> all{
      {"tenant",
       [](Tenant& t) {
         t.manifest["enabled"] = false;
         apply(t);
       },
       kAll},
      {"issuer",
       [](Tenant& t) {
         t.manifest["issuers"][0]["enabled"] = false;
         apply(t);
       },
       kOfUsers},
      {"client",
       [](Tenant& t) {
         t.part("clients", "gw-01")["enabled"] = false;
         apply(t);
       },
       kAll},
      {"user",
       [](Tenant& t) {
         t.manifest["roles"].push_back({{"name", "disabled"}, {"deny", {"*:*"}}});
         t.manifest["bindings"].push_back(
             {{"role", "disabled"},
              {"subjects", {{{"issuer", t.idp.issuer()}, {"subject", "alice"}}}}});
         apply(t);
       },
       kOfUsers},
      {"backend",
       [](Tenant& t) {
         t.part("backends", "files")["enabled"] = false;
         apply(t);
       },
       kAll},
      {"role",
       [](Tenant& t) {
         t.part("roles", "developer")["allow"] = {"search:*"};
         apply(t);
       },
       kOfUsers},
      {"signing key",
       [](Tenant& t) {
         for (const auto& key : json_of(t.api("GET", "/signing-keys", t.admin), "items")) {
           if (key.at("algorithm") != "ES256") continue;
           ASSERT_THAT(
               t.api("DELETE", "/signing-keys/" + key.at("kid").get<std::string>(), t.admin),
               HasStatus(204));
         }
       },
       kAll},
      {"the user's token, revoked",
       [](Tenant& t) {
         ASSERT_THAT(
             t.post(replicas().one, "/revoke", {{"token", t.warm()}}, basic("gw-01", t.secret)),
             HasStatus(200));
       },
       {Path::ExchangeWarm, Path::Chained, Path::Release, Path::Introspection}},
      {"the issued token, revoked",
       [](Tenant& t) {
         ASSERT_THAT(
             t.post(replicas().one, "/revoke", {{"token", t.issued()}}, basic("gw-01", t.secret)),
             HasStatus(200));
       },
       {Path::Chained, Path::Introspection}},
  };
  return all;
}

TEST(TokenLife, DisablingAnyPartStopsEveryPathOnBothReplicas) {
  int number = 0;
  for (const auto& part : switches()) {
    SCOPED_TRACE(part.what);
    Tenant tenant("life-" + std::to_string(++number));
    for (const auto& [path, called] : kNames) {
      EXPECT_TRUE(tenant.open(replicas().one, path)) << called;
      EXPECT_TRUE(eventually([&, p = path] { return tenant.open(replicas().two, p); })) << called;
    }
    part.off(tenant);
    const auto begun = steady_clock::now();
    for (const auto path : part.closes) {
      EXPECT_FALSE(tenant.open(replicas().one, path)) << "at once: " << kNames.at(path);
    }
    for (const auto path : part.closes) {
      EXPECT_TRUE(eventually([&] { return !tenant.open(replicas().two, path); }))
          << kNames.at(path);
    }
    std::printf("%-28s %4lld ms until the other replica had stopped everywhere\n", part.what,
                static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                           steady_clock::now() - begun)
                                           .count()));
    for (const auto& [path, called] : kNames) {
      if (part.closes.contains(path)) continue;
      EXPECT_TRUE(tenant.open(replicas().two, path)) << "has nothing to do with it: " << called;
    }
  }
}

// ---- signing keys ----

/// A verifier: fetches the key set when it does not know a kid, as jose does.
class Verifier {
 public:
  explicit Verifier(const TestTenant& tenant) : tenant_(tenant) {}
  /// Claims, or a throw when no published key verifies the token.
  Json verify(const std::string& token) {
    const std::string kid = header_of(token).at("kid");
    if (keys_.dump().find(kid) == std::string::npos) {
      keys_ = json_of(tenant_.ask("GET", "/t/" + tenant_.name + "/jwks"));
      ++fetches;
    }
    return verified_claims(token, keys_);
  }
  int fetches = 0;

 private:
  const TestTenant& tenant_;
  Json keys_ = {{"keys", Json::array()}};
};

std::string kid_of(const std::string& token) { return header_of(token).at("kid"); }

TEST(SigningKeyRotation, K2_VerifiersNeverMeetATokenTheyCannotVerify) {
  TestTenant tenant(replicas().one, "rotation");
  Verifier verifier(tenant);
  const auto issue = [&] {
    return json_of(tenant.exchange(tenant.user_token("alice"), "files"))
        .at("access_token")
        .get<std::string>();
  };
  const auto before = issue();
  verifier.verify(before);
  EXPECT_EQ(verifier.fetches, 1);

  const auto reply = tenant.api("POST", "/signing-keys/rotation", tenant.admin,
                                {{"algorithm", "ES256"}, {"publish_for", 2}});
  ASSERT_THAT(reply, HasStatus(201));
  const auto made = json_of(reply, "items");
  ASSERT_EQ(made.size(), 1u);
  EXPECT_EQ(made[0].at("state"), "pending");
  const std::string next = made[0].at("kid");
  EXPECT_NE(next, kid_of(before));

  // Published while it waits. Nobody calls anything; it takes over by itself.
  EXPECT_THAT(tenant.ask("GET", "/t/rotation/jwks").body, testing::HasSubstr(next));
  std::set<std::string> used;
  EXPECT_TRUE(eventually([&] {
    const auto token = issue();
    verifier.verify(token);
    used.insert(kid_of(token));
    return kid_of(token) == next;
  }));
  EXPECT_EQ(used.size(), 2u) << "the old key signed until then";
  EXPECT_EQ(verifier.fetches, 2);
  // The old one's tokens are good until they expire.
  EXPECT_THAT(tenant.ask("GET", "/t/rotation/jwks").body, testing::HasSubstr(kid_of(before)));
  const auto state = [&](const std::string& kid) -> std::string {
    for (const auto& key : json_of(tenant.api("GET", "/signing-keys", tenant.admin), "items")) {
      if (key.at("kid") == kid) return key.at("state");
    }
    return "";
  };
  EXPECT_EQ(state(next), "active");
  EXPECT_EQ(state(kid_of(before)), "retired");
}

TEST(SigningKeyRotation, OfAllAlgorithmsAtOnceInAnEmergency) {
  TestTenant tenant(replicas().one, "emergency");
  const std::string before =
      json_of(tenant.exchange(tenant.user_token("alice"), "files")).at("access_token");
  const auto reply =
      tenant.api("POST", "/signing-keys/rotation", tenant.operator_token(), {{"publish_for", 0}});
  ASSERT_THAT(reply, HasStatus(201));
  for (const auto& key : json_of(reply, "items")) EXPECT_EQ(key.at("state"), "active");
  const std::string after =
      json_of(tenant.exchange(tenant.user_token("alice"), "files")).at("access_token");
  EXPECT_NE(kid_of(before), kid_of(after));
  // A key that others may have is withdrawn, and what it signed is void.
  const auto ask = [&](const std::string& token) {
    return json_of(tenant.ask("POST", "/t/emergency/introspect",
                              {{"Content-Type", "application/x-www-form-urlencoded"},
                               {"Authorization", basic("gw-01", tenant.secret)}},
                              form({{"token", token}})))
        .at("active");
  };
  EXPECT_EQ(ask(before), Json(true));
  ASSERT_THAT(tenant.api("DELETE", "/signing-keys/" + kid_of(before), tenant.admin),
              HasStatus(204));
  EXPECT_EQ(ask(before), Json(false));
  EXPECT_EQ(ask(after), Json(true));
}

TEST(SigningKeyRotation, RefusesWhatItDoesNotUnderstand) {
  TestTenant tenant(replicas().one, "rotation-refusals");
  const auto rotate = [&](const Json& body) {
    return tenant.api("POST", "/signing-keys/rotation", tenant.admin, body);
  };
  for (const auto& body : std::vector<Json>{{{"algorithm", "HS256"}},
                                            {{"algorithm", 1}},
                                            {{"publish_for", -1}},
                                            {{"publish_for", 604801}},
                                            {{"publish_for", "900"}},
                                            {{"publish_for", 1.5}},
                                            {{"unknown", 1}}}) {
    EXPECT_THAT(rotate(body), IsProblem(400, "malformed-request")) << body;
  }
  EXPECT_THAT(tenant.api("POST", "/signing-keys/rotation", ""), IsProblem(401, "unauthenticated"));
  EXPECT_THAT(tenant.api("POST", "/signing-keys/rotation", tenant.user_token("alice")),
              IsProblem(403, "forbidden"));
  EXPECT_THAT(tenant.api("DELETE", "/signing-keys/unknown", tenant.admin),
              IsProblem(404, "not-found"));
  ASSERT_THAT(rotate({{"algorithm", "EdDSA"}}), HasStatus(201));
  EXPECT_THAT(rotate({{"algorithm", "EdDSA"}}), IsProblem(409, "conflict"));
  TestTenant other(replicas().one, "rotation-other");
  const auto keys = json_of(tenant.api("GET", "/signing-keys", tenant.admin), "items");
  EXPECT_THAT(
      other.api("DELETE", "/signing-keys/" + keys[0].at("kid").get<std::string>(), other.admin),
      IsProblem(404, "not-found"));
}

}  // namespace
}  // namespace postern::test
