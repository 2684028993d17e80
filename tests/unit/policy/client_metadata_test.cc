#include "policy/client_metadata.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/ids.h"
#include "support/code_of.h"
#include "support/tenant_fixture.h"

namespace postern::policy {
namespace {

using test::code_of;
using test::Idp;

Registration allowed(const Json& changes = Json::object()) {
  Json json{
      {"dynamic", true},
      {"grants", {"token-exchange", "client_credentials"}},
      {"authentication",
       {"client_secret", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"}},
      {"backends", {"files"}},
      {"scopes", {"files:read", "files:write"}},
      {"client_id_metadata", {"https://agents.example.com/"}}};
  json.update(changes);
  return test::must(read_registration(json, ""));
}

Result<ClientMetadata> read(const Json& value, const Json& changes = Json::object(),
                            MetadataSource source = MetadataSource::Registration) {
  return read_client_metadata(value, allowed(changes),
                              {crypto::Algorithm::ES256, crypto::Algorithm::EdDSA}, source);
}
std::string pointer_of(const Result<ClientMetadata>& result) {
  return result.ok() ? "(accepted)" : result.error().pointer;
}

TEST(ClientMetadata, NothingSaidIsTheTemplateAndASecret) {
  const auto metadata = read(Json::object());
  ASSERT_TRUE(metadata.ok());
  EXPECT_EQ(metadata.value().method, "client_secret_basic");
  EXPECT_EQ(metadata.value().authentication.method, ClientAuthentication::Secret);
  EXPECT_EQ(metadata.value().grants.size(), 2u);
  EXPECT_TRUE(metadata.value().scopes.all);
  EXPECT_EQ(write(metadata.value(), allowed()).at("scope"), "files:read files:write");
}

TEST(ClientMetadata, NothingBeyondTheTemplateAndNothingDroppedSilently) {
  const auto beyond = [](const Json& value, const Json& changes = Json::object()) {
    return pointer_of(read(value, changes));
  };
  EXPECT_EQ(beyond({{"scope", "files:read admin"}}), "/scope");
  EXPECT_EQ(beyond({{"scope", " "}}), "/scope");
  EXPECT_EQ(beyond({{"grant_types", {"client_credentials", "refresh_token"}}}), "/grant_types/1");
  EXPECT_EQ(beyond({{"grant_types", {"urn:ietf:params:oauth:grant-type:jwt-bearer"}}}),
            "/grant_types/0");
  EXPECT_EQ(beyond({{"grant_types", {"token-exchange"}}}), "/grant_types/0") << "our own word";
  EXPECT_EQ(beyond(Json::object(), {{"authentication", {"private_key_jwt"}}}),
            "/token_endpoint_auth_method")
      << "the default is a secret";
  EXPECT_EQ(beyond({{"token_endpoint_auth_method", "client_secret_jwt"}}),
            "/token_endpoint_auth_method");
  EXPECT_EQ(beyond({{"token_endpoint_auth_method", "workload_identity"}}),
            "/token_endpoint_auth_method");
  EXPECT_EQ(beyond({{"response_types", {"token"}}}), "/response_types");
  EXPECT_EQ(beyond({{"response_types", Json::array()}}), "(accepted)");
  EXPECT_EQ(beyond({{"software_statement", "x"}}), "/software_statement");
}

TEST(ClientMetadata, RedirectsAreHeldToFormThoughThereAreNone) {
  for (const char* uri : {"javascript:x", "http://a.example/cb", "/cb", "https://a.example/#f",
                          "com.example:/cb", "data:text/html,x"}) {
    EXPECT_EQ(pointer_of(read({{"redirect_uris", {uri}}})), "/redirect_uris/0") << uri;
  }
  const auto metadata = read({{"redirect_uris", {"https://a.example/cb", "http://127.0.0.1/cb"}}});
  ASSERT_TRUE(metadata.ok());
  EXPECT_FALSE(write(metadata.value(), allowed()).contains("redirect_uris"));
}

TEST(ClientMetadata, KeysAreGivenOneWayAndPublic) {
  const Idp key("agent");
  const auto with = [](Json more) {
    more["token_endpoint_auth_method"] = "private_key_jwt";
    return read(more);
  };
  EXPECT_TRUE(with({{"jwks", key.jwks()}}).ok());
  EXPECT_TRUE(with({{"jwks_uri", "https://agent.example/jwks"}}).ok());
  EXPECT_EQ(pointer_of(with(Json::object())), "/jwks");
  EXPECT_EQ(pointer_of(with({{"jwks", key.jwks()}, {"jwks_uri", "https://a.example/k"}})),
            "/jwks_uri");
  for (const char* uri :
       {"http://127.0.0.1/jwks", "http://a.example/jwks", "file:///etc/passwd", "https://",
        "https://a.example/k#f", "https://user@a.example/k", "gopher://a.example"}) {
    EXPECT_EQ(pointer_of(with({{"jwks_uri", uri}})), "/jwks_uri") << uri;
  }
  auto with_private = key.jwks();
  with_private["keys"][0]["d"] = "AAAA";
  EXPECT_EQ(pointer_of(with({{"jwks", with_private}})), "/jwks");
  EXPECT_EQ(pointer_of(with({{"jwks", {{"keys", Json::array()}}}})), "/jwks");
  const auto one = with({{"jwks", key.jwks()}, {"token_endpoint_auth_signing_alg", "ES256"}});
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(one.value().authentication.algorithms.size(), 1u);
  EXPECT_FALSE(with({{"jwks", key.jwks()}, {"token_endpoint_auth_signing_alg", "HS256"}}).ok());
  EXPECT_FALSE(with({{"jwks", key.jwks()}, {"token_endpoint_auth_signing_alg", "none"}}).ok());
}

TEST(ClientMetadata, Rfc8705_2_1_2_ExactlyOneNameOfACertificate) {
  const auto with = [](Json more) {
    more["token_endpoint_auth_method"] = "tls_client_auth";
    return read(more);
  };
  const auto dns = with({{"tls_client_auth_san_dns", "agent.example.com"}});
  ASSERT_TRUE(dns.ok());
  EXPECT_EQ(dns.value().authentication.tls_subject->kind, TlsSubject::Kind::Dns);
  EXPECT_EQ(write(dns.value(), allowed()).at("tls_client_auth_san_dns"), "agent.example.com");
  EXPECT_FALSE(with(Json::object()).ok());
  EXPECT_FALSE(with({{"tls_client_auth_san_dns", "a.example"},
                     {"tls_client_auth_san_uri", "https://a.example"}})
                   .ok());
  EXPECT_FALSE(with({{"tls_client_auth_subject_dn", "no dn"}}).ok());
}

TEST(ClientMetadata, Rfc8705_2_2_2_ASelfSignedClientShowsItsCertificatesInX5c) {
  const auto with = [](const Json& jwks) {
    return read({{"token_endpoint_auth_method", "self_signed_tls_client_auth"}, {"jwks", jwks}});
  };
  EXPECT_FALSE(with({{"keys", {{{"kty", "EC"}}}}}).ok());
  EXPECT_FALSE(with({{"keys", {{{"x5c", {"!"}}}}}}).ok());
  EXPECT_FALSE(with({{"keys", {{{"x5c", {"AAAA"}}}}}}).ok());
  EXPECT_FALSE(with({{"keys", Json::array()}}).ok());
}

TEST(ClientMetadata, ADocumentHoldsNoSecret) {
  const Idp key("agent");
  const auto with = [&](Json more) {
    more["jwks"] = key.jwks();
    if (!more.contains("token_endpoint_auth_method")) {
      more["token_endpoint_auth_method"] = "private_key_jwt";
    }
    return read(more, Json::object(), MetadataSource::Document);
  };
  EXPECT_TRUE(with(Json::object()).ok());
  for (const char* method : {"client_secret_basic", "client_secret_post"}) {
    EXPECT_FALSE(with({{"token_endpoint_auth_method", method}}).ok()) << method;
  }
  EXPECT_FALSE(with({{"client_secret", "x"}}).ok());
  EXPECT_FALSE(with({{"client_secret_expires_at", 0}}).ok());
  EXPECT_FALSE(read({{"client_name", "default method is a secret"}}, Json::object(),
                    MetadataSource::Document)
                   .ok());
}

TEST(ClientMetadata, Rfc9701_6_ChoosesAmongWhatTheTenantSigns) {
  const auto chosen = [](const Json& value) {
    return read({{"introspection_signed_response_alg", value}});
  };
  const auto metadata = chosen("EdDSA");
  ASSERT_TRUE(metadata.ok());
  EXPECT_EQ(client_of(ClientId("dyn-1"), metadata.value()).introspection_algorithm,
            crypto::Algorithm::EdDSA);
  EXPECT_EQ(write(metadata.value(), allowed()).at("introspection_signed_response_alg"), "EdDSA");
  EXPECT_FALSE(read(Json::object()).value().introspection_algorithm);
  for (const Json& bad :
       {Json("RS256"), Json("none"), Json("HS256"), Json("Ed25519"), Json("es256"), Json(7)}) {
    EXPECT_EQ(pointer_of(chosen(bad)), "/introspection_signed_response_alg") << bad;
  }
  for (const char* member :
       {"introspection_encrypted_response_alg", "introspection_encrypted_response_enc"}) {
    EXPECT_EQ(pointer_of(read({{member, "RSA-OAEP-256"}})), std::string("/") + member);
  }
}

TEST(HoldTo, NobodyHasMoreThanTheTemplateSays) {
  Client client;
  client.grants = {GrantType::TokenExchange, GrantType::JwtBearer};
  client.scopes.names = {"files:read", "admin"};
  client.backends.all = true;
  client.audiences = {"somebody"};
  hold_to(allowed({{"audiences", {"mcp"}}}), client);
  EXPECT_TRUE(client.enabled);
  EXPECT_EQ(client.grants, std::set<GrantType>{GrantType::TokenExchange});
  EXPECT_FALSE(client.backends.all);
  EXPECT_TRUE(client.backends.contains("files"));
  EXPECT_FALSE(client.scopes.contains("admin"));
  EXPECT_EQ(client.audiences, std::vector<std::string>{"mcp"});
  hold_to(std::nullopt, client);
  EXPECT_FALSE(client.enabled);
  EXPECT_TRUE(client.grants.empty());
  EXPECT_TRUE(client.audiences.empty());
}

TEST(HoldTo, AllOfAClientIsAllOfTheTemplate) {
  Client client;
  client.scopes.all = true;
  hold_to(allowed({{"dpop_bound", true}}), client);
  EXPECT_FALSE(client.scopes.all);
  EXPECT_TRUE(client.scopes.contains("files:write"));
  EXPECT_TRUE(client.dpop_bound);
}

TEST(RegistrationSettings, DenyByDefaultAndSayWhatIsWrong) {
  const auto refused = [](const Json& json) {
    const auto result = read_registration(json, "/r");
    return result.ok() ? std::string("(accepted)") : result.error().pointer;
  };
  const auto least = test::must(read_registration({{"dynamic", true}}, ""));
  EXPECT_FALSE(least.backends.contains("files"));
  EXPECT_FALSE(least.scopes.contains("files:read"));
  EXPECT_EQ(least.authentication,
            std::set<ClientAuthentication>{ClientAuthentication::PrivateKeyJwt});
  EXPECT_EQ(refused(Json::object()), "/r") << "nobody could register";
  EXPECT_EQ(refused({{"dynamic", true}, {"grants", Json::array()}}), "/r/grants");
  EXPECT_EQ(refused({{"dynamic", true}, {"authentication", Json::array()}}), "/r/authentication");
  EXPECT_EQ(refused({{"dynamic", true}, {"authentication", {"workload_identity"}}}),
            "/r/authentication/0");
  EXPECT_EQ(refused({{"dynamic", true}, {"max_clients", 0}}), "/r/max_clients");
  EXPECT_EQ(refused({{"dynamic", true}, {"max_clients", 501}}), "/r/max_clients");
  EXPECT_EQ(refused({{"dynamic", true}, {"secret_expires_in", 1}}), "/r/secret_expires_in");
  EXPECT_EQ(refused({{"dynamic", true}, {"token_lifetime", 1}}), "/r/token_lifetime");
  EXPECT_EQ(refused({{"client_id_metadata", {"https://*.example.com/"}}}),
            "/r/client_id_metadata/0");
  EXPECT_EQ(refused({{"client_id_metadata", {"https://agents.example.com/"}},
                     {"authentication", {"client_secret"}}}),
            "/r/authentication");
  const auto whole = write(allowed());
  EXPECT_EQ(write(test::must(read_registration(whole, ""))), whole);
}

TEST(RegistrationSettings, UrlsAreTakenWholeOrBelowASlash) {
  const auto one = allowed(
      {{"client_id_metadata", {"https://agents.example.com/team/", "https://b.example/app.json"}}});
  EXPECT_TRUE(one.takes_metadata_of("https://agents.example.com/team/a.json"));
  EXPECT_TRUE(one.takes_metadata_of("https://b.example/app.json"));
  for (const char* other :
       {"https://agents.example.com/teams/a.json", "https://agents.example.com/a.json",
        "https://agents.example.com.evil.example/team/a", "https://b.example/app.json/x",
        "https://b.example/app.jso", "http://agents.example.com/team/a.json", "gw-01", "",
        "https://agents.example.com/team/../a.json", "https://agents.example.com/team/%2e%2e/a",
        "https://agents.example.com/team/a.json#x", "https://agents.example.com/team/a?x=1",
        "https://Agents.example.com/team/a.json"}) {
    EXPECT_FALSE(one.takes_metadata_of(other)) << other;
  }
}

TEST(RegistrationSettings, AnExclamationMarkTakesAUrlOutAgain) {
  const Json urls{"!https://agents.example.com/team/lost.json", "https://agents.example.com/team/",
                  "!https://agents.example.com/team/old/", "https://agents.example.com/team/old/a"};
  const auto most = allowed({{"client_id_metadata", urls}});
  EXPECT_EQ(write(most).at("client_id_metadata"), urls);
  EXPECT_TRUE(most.takes_metadata_of("https://agents.example.com/team/a.json"));
  EXPECT_TRUE(most.takes_metadata_of("https://agents.example.com/team/lost.json/x"));
  EXPECT_FALSE(most.takes_metadata_of("https://agents.example.com/team/lost.json"));
  EXPECT_FALSE(most.takes_metadata_of("https://agents.example.com/team/old/a"));
  for (const Json& bad :
       {Json{"!https://a.example/"}, Json{"https://a.example/", "!!https://a.example/x"},
        Json{"https://a.example/", "!"}, Json{"https://a.example/", "!http://a.example/x"}}) {
    EXPECT_FALSE(read_registration({{"dynamic", true}, {"client_id_metadata", bad}}, "").ok())
        << bad;
  }
}

TEST(ClientUrl, IsSpelledOneWay) {
  for (const char* good :
       {"https://a.example/", "https://a.example/x", "https://a.example:8443/x/y",
        "https://127.0.0.1/x", "https://a.example/..x/y.", "https://a.example//"}) {
    EXPECT_TRUE(detail::is_client_url(good)) << good;
  }
  for (const char* bad : {"",
                          "https://",
                          "https:///x",
                          "https://a.example",
                          "http://a.example/x",
                          "HTTPS://a.example/x",
                          "https://A.example/x",
                          "https://a.example:443/x",
                          "https://a.example:/x",
                          "https://a.example:x/",
                          "https://u@a.example/x",
                          "https://u:p@a.example/x",
                          "https://a.example/./x",
                          "https://a.example/x/..",
                          "https://a.example/..",
                          "https://a.example/x?y",
                          "https://a.example/x#y",
                          "https://a.example/%41",
                          "https://a.example/a b",
                          "https://[::1]/x",
                          "https://.a/x",
                          "https://a./x",
                          "https://a.example/\"",
                          "https://a.example/\\",
                          "https://a.example:080/x",
                          "https://a.example:123456/x"}) {
    EXPECT_FALSE(detail::is_client_url(bad)) << bad;
  }
  EXPECT_FALSE(detail::is_client_url("https://a.example/" + std::string(200, 'x')));
}

TEST(RegisteredClients, AreConfiguredLikeOthersButForTheirRights) {
  const Json good{{"id", "dyn-1"},
                  {"scopes", {"*"}},
                  {"registered", {{"initial_access_token", "t"}, {"at", "2026-11-21T05:40:00Z"}}}};
  const auto client = read_client(good, "");
  ASSERT_TRUE(client.ok());
  EXPECT_EQ(write(test::must(read_client(write(client.value()), ""))), write(client.value()));
  for (const Json& more :
       {Json{{"backends", {"files"}}}, Json{{"backends", {"*"}}}, Json{{"audiences", {"x"}}},
        Json{{"introspects", {"files"}}}, Json{{"default_backend", "files"}}}) {
    auto bad = good;
    bad.update(more);
    EXPECT_EQ(code_of(read_client(bad, "")), ErrorCode::MalformedRequest) << more;
  }
  EXPECT_FALSE(read_client({{"id", "https://a.example/x"}}, "").ok()) << "a URL is its document's";
}

}  // namespace
}  // namespace postern::policy
