#include "policy/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/code_of.h"
#include "support/tenant_fixture.h"

namespace postern::policy {
namespace {

using namespace std::chrono_literals;
using Action = PlannedChange::Action;
using test::must;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr auto kNow = sys_seconds(1'790'000'000s);
const std::string kSecretA(32, 'a');
const std::string kSecretB(32, 'b');

Json acme() {
  return {{"tenant", "acme"},
          {"display_name", "Acme Corp"},
          {"settings", {{"max_token_lifetime", 600}}},
          {"issuers",
           {{{"name", "corp"},
             {"issuer", "https://idp.example"},
             {"discovery", true},
             {"audiences", {"gw-01"}}}}},
          {"clients", {{{"id", "gw-01"}, {"backends", {"files"}}, {"secret", kSecretA}}}},
          {"backends",
           {{{"name", "files"}, {"audience", "https://files.example/mcp"}, {"scopes", {"read"}}}}},
          {"roles", {{{"name", "dev"}, {"allow", {"files:read"}}}}},
          {"bindings", {{{"role", "dev"}, {"groups", {"engineering"}}}}},
          {"credentials", {{{"name", "shared-db"}, {"fields", {"url"}}}}}};
}

Error refusal(const Json& value) {
  const auto manifest = Manifest::read(value);
  if (manifest.ok()) {
    ADD_FAILURE() << "accepted";
    return fail(ErrorCode::Internal, "");
  }
  EXPECT_EQ(manifest.error().code, ErrorCode::MalformedRequest);
  return manifest.error();
}

TEST(ReadManifest, NamesThePlaceOfTheFirstProblem) {
  const auto pointer = [](const char* place, Json value) {
    auto json = acme();
    json[Json::json_pointer(place)] = std::move(value);
    return refusal(json).pointer;
  };
  EXPECT_EQ(pointer("/tenant", "Acme"), "/tenant");
  EXPECT_EQ(pointer("/tenant", 1), "/tenant");
  EXPECT_EQ(pointer("/display_name", "a\nb"), "/display_name");
  EXPECT_EQ(pointer("/display_name", "a\x1b[2Jb"), "/display_name");
  EXPECT_EQ(pointer("/display_name", std::string(201, 'a')), "/display_name");
  EXPECT_EQ(pointer("/display_name", nullptr), "/display_name");
  EXPECT_EQ(pointer("/enabled", "yes"), "/enabled");
  EXPECT_EQ(pointer("/settings/max_token_lifetime", 0), "/settings/max_token_lifetime");
  EXPECT_EQ(pointer("/settings/colour", "red"), "/settings/colour");
  EXPECT_EQ(pointer("/clients", Json::object()), "/clients");
  EXPECT_EQ(pointer("/clients", nullptr), "/clients");
  EXPECT_EQ(pointer("/clients/0", "gw-01"), "/clients/0");
  EXPECT_EQ(pointer("/clients/0/scopes", 1), "/clients/0/scopes");
  EXPECT_EQ(pointer("/issuers/0/audiences", Json::array()), "/issuers/0/audiences");
  EXPECT_EQ(pointer("/backends/0/scopes/0", "a b"), "/backends/0/scopes/0");
  EXPECT_EQ(pointer("/roles/0/allow/0", "files"), "/roles/0/allow/0");
  EXPECT_EQ(pointer("/bindings/0/groups", Json::array()), "/bindings/0");
  EXPECT_EQ(pointer("/audit", true), "/audit");
  EXPECT_EQ(pointer("/a~1b", true), "");  // the caller's text, not repeated
  EXPECT_EQ(pointer("/credentials", Json::object()), "/credentials");
  EXPECT_EQ(pointer("/credentials/0/name", "../x"), "/credentials/0/name");
  EXPECT_EQ(pointer("/credentials/0", Json::object()), "/credentials/0/name");
  EXPECT_EQ(pointer("/credentials/0/fields/0", 1), "/credentials/0/fields");
  EXPECT_EQ(pointer("/credentials/0/owner", "x"), "/credentials/0");
  EXPECT_EQ(pointer("/credentials/0/name", 1), "/credentials/0");
  EXPECT_EQ(refusal(Json::array()).pointer, "");
  EXPECT_EQ(refusal(Json::object()).pointer, "/tenant");
}

TEST(ReadManifest, RefusesNamesThatStandTwiceAndSaysWhereTheFirstIs) {
  auto json = acme();
  json["roles"].push_back({{"name", "dev"}});
  const auto error = refusal(json);
  EXPECT_EQ(error.pointer, "/roles/1/name");
  EXPECT_NE(error.detail.find("/roles/0"), std::string::npos);
  json = acme();
  json["clients"].push_back({{"id", "gw-01"}});
  EXPECT_EQ(refusal(json).pointer, "/clients/1/id");
}

TEST(ReadManifest, TakesSecretsOutOfClientsOnlyWhenStrong) {
  const auto pointer = [](Json secret) {
    auto json = acme();
    json["clients"][0]["secret"] = std::move(secret);
    return refusal(json).pointer;
  };
  EXPECT_EQ(pointer(std::string(31, 'a')), "/clients/0/secret");
  EXPECT_EQ(pointer(std::string(513, 'a')), "/clients/0/secret");
  EXPECT_EQ(pointer(std::string(31, 'a') + " "), "/clients/0/secret");
  EXPECT_EQ(pointer(std::string(31, 'a') + "\xc3\xa4"), "/clients/0/secret");
  EXPECT_EQ(pointer(std::string(40, 'a') + "\n"), "/clients/0/secret");
  EXPECT_EQ(pointer(12345), "/clients/0/secret");
  EXPECT_EQ(pointer(nullptr), "/clients/0/secret");
  EXPECT_EQ(pointer(""), "/clients/0/secret");

  const auto manifest = must(Manifest::read(acme()));
  ASSERT_EQ(manifest.client_secrets.size(), 1u);
  EXPECT_EQ(manifest.client_secrets[0].client.str(), "gw-01");
  for (const auto& object : manifest.objects) {
    EXPECT_EQ(object.spec.dump().find(kSecretA), std::string::npos);
  }
}

TEST(ReadManifest, RefusesValuesOfCredentials) {
  for (const char* member : {"value", "values", "secret"}) {
    auto json = acme();
    json["credentials"][0][member] = "s3cret-canary";
    const auto error = refusal(json);
    EXPECT_EQ(error.pointer, "/credentials/0");
    EXPECT_EQ(error.detail.find("canary"), std::string::npos);
  }
}

/// A tenant in memory that manifests are applied to.
struct Tenant {
  Plan plan(const Json& json, Prune prune = Prune::No) {
    return must(policy::plan(must(Manifest::read(json)), now_stored(), prune, now));
  }
  Plan apply(const Json& json, Prune prune = Prune::No) {
    auto made = plan(json, prune);
    stored = test::applied(TenantId("acme"), now_stored(), made.change, now);
    return made;
  }
  Error refused(const Json& json, Prune prune = Prune::No) {
    const auto made = policy::plan(must(Manifest::read(json)), now_stored(), prune, now);
    if (made.ok()) {
      ADD_FAILURE() << "planned";
      return fail(ErrorCode::Internal, "");
    }
    return made.error();
  }
  const StoredTenant* now_stored() const { return stored ? &*stored : nullptr; }
  /// Whether the client's secret works at a time.
  bool opens(const std::string& secret, sys_seconds at) const {
    const auto hash =
        client_secret_hash(TenantId("acme"), "gw-01", ClientSecret(SecureBuffer::copy_of(secret)));
    for (const auto& known : stored->client_secrets) {
      if (known.hash == hash && (!known.expires_at || *known.expires_at > at)) return true;
    }
    return false;
  }
  std::optional<StoredTenant> stored;
  sys_seconds now = kNow;
};

const PlannedChange& line(const Plan& plan, std::string_view kind, std::string_view name) {
  for (const auto& entry : plan.lines) {
    if (entry.kind == kind && entry.name == name) return entry;
  }
  throw std::logic_error("no such line");
}

TEST(PlanManifest, CreatesATenantWithEverythingInIt) {
  Tenant tenant;
  const auto plan = tenant.plan(acme());
  EXPECT_TRUE(plan.creates);
  EXPECT_FALSE(plan.empty());
  EXPECT_EQ(plan.lines.size(), 6u);
  for (const auto& entry : plan.lines) EXPECT_EQ(entry.action, Action::Create) << entry.name;
  EXPECT_EQ(plan.change.put.size(), 5u);
  EXPECT_EQ(plan.change.display_name, "Acme Corp");
  EXPECT_FALSE(plan.change.expected_epoch);
  EXPECT_EQ(plan.change.add_client_secrets.size(), 1u);
  EXPECT_TRUE(plan.generated.empty());
}

TEST(PlanManifest, OfWhatWasJustAppliedIsEmpty) {
  Tenant tenant;
  tenant.apply(acme());
  for (const auto prune : {Prune::No, Prune::Yes}) {
    const auto again = tenant.plan(acme(), prune);
    EXPECT_TRUE(again.empty());
    EXPECT_TRUE(again.change.put.empty());
    EXPECT_TRUE(again.change.remove.empty());
    EXPECT_TRUE(again.change.add_client_secrets.empty());
    EXPECT_TRUE(again.change.remove_client_secrets.empty());
    EXPECT_FALSE(again.change.settings);
    EXPECT_EQ(again.change.expected_epoch, tenant.stored->row.epoch);
  }
}

TEST(PlanManifest, IsEmptyForWhatWasWrittenBack) {
  Tenant tenant;
  tenant.apply(acme());
  const auto written = write_manifest(*tenant.stored);
  EXPECT_EQ(written.dump().find(kSecretA), std::string::npos);
  EXPECT_TRUE(tenant.plan(written, Prune::Yes).empty());
}

TEST(PlanManifest, DoesNotMindOrderOrDefaultsSpelledOut) {
  Tenant tenant;
  auto json = acme();
  json["backends"].push_back({{"name", "mail"}, {"audience", "https://mail.example"}});
  tenant.apply(json);
  std::swap(json["backends"][0], json["backends"][1]);
  json["backends"][0]["answer"] = "minted";
  json["backends"][0]["max_expires_in"] = 300;
  json["clients"][0]["grants"] = {"token-exchange"};
  EXPECT_TRUE(tenant.plan(json, Prune::Yes).empty());
}

TEST(PlanManifest, ADryRunSaysWhatAnApplyDoes) {
  Tenant tenant;
  tenant.apply(acme());
  auto json = acme();
  json["backends"][0]["scopes"] = {"read", "write"};
  json["roles"].push_back({{"name", "ops"}, {"allow", {"files:write"}}});
  json["clients"].push_back({{"id", "gw-02"}});
  json["display_name"] = "Acme";
  const auto lines = [](const Plan& plan) {
    std::vector<std::string> out;
    for (const auto& entry : plan.lines) {
      std::string text =
          entry.kind + "/" + entry.name + "=" + std::to_string(static_cast<int>(entry.action));
      for (const auto& field : entry.fields) text += field;
      out.push_back(text);
    }
    return out;
  };
  const auto dry = tenant.plan(json);
  const auto done = tenant.apply(json);
  EXPECT_EQ(lines(dry), lines(done));
  EXPECT_EQ(dry.warnings, done.warnings);
  EXPECT_EQ(line(done, "backend", "files").fields, std::vector<std::string>{"/scopes"});
  EXPECT_EQ(line(done, "tenant", "acme").fields, std::vector<std::string>{"/display_name"});
  EXPECT_EQ(line(done, "role", "ops").action, Action::Create);
  EXPECT_EQ(line(done, "role", "dev").action, Action::Unchanged);
  EXPECT_TRUE(tenant.plan(json).empty());
}

TEST(PlanManifest, KeepsWhatIsNotNamedUnlessPruned) {
  Tenant tenant;
  tenant.apply(acme());
  const Json only_backend{{"tenant", "acme"}, {"backends", acme()["backends"]}};
  EXPECT_TRUE(tenant.plan(only_backend).empty());

  const auto pruned = tenant.apply(only_backend, Prune::Yes);
  EXPECT_EQ(pruned.change.remove.size(), 4u);
  EXPECT_EQ(line(pruned, "client", "gw-01").action, Action::Delete);
  EXPECT_EQ(line(pruned, "binding", "dev").action, Action::Delete);
  EXPECT_EQ(tenant.stored->objects.size(), 1u);
  EXPECT_TRUE(tenant.stored->client_secrets.empty());
  EXPECT_TRUE(tenant.plan(only_backend, Prune::Yes).empty());
  // Settings, name and enabled are not objects: unnamed, they stay.
  EXPECT_EQ(tenant.stored->row.display_name, "Acme Corp");
}

TEST(PlanManifest, RefusesAResultThatDoesNotFitAndPointsIntoTheManifest) {
  Tenant tenant;
  auto json = acme();
  json["roles"].insert(json["roles"].begin(), Json{{"name", "first"}});
  json["roles"][1]["allow"] = {"files:read", "nope:*"};
  EXPECT_EQ(tenant.refused(json).pointer, "/roles/1/allow/1");
  json = acme();
  json["clients"][0]["default_backend"] = "nope";
  EXPECT_EQ(tenant.refused(json).pointer, "/clients/0/default_backend");
  json = acme();
  json["backends"].push_back({{"name", "copy"}, {"audience", "https://FILES.example/mcp/"}});
  EXPECT_EQ(tenant.refused(json).pointer, "/backends/0/audience");
  EXPECT_EQ(tenant.refused(json).code, ErrorCode::MalformedRequest);
}

TEST(PlanManifest, PointsAtTheStoredObjectWhenTheManifestDoesNotHoldIt) {
  Tenant tenant;
  tenant.apply(acme());
  // The role stays behind and now names a scope that is gone.
  Json json{{"tenant", "acme"},
            {"backends", {{{"name", "files"}, {"audience", "https://files.example/mcp"}}}}};
  EXPECT_EQ(tenant.refused(json).pointer, "/roles/dev/allow/0");
  // Pruning a role that a binding of the manifest needs.
  json = acme();
  json.erase("roles");
  EXPECT_EQ(tenant.refused(json, Prune::Yes).pointer, "/bindings/0/role");
}

TEST(PlanManifest, GeneratesASecretOnceForAClientWithoutOne) {
  Tenant tenant;
  auto json = acme();
  json["clients"][0].erase("secret");
  const auto made = tenant.apply(json);
  ASSERT_EQ(made.generated.size(), 1u);
  EXPECT_EQ(made.generated[0].client.str(), "gw-01");
  EXPECT_EQ(made.generated[0].secret.size(), 43u);
  const std::string secret =
      made.generated[0].secret.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  EXPECT_TRUE(tenant.opens(secret, kNow));
  EXPECT_EQ(line(made, "client", "gw-01").fields, std::vector<std::string>{"/secret"});

  EXPECT_TRUE(tenant.plan(json).empty());
  EXPECT_TRUE(tenant.plan(json).generated.empty());
}

TEST(PlanManifest, GeneratesAnotherWhenTheOnlyOneHasExpired) {
  Tenant tenant;
  auto json = acme();
  json["clients"][0].erase("secret");
  tenant.apply(json);
  tenant.stored->client_secrets[0].expires_at = kNow + 1s;
  EXPECT_TRUE(tenant.plan(json).empty());
  tenant.now = kNow + 1s;
  EXPECT_EQ(tenant.plan(json).generated.size(), 1u);
}

TEST(PlanManifest, GeneratesNoneForAClientThatRegistered) {
  Tenant tenant;
  auto json = acme();
  json["clients"].push_back(
      {{"id", "dyn-1"},
       {"registered", {{"initial_access_token", "t"}, {"at", "2026-01-01T00:00:00Z"}}}});
  EXPECT_TRUE(tenant.plan(json).generated.empty());
}

TEST(PlanManifest, SayingThatClientsRegisteredMakesLittleRoom) {
  Tenant tenant;
  const auto with = [](int from) {
    auto json = acme();
    for (int i = from; i < from + 6000; ++i) {
      json["clients"].push_back(
          {{"id", "dyn-" + std::to_string(i)},
           {"registered", {{"initial_access_token", "t"}, {"at", "2026-01-01T00:00:00Z"}}}});
    }
    return json;
  };
  tenant.apply(with(0));
  EXPECT_THAT(tenant.refused(with(6000), Prune::No).detail, testing::HasSubstr("10000 objects"));
}

TEST(PlanManifest, ANewSecretGivesTheOldOne24Hours) {
  Tenant tenant;
  tenant.apply(acme());
  auto json = acme();
  json["clients"][0]["secret"] = kSecretB;
  const auto rotated = tenant.apply(json);
  EXPECT_EQ(line(rotated, "client", "gw-01").action, Action::Update);
  EXPECT_EQ(line(rotated, "client", "gw-01").fields, std::vector<std::string>{"/secret"});

  EXPECT_TRUE(tenant.opens(kSecretA, kNow + 24h - 1s));
  EXPECT_FALSE(tenant.opens(kSecretA, kNow + 24h));
  EXPECT_TRUE(tenant.opens(kSecretB, kNow + 24h * 365));
  EXPECT_TRUE(tenant.plan(json).empty());
}

TEST(PlanManifest, ASecretThatExpiresSoonerIsNotProlongedByTheGrace) {
  Tenant tenant;
  tenant.apply(acme());
  tenant.stored->client_secrets[0].expires_at = kNow + 1h;
  auto json = acme();
  json["clients"][0]["secret"] = kSecretB;
  tenant.apply(json);
  EXPECT_TRUE(tenant.opens(kSecretA, kNow + 1h - 1s));
  EXPECT_FALSE(tenant.opens(kSecretA, kNow + 1h));
}

TEST(PlanManifest, GoingBackToThePreviousSecretMakesItLastAgain) {
  Tenant tenant;
  tenant.apply(acme());
  auto json = acme();
  json["clients"][0]["secret"] = kSecretB;
  tenant.apply(json);
  tenant.now += 1h;

  const auto back = tenant.apply(acme());

  EXPECT_FALSE(back.empty());
  EXPECT_TRUE(tenant.opens(kSecretA, tenant.now + 24h * 365));
  EXPECT_TRUE(tenant.opens(kSecretB, tenant.now + 24h - 1s));
  EXPECT_FALSE(tenant.opens(kSecretB, tenant.now + 24h));
  EXPECT_TRUE(tenant.plan(acme()).empty());
}

TEST(PlanManifest, KeepsASecondSecretThatWasMadeForRotation) {
  Tenant tenant;
  tenant.apply(acme());
  const ClientId client("gw-01");
  tenant.stored->client_secrets.push_back(
      {client, "second",
       client_secret_hash(TenantId("acme"), "gw-01", ClientSecret(SecureBuffer::copy_of(kSecretB))),
       std::nullopt});
  EXPECT_TRUE(tenant.plan(acme()).empty());
}

TEST(PlanManifest, SecretsOfOneClientAreNotAnothers) {
  Tenant tenant;
  auto json = acme();
  json["clients"].push_back({{"id", "gw-02"}, {"secret", kSecretA}});
  tenant.apply(json);
  ASSERT_EQ(tenant.stored->client_secrets.size(), 2u);
  EXPECT_NE(tenant.stored->client_secrets[0].hash, tenant.stored->client_secrets[1].hash);
  EXPECT_NE(tenant.stored->client_secrets[0].secret_id, tenant.stored->client_secrets[1].secret_id);
}

TEST(PlanManifest, WarnsOfWhatIsLegalButOdd) {
  Tenant tenant;
  auto json = acme();
  json["issuers"][0]["issuer"] = "http://127.0.0.1:8080";
  json["roles"].push_back({{"name", "idle"}});
  const auto plan = tenant.plan(json);
  ASSERT_EQ(plan.warnings.size(), 2u);
  EXPECT_NE(plan.warnings[0].find("plain http"), std::string::npos);
  EXPECT_NE(plan.warnings[1].find("idle"), std::string::npos);
}

TEST(PlanManifest, WarnsOfSettingsThatDoNotDoWhatTheySay) {
  Tenant tenant;
  auto json = acme();
  json["settings"] = {{"reveal", true}, {"api_scopes", {"vault"}}};
  EXPECT_THAT(
      tenant.plan(json).warnings,
      ElementsAre("issuer corp maps no scope, so its users have none of settings.api_scopes"));
  json["issuers"][0]["claims"]["scope"] = "scope";
  EXPECT_THAT(tenant.plan(json).warnings, IsEmpty());
  tenant.apply(json);
  json["settings"]["vault_api"] = Json::object();
  tenant.apply(json);
  json["guardrails"] = {{"reveal", false}, {"vault_api", false}};
  EXPECT_THAT(tenant.plan(json).warnings,
              ElementsAre("settings: reveal is not what the operator's guardrails allow",
                          "settings: vault_api is not what the operator's guardrails allow"));
  json.erase("guardrails");
  json["settings"] = {{"reveal", false}};
  EXPECT_THAT(tenant.plan(json).warnings,
              ElementsAre("settings: api_scopes is not given and goes back to its default",
                          "settings: vault_api is not given and goes back to its default"));
}

TEST(PlanManifest, DisablesAndEnables) {
  Tenant tenant;
  tenant.apply(acme());
  auto json = acme();
  json["enabled"] = false;
  const auto plan = tenant.apply(json);
  EXPECT_EQ(line(plan, "tenant", "acme").fields, std::vector<std::string>{"/enabled"});
  EXPECT_FALSE(tenant.stored->row.enabled);
  // Not named: it stays as it is.
  EXPECT_TRUE(tenant.plan(acme()).empty());
}

TEST(PlanManifest, RefusesATenantThatGrowsTooLarge) {
  Tenant tenant;
  // 2 MB a manifest, each adding to what is stored.
  const auto part = [](int number) {
    Json json{{"tenant", "acme"}, {"backends", Json::array()}};
    for (int i = 0; i < 10; ++i) {
      const auto name = "b-" + std::to_string(number) + "-" + std::to_string(i);
      Json files = Json::array();
      for (int file = 0; file < 12; ++file) {
        files.push_back(
            {{"name", "f" + std::to_string(file)}, {"content", std::string(16'384, 'x')}});
      }
      json["backends"].push_back({{"name", name},
                                  {"audience", "https://" + name + ".example"},
                                  {"delivery", {{"files", files}}}});
    }
    return json;
  };
  for (int i = 0; i < 4; ++i) tenant.apply(part(i));
  const auto error = tenant.refused(part(4));
  EXPECT_EQ(error.code, ErrorCode::MalformedRequest);
  EXPECT_EQ(error.pointer, "");
  tenant.apply(part(4), Prune::Yes);  // in place of the others it fits
}

TEST(PlanManifest, OfATenantThatCannotBeReadIsInternalAndChangesNothing) {
  Tenant tenant;
  tenant.apply(acme());
  tenant.stored->objects[0].spec = "{";
  EXPECT_EQ(tenant.refused(Json{{"tenant", "acme"}}).code, ErrorCode::Internal);
  tenant.apply(acme(), Prune::Yes);  // what the manifest replaces is repaired
}

}  // namespace
}  // namespace postern::policy
