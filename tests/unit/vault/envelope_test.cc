#include "vault/envelope.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "crypto/aead.h"
#include "support/code_of.h"
#include "support/in_memory_kek_store.h"

namespace postern::vault {
namespace {

using test::code_of;
using Pairs = std::map<std::string, std::string>;

constexpr sys_seconds kNow{std::chrono::seconds(1'800'000'000)};

Fields fields(const Pairs& pairs) {
  Fields made;
  for (const auto& [name, text] : pairs) made.emplace(name, SecureBuffer::copy_of(text));
  return made;
}

Pairs revealed(const Fields& fields) {
  Pairs pairs;
  for (const auto& [name, value] : fields) {
    pairs[name] = value.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  }
  return pairs;
}

struct EnvelopeTest : ::testing::Test {
  SealedVersion seal(const Pairs& pairs = {{"host", "example"}, {"token", "t0p"}}) {
    auto sealed = envelope.seal(acme, key, 1, fields(pairs), kNow, std::nullopt);
    EXPECT_TRUE(sealed.ok());
    return std::move(sealed).value();
  }

  const TenantId acme{"acme"};
  const TenantId other{"other"};
  const CredentialKey key{Owner::principal({"https://idp.example", "alice"}),
                          CredentialName("github")};
  test::TestKeyring keys{"acme", "other"};
  Envelope envelope{keys.keyring};
};

TEST_F(EnvelopeTest, OpensWhatItSealed) {
  const Pairs pairs{{"host", "example"}, {"token", std::string("t\0\xFF", 3)}, {"empty", ""}};
  const auto expires_at = kNow + std::chrono::hours(1);
  const auto sealed = envelope.seal(acme, key, 3, fields(pairs), kNow, expires_at);
  ASSERT_TRUE(sealed.ok());
  EXPECT_EQ(sealed.value().version, 3u);
  EXPECT_EQ(sealed.value().kek_version, KekVersion{1});
  EXPECT_EQ(sealed.value().created_at, kNow);
  EXPECT_EQ(sealed.value().expires_at, expires_at);
  EXPECT_EQ(sealed.value().field_names, (std::vector<std::string>{"empty", "host", "token"}));

  const auto opened = envelope.open(acme, key, sealed.value());
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(revealed(opened.value()), pairs);
}

TEST_F(EnvelopeTest, TakesTheLargestAndTheSmallestCredential) {
  for (const auto& [count, size] : {std::pair{1, 0}, {32, 8 * 1024}, {4, 64 * 1024}}) {
    Pairs pairs;
    for (int i = 0; i < count; ++i) {
      pairs["f" + std::to_string(i)] = std::string(static_cast<std::size_t>(size), 'x');
    }
    const auto opened = envelope.open(acme, key, seal(pairs));
    ASSERT_TRUE(opened.ok());
    EXPECT_EQ(revealed(opened.value()), pairs);
  }
}

TEST_F(EnvelopeTest, SealsNothingThatIsNotValid) {
  EXPECT_EQ(code_of(envelope.seal(acme, key, 1, {}, kNow, std::nullopt)),
            ErrorCode::MalformedRequest);
  EXPECT_EQ(code_of(envelope.seal(acme, key, 1, fields({{"a-b", "x"}}), kNow, std::nullopt)),
            ErrorCode::MalformedRequest);
  const auto large = fields({{"a", std::string(64 * 1024 + 1, 'x')}});
  EXPECT_EQ(code_of(envelope.seal(acme, key, 1, large, kNow, std::nullopt)), ErrorCode::TooLarge);
}

TEST_F(EnvelopeTest, ShowsNoPlaintext) {
  const auto sealed = seal({{"token", "canary-canary-canary"}});
  EXPECT_EQ(as_text(sealed.sealed).find("canary"), std::string::npos);
  EXPECT_EQ(as_text(sealed.wrapped_dek).find("canary"), std::string::npos);
}

TEST_F(EnvelopeTest, SealingTwiceHasNothingInCommon) {
  const auto one = seal();
  const auto two = seal();
  EXPECT_NE(one.wrapped_dek, two.wrapped_dek);
  EXPECT_NE(one.sealed, two.sealed);
  // Two keys: a box does not open under the other's.
  auto mixed = one;
  mixed.sealed = two.sealed;
  EXPECT_FALSE(envelope.open(acme, key, mixed).ok());
}

TEST_F(EnvelopeTest, SealsUnderTheCurrentKekAndOpensUnderOlderOnes) {
  const auto before = seal();
  keys.add(acme, KekVersion{2});
  const auto after = seal();
  EXPECT_EQ(before.kek_version, KekVersion{1});
  EXPECT_EQ(after.kek_version, KekVersion{2});
  EXPECT_TRUE(envelope.open(acme, key, before).ok());
  EXPECT_TRUE(envelope.open(acme, key, after).ok());
}

TEST_F(EnvelopeTest, ADestroyedKekIsTheEndOfItsCredentials) {
  const auto sealed = seal();
  keys.store.erase(acme);
  keys.keyring.forget(acme);
  EXPECT_EQ(code_of(envelope.open(acme, key, sealed)), ErrorCode::NotFound);
  keys.add(acme);  // a new tenant of the same name
  EXPECT_EQ(code_of(envelope.open(acme, key, sealed)), ErrorCode::Internal);
}

TEST_F(EnvelopeTest, AKeyStoreThatIsDownIsUnavailable) {
  const auto sealed = seal();
  keys.keyring.forget(acme);
  keys.store.fail_with(fail(ErrorCode::Unavailable, "down"));
  EXPECT_EQ(code_of(envelope.open(acme, key, sealed)), ErrorCode::Unavailable);
  EXPECT_EQ(code_of(envelope.seal(acme, key, 1, fields({{"a", "x"}}), kNow, std::nullopt)),
            ErrorCode::Unavailable);
}

TEST_F(EnvelopeTest, ARewrittenTimeDoesNotOpen) {
  // Whoever writes the database must not be able to revive what has expired.
  const auto good =
      envelope.seal(acme, key, 1, fields({{"a", "x"}}), kNow, kNow + std::chrono::hours(1)).value();
  ASSERT_TRUE(envelope.open(acme, key, good).ok());
  auto later = good;
  later.expires_at = kNow + std::chrono::hours(2);
  EXPECT_EQ(code_of(envelope.open(acme, key, later)), ErrorCode::Internal);
  auto never = good;
  never.expires_at.reset();
  EXPECT_EQ(code_of(envelope.open(acme, key, never)), ErrorCode::Internal);
  auto younger = good;
  younger.created_at += std::chrono::seconds(1);
  EXPECT_EQ(code_of(envelope.open(acme, key, younger)), ErrorCode::Internal);
}

// ---- nothing altered opens, and no failure tells which part it was ----

TEST_F(EnvelopeTest, NoCutOrLongerBoxOpens) {
  const auto good = seal();
  for (auto part : {&SealedVersion::wrapped_dek, &SealedVersion::sealed}) {
    for (std::size_t length = 0; length < (good.*part).size(); ++length) {
      auto cut = good;
      (cut.*part).resize(length);
      ASSERT_FALSE(envelope.open(acme, key, cut).ok()) << length;
    }
    auto longer = good;
    (longer.*part).push_back(std::byte{0});
    EXPECT_FALSE(envelope.open(acme, key, longer).ok());
  }
}

TEST_F(EnvelopeTest, AllFailuresReadTheSame) {
  keys.add(acme, KekVersion{2});
  auto sealed = envelope.seal(acme, key, 1, fields({{"a", "x"}, {"b", "y"}}), kNow, std::nullopt);
  const auto good = std::move(sealed).value();
  const auto changed = [&](const std::function<void(SealedVersion&)>& change) {
    auto copy = good;
    change(copy);
    return envelope.open(acme, key, copy);
  };
  std::vector<Result<Fields>> failures;
  failures.push_back(changed([](auto& v) { v.version = 2; }));
  failures.push_back(changed([](auto& v) { v.kek_version = KekVersion{1}; }));
  failures.push_back(changed([](auto& v) { v.kek_version = KekVersion{9}; }));
  failures.push_back(changed([](auto& v) { v.wrapped_dek.back() ^= std::byte{1}; }));
  failures.push_back(changed([](auto& v) { v.wrapped_dek.front() ^= std::byte{2}; }));
  failures.push_back(changed([](auto& v) { v.wrapped_dek.clear(); }));
  failures.push_back(changed([](auto& v) { v.sealed.back() ^= std::byte{1}; }));
  failures.push_back(changed([](auto& v) { v.sealed.clear(); }));
  failures.push_back(changed([](auto& v) { std::swap(v.sealed, v.wrapped_dek); }));
  failures.push_back(changed([](auto& v) { v.field_names.pop_back(); }));
  failures.push_back(changed([](auto& v) { std::swap(v.field_names[0], v.field_names[1]); }));
  failures.push_back(changed([](auto& v) { v.field_names = {"ab"}; }));
  failures.push_back(envelope.open(other, key, good));
  failures.push_back(envelope.open(acme, {Owner::tenant(), key.name}, good));
  failures.push_back(envelope.open(acme, {key.owner, CredentialName("gitlab")}, good));
  // A KEK row that was altered is the credential's failure too.
  auto rows = keys.store.keks(acme).value();
  for (auto& row : rows) row.wrapped.back() ^= std::byte{1};
  keys.store.replace(acme, rows);
  keys.keyring.forget(acme);
  failures.push_back(envelope.open(acme, key, good));

  for (const auto& failure : failures) {
    ASSERT_EQ(code_of(failure), ErrorCode::Internal);
    EXPECT_EQ(failure.error().detail, failures[0].error().detail);
    EXPECT_EQ(failure.error().diagnostic, failures[0].error().diagnostic);
    EXPECT_EQ(failure.error().pointer, failures[0].error().pointer);
  }
}

TEST_F(EnvelopeTest, BindsExactlyWhatTheFormatSays) {
  // The associated data by hand, as envelope.h gives it: each part behind its
  // length. Each tenant has its own KEK too, so no swap alone would show that
  // the tenant is in there.
  const auto part = [](std::string_view text) {
    return std::string(3, '\0') + static_cast<char>(text.size()) + std::string(text);
  };
  const auto number = [&](char value) { return part(std::string(7, '\0') + value); };
  const auto seconds = [&](sys_seconds time) {
    std::string bytes;
    for (int shift = 56; shift >= 0; shift -= 8) {
      bytes += static_cast<char>((time.time_since_epoch().count() >> shift) & 0xff);
    }
    return part(bytes);
  };
  const auto row = part("acme") + part("https://idp.example") + part("alice") + part("github");
  const auto expires_at = kNow + std::chrono::hours(1);
  const auto sealed =
      envelope.seal(acme, key, 5, fields({{"b", "2"}, {"a", "1"}}), kNow, expires_at).value();

  std::optional<Dek> dek;
  ASSERT_TRUE(keys.keyring
                  .with_current(acme,
                                [&](KekVersion, const Kek& kek) -> Status {
                                  const auto aad =
                                      part("postern-dek-v1") + row + number(5) + number(1);
                                  POSTERN_TRY(auto bytes,
                                              crypto::open(kek, sealed.wrapped_dek, as_bytes(aad)));
                                  dek.emplace(std::move(bytes));
                                  return {};
                                })
                  .ok());
  const auto aad = part("postern-fields-v1") + row + number(5) + seconds(kNow) +
                   seconds(expires_at) + number(2) + part("a") + part("b");
  const auto plaintext = crypto::open(*dek, sealed.sealed, as_bytes(aad));
  ASSERT_TRUE(plaintext.ok());
  EXPECT_EQ(as_text(plaintext.value().readable()),
            std::string_view("\1\0\0\0\2\0\0\0\1a\0\0\0\0011\0\0\0\1b\0\0\0\0012", 25));
}

TEST_F(EnvelopeTest, ABoxOfOneKindIsNoneOfTheOther) {
  // Even with the right key in hand, a wrapped DEK is no fields box: the label differs.
  const auto good = seal();
  auto swapped = good;
  swapped.sealed = good.wrapped_dek;
  EXPECT_FALSE(envelope.open(acme, key, swapped).ok());
  swapped = good;
  swapped.wrapped_dek = good.sealed;
  EXPECT_FALSE(envelope.open(acme, key, swapped).ok());
}

// ---- rewrap ----

TEST_F(EnvelopeTest, ARewrapMovesTheDekAndNothingElse) {
  auto sealed = seal();
  keys.add(acme, KekVersion{2});
  const auto moved =
      envelope.rewrap(acme, key, 1, {KekVersion{1}, {}, sealed.wrapped_dek}, KekVersion{2});
  ASSERT_TRUE(moved.ok());
  auto row = sealed;
  row.kek_version = KekVersion{2};
  row.wrapped_dek = moved.value().wrapped;
  const auto opened = envelope.open(acme, key, row);
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(revealed(opened.value()), (Pairs{{"host", "example"}, {"token", "t0p"}}));
  EXPECT_TRUE(envelope.open(acme, key, sealed).ok());  // the row before still opens too

  // Neither half of a row can be put back alone.
  auto mixed = row;
  mixed.wrapped_dek = sealed.wrapped_dek;
  EXPECT_EQ(code_of(envelope.open(acme, key, mixed)), ErrorCode::Internal);
  mixed = row;
  mixed.kek_version = KekVersion{1};
  EXPECT_EQ(code_of(envelope.open(acme, key, mixed)), ErrorCode::Internal);
}

TEST_F(EnvelopeTest, ARewrapDiffersEachTime) {
  const auto sealed = seal();
  keys.add(acme, KekVersion{2});
  std::set<Bytes> boxes;
  for (int i = 0; i < 20; ++i) {
    const WrappedDek from{KekVersion{1}, {}, sealed.wrapped_dek};
    boxes.insert(envelope.rewrap(acme, key, 1, from, KekVersion{2}).value().wrapped);
  }
  EXPECT_EQ(boxes.size(), 20u);  // a nonce was never used twice
}

TEST_F(EnvelopeTest, WhatIsNotThisRowsIsNotRewrapped) {
  const auto sealed = seal();
  keys.add(acme, KekVersion{2});
  keys.add(other, KekVersion{2});
  const auto code = [&](const TenantId& tenant, const CredentialKey& of, std::uint32_t version,
                        unsigned from, const Bytes& wrapped, unsigned to = 2) {
    return code_of(
        envelope.rewrap(tenant, of, version, {KekVersion{from}, {}, wrapped}, KekVersion{to}));
  };
  const CredentialKey shared{Owner::tenant(), key.name};
  EXPECT_EQ(code(other, key, 1, 1, sealed.wrapped_dek), ErrorCode::Internal);
  EXPECT_EQ(code(acme, shared, 1, 1, sealed.wrapped_dek), ErrorCode::Internal);
  EXPECT_EQ(code(acme, key, 2, 1, sealed.wrapped_dek), ErrorCode::Internal);
  EXPECT_EQ(code(acme, key, 1, 2, sealed.wrapped_dek), ErrorCode::Internal);
  EXPECT_EQ(code(acme, key, 1, 3, sealed.wrapped_dek), ErrorCode::Internal);
  EXPECT_EQ(code(acme, key, 1, 1, sealed.wrapped_dek, 3), ErrorCode::NotFound);
  for (std::size_t bit = 0; bit < sealed.wrapped_dek.size() * 8; ++bit) {
    auto flipped = sealed.wrapped_dek;
    flipped[bit / 8] ^= std::byte(1 << (bit % 8));
    ASSERT_EQ(code(acme, key, 1, 1, flipped), ErrorCode::Internal) << bit;
  }
}

}  // namespace
}  // namespace postern::vault
