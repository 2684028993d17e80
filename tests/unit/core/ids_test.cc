#include "core/ids.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_set>

namespace postern {
namespace {

// One kind of id is never taken for another, and text never for an id.
static_assert(!std::is_convertible_v<TenantId, BackendId>);
static_assert(!std::is_constructible_v<BackendId, TenantId>);
static_assert(!std::is_convertible_v<std::string, TenantId>);
static_assert(!std::is_convertible_v<const char*, TenantId>);
static_assert(!std::is_default_constructible_v<TenantId>);

TEST(TenantId, IsALowerCaseSlug) {
  for (const auto& text : {std::string("a"), std::string("0"), std::string("acme"),
                           std::string("acme-01"), std::string("a--b"), std::string(63, 'a')}) {
    EXPECT_TRUE(TenantId::parse(text).ok()) << text;
    EXPECT_EQ(TenantId(text).str(), text);
  }
  for (const auto& text : {std::string(),
                           std::string("-"),
                           std::string("-a"),
                           std::string("a-"),
                           std::string("Acme"),
                           std::string("ACME"),
                           std::string("a_b"),
                           std::string("a.b"),
                           std::string("a/b"),
                           std::string("../a"),
                           std::string("a%2fb"),
                           std::string("a b"),
                           std::string(" a"),
                           std::string("a\n"),
                           std::string("a\0", 2),
                           std::string("a\0b", 3),
                           std::string("caf\xc3\xa9"),
                           std::string("\xd0\xb0"),
                           std::string("a\xe2\x80\x8b"),
                           std::string(64, 'a')}) {
    const auto id = TenantId::parse(text);
    ASSERT_FALSE(id.ok()) << text;
    EXPECT_EQ(id.error().code, ErrorCode::MalformedRequest);
    EXPECT_THROW(TenantId{text}, std::logic_error) << text;
    EXPECT_FALSE(BackendId::parse(text).ok()) << text;
  }
}

TEST(CredentialName, IsANameWithoutPathOrSpace) {
  for (const auto& text :
       {std::string("a"), std::string("GitHub"), std::string("gh.token_v-2"), std::string("0"),
        std::string("a..b"), std::string("a."), std::string(200, 'a')}) {
    EXPECT_TRUE(CredentialName::parse(text).ok()) << text;
    EXPECT_TRUE(ClientId::parse(text).ok()) << text;
  }
  for (const auto& text :
       {std::string(), std::string("."), std::string(".."), std::string(".a"), std::string("_a"),
        std::string("-a"), std::string("a/b"), std::string("a b"), std::string("a:b"),
        std::string("a@b"), std::string("a%b"), std::string("a+b"), std::string("{{user}}"),
        std::string("https://x"), std::string("a\0b", 3), std::string("\xc3\xa9"),
        std::string(201, 'a')}) {
    EXPECT_FALSE(CredentialName::parse(text).ok()) << text;
    EXPECT_FALSE(ClientId::parse(text).ok()) << text;
  }
}

TEST(Id, ErrorsDoNotRepeatWhatWasGiven) {
  EXPECT_EQ(TenantId::parse("canary canary").error().detail.find("canary"), std::string::npos);
}

TEST(Id, ComparesAndHashesByText) {
  EXPECT_EQ(TenantId("a"), TenantId("a"));
  EXPECT_NE(TenantId("a"), TenantId("b"));
  EXPECT_LT(TenantId("a"), TenantId("b"));
  const std::unordered_set<TenantId> ids = {TenantId("a"), TenantId("b"), TenantId("a")};
  EXPECT_EQ(ids.size(), 2U);
}

TEST(Owner, IsTheTenantOrOnePrincipal) {
  EXPECT_TRUE(Owner::tenant().is_tenant());
  const auto alice = Owner::principal({"https://idp.example", "alice"});
  EXPECT_FALSE(alice.is_tenant());
  EXPECT_EQ(alice.principal().subject, "alice");
  EXPECT_NE(alice, Owner::tenant());
  EXPECT_NE(alice, Owner::principal({"https://idp.example", "bob"}));
  EXPECT_NE(alice, Owner::principal({"https://other.example", "alice"}));
}

// A principal whose issuer was lost must not own what belongs to the tenant.
TEST(Owner, IsNeverTheTenantBecauseAnIssuerIsEmpty) {
  EXPECT_THROW(Owner::principal({"", "alice"}), std::logic_error);
  EXPECT_THROW(Owner::principal({"", ""}), std::logic_error);
  EXPECT_THROW(Owner::principal({"https://idp.example", ""}), std::logic_error);
}

}  // namespace
}  // namespace postern
