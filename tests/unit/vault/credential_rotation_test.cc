#include "vault/credential_rotation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <string>

#include "support/code_of.h"

namespace postern::vault {
namespace {

using test::code_of;
using testing::HasSubstr;

std::string text(const FieldValue& value) {
  return value.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
}
std::string password(const PasswordRule& rule) {
  const auto made = random_password(rule);
  return std::string(as_text(made.readable()));
}
Fields fields(std::initializer_list<std::pair<const char*, const char*>> pairs) {
  Fields out;
  for (const auto& [name, value] : pairs) {
    out.emplace(name, FieldValue(SecureBuffer::copy_of(std::string_view(value))));
  }
  return out;
}

TEST(RandomPassword, HasItsLengthAndOnlyItsAlphabet) {
  std::set<std::string> seen;
  for (int i = 0; i < 200; ++i) {
    const auto made = password({40, "abcdef0123456789", {}});
    EXPECT_EQ(made.size(), 40U);
    EXPECT_EQ(made.find_first_not_of("abcdef0123456789"), made.npos);
    EXPECT_TRUE(seen.insert(made).second) << "twice the same";
  }
}

TEST(RandomPassword, HasEachClassThatIsRequired) {
  PasswordRule rule{12, "abcABC012-_~", {"lower", "upper", "digit", "symbol"}};
  rule.length = 20;
  ASSERT_TRUE(validate(rule).ok());
  for (int i = 0; i < 500; ++i) {
    const auto made = password(rule);
    EXPECT_NE(made.find_first_of("abc"), made.npos);
    EXPECT_NE(made.find_first_of("ABC"), made.npos);
    EXPECT_NE(made.find_first_of("012"), made.npos);
    EXPECT_NE(made.find_first_of("-_~"), made.npos);
  }
}

TEST(RandomPassword, HasEachCharacterAboutAsOften) {
  std::map<char, int> counts;
  constexpr int kRuns = 2000;
  for (int i = 0; i < kRuns; ++i) {
    for (const char c : password({100, "abcdefghij", {}})) ++counts[c];
  }
  ASSERT_EQ(counts.size(), 10U);
  // 20,000 of each are expected; ten standard deviations are 1,342.
  for (const auto& [c, count] : counts) EXPECT_NEAR(count, kRuns * 10, 1342) << c;
}

TEST(PasswordRule, IsHeldToItsBounds) {
  EXPECT_TRUE(validate(PasswordRule{}).ok());
  EXPECT_TRUE(validate({12, "", {}}).ok());
  EXPECT_FALSE(validate({11, "", {}}).ok());
  EXPECT_TRUE(validate({200, "", {}}).ok());
  EXPECT_FALSE(validate({201, "", {}}).ok());
  EXPECT_TRUE(validate({64, "01", {}}).ok()) << "64 bits";
  EXPECT_FALSE(validate({63, "01", {}}).ok());
  EXPECT_FALSE(validate({200, "a", {}}).ok());
  EXPECT_FALSE(validate({32, "abca", {}}).ok()) << "a character twice";
  EXPECT_FALSE(validate({32, "abc d", {}}).ok());
  EXPECT_FALSE(validate({32, "abc\x7f", {}}).ok());
  EXPECT_FALSE(validate({32, "abcdefgh", {"digit"}}).ok());
  EXPECT_FALSE(validate({32, "", {"vowel"}}).ok());
}

TEST(GenerateFields, MakesOneFieldAnewAndKeepsTheOthers) {
  RotationSettings settings;
  settings.kind = RotationKind::Password;
  settings.field = "password";
  const auto made =
      generate_fields(settings, fields({{"username", "app"}, {"password", "old"}}), "", "x");
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(text(made.value().fields.at("username")), "app");
  EXPECT_EQ(text(made.value().fields.at("password")).size(), 32U);
  EXPECT_EQ(made.value().fields.size(), 2U);
}

TEST(GenerateFields, ReplacesAFieldThatIsThereAndAddsNoneBesideIt) {
  for (const auto kind : {RotationKind::Password, RotationKind::KeyPair, RotationKind::SshKey}) {
    RotationSettings settings;
    settings.kind = kind;
    settings.field = "password";
    const auto beside = generate_fields(settings, fields({{"token", "stolen"}}), "", "x");
    ASSERT_EQ(code_of(beside), ErrorCode::Conflict) << to_string(kind);
    EXPECT_THAT(beside.error().detail, HasSubstr("no field password"));
    EXPECT_THAT(beside.error().detail, testing::Not(HasSubstr("stolen")));
    settings.field = "token";
    EXPECT_TRUE(generate_fields(settings, fields({{"token", "stolen"}}), "", "x").ok());
  }
  // The public half is made besides.
  RotationSettings pair;
  pair.kind = RotationKind::KeyPair;
  pair.field = "private_key";
  pair.public_field = "public_key";
  const auto made = generate_fields(pair, fields({{"private_key", "old"}}), "", "x");
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(text(made.value().fields.at("public_key")), made.value().public_half);
}

TEST(GenerateFields, PutsRoleAndPasswordIntoAUrl) {
  RotationSettings settings;
  settings.kind = RotationKind::Postgres;
  settings.field = "url";
  settings.password.alphabet = "/@:%?#abcdefghijklmnop";
  const auto made = generate_fields(
      settings, fields({{"url", "postgresql://app_a:old%40@db.example:5432/main?sslmode=require"}}),
      "app_b", "x");
  ASSERT_TRUE(made.ok());
  const auto url = text(made.value().fields.at("url"));
  EXPECT_THAT(url, testing::StartsWith("postgresql://app_b:"));
  EXPECT_THAT(url, testing::EndsWith("@db.example:5432/main?sslmode=require"));
  const auto log_in = log_in_of(made.value().fields, "url");
  ASSERT_TRUE(log_in.ok());
  EXPECT_EQ(log_in.value().user, "app_b");
  const std::string found(as_text(log_in.value().password.readable()));
  EXPECT_EQ(found.size(), 32U);
  EXPECT_EQ(found.find_first_not_of(settings.password.alphabet), found.npos);
}

TEST(GenerateFields, RefusesAUrlWithoutUserAndPassword) {
  RotationSettings settings;
  settings.kind = RotationKind::Password;
  settings.field = "url";
  for (const char* url : {"postgresql://db.example/main", "db", "postgresql://app@db.example/main",
                          "postgresql://db.example/a:b@c"}) {
    EXPECT_EQ(code_of(generate_fields(settings, fields({{"url", url}}), "", "x")),
              ErrorCode::Conflict)
        << url;
  }
  EXPECT_EQ(code_of(generate_fields(settings, fields({{"token", "x"}}), "", "x")),
            ErrorCode::Conflict);
}

TEST(GenerateFields, MakesAKeyPairWithoutThePassphraseOfTheOneBefore) {
  RotationSettings settings;
  settings.kind = RotationKind::SshKey;
  settings.field = "private_key";
  const auto made = generate_fields(
      settings, fields({{"private_key", "old"}, {"passphrase", "old"}, {"username", "git"}}), "",
      "postern-deploy");
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made.value().fields.count("passphrase"), 0U);
  EXPECT_EQ(text(made.value().fields.at("username")), "git");
  EXPECT_THAT(made.value().public_half, testing::EndsWith(" postern-deploy"));
  EXPECT_TRUE(check_generated(settings, made.value().fields, made.value().public_half).ok());
  const auto other = generate_fields(settings, fields({{"private_key", "old"}}), "", "x");
  EXPECT_EQ(code_of(check_generated(settings, made.value().fields, other.value().public_half)),
            ErrorCode::Conflict)
      << "the public half of another pair";
}

TEST(GenerateFields, RefusesAKeyWhoseCertificateWouldStay) {
  RotationSettings settings;
  settings.kind = RotationKind::KeyPair;
  settings.field = "private_key";
  EXPECT_EQ(code_of(generate_fields(
                settings, fields({{"private_key", "old"}, {"certificate", "old"}}), "", "x")),
            ErrorCode::Conflict);
}

TEST(RotationNames, AreSpelledOneWay) {
  for (const auto kind : {RotationKind::Manual, RotationKind::Password, RotationKind::KeyPair,
                          RotationKind::SshKey, RotationKind::Postgres, RotationKind::Webhook}) {
    EXPECT_EQ(parse_rotation_kind(to_string(kind)), kind);
  }
  for (const auto phase :
       {RotationPhase::None, RotationPhase::Pending, RotationPhase::Set, RotationPhase::Tested,
        RotationPhase::Previous, RotationPhase::RollingBack}) {
    EXPECT_EQ(parse_rotation_phase(to_string(phase)), phase);
  }
  EXPECT_FALSE(parse_rotation_kind("").has_value());
  EXPECT_FALSE(parse_rotation_phase("").has_value());
}

}  // namespace
}  // namespace postern::vault
