#include "app/tenant_record.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "support/code_of.h"
#include "token/json.h"

namespace postern::app {
namespace {

using test::code_of;
using token::Json;

/// A record as an archive of a release before this one has it.
Json sample(const std::string& name) {
  std::ifstream file(std::string(POSTERN_SOURCE_DIR) + "/tests/fuzz/corpus/archive/" + name);
  std::ostringstream text;
  text << file.rdbuf();
  return token::parse_json(text.str()).value();
}

Result<TenantArchiveRecord> decode(const Json& json) {
  return decode_record(as_bytes(token::dump_json(json)));
}

TEST(TenantRecord, EachKindIsReadBackAsItWasWritten) {
  for (const auto* name : {"tenant", "credential", "transit_key", "end"}) {
    const auto json = sample(name);
    const auto record = decode(json);
    ASSERT_TRUE(record.ok()) << name;
    const auto written = std::visit([](const auto& each) { return encode(each); }, record.value());
    EXPECT_EQ(as_text(written.readable()), token::dump_json(json));
  }
  const auto record = decode(sample("credential"));
  const auto& credential = std::get<CredentialRecord>(record.value());
  EXPECT_EQ(credential.metadata.key.owner.principal().subject, "alice");
  EXPECT_FALSE(credential.versions[1].info.withdrawn);
  auto withdrawn = sample("credential");
  withdrawn["versions"][1]["deleted_at"] = 1'700'000'001;
  withdrawn["versions"][1]["withdrawn"] = true;
  const auto again = decode(withdrawn);
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(std::get<CredentialRecord>(again.value()).versions[1].info.withdrawn);
  auto said = sample("credential");
  said["versions"][0]["metadata"]["ticket"] = "OPS-7";
  const auto with_metadata = decode(said);
  ASSERT_TRUE(with_metadata.ok());
  EXPECT_EQ(as_text(encode(std::get<CredentialRecord>(with_metadata.value())).readable()),
            token::dump_json(said));
  ASSERT_EQ(credential.versions.size(), 2u);
  EXPECT_FALSE(credential.versions[0].fields);
  EXPECT_EQ(credential.versions[1].fields->at("token").size(), 6u);
}

TEST(TenantRecord, NothingElseIsRead) {
  const std::vector<std::pair<const char*, std::function<void(Json&)>>> changes{
      {"end", [](Json& json) { json["kind"] = "other"; }},
      {"end", [](Json& json) { json.erase("kind"); }},
      {"end", [](Json& json) { json["versions"] = -1; }},
      {"end", [](Json& json) { json["more"] = 1; }},
      {"end", [](Json& json) { json = Json::array(); }},
      {"tenant", [](Json& json) { json["tenant"] = "No Slug"; }},
      {"tenant", [](Json& json) { json["objects"][0]["kind"] = "other"; }},
      {"tenant", [](Json& json) { json["objects"][0]["more"] = 1; }},
      {"tenant", [](Json& json) { json["client_secrets"][0]["hash"] = "AAAA"; }},
      {"tenant", [](Json& json) { json["client_secrets"][0]["client"] = ""; }},
      {"tenant", [](Json& json) { json["client_secrets"][0]["expires_at"] = -1; }},
      {"tenant",
       [](Json& json) {
         json["signing_algorithms"] = {"ES256", "ES256"};
       }},
      {"tenant", [](Json& json) { json.erase("settings"); }},
      {"credential", [](Json& json) { json["name"] = "a/b"; }},
      {"credential", [](Json& json) { json["owner"]["issuer"] = ""; }},
      {"credential", [](Json& json) { json["owner"]["more"] = ""; }},
      {"credential", [](Json& json) { json["version"] = 3; }},
      {"credential", [](Json& json) { json["max_versions"] = 101; }},
      {"credential", [](Json& json) { json["labels"]["a b"] = "x"; }},
      {"credential", [](Json& json) { json["versions"] = Json::array(); }},
      {"credential", [](Json& json) { json["versions"][1]["version"] = 1; }},
      {"credential", [](Json& json) { json["versions"][1]["field_names"] = {"other"}; }},
      {"credential", [](Json& json) { json["versions"][1]["fields"] = "AAAA"; }},
      {"credential", [](Json& json) { json["versions"][1].erase("fields"); }},
      {"credential", [](Json& json) { json["versions"][1]["withdrawn"] = true; }},
      {"credential", [](Json& json) { json["versions"][1]["withdrawn"] = "yes"; }},
      {"credential", [](Json& json) { json["versions"][0]["fields"] = ""; }},
      {"credential", [](Json& json) { json["versions"][0]["metadata"] = Json::object(); }},
      {"credential", [](Json& json) { json["versions"][0]["metadata"]["a"] = 1; }},
      {"credential", [](Json& json) { json["versions"][0]["metadata"][""] = "x"; }},
      {"credential", [](Json& json) { json["versions"][0]["created_at"] = 300'000'000'000; }},
      {"transit_key", [](Json& json) { json["type"] = "rsa-2048"; }},
      {"transit_key", [](Json& json) { json["id"] = ""; }},
      {"transit_key", [](Json& json) { json["id"] = "a/b"; }},
      {"transit_key", [](Json& json) { json["min_encryption_version"] = 2; }},
      {"transit_key", [](Json& json) { json["min_decryption_version"] = 2; }},
      {"transit_key", [](Json& json) { json["versions"][0]["key"] = "AQAA"; }},
      {"transit_key", [](Json& json) { json["type"] = "ecdsa-p256"; }},
      {"transit_key",
       [](Json& json) {
         json["type"] = "ed25519";
         json["derived"] = true;
       }},
      {"transit_key", [](Json& json) { json["latest_version"] = 2; }},
      {"transit_key", [](Json& json) { json["versions"][0]["version"] = 2; }},
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    auto json = sample(changes[i].first);
    ASSERT_TRUE(decode(json).ok());
    changes[i].second(json);
    EXPECT_EQ(code_of(decode(json)), ErrorCode::MalformedRequest) << i << " " << json.dump();
  }
  const auto text = sample("end").dump();
  EXPECT_FALSE(decode_record(as_bytes(" " + text)).ok());
  EXPECT_FALSE(decode_record(as_bytes("")).ok());
}

}  // namespace
}  // namespace postern::app
