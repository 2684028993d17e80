#include "grants/issuer_keys.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "support/code_of.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using token::Json;

constexpr const char* kUri = "https://idp.example/keys";
const TenantId kAcme{"acme"};

struct Keys {
  Keys() {
    entry.config.name = "corp";
    entry.config.issuer = "https://idp.example";
    entry.config.jwks_uri = kUri;
    entry.revision = 1;
    fetcher.serve(kUri, old_key.jwks());
  }
  Result<std::shared_ptr<const token::JwkSet>> get(std::optional<std::string> kid = std::nullopt,
                                                   Wait wait = Wait::Yes) {
    return keys.keys(kAcme, entry, kid, wait);
  }

  test::FixedClock clock;
  test::FakeFetcher fetcher;
  test::Idp old_key{"https://idp.example"}, new_key{"https://idp.example"};
  policy::IssuerEntry entry;
  FetchedIssuerKeys keys{fetcher, clock};
};

TEST(IssuerKeys, StaticKeysNeverGoOut) {
  Keys f;
  f.entry.static_keys = std::make_shared<const token::JwkSet>();
  EXPECT_EQ(f.get("unknown", Wait::No).value(), f.entry.static_keys);
  EXPECT_EQ(f.fetcher.asked(), 0);
}

TEST(IssuerKeys, FetchesOnceAndServesFromMemory) {
  Keys f;
  const auto first = f.get(f.old_key.kid()).value();
  EXPECT_TRUE(first->has_kid(f.old_key.kid()));
  EXPECT_EQ(f.get(f.old_key.kid(), Wait::No).value(), first);
  EXPECT_EQ(f.get(std::nullopt, Wait::No).value(), first);
  EXPECT_EQ(f.fetcher.asked(), 1);
}

TEST(IssuerKeys, SaysNeedsOutboundInsteadOfWaiting) {
  Keys f;
  EXPECT_EQ(code_of(f.get(std::nullopt, Wait::No)), ErrorCode::NeedsOutbound);
  EXPECT_EQ(f.fetcher.asked(), 0);
  ASSERT_TRUE(f.get().ok());
  f.clock.advance(60s);
  EXPECT_EQ(code_of(f.get("unknown", Wait::No)), ErrorCode::NeedsOutbound);
  f.clock.advance(300s);
  EXPECT_EQ(code_of(f.get(f.old_key.kid(), Wait::No)), ErrorCode::NeedsOutbound);
  EXPECT_EQ(f.fetcher.asked(), 1);
}

struct Freshness {
  std::optional<std::chrono::seconds> max_age;
  std::chrono::seconds fresh;
};

TEST(IssuerKeys, V10_KeepsACacheControlWithin5MinutesAnd24Hours) {
  for (const auto& [max_age, fresh] : std::vector<Freshness>{{std::nullopt, 300s},
                                                             {0s, 300s},
                                                             {299s, 300s},
                                                             {301s, 301s},
                                                             {3600s, 3600s},
                                                             {24h, 24h},
                                                             {24h * 365, 24h}}) {
    Keys f;
    f.fetcher.serve(kUri, f.old_key.jwks(), max_age);
    ASSERT_TRUE(f.get().ok());
    f.clock.advance(fresh - 1s);
    EXPECT_TRUE(f.get(std::nullopt, Wait::No).ok()) << fresh.count();
    f.clock.advance(1s);
    EXPECT_EQ(code_of(f.get(std::nullopt, Wait::No)), ErrorCode::NeedsOutbound) << fresh.count();
    ASSERT_TRUE(f.get().ok());
    EXPECT_EQ(f.fetcher.asked(), 2);
  }
}

TEST(IssuerKeys, V10_AnUnknownKidRefetchesAtMostOnceAMinute) {
  Keys f;
  ASSERT_TRUE(f.get().ok());
  f.fetcher.serve(kUri, f.new_key.jwks());
  // Within the minute: what is there is served, and verification refuses.
  f.clock.advance(59s);
  for (int i = 0; i < 50; ++i) {
    const auto kid = i % 2 == 0 ? f.new_key.kid() : "guess-" + std::to_string(i);
    EXPECT_FALSE(f.get(kid).value()->has_kid(kid));
  }
  EXPECT_EQ(f.fetcher.asked(), 1);
  f.clock.advance(1s);
  EXPECT_TRUE(f.get(f.new_key.kid()).value()->has_kid(f.new_key.kid()));
  EXPECT_EQ(f.fetcher.asked(), 2);
  for (int minute = 0; minute < 3; ++minute) {
    f.clock.advance(60s);
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(f.get("guess").ok());
  }
  EXPECT_EQ(f.fetcher.asked(), 5);
}

TEST(IssuerKeys, ADeadIssuerKeepsItsLastGoodSetForADay) {
  Keys f;
  const auto good = f.get().value();
  f.fetcher.die(kUri);
  f.clock.advance(300s);
  EXPECT_EQ(f.get().value(), good);
  EXPECT_EQ(f.fetcher.asked(), 2);
  // And is not asked again for a minute, by whoever.
  f.clock.advance(59s);
  EXPECT_EQ(f.get(std::nullopt, Wait::No).value(), good);
  EXPECT_EQ(f.get("unknown").value(), good);
  EXPECT_EQ(f.fetcher.asked(), 2);
  f.clock.advance(1s);
  EXPECT_EQ(f.get().value(), good);
  EXPECT_EQ(f.fetcher.asked(), 3);

  f.clock.set(f.clock.now() - 360s + 300s + 24h - 1s);
  EXPECT_EQ(f.get().value(), good);
  f.clock.advance(1s);
  EXPECT_EQ(code_of(f.get()), ErrorCode::Unavailable);
  EXPECT_EQ(code_of(f.get(std::nullopt, Wait::No)), ErrorCode::Unavailable);
}

TEST(IssuerKeys, AnIssuerThatNeverAnsweredIsUnavailableAndLeftAloneForAMinute) {
  Keys f;
  f.fetcher.die(kUri);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(code_of(f.get()), ErrorCode::Unavailable);
  EXPECT_EQ(code_of(f.get(std::nullopt, Wait::No)), ErrorCode::Unavailable);
  EXPECT_EQ(f.fetcher.asked(), 1);
  f.fetcher.serve(kUri, f.old_key.jwks());
  f.clock.advance(60s);
  EXPECT_TRUE(f.get().ok());
}

TEST(IssuerKeys, TakesNothingButAKeySetWithStatus200) {
  Keys f;
  const auto good = f.get().value();
  const std::string set = f.new_key.jwks().dump();
  Json with_private = f.new_key.jwks();
  with_private["keys"][0]["d"] = "AAAA";
  for (const auto& [status, body] :
       std::vector<std::pair<int, std::string>>{{500, set},
                                                {301, set},
                                                {404, set},
                                                {200, ""},
                                                {200, "<html>"},
                                                {200, "[]"},
                                                {200, "{}"},
                                                {200, R"({"keys":{}})"},
                                                {200, set + "x"},
                                                {200, R"({"keys":[],"keys":[]})"},
                                                {200, with_private.dump()},
                                                {200, std::string(300 * 1024, ' ') + set}}) {
    f.fetcher.serve_text(kUri, status, body);
    f.clock.advance(300s);
    EXPECT_EQ(f.get(f.new_key.kid()).value(), good) << status << " " << body.substr(0, 30);
  }
}

TEST(IssuerKeys, LeavesOutKeysItCannotUse) {
  Keys f;
  Json set = f.new_key.jwks();
  set["keys"].push_back({{"kty", "oct"}, {"kid", "a"}});
  set["keys"].push_back({{"kty", "EC"}, {"crv", "secp256k1"}, {"kid", "b"}});
  set["keys"].push_back({{"kty", "RSA"}, {"n", "AQAB"}, {"e", "AQAB"}, {"kid", "weak"}});
  f.fetcher.serve(kUri, set);
  EXPECT_EQ(f.get().value()->size(), 1u);
}

TEST(IssuerKeys, AnEmptySetIsAWithdrawal) {
  Keys f;
  ASSERT_TRUE(f.get().ok());
  f.fetcher.serve(kUri, {{"keys", Json::array()}});
  f.clock.advance(300s);
  EXPECT_EQ(f.get().value()->size(), 0u);
}

TEST(IssuerKeys, TwoTenantsWithTheSameIssuerDoNotShare) {
  Keys f;
  const auto ours = f.get().value();
  f.fetcher.serve(kUri, f.new_key.jwks());
  const auto theirs = f.keys.keys(TenantId("other"), f.entry, std::nullopt, Wait::Yes).value();
  EXPECT_NE(ours, theirs);
  EXPECT_EQ(f.fetcher.asked(), 2);
  EXPECT_EQ(f.get().value(), ours);
}

TEST(IssuerKeys, TwoIssuersOfOneTenantDoNotShare) {
  Keys f;
  ASSERT_TRUE(f.get().ok());
  auto second = f.entry;
  second.config.name = "corp-2";
  ASSERT_TRUE(f.keys.keys(kAcme, second, std::nullopt, Wait::Yes).ok());
  EXPECT_EQ(f.fetcher.asked(), 2);
}

TEST(IssuerKeys, AChangedRegistrationStartsAnew) {
  Keys f;
  const auto before = f.get().value();
  auto changed = f.entry;
  changed.revision = 2;
  changed.config.jwks_uri = "https://idp.example/other";
  EXPECT_EQ(code_of(f.keys.keys(kAcme, changed, std::nullopt, Wait::No)), ErrorCode::NeedsOutbound);
  EXPECT_EQ(code_of(f.keys.keys(kAcme, changed, std::nullopt, Wait::Yes)), ErrorCode::Unavailable);
  // The old registration is gone from memory, not served on.
  EXPECT_EQ(code_of(f.get(std::nullopt, Wait::No)), ErrorCode::NeedsOutbound);
}

TEST(IssuerKeys, FollowsDiscoveryOfTheIssuerItself) {
  Keys f;
  constexpr const char* kMetadata = "https://idp.example/.well-known/openid-configuration";
  f.entry.config.jwks_uri.clear();
  f.entry.config.discovery = true;
  f.fetcher.serve(kMetadata, {{"issuer", "https://idp.example"}, {"jwks_uri", kUri}});
  EXPECT_TRUE(f.get().value()->has_kid(f.old_key.kid()));
  EXPECT_EQ(f.fetcher.asked(kMetadata), 1);
  EXPECT_EQ(f.fetcher.asked(kUri), 1);
}

TEST(IssuerKeys, AppendsTheWellKnownPathToIssuersWithPathAndSlash) {
  for (const char* issuer : {"https://login.example/tid/v2.0", "https://login.example/tid/v2.0/"}) {
    Keys f;
    f.entry.config.jwks_uri.clear();
    f.entry.config.discovery = true;
    f.entry.config.issuer = issuer;
    f.fetcher.serve("https://login.example/tid/v2.0/.well-known/openid-configuration",
                    {{"issuer", issuer}, {"jwks_uri", kUri}});
    EXPECT_TRUE(f.get().ok()) << issuer;
  }
}

TEST(IssuerKeys, RefusesMetadataOfAnotherIssuerOrWithoutKeys) {
  constexpr const char* kMetadata = "https://idp.example/.well-known/openid-configuration";
  for (const Json& metadata :
       std::vector<Json>{{{"issuer", "https://evil.example"}, {"jwks_uri", kUri}},
                         {{"issuer", "https://idp.example/"}, {"jwks_uri", kUri}},
                         {{"issuer", {"https://idp.example"}}, {"jwks_uri", kUri}},
                         {{"jwks_uri", kUri}},
                         {{"issuer", "https://idp.example"}},
                         {{"issuer", "https://idp.example"}, {"jwks_uri", 1}},
                         Json::array(),
                         Json("text"),
                         Json(nullptr)}) {
    Keys f;
    f.entry.config.jwks_uri.clear();
    f.entry.config.discovery = true;
    f.fetcher.serve(kMetadata, metadata);
    EXPECT_EQ(code_of(f.get()), ErrorCode::Unavailable) << metadata;
    EXPECT_EQ(f.fetcher.asked(kUri), 0) << metadata;
  }
}

TEST(IssuerKeys, TellsTheReasonToTheLogOnly) {
  Keys f;
  f.fetcher.die(kUri);
  const auto refused = f.get();
  EXPECT_EQ(refused.error().detail.find("no route"), std::string::npos);
  EXPECT_NE(refused.error().diagnostic.find("no route"), std::string::npos);
}

TEST(IssuerKeys, FetchesOnceForAllWhoWait) {
  Keys f;
  std::promise<void> open;
  const auto gate = open.get_future().share();
  f.fetcher.during([gate] { gate.wait(); });
  std::vector<std::future<bool>> waiting;
  for (int i = 0; i < 3; ++i) {
    waiting.push_back(std::async(std::launch::async, [&] { return f.get().ok(); }));
  }
  open.set_value();
  for (auto& one : waiting) EXPECT_TRUE(one.get());
  EXPECT_EQ(f.fetcher.asked(), 1);
}

TEST(IssuerKeys, ServesTheLastGoodSetWhileOneRequestFetches) {
  Keys f;
  const auto good = f.get().value();
  f.clock.advance(300s);
  std::promise<void> started, open;
  f.fetcher.during([&] {
    started.set_value();
    open.get_future().wait();
  });
  auto slow = std::async(std::launch::async, [&] { return f.get().ok(); });
  started.get_future().wait();
  // Nobody else waits for the slow issuer, nor is sent away to wait.
  EXPECT_EQ(f.get(f.old_key.kid(), Wait::No).value(), good);
  EXPECT_EQ(f.get(f.old_key.kid(), Wait::Yes).value(), good);
  EXPECT_EQ(code_of(f.get("unknown", Wait::No)), ErrorCode::NeedsOutbound);
  open.set_value();
  EXPECT_TRUE(slow.get());
  EXPECT_EQ(f.fetcher.asked(), 2);
}

TEST(IssuerKeys, AFetchOfOneIssuerDoesNotHoldUpAnother) {
  Keys f;
  auto second = f.entry;
  second.config.name = "second";
  ASSERT_TRUE(f.keys.keys(kAcme, second, std::nullopt, Wait::Yes).ok());
  std::promise<void> started, open;
  f.fetcher.during([&] {
    started.set_value();
    open.get_future().wait();
  });
  auto slow = std::async(std::launch::async, [&] { return f.get().ok(); });
  started.get_future().wait();
  EXPECT_TRUE(f.keys.keys(kAcme, second, std::nullopt, Wait::Yes).ok());
  open.set_value();
  EXPECT_TRUE(slow.get());
}

// The outbound threads are everybody's: a tenant with slow issuers holds few of them.
TEST(IssuerKeys, OneTenantMayKeepThreeFetchesWaiting) {
  Keys f;
  std::promise<void> open, all_started;
  const auto gate = open.get_future().share();
  std::atomic<int> started{0};
  f.fetcher.during([&] {
    if (++started == 3) all_started.set_value();
    gate.wait();
  });
  const auto fetch = [&](const TenantId& tenant, int number) {
    auto entry = f.entry;
    entry.config.name = "issuer-" + std::to_string(number);
    return f.keys.keys(tenant, entry, std::nullopt, Wait::Yes);
  };
  std::vector<std::future<bool>> waiting;
  for (int i = 0; i < 3; ++i) {
    waiting.push_back(std::async(std::launch::async, [&, i] { return fetch(kAcme, i).ok(); }));
  }
  all_started.get_future().wait();
  const auto refused = fetch(kAcme, 3);
  EXPECT_EQ(code_of(refused), ErrorCode::Unavailable);
  EXPECT_TRUE(refused.error().retry_after);
  EXPECT_EQ(started, 3);
  auto other = std::async(std::launch::async, [&] { return fetch(TenantId("other"), 0).ok(); });
  open.set_value();
  EXPECT_TRUE(other.get());
  for (auto& one : waiting) EXPECT_TRUE(one.get());
  EXPECT_TRUE(fetch(kAcme, 3).ok());
}

TEST(IssuerKeys, AFetcherThatThrowsIsAFailureLikeAnother) {
  Keys f;
  const auto good = f.get().value();
  f.clock.advance(300s);
  f.fetcher.during([] { throw std::runtime_error("canary"); });
  EXPECT_EQ(f.get().value(), good);
  f.fetcher.during(nullptr);
  f.fetcher.serve(kUri, f.new_key.jwks());
  f.clock.advance(60s);
  EXPECT_TRUE(f.get().value()->has_kid(f.new_key.kid()));
}

}  // namespace
}  // namespace postern::grants
