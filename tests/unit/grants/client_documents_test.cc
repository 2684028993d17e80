#include "grants/client_documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
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
  auto find(const std::string& url = kUrl, Wait wait = Wait::Yes) {
    return documents.find(*snapshot, url, wait);
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
    return code_of(read_client_document(text, url, allowed));
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

TEST(ClientDocuments, FailingFetchesAreFewAMinute) {
  Documents f;
  const auto missing = [&](int i) {
    return f.find("https://agents.example.com/none" + std::to_string(i));
  };
  for (int i = 0; i < 30; ++i) EXPECT_EQ(code_of(missing(i)), ErrorCode::InvalidClient);
  EXPECT_EQ(code_of(missing(30)), ErrorCode::RateLimited);
  EXPECT_EQ(f.fetcher.asked(), 30);
  f.clock.advance(61s);
  EXPECT_TRUE(f.find().ok());
}

TEST(ClientDocuments, FewAreFetchedAtATime) {
  Documents f;
  int under_way = 0;
  f.fetcher.during([&] {
    const auto url = "https://agents.example.com/" + std::to_string(++under_way);
    const auto found = f.find(url);
    // Innermost first: the fourth is not even asked for.
    if (under_way == 3) {
      EXPECT_EQ(code_of(found), ErrorCode::Unavailable);
      EXPECT_EQ(found.error().retry_after, 1s);
      ++under_way;
    }
  });
  EXPECT_TRUE(f.find().ok());
  EXPECT_EQ(f.fetcher.asked(), 3);
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
