#include "policy/rotation_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "support/code_of.h"

namespace postern::policy {
namespace {

using test::code_of;
using token::Json;

Result<vault::RotationSettings> read(const Json& json) { return read_rotation_settings(json); }
std::string pointer_of(const Json& json) {
  const auto result = read(json);
  return result.ok() ? "accepted" : result.error().pointer;
}

Json postgres() {
  return {{"kind", "postgres"},
          {"host", "db.example.com"},
          {"database", "main"},
          {"roles", {"app_a", "app_b"}},
          {"admin_credential", "pg-admin"}};
}
Json webhook() {
  return {{"kind", "webhook"},
          {"url", "https://rotate.example.com/hook"},
          {"secret_credential", "hook-secret"}};
}

TEST(RotationSettings, AreWhatTheyWereAfterBeingWritten) {
  for (const Json& json :
       {Json{{"kind", "manual"}, {"interval_seconds", 86400}}, Json{{"kind", "password"}},
        Json{{"kind", "password"},
             {"field", "token"},
             {"length", 64},
             {"alphabet", "0123456789abcdef"},
             {"require", {"digit"}},
             {"grace_seconds", 3600},
             {"retired", "delete"}},
        Json{{"kind", "ssh_key"}, {"algorithm", "rsa-4096"}, {"public_field", "public_key"}},
        Json{{"kind", "key_pair"},
             {"algorithm", "p-384"},
             {"announce_seconds", 30 * 86400},
             {"grace_seconds", 86400}},
        postgres(), webhook()}) {
    const auto settings = read(json);
    ASSERT_TRUE(settings.ok()) << json << settings.error().detail;
    const auto again = read(write(settings.value()));
    ASSERT_TRUE(again.ok()) << again.error().detail;
    EXPECT_EQ(again.value(), settings.value()) << json;
    for (const auto& [name, value] : json.items()) {
      EXPECT_EQ(write(settings.value()).at(name), value) << name;
    }
  }
}

TEST(RotationSettings, RefuseWhatAnotherKindHas) {
  EXPECT_EQ(pointer_of({{"kind", "manual"}, {"length", 32}}), "/length");
  EXPECT_EQ(pointer_of({{"kind", "password"}, {"algorithm", "ed25519"}}), "/algorithm");
  EXPECT_EQ(pointer_of({{"kind", "ssh_key"}, {"alphabet", "abc"}}), "/alphabet");
  EXPECT_EQ(pointer_of({{"kind", "password"}, {"url", "https://a.example"}}), "/url");
  auto json = postgres();
  json["algorithm"] = "ed25519";
  EXPECT_EQ(pointer_of(json), "/algorithm");
}

TEST(RotationSettings, AnnounceWhatHasAPublicHalfThatNobodyIsTold) {
  const auto of = [](const char* kind, const Json& more) {
    Json json{{"kind", kind}};
    json.update(more);
    return pointer_of(json);
  };
  for (const char* kind : {"ssh_key", "key_pair"}) {
    EXPECT_EQ(of(kind, {{"announce_seconds", 0}}), "accepted");
    EXPECT_EQ(of(kind, {{"announce_seconds", 30 * 86400}}), "accepted");
    EXPECT_EQ(of(kind, {{"announce_seconds", 30 * 86400 + 1}}), "/announce_seconds");
    EXPECT_EQ(of(kind, {{"announce_seconds", -1}}), "/announce_seconds");
    EXPECT_EQ(of(kind, {{"announce_seconds", "1"}}), "/announce_seconds");
    EXPECT_EQ(
        of(kind,
           {{"announce_seconds", 7200}, {"grace_seconds", 3599}, {"interval_seconds", 10800}}),
        "accepted");
    EXPECT_EQ(
        of(kind,
           {{"announce_seconds", 7200}, {"grace_seconds", 3600}, {"interval_seconds", 10800}}),
        "/announce_seconds");
  }
  for (const char* kind : {"manual", "password"}) {
    EXPECT_EQ(of(kind, {{"announce_seconds", 60}}), "/announce_seconds") << kind;
  }
  auto json = postgres();
  json["announce_seconds"] = 60;
  EXPECT_EQ(pointer_of(json), "/announce_seconds");
  json = webhook();
  json["generate"] = "ssh_key";
  json["announce_seconds"] = 60;
  EXPECT_EQ(pointer_of(json), "/announce_seconds") << "whoever answers there is told";
}

TEST(RotationSettings, AreHeldToTheirBounds) {
  EXPECT_EQ(pointer_of(Json::object()), "/kind");
  EXPECT_EQ(pointer_of({{"kind", "magic"}}), "/kind");
  EXPECT_EQ(pointer_of({{"kind", 1}}), "/kind");
  EXPECT_EQ(pointer_of(Json::array()), "");
  EXPECT_EQ(pointer_of({{"kind", "manual"}, {"interval_seconds", 3600}}), "accepted");
  EXPECT_EQ(pointer_of({{"kind", "manual"}, {"interval_seconds", 3599}}), "/interval_seconds");
  EXPECT_EQ(pointer_of({{"kind", "manual"}, {"interval_seconds", 3660LL * 86400 + 1}}),
            "/interval_seconds");
  EXPECT_EQ(pointer_of({{"kind", "manual"}, {"grace_seconds", 90 * 86400}}), "accepted");
  EXPECT_EQ(pointer_of({{"kind", "manual"}, {"grace_seconds", 90 * 86400 + 1}}), "/grace_seconds");
  EXPECT_EQ(pointer_of({{"kind", "manual"}, {"grace_seconds", -1}}), "/grace_seconds");
  EXPECT_EQ(pointer_of({{"kind", "manual"}, {"grace_seconds", 7200}, {"interval_seconds", 7200}}),
            "/grace_seconds")
      << "a value would still be valid when the one after it is retired";
  EXPECT_EQ(pointer_of({{"kind", "password"}, {"length", 11}}), "/length");
  EXPECT_EQ(pointer_of({{"kind", "password"}, {"field", "no name"}}), "/field");
  EXPECT_EQ(pointer_of({{"kind", "password"}, {"require", {"digit", "digit"}}}), "/require/1");
  EXPECT_EQ(pointer_of({{"kind", "password"}, {"alphabet", "aa"}}), "");
  EXPECT_EQ(pointer_of({{"kind", "password"}, {"retired", "keep"}}), "/retired");
  EXPECT_EQ(pointer_of({{"kind", "ssh_key"}, {"algorithm", "p-256"}}), "/algorithm");
  EXPECT_EQ(pointer_of({{"kind", "key_pair"}, {"algorithm", "rsa-1024"}}), "/algorithm");
  EXPECT_EQ(pointer_of({{"kind", "key_pair"}, {"public_field", "private_key"}}), "/public_field");
}

TEST(RotationSettings, OfPostgresNameAServerAndOneOrTwoRoles) {
  const auto with = [](const char* name, const Json& value) {
    auto json = postgres();
    json[name] = value;
    return pointer_of(json);
  };
  EXPECT_EQ(with("roles", {"app"}), "accepted");
  EXPECT_EQ(with("roles", Json::array()), "/roles");
  EXPECT_EQ(with("roles", {"app", "app"}), "/roles/1");
  EXPECT_EQ(with("roles", {"a", "b", "c"}), "/roles");
  for (const char* role : {"App", "1app", "app\"; DROP ROLE x", "app b", "app-b"}) {
    EXPECT_EQ(with("roles", {role}), "/roles/0") << role;
  }
  for (const char* host :
       {"", "DB", "db example", "/var/run/postgresql", "db,other", "-x", "db="}) {
    EXPECT_EQ(with("host", host), "/host") << host;
  }
  EXPECT_EQ(with("port", 0), "/port");
  EXPECT_EQ(with("port", 65536), "/port");
  EXPECT_EQ(with("admin_credential", "no name"), "/admin_credential");
  EXPECT_EQ(with("admin_credential", nullptr), "/admin_credential");
  EXPECT_EQ(with("password", "x"), "/password") << "a secret is in no setting";
}

TEST(RotationSettings, OfAWebhookNameWhereAndWhatSigns) {
  const auto with = [](const char* name, const Json& value) {
    auto json = webhook();
    json[name] = value;
    return pointer_of(json);
  };
  EXPECT_EQ(with("url", nullptr), "/url");
  EXPECT_EQ(with("secret_credential", nullptr), "/secret_credential");
  EXPECT_EQ(with("generate", "ssh_key"), "accepted");
  EXPECT_EQ(with("generate", "postgres"), "/generate");
  EXPECT_EQ(with("secret", "x"), "/secret");
}

}  // namespace
}  // namespace postern::policy
