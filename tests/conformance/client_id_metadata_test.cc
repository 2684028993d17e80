// Client ID Metadata Documents (draft-ietf-oauth-client-id-metadata-document)
// over the wire, with a host of documents behind TLS. What a document may say is
// in unit/grants/client_documents_test.cc.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "http/server.h"
#include "support/https_host.h"
#include "support/service_fixture.h"

namespace postern::test {
namespace {

using testing::HasSubstr;

constexpr const char* kAssertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// An https server on the loopback interface that has documents.
class DocumentHost {
 public:
  std::string url(const std::string& path) const { return host_.url(path); }
  const std::string& ca_file() const { return host_.ca_file(); }
  void serve(const std::string& path, const Json& document) {
    const std::lock_guard lock(mutex_);
    documents_[path] = document;
  }
  int asked() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }
  /// Fetches below `/agents/slow/` that wait for an answer.
  std::size_t waiting() const {
    const std::lock_guard lock(mutex_);
    return slow_.size();
  }
  void answer_slow() {
    std::vector<http::Responder> slow;
    {
      const std::lock_guard lock(mutex_);
      slow.swap(slow_);
    }
    for (auto& responder : slow) responder.send(http::Reply(404));
  }

 private:
  http::Reply answer(const std::string& path) {
    const std::lock_guard lock(mutex_);
    ++asked_;
    const auto found = documents_.find(path);
    if (found == documents_.end()) return http::Reply(404);
    if (found->second.is_string()) {
      http::Reply elsewhere(302);
      elsewhere.set_header("Location", found->second.get<std::string>());
      return elsewhere;
    }
    return http::Reply::json(200, found->second.dump());
  }

  mutable std::mutex mutex_;
  std::map<std::string, Json> documents_;
  int asked_ = 0;
  std::vector<http::Responder> slow_;
  HttpsHost host_{[this](http::Router& router) {
    router.add("GET", "/agents/{}", http::Pool::Inline,
               [this](std::shared_ptr<http::Request> request, http::Responder responder) {
                 responder.send(answer(request->path));
               });
    router.add("GET", "/agents/slow/{}", http::Pool::Inline,
               [this](std::shared_ptr<http::Request>, http::Responder responder) {
                 const std::lock_guard lock(mutex_);
                 slow_.push_back(std::move(responder));
               });
  }};
};

/// A service that reaches the host, and a tenant that takes its documents.
class ClientIdMetadata : public ::testing::Test {
 protected:
  struct World {
    World()
        : service([this](app::Config& config) {
            config.outbound_ca_file = host.ca_file();
            config.outbound_allow_private = {"127.0.0.0/8"};
            // So that requests come from where X-Forwarded-For says.
            config.proxy_addresses = {"127.0.0.1/32"};
          }),
          tenant(service, "cimd") {
      host.serve("/agents/one.json", document("/agents/one.json"));
      allow({host.url("/agents/")});
    }
    void allow(const Json& urls) {
      tenant.manifest["settings"]["registration"] = {
          {"client_id_metadata", urls},
          {"grants", {"token-exchange", "client_credentials"}},
          {"backends", {"files"}},
          {"scopes", {"files:read"}},
          {"audiences", {"gw-01"}}};
      if (tenant.apply().status != 200) throw std::runtime_error("cimd");
    }
    Json document(const std::string& path) const {
      return {{"client_id", host.url(path)},
              {"client_name", "Agent one"},
              {"token_endpoint_auth_method", "private_key_jwt"},
              {"jwks", key.jwks()}};
    }
    std::string assertion(const std::string& path) {
      return key.sign({{"iss", host.url(path)},
                       {"sub", host.url(path)},
                       {"aud", "https://sts.example.com/t/cimd"},
                       {"jti", "cimd-" + std::to_string(++number)},
                       {"exp", seconds_of(SystemClock().now() + 60s)}});
    }
    /// As whoever the URL's document describes, with a key that may be theirs.
    WireReply exchange_from(const std::string& source, const std::string& path) {
      auto fields = tenant.exchange_fields(tenant.user_token("alice"), "files");
      fields.emplace_back("client_assertion_type", kAssertion);
      fields.emplace_back("client_assertion", assertion(path));
      return tenant.ask(
          "POST", "/t/cimd/token",
          {{"Content-Type", "application/x-www-form-urlencoded"}, {"X-Forwarded-For", source}},
          form(fields));
    }
    WireReply exchange(const std::string& compact, const std::string& audience = "files",
                       const std::string& scope = "files:read") {
      auto fields = tenant.exchange_fields(tenant.user_token("alice"), audience);
      fields.emplace_back("client_assertion_type", kAssertion);
      fields.emplace_back("client_assertion", compact);
      if (!scope.empty()) fields.emplace_back("scope", scope);
      return tenant.token(fields, "");
    }

    Idp key{"agent"};
    DocumentHost host;
    TestService service;
    TestTenant tenant;
    std::atomic<int> number{0};
  };
  static World& world() {
    static World made;
    return made;
  }
};

TEST_F(ClientIdMetadata, AUrlIsAClientWithoutBeingRegistered) {
  const auto reply = world().exchange(world().assertion("/agents/one.json"));
  ASSERT_THAT(reply, HasStatus(200));
  const auto claims = claims_of(json_of(reply, "access_token").get<std::string>());
  EXPECT_EQ(claims.at("client_id"), world().host.url("/agents/one.json"));
  const auto records = world().tenant.audit("limit=1&order=desc&action=token.exchange");
  EXPECT_EQ(records.at(0).at("event").at("fields").at("client"),
            world().host.url("/agents/one.json"));
}

TEST_F(ClientIdMetadata, AuthenticatesInTheBodyOfABatchAndARelease) {
  for (const char* endpoint : {"exchange", "release"}) {
    const Json members{{"client_assertion_type", kAssertion},
                       {"client_assertion", world().assertion("/agents/one.json")}};
    const auto reply = world().tenant.call_with(endpoint, members);
    ASSERT_THAT(reply, HasStatus(200));
    EXPECT_EQ(item_of(reply).at("status"), "allowed");
    EXPECT_THAT(world().tenant.call_with(endpoint, members), IsProblem(401, "invalid-client"));
  }
}

TEST_F(ClientIdMetadata, IsExplainedAsAnyClient) {
  const auto ask = [&](const std::string& client, const std::string& target) {
    return world().tenant.api("POST", "/explanations", world().tenant.admin,
                              {{"client", client},
                               {"subject_token", world().tenant.user_token("alice")},
                               {"audience", target}});
  };
  const auto one = world().host.url("/agents/one.json");
  const auto allowed = json_of(ask(one, "files"));
  EXPECT_EQ(allowed.at("allowed"), true);
  EXPECT_EQ(allowed.at("scope"), "files:read");
  EXPECT_EQ(json_of(ask(one, "search")).at("refused_by"), "target");
  EXPECT_THAT(ask(world().host.url("/agents/nobody.json"), "files"), IsProblem(404, "not-found"));
  const auto asked = world().host.asked();
  EXPECT_THAT(ask(world().host.url("/elsewhere/one.json"), "files"), IsProblem(404, "not-found"));
  EXPECT_EQ(world().host.asked(), asked);
}

TEST_F(ClientIdMetadata, TheFirstRequestOnTheOutboundPoolUsesItsAssertionOnce) {
  // The document is fetched in the middle of it: the request runs again elsewhere.
  world().host.serve("/agents/fresh.json", world().document("/agents/fresh.json"));
  const auto compact = world().assertion("/agents/fresh.json");
  EXPECT_THAT(world().exchange(compact), HasStatus(200));
  EXPECT_THAT(world().exchange(compact), IsOAuthError(401, "invalid_client")) << "once";
}

TEST_F(ClientIdMetadata, HasTheTenantsRightsOnly) {
  EXPECT_THAT(world().exchange(world().assertion("/agents/one.json"), "search", ""),
              IsOAuthError(400, "invalid_target"));
  EXPECT_THAT(world().exchange(world().assertion("/agents/one.json"), "files", "files:write"),
              IsOAuthError(400, "invalid_scope"));
}

TEST_F(ClientIdMetadata, ItsTokensAreActiveAndRevocableAsAnyOther) {
  const std::string token =
      json_of(world().exchange(world().assertion("/agents/one.json"))).at("access_token");
  const auto ask = [&](const std::string& endpoint) {
    return world().tenant.ask("POST", "/t/cimd/" + endpoint,
                              {{"Content-Type", "application/x-www-form-urlencoded"}},
                              form({{"token", token},
                                    {"client_assertion_type", kAssertion},
                                    {"client_assertion", world().assertion("/agents/one.json")}}));
  };
  EXPECT_EQ(json_of(ask("introspect")).at("active"), true);
  EXPECT_THAT(ask("revoke"), HasStatus(200));
  EXPECT_EQ(json_of(ask("introspect")).at("active"), false);
}

TEST_F(ClientIdMetadata, Rfc9701_6_ADocumentChoosesHowAnswersAreSigned) {
  const auto ask = [&](const std::string& path) {
    return world().tenant.ask("POST", "/t/cimd/introspect",
                              {{"Content-Type", "application/x-www-form-urlencoded"},
                               {"Accept", "application/token-introspection+jwt"}},
                              form({{"token", "nothing"},
                                    {"client_assertion_type", kAssertion},
                                    {"client_assertion", world().assertion(path)}}));
  };
  const auto chosen = [&](const std::string& path, const Json& algorithm) {
    auto document = world().document(path);
    document["introspection_signed_response_alg"] = algorithm;
    world().host.serve(path, document);
    return ask(path);
  };
  const auto reply = chosen("/agents/eddsa.json", "EdDSA");
  ASSERT_THAT(reply, HasStatus(200));
  EXPECT_EQ(header_of(reply.body).at("alg"), "EdDSA");
  EXPECT_EQ(header_of(ask("/agents/one.json").body).at("alg"), "ES256") << "it did not choose";
  const auto refused = chosen("/agents/rs256.json", "RS256");
  EXPECT_THAT(refused, IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(refused.body, HasSubstr("introspection_signed_response_alg must be one that this"));
}

TEST_F(ClientIdMetadata, WhatIsNotTheUrlsOwnDocumentIsNoClient) {
  auto& host = world().host;
  auto others = world().document("/agents/one.json");
  host.serve("/agents/copy.json", others);
  EXPECT_THAT(world().exchange(world().assertion("/agents/copy.json")),
              IsOAuthError(401, "invalid_client"));
  host.serve("/agents/moved.json", Json(host.url("/agents/one.json")));
  EXPECT_THAT(world().exchange(world().assertion("/agents/moved.json")),
              IsOAuthError(401, "invalid_client"))
      << "redirects are not followed";
  EXPECT_THAT(world().exchange(world().assertion("/agents/none.json")),
              IsOAuthError(401, "invalid_client"));
  auto secret = world().document("/agents/secret.json");
  secret["client_secret"] = "canary-in-a-document";
  host.serve("/agents/secret.json", secret);
  const auto reply = world().exchange(world().assertion("/agents/secret.json"));
  EXPECT_THAT(reply, IsOAuthError(401, "invalid_client"));
  EXPECT_THAT(reply.body, testing::Not(HasSubstr("canary-in-a-document")));
}

TEST_F(ClientIdMetadata, NoOtherUrlIsFetched) {
  const auto before = world().host.asked();
  EXPECT_THAT(world().exchange(world().assertion("/elsewhere/one.json")),
              IsOAuthError(401, "invalid_client"));
  TestTenant off(world().service, "cimd-off");
  auto fields = off.exchange_fields(off.user_token("alice"), "files");
  fields.emplace_back("client_assertion_type", kAssertion);
  fields.emplace_back("client_assertion", world().assertion("/agents/one.json"));
  EXPECT_THAT(off.token(fields, ""), IsOAuthError(401, "invalid_client"));
  EXPECT_EQ(world().host.asked(), before);
}

// Whoever reaches the token endpoint can name documents that are not there.
TEST_F(ClientIdMetadata, WhoNamesDocumentsThatAreNotThereStopsNobodyElse) {
  const auto begun = std::chrono::steady_clock::now();
  const auto before = world().host.asked();
  int refused = 0;
  for (int i = 0; i < 200; ++i) {
    const auto reply =
        world().exchange_from("203.0.113.7", "/agents/nobody" + std::to_string(i) + ".json");
    if (reply.status == 401) continue;
    ++refused;
    EXPECT_THAT(reply, IsOAuthError(429, "temporarily_unavailable"));
    EXPECT_NE(reply.header("Retry-After"), "(none)");
  }
  // More only where the machine took more than a minute for all this.
  const auto minutes =
      std::chrono::duration_cast<std::chrono::minutes>(std::chrono::steady_clock::now() - begun)
          .count();
  EXPECT_LE(world().host.asked() - before, 10 * (minutes + 2));
  EXPECT_GT(refused, 0);
  world().host.serve("/agents/genuine.json", world().document("/agents/genuine.json"));
  EXPECT_THAT(world().exchange_from("198.51.100.9", "/agents/genuine.json"), HasStatus(200));
  EXPECT_THAT(world().exchange_from("203.0.113.7", "/agents/genuine.json"), HasStatus(200))
      << "in memory, it serves everybody";
}

TEST_F(ClientIdMetadata, WhoNamesDocumentsThatAnswerSlowlyStopsNobodyElse) {
  std::vector<std::future<WireReply>> asked;
  const auto attack = [&] {
    return world().exchange_from("203.0.113.8",
                                 "/agents/slow/" + std::to_string(++world().number) + ".json");
  };
  for (int i = 0; i < 2; ++i) asked.push_back(std::async(std::launch::async, attack));
  eventually([&] { return world().host.waiting() == 2; }, "the two fetches of a source");
  for (int i = 0; i < 20; ++i) EXPECT_THAT(attack(), IsOAuthError(503, "temporarily_unavailable"));
  EXPECT_EQ(world().host.waiting(), 2u);
  world().host.serve("/agents/quick.json", world().document("/agents/quick.json"));
  EXPECT_THAT(world().exchange_from("198.51.100.9", "/agents/quick.json"), HasStatus(200));
  world().host.answer_slow();
  for (auto& each : asked) EXPECT_THAT(each.get(), IsOAuthError(401, "invalid_client"));
}

TEST_F(ClientIdMetadata, AUrlHasNoSecretAndCannotBeConfigured) {
  const auto fields = world().tenant.exchange_fields(world().tenant.user_token("alice"), "files");
  EXPECT_THAT(world().tenant.token(
                  fields, basic(percent_encoded(world().host.url("/agents/one.json")), "secret")),
              IsOAuthError(401, "invalid_client"));
  auto manifest = world().tenant.manifest;
  manifest["clients"].push_back({{"id", world().host.url("/agents/one.json")}});
  EXPECT_THAT(world().tenant.api("PUT", "/manifest", world().tenant.admin, manifest),
              IsProblem(400, "malformed-request"));
}

TEST_F(ClientIdMetadata, TheMetadataSaysSo) {
  const auto of = [&](const std::string& tenant) {
    return json_of(
        world().tenant.ask("GET", "/.well-known/oauth-authorization-server/t/" + tenant));
  };
  EXPECT_EQ(of("cimd").at("client_id_metadata_document_supported"), true);
  EXPECT_FALSE(of("cimd").contains("registration_endpoint"));
  TestTenant off(world().service, "cimd-silent");
  EXPECT_FALSE(of("cimd-silent").contains("client_id_metadata_document_supported"));
}

TEST_F(ClientIdMetadata, ATenantThatTakesItNoMoreIsDoneWithItsTokensToo) {
  const std::string token =
      json_of(world().exchange(world().assertion("/agents/one.json"))).at("access_token");
  world().allow({"https://agents.example.com/"});
  EXPECT_THAT(world().exchange(world().assertion("/agents/one.json")),
              IsOAuthError(401, "invalid_client"));
  const auto asked = world().tenant.ask("POST", "/t/cimd/introspect",
                                        {{"Content-Type", "application/x-www-form-urlencoded"},
                                         {"Authorization", basic("gw-01", world().tenant.secret)}},
                                        form({{"token", token}}));
  EXPECT_EQ(json_of(asked).at("active"), false);
  world().allow({world().host.url("/agents/")});
}

}  // namespace
}  // namespace postern::test
