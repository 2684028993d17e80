#include "grants/client_documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <future>
#include <string>
#include <vector>

#include "grants/client_assertion.h"
#include "support/code_of.h"
#include "support/grants_fixture.h"
#include "support/in_memory_replay_guard.h"

namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using token::Json;

constexpr const char* kUrl = "https://agents.example.com/a.json";

std::string hex(int number) {
  char text[9];
  std::snprintf(text, sizeof text, "%x", number);
  return text;
}

/// A tenant that takes clients of agents.example.com.
struct Documents : test::TenantFixture {
  Documents() {
    manifest["settings"]["registration"] = {{"client_id_metadata", {"https://agents.example.com/"}},
                                            {"backends", {"files"}},
                                            {"scopes", {"files:read"}}};
    load();
    fetcher.serve(kUrl, document());
  }
  Json document(const std::string& url = kUrl) const {
    return {{"client_id", url},
            {"client_name", "Agent"},
            {"token_endpoint_auth_method", "private_key_jwt"},
            {"grant_types", {"urn:ietf:params:oauth:grant-type:token-exchange"}},
            {"jwks", key.jwks()}};
  }
  auto find_from(const std::string& source, const std::string& url = kUrl, Wait wait = Wait::Yes) {
    return documents.find(*snapshot, url, source, wait);
  }
  auto find(const std::string& url = kUrl, Wait wait = Wait::Yes) {
    return find_from("192.0.2.1", url, wait);
  }
  /// One that nobody has named before, and that is not there.
  std::string missing() {
    return "https://agents.example.com/none" + std::to_string(++missing_) + ".json";
  }
  /// Asks for what is not there from ever new sources, until no stranger is heard.
  void exhaust() {
    for (int i = 0; i < ClientDocuments::kFailuresOfTenant; ++i) {
      static_cast<void>(find_from("2001:db8:" + hex(i) + "::1", missing()));
    }
    ASSERT_EQ(code_of(find_from("192.0.2.99", missing())), ErrorCode::RateLimited);
  }
  std::string assertion(const std::string& jti, const Json& changes = Json::object()) const {
    Json claims{{"iss", kUrl},
                {"sub", kUrl},
                {"aud", snapshot->issuer_url()},
                {"jti", jti},
                {"exp", test::seconds_of(clock.now() + 60s)}};
    claims.update(changes);
    return key.sign(claims);
  }

  test::FakeFetcher fetcher;
  test::Idp key{"agent"};
  ClientDocuments documents{fetcher, clock};

 private:
  int missing_ = 0;
};

TEST(ClientDocuments, ADocumentIsAClientWithTheTemplatesRights) {
  Documents f;
  const auto found = f.find();
  ASSERT_TRUE(found.ok()) << found.error().diagnostic;
  const auto& client = found.value()->client;
  EXPECT_EQ(client.id.str(), kUrl);
  EXPECT_TRUE(client.enabled);
  EXPECT_TRUE(client.backends.contains("files"));
  EXPECT_FALSE(client.backends.contains("search"));
  EXPECT_TRUE(client.scopes.contains("files:read"));
  EXPECT_FALSE(client.scopes.contains("files:write"));
  EXPECT_TRUE(found.value()->keys.static_keys);
}

TEST(ClientDocuments, OnlyWhatTheTenantNamesIsEverFetched) {
  Documents f;
  for (const char* url :
       {"https://evil.example/a.json", "https://agents.example.com.evil.example/a.json",
        "http://agents.example.com/a.json", "https://agents.example.com/../a.json",
        "https://user@agents.example.com/a.json", "https://agents.example.com/a.json?x",
        "https://agents.example.com:22/a.json", "https://169.254.169.254/", "gw-01", ""}) {
    EXPECT_EQ(code_of(f.find(url)), ErrorCode::InvalidClient) << url;
    EXPECT_EQ(code_of(f.find(url, Wait::No)), ErrorCode::InvalidClient) << url;
  }
  f.manifest["settings"].erase("registration");
  f.load();
  EXPECT_EQ(code_of(f.find()), ErrorCode::InvalidClient);
  EXPECT_EQ(f.fetcher.asked(), 0);
}

TEST(ClientDocuments, OneOfManyIsTakenOutAgain) {
  Documents f;
  const auto taken_out = [&](const Json& urls) {
    f.manifest["settings"]["registration"]["client_id_metadata"] = urls;
    f.load();
    EXPECT_EQ(f.snapshot->client_of_token(kUrl) == nullptr, !f.find().ok());
    return !f.find().ok();
  };
  const std::string all = "https://agents.example.com/";
  ASSERT_FALSE(taken_out({all}));
  EXPECT_TRUE(taken_out({all, std::string("!") + kUrl})) << "in memory or not";
  EXPECT_TRUE(taken_out({std::string("!") + kUrl, all})) << "in any order";
  EXPECT_TRUE(taken_out({all, "!" + all, kUrl}));
  EXPECT_FALSE(taken_out({all, "!https://agents.example.com/b.json", "!https://a.example/"}));
  EXPECT_EQ(f.fetcher.asked(), 1);
}

TEST(ClientDocuments, ADocumentMustSayWhatItMust) {
  const auto refuses = [](const Json& changes, const char* why) {
    Documents f;
    auto json = f.document();
    for (const auto& [name, value] : changes.items()) json[name] = value;
    f.fetcher.serve(kUrl, json);
    EXPECT_EQ(code_of(f.find()), ErrorCode::InvalidClient) << why;
  };
  refuses({{"client_id", "https://agents.example.com/b.json"}}, "another's");
  refuses({{"client_id", "https://agents.example.com/a.json/"}}, "not exactly");
  refuses({{"client_id", nullptr}}, "none");
  refuses({{"client_id", Json::array({kUrl})}}, "no text");
  refuses({{"client_secret", "x"}}, "a secret");
  refuses({{"client_secret_expires_at", 0}}, "a secret's expiry");
  refuses({{"token_endpoint_auth_method", "client_secret_basic"}}, "a shared secret");
  refuses({{"token_endpoint_auth_method", "none"}}, "public");
  refuses({{"token_endpoint_auth_method", nullptr}}, "default is a shared secret");
  refuses({{"jwks", nullptr}}, "no keys");
  refuses({{"scope", "files:write"}}, "beyond the template");
  refuses({{"grant_types", {"client_credentials"}}}, "beyond the template");
  refuses({{"padding", std::string(5 * 1024, 'x')}}, "too large");
}

TEST(ClientDocuments, IsHeldToTheRulesAgainWhenItIsOnlyRead) {
  Documents f;
  const auto& allowed = *f.snapshot->settings().registration;
  const auto read = [&](const std::string& text, const std::string& url = kUrl) {
    return code_of(read_client_document(text, url, allowed, {}));
  };
  EXPECT_EQ(read(f.document().dump()), std::nullopt);
  const std::string elsewhere = "https://elsewhere.example/a.json";
  EXPECT_EQ(read(f.document(elsewhere).dump(), elsewhere), ErrorCode::InvalidClient);
  for (const char* bad : {"", "[]", "1", "{", "{}"}) {
    EXPECT_EQ(read(bad), ErrorCode::InvalidClient) << bad;
  }
}

TEST(ClientDocuments, OnlyAPlain200OfJsonCounts) {
  const auto refuses = [](int status, const std::string& body, const std::string& type) {
    Documents f;
    f.fetcher.serve_text(kUrl, status, body, std::nullopt, type);
    EXPECT_EQ(code_of(f.find()), ErrorCode::InvalidClient) << status << type;
  };
  const auto good = Documents().document().dump();
  refuses(301, good, "application/json");
  refuses(404, good, "application/json");
  refuses(203, good, "application/json");
  refuses(200, good, "text/html");
  refuses(200, good, "");
  refuses(200, good + good, "application/json");
  refuses(200, R"({"client_id":1,"client_id":2})", "application/json");
  refuses(200, "[]", "application/json");
  Documents f;
  f.fetcher.serve_text(kUrl, 200, f.document().dump(), std::nullopt,
                       "application/json; charset=utf-8");
  EXPECT_TRUE(f.find().ok());
}

TEST(ClientDocuments, NeverWaitsWhereItMayNot) {
  Documents f;
  EXPECT_EQ(code_of(f.find(kUrl, Wait::No)), ErrorCode::NeedsOutbound);
  EXPECT_EQ(code_of(f.find(kUrl, Wait::Database)), ErrorCode::NeedsOutbound);
  EXPECT_EQ(f.fetcher.asked(), 0);
  ASSERT_TRUE(f.find().ok());
  EXPECT_TRUE(f.find(kUrl, Wait::No).ok());
  EXPECT_EQ(f.fetcher.asked(), 1);
}

TEST(ClientDocuments, KeepsADocumentWithinAMinuteAndAnHour) {
  const struct {
    std::optional<std::chrono::seconds> max_age;
    std::chrono::seconds fresh;
  } cases[] = {{std::nullopt, 300s}, {0s, 60s}, {600s, 600s}, {86'400s, 3600s}};
  for (const auto& [max_age, fresh] : cases) {
    Documents f;
    f.fetcher.serve(kUrl, f.document(), max_age);
    ASSERT_TRUE(f.find().ok());
    f.clock.advance(fresh - 1s);
    EXPECT_TRUE(f.find(kUrl, Wait::No).ok());
    f.clock.advance(1s);
    EXPECT_EQ(code_of(f.find(kUrl, Wait::No)), ErrorCode::NeedsOutbound);
  }
}

TEST(ClientDocuments, ADocumentThatIsGoneIsNoClientAnyMore) {
  Documents f;
  ASSERT_TRUE(f.find().ok());
  f.clock.advance(301s);
  f.fetcher.serve_text(kUrl, 404, "");
  EXPECT_EQ(code_of(f.find()), ErrorCode::InvalidClient);
  f.fetcher.serve(kUrl, f.document());
  EXPECT_TRUE(f.find().ok()) << "failures are not kept";
}

TEST(ClientDocuments, FailingFetchesOfOneSourceAreFewAMinuteAndItsOwnLossOnly) {
  Documents f;
  for (int i = 0; i < ClientDocuments::kFailuresOfSource; ++i) {
    EXPECT_EQ(code_of(f.find(f.missing())), ErrorCode::InvalidClient);
  }
  for (int i = 0; i < 1000; ++i) {
    const auto refused = f.find(f.missing(), i % 2 == 0 ? Wait::Yes : Wait::No);
    ASSERT_EQ(code_of(refused), ErrorCode::RateLimited) << "not even a thread to wait on";
    ASSERT_TRUE(refused.error().retry_after);
  }
  EXPECT_EQ(code_of(f.find()), ErrorCode::RateLimited);
  EXPECT_EQ(f.fetcher.asked(), ClientDocuments::kFailuresOfSource);
  EXPECT_TRUE(f.find_from("192.0.2.2").ok()) << "another source is not affected";
  EXPECT_TRUE(f.find().ok()) << "nor what is in memory";
  f.clock.advance(60s);
  EXPECT_EQ(code_of(f.find(f.missing())), ErrorCode::InvalidClient);
}

TEST(ClientDocuments, AnIpv6HostIsOneSourceWithAllItsAddresses) {
  Documents f;
  for (int i = 0; i < 100; ++i) {
    static_cast<void>(f.find_from("2001:db8:0:1::" + hex(i), f.missing()));
  }
  EXPECT_EQ(f.fetcher.asked(), ClientDocuments::kFailuresOfSource);
  EXPECT_TRUE(f.find_from("2001:db8:0:2::1").ok());
}

TEST(ClientDocuments, AUrlThatFailsWaitsAndCostsNobodyElse) {
  Documents f;
  const auto url = f.missing();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(code_of(f.find(url)), ErrorCode::InvalidClient);
  for (const auto* source : {"192.0.2.1", "192.0.2.2"}) {
    const auto waits = f.find_from(source, url);
    EXPECT_EQ(code_of(waits), ErrorCode::RateLimited);
    EXPECT_EQ(waits.error().retry_after, 1s);
  }
  // An agent that asks for it again and again does not use up what its source has.
  for (int i = 0; i < 600; ++i) {
    static_cast<void>(f.find(url));
    f.clock.advance(1s);
  }
  EXPECT_LE(f.fetcher.asked(url), 3 + 5 + 600 / 30);
  EXPECT_TRUE(f.find().ok());
  f.fetcher.serve(url, f.document(url));
  f.clock.advance(30s);
  EXPECT_TRUE(f.find(url).ok());
}

TEST(ClientDocuments, ATenantsFailingFetchesAreBoundedAndKnownDocumentsAreNoneOfThem) {
  Documents f;
  ASSERT_TRUE(f.find().ok());
  f.clock.advance(301s);
  f.exhaust();
  EXPECT_EQ(f.fetcher.asked(), 1 + ClientDocuments::kFailuresOfTenant);
  EXPECT_EQ(code_of(f.find(kUrl, Wait::No)), ErrorCode::NeedsOutbound) << "it is due";
  EXPECT_TRUE(f.find().ok());
  EXPECT_EQ(f.fetcher.asked(kUrl), 2);
}

TEST(ClientDocuments, ADocumentIsKnownForADayAfterItWasGood) {
  for (const auto away : {std::chrono::hours(23), std::chrono::hours(24)}) {
    Documents f;
    ASSERT_TRUE(f.find().ok());
    f.fetcher.die(kUrl);
    f.clock.advance(away);
    EXPECT_EQ(code_of(f.find()), ErrorCode::InvalidClient);
    f.exhaust();
    f.fetcher.serve(kUrl, f.document());
    EXPECT_EQ(f.find().ok(), away < 24h);
  }
}

TEST(ClientDocuments, SlowOnesKeepNobodyElseWaiting) {
  Documents f;
  f.manifest["settings"]["registration"]["client_id_metadata"].push_back(
      "https://other.example.com/");
  f.load();
  const std::string elsewhere = "https://other.example.com/a.json";
  f.fetcher.serve(elsewhere, f.document(elsewhere));
  // Each fetch is under way while the next is asked for.
  int under_way = 0;
  f.fetcher.during([&] {
    switch (++under_way) {
      case 1: EXPECT_FALSE(f.find(f.missing()).ok()); break;
      case 2:
        EXPECT_EQ(code_of(f.find(f.missing())), ErrorCode::Unavailable) << "two for a source";
        EXPECT_EQ(code_of(f.find_from("192.0.2.2", f.missing())), ErrorCode::InvalidClient);
        break;
      case 3:
        EXPECT_EQ(code_of(f.find_from("192.0.2.3")), ErrorCode::Unavailable)
            << "three at an origin";
        EXPECT_TRUE(f.find_from("192.0.2.3", elsewhere).ok());
        break;
    }
  });
  EXPECT_EQ(code_of(f.find(f.missing())), ErrorCode::InvalidClient);
  EXPECT_EQ(under_way, 4);
  EXPECT_TRUE(f.find().ok()) << "all have ended";
}

TEST(ClientDocuments, WhileADocumentIsFetchedAgainTheLastOneServes) {
  Documents f;
  ASSERT_TRUE(f.find().ok());
  f.clock.advance(301s);
  f.fetcher.during([&] { EXPECT_TRUE(f.find(kUrl, Wait::No).ok()); });
  EXPECT_TRUE(f.find().ok());
  EXPECT_EQ(f.fetcher.asked(), 2);
  // Not once it could not be fetched.
  f.clock.advance(301s);
  f.fetcher.die(kUrl);
  EXPECT_EQ(code_of(f.find()), ErrorCode::InvalidClient);
  f.fetcher.during([&] { EXPECT_EQ(code_of(f.find()), ErrorCode::Unavailable); });
  EXPECT_EQ(code_of(f.find()), ErrorCode::InvalidClient);
}

/// Known documents of a host that hangs, and one of another.
struct Hanging : Documents {
  static constexpr auto kFresh = 60s;
  /// The fetch that timed out is the last that may have begun before.
  static constexpr auto kTimeOut = 5s;

  Hanging() {
    manifest["settings"]["registration"]["client_id_metadata"].push_back(
        "https://other.example.com/");
    load();
    for (int i = 0; i < 16; ++i) {
      there.push_back("https://agents.example.com/" + std::to_string(i) + ".json");
    }
    for (const auto& url : there) know(url);
    know(elsewhere);
    for (const auto& url : there) fetcher.die(url);
    fetcher.during([this] {
      if (asked_there() == begun_) return;
      begun_ = asked_there();
      for (const auto& url : there) EXPECT_TRUE(find(url, Wait::No).ok()) << "meanwhile";
      EXPECT_TRUE(find(elsewhere).ok());
      EXPECT_EQ(asked_there(), begun_) << "one at a time";
      clock.advance(kTimeOut);
    });
    begun_ = asked_there();
    until = clock.now() + kFresh + ClientDocuments::kGrace;
    clock.advance(kFresh);
  }
  void know(const std::string& url) {
    fetcher.serve(url, document(url), kFresh);
    EXPECT_TRUE(find(url).ok());
  }
  int asked_there() const {
    int sum = 0;
    for (const auto& url : there) sum += fetcher.asked(url);
    return sum;
  }

  std::vector<std::string> there;
  std::string elsewhere = "https://other.example.com/b.json";
  sys_seconds until;

 private:
  int begun_ = 0;
};

TEST(ClientDocuments, AHostThatHangsStopsNoOthersClients) {
  Hanging f;
  const auto before = f.asked_there();
  while (f.clock.now() < f.until - Hanging::kTimeOut) {
    for (const auto& url : f.there) {
      ASSERT_TRUE(f.find(url).ok()) << "within the grace";
      // Also where it must not wait, it is asked for again or served, never refused.
      const auto code = code_of(f.find_from("192.0.2.2", url, Wait::No));
      ASSERT_TRUE(!code || code == ErrorCode::NeedsOutbound);
    }
    ASSERT_TRUE(f.find_from("192.0.2.2", f.elsewhere).ok());
    f.clock.advance(1s);
  }
  EXPECT_GE(f.fetcher.asked(f.elsewhere), 10) << "fetched again each minute";
  // While pauses grow, and then at most once in each.
  EXPECT_LE(f.asked_there() - before, 6 + ClientDocuments::kGrace / 35s);
  EXPECT_GT(f.asked_there(), before);
}

TEST(ClientDocuments, AHostThatHangsHasNoClientsAfterTheGrace) {
  Hanging f;
  ASSERT_TRUE(f.find(f.there[0]).ok());
  f.fetcher.during([&] {
    EXPECT_TRUE(f.find(f.elsewhere).ok()) << "another host's, though it is as old";
    f.clock.advance(Hanging::kTimeOut);
  });
  f.clock.advance(f.until - f.clock.now());
  EXPECT_EQ(code_of(f.find(f.there[0])), ErrorCode::InvalidClient) << "asked, without an answer";
  for (const auto& url : f.there) {
    const auto refused = f.find(url, Wait::No);
    EXPECT_EQ(code_of(refused), ErrorCode::RateLimited) << "the host waits";
    EXPECT_TRUE(refused.error().retry_after);
  }
  f.fetcher.during(nullptr);
  for (const auto& url : f.there) f.fetcher.serve(url, f.document(url), Hanging::kFresh);
  f.clock.advance(30s);
  for (const auto& url : f.there) EXPECT_TRUE(f.find(url).ok()) << "it answers again";
}

TEST(ClientDocuments, ATimeOutThatEndsAfterTheGraceLeavesNoClient) {
  Hanging f;
  f.fetcher.during([&] { f.clock.advance(Hanging::kTimeOut); });
  f.clock.advance(f.until - f.clock.now() - Hanging::kTimeOut);
  EXPECT_EQ(code_of(f.find(f.there[0])), ErrorCode::InvalidClient);
}

TEST(ClientDocuments, WhatAHostSaysIsGoneIsGoneWithinTheGraceToo) {
  Hanging f;
  ASSERT_TRUE(f.find(f.there[0]).ok());
  f.fetcher.during(nullptr);
  f.clock.advance(1s);
  f.fetcher.serve_text(f.there[0], 404, "");
  EXPECT_EQ(code_of(f.find(f.there[0])), ErrorCode::InvalidClient);
  // An answer, however late, is one.
  f.fetcher.during([&] { f.clock.advance(Hanging::kTimeOut); });
  f.fetcher.serve(f.there[1], {{"client_id", "another"}});
  EXPECT_EQ(code_of(f.find(f.there[1])), ErrorCode::InvalidClient);
  // Nor do those come back while their host hangs again.
  EXPECT_TRUE(f.find(f.there[2]).ok());
  for (const auto& url : {f.there[0], f.there[1]}) {
    const auto refused = f.find(url);
    EXPECT_EQ(code_of(refused), ErrorCode::RateLimited);
    EXPECT_EQ(refused.error().retry_after, 1s) << "its pauses began anew when it answered";
  }
}

TEST(ClientDocuments, KnownDocumentsAreFetchedAgainAtFewOriginsAtATime) {
  for (const auto stale : {0s, std::chrono::seconds(ClientDocuments::kGrace)}) {
    Documents f;
    std::vector<std::string> urls;
    for (int i = 0; i < 8; ++i) {
      const auto origin = "https://agents" + std::to_string(i) + ".example.com/";
      f.manifest["settings"]["registration"]["client_id_metadata"].push_back(origin);
      urls.push_back(origin + "a.json");
      f.fetcher.serve(urls.back(), f.document(urls.back()), 60s);
    }
    f.load();
    for (const auto& url : urls) ASSERT_TRUE(f.find(url).ok());
    f.clock.advance(60s + stale);
    // Each fetch is under way while the next is asked for.
    std::size_t under_way = 0;
    f.fetcher.during([&] {
      const auto count = ++under_way;
      const auto next = f.find(urls.at(count));
      if (count < ClientDocuments::kRefreshingOfTenant) {
        EXPECT_TRUE(next.ok());
      } else if (stale == 0s) {
        EXPECT_TRUE(next.ok()) << "the one in memory";
      } else {
        EXPECT_EQ(code_of(next), ErrorCode::Unavailable);
      }
    });
    EXPECT_TRUE(f.find(urls[0]).ok());
    EXPECT_EQ(under_way, ClientDocuments::kRefreshingOfTenant);
    f.fetcher.during(nullptr);
    EXPECT_TRUE(f.find(urls.back()).ok()) << "all have ended";
    EXPECT_EQ(f.fetcher.asked(urls.back()), 2);
  }
}

TEST(ClientDocuments, WhatIsRememberedOfFailuresIsBounded) {
  Documents f;
  f.exhaust();
  const auto before = f.documents.remembered();
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(code_of(f.find_from("198.51.100." + std::to_string(i % 250), f.missing())),
              ErrorCode::RateLimited);
  }
  EXPECT_EQ(f.documents.remembered(), before) << "what is refused leaves nothing";
  for (int minute = 0; minute < 60; ++minute) {
    f.clock.advance(60s);
    f.exhaust();
  }
  EXPECT_LE(f.documents.remembered(), 16'384U + ClientDocuments::kFailuresOfTenant);
}

TEST(ClientDocuments, FewAreFetchedAtATime) {
  Documents f;
  int under_way = 0;
  f.fetcher.during([&] {
    const auto url = "https://agents.example.com/" + std::to_string(++under_way);
    const auto found = f.find(url);
    // Innermost first: a source's third is not even asked for.
    if (under_way == 2) {
      EXPECT_EQ(code_of(found), ErrorCode::Unavailable);
      EXPECT_EQ(found.error().retry_after, 1s);
      ++under_way;
    }
  });
  EXPECT_TRUE(f.find().ok());
  EXPECT_EQ(f.fetcher.asked(), 2);
}

TEST(ClientDocuments, ATenantsRulesCountAsTheyAreNow) {
  Documents f;
  ASSERT_TRUE(f.find().ok());
  auto& registration = f.manifest["settings"]["registration"];
  registration["backends"] = {"search"};
  registration["dpop_bound"] = true;
  f.load();
  const auto found = f.find(kUrl, Wait::No);
  ASSERT_TRUE(found.ok());
  EXPECT_FALSE(found.value()->client.backends.contains("files"));
  EXPECT_TRUE(found.value()->client.dpop_bound);
  registration["authentication"] = {"tls_client_auth"};
  f.load();
  EXPECT_EQ(code_of(f.find(kUrl, Wait::No)), ErrorCode::InvalidClient);
}

TEST(ClientDocuments, AssertionsAreThoseOfTheDocumentsKeysAndTakenOnce) {
  Documents f;
  FetchedIssuerKeys keys{f.fetcher, f.clock};
  const ClientAssertions assertions{keys, f.clock};
  test::InMemoryReplayGuard replays;
  const auto document = test::must(f.find());
  const auto check = [&](const std::string& compact, const DocumentClient* with) {
    return assertions.authenticate(*f.snapshot, compact, replays, Wait::Yes, with);
  };
  const auto one = f.assertion("1");
  EXPECT_EQ(code_of(check(one, nullptr)), ErrorCode::InvalidClient) << "no such configured client";
  const auto client = check(one, document.get());
  ASSERT_TRUE(client.ok()) << client.error().diagnostic;
  EXPECT_EQ(client.value(), &document->client);
  EXPECT_EQ(code_of(check(one, document.get())), ErrorCode::InvalidClient) << "used before";
  EXPECT_EQ(code_of(check(f.assertion("2", {{"iss", "https://agents.example.com/b.json"}}),
                          document.get())),
            ErrorCode::InvalidClient);
  EXPECT_EQ(code_of(check(f.assertion("3", {{"sub", "gw-01"}}), document.get())),
            ErrorCode::InvalidClient);
  EXPECT_EQ(code_of(check(test::Idp("agent").sign({{"iss", kUrl},
                                                   {"sub", kUrl},
                                                   {"aud", f.snapshot->issuer_url()},
                                                   {"jti", "4"},
                                                   {"exp", test::seconds_of(f.clock.now() + 60s)}}),
                          document.get())),
            ErrorCode::InvalidClient);
}

TEST(ClientDocuments, KeysMayBeElsewhere) {
  Documents f;
  auto json = f.document();
  json.erase("jwks");
  json["jwks_uri"] = "https://keys.example.com/agent";
  f.fetcher.serve(kUrl, json);
  f.fetcher.serve("https://keys.example.com/agent", f.key.jwks());
  FetchedIssuerKeys keys{f.fetcher, f.clock};
  const ClientAssertions assertions{keys, f.clock};
  test::InMemoryReplayGuard replays;
  const auto document = test::must(f.find());
  const auto compact = f.assertion("1");
  EXPECT_EQ(code_of(assertions.authenticate(*f.snapshot, compact, replays, Wait::Database,
                                            document.get())),
            ErrorCode::NeedsOutbound);
  EXPECT_TRUE(
      assertions.authenticate(*f.snapshot, compact, replays, Wait::Yes, document.get()).ok())
      << "asking for another pool used nothing up";
}

TEST(ClientDocuments, TokensOfSuchAClientAreKnownByTheTemplate) {
  Documents f;
  const auto* most = f.snapshot->client_of_token(kUrl);
  ASSERT_NE(most, nullptr);
  EXPECT_TRUE(most->backends.contains("files"));
  EXPECT_FALSE(most->backends.contains("search"));
  EXPECT_EQ(f.snapshot->find_client(kUrl), nullptr) << "it authenticates nobody";
  EXPECT_EQ(f.snapshot->client_of_token("https://evil.example/a.json"), nullptr);
  const auto metadata = test::must(token::parse_json(f.snapshot->metadata_document()));
  EXPECT_EQ(metadata.at("client_id_metadata_document_supported"), true);
  EXPECT_FALSE(metadata.contains("registration_endpoint"));
}

}  // namespace
}  // namespace postern::grants
