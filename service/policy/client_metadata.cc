#include "policy/client_metadata.h"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "crypto/base64url.h"
#include "crypto/certificate.h"
#include "policy/config_reader.h"
#include "policy/resource_uri.h"

namespace postern::policy {

using namespace config;

namespace {

using enum ClientAuthentication;

constexpr Spelling<ClientAuthentication, 5> kMethods{
    {{"client_secret_basic", Secret},
     {"client_secret_post", Secret},
     {"private_key_jwt", PrivateKeyJwt},
     {"tls_client_auth", Tls},
     {"self_signed_tls_client_auth", SelfSignedTls}}};
constexpr Spelling<GrantType, 3> kGrants{
    {{"urn:ietf:params:oauth:grant-type:token-exchange", GrantType::TokenExchange},
     {"client_credentials", GrantType::ClientCredentials},
     {"urn:ietf:params:oauth:grant-type:jwt-bearer", GrantType::JwtBearer}}};
/// RFC 8705 §2.1.2, and our words for the same.
constexpr std::array<std::pair<const char*, const char*>, 5> kTlsNames{
    {{"tls_client_auth_subject_dn", "dn"},
     {"tls_client_auth_san_dns", "dns"},
     {"tls_client_auth_san_uri", "uri"},
     {"tls_client_auth_san_ip", "ip"},
     {"tls_client_auth_san_email", "email"}}};
constexpr std::size_t kMaxCertificates = 10;

/// RFC 8705 §2.2.2: the certificates of a self-signed client are in its key set.
Result<Json> thumbprints(const Json& jwks) {
  const auto keys = jwks.is_object() ? jwks.find("keys") : jwks.end();
  if (keys == jwks.end() || !keys->is_array() || keys->empty() || keys->size() > kMaxCertificates) {
    return at("/jwks", "must have 1 to 10 keys, each with its certificate in x5c");
  }
  Json found = Json::array();
  for (const auto& key : *keys) {
    const auto refused = [] {
      return at("/jwks", "has a key without a readable certificate in x5c");
    };
    const auto chain = key.is_object() ? key.find("x5c") : key.end();
    if (!key.is_object() || chain == key.end() || !chain->is_array() || chain->empty() ||
        !chain->front().is_string()) {
      return refused();
    }
    const auto der = crypto::base64_decode(chain->front().get_ref<const std::string&>());
    if (!der.ok()) return refused();
    const auto certificate = crypto::Certificate::from_der(der.value());
    if (!certificate.ok()) return refused();
    found.push_back(crypto::base64url(certificate.value().sha256()));
  }
  return found;
}

/// The member `authentication` that a manifest would have, for its reader to judge.
Result<Json> authentication_of(Reader& reader, ClientAuthentication method, const Json* jwks) {
  Json rule{{"method", std::string(method_name(method))}};
  const auto* jwks_uri = reader.find("jwks_uri");
  if (jwks != nullptr && jwks_uri != nullptr) {
    return at("/jwks_uri", "and jwks must not both be there");
  }
  if (method == PrivateKeyJwt) {
    if (jwks != nullptr) rule["jwks"] = *jwks;
    if (jwks_uri != nullptr) {
      std::string url;
      POSTERN_CHECK(reader.text("jwks_uri", url));
      if (!url.starts_with("https://")) return at("/jwks_uri", "must be an https URL");
      rule["jwks_uri"] = url;
    }
    if (jwks == nullptr && jwks_uri == nullptr) {
      return at("/jwks", "or jwks_uri is required for private_key_jwt");
    }
    std::string algorithm;
    POSTERN_CHECK(reader.text("token_endpoint_auth_signing_alg", algorithm, 20));
    if (!algorithm.empty()) rule["algorithms"] = {algorithm};
  } else if (method == Tls) {
    Json subject = Json::object();
    for (const auto& [member, name] : kTlsNames) {
      std::string text;
      POSTERN_CHECK(reader.text(member, text, 1024));
      if (!text.empty()) subject[name] = text;
    }
    if (subject.size() != 1) {
      return at("/tls_client_auth_subject_dn",
                "or one of the tls_client_auth_san members, exactly one of all, is required");
    }
    rule["tls_subject"] = std::move(subject);
  } else if (method == SelfSignedTls) {
    if (jwks == nullptr) return at("/jwks", "is required for self_signed_tls_client_auth");
    POSTERN_TRY(rule["certificate_sha256"], thumbprints(*jwks));
  }
  return rule;
}

/// There are no redirects here, so none is registered; a malformed one is still
/// said to be (RFC 7591 §3.2.2).
Status check_redirects(Reader& reader) {
  return reader.texts(
      "redirect_uris", [](const std::string& uri, const std::string& place) -> Status {
        if (!https_uri(uri)) {
          return at(place, "must be an absolute https URL, or http on a loopback address");
        }
        return {};
      });
}

/// Refuses a member that says what only others offer.
Status check_not_offered(Reader& reader, const char* name, const char* detail) {
  const auto* value = reader.find(name);
  if (value == nullptr || (value->is_array() && value->empty())) return {};
  return at(reader.below(name), detail);
}

/// RFC 9701 §6. The metadata's own spelling counts: it is what the answer's header will say.
Status read_introspection(Reader& reader, const std::set<crypto::Algorithm>& signs,
                          ClientMetadata& metadata) {
  for (const char* name :
       {"introspection_encrypted_response_alg", "introspection_encrypted_response_enc"}) {
    POSTERN_CHECK(check_not_offered(reader, name, "is not offered: answers are not encrypted"));
  }
  std::string text;
  POSTERN_CHECK(reader.text("introspection_signed_response_alg", text, 20));
  if (text.empty()) return {};
  std::string offered;
  for (const auto algorithm : signs) {
    const auto name = crypto::to_string(algorithm);
    if (text == name) metadata.introspection_algorithm = algorithm;
    offered.append(offered.empty() ? "" : ", ").append(name);
  }
  if (metadata.introspection_algorithm) return {};
  return at(reader.below("introspection_signed_response_alg"),
            "must be one that this tenant signs with: " + offered);
}

}  // namespace

Result<ClientMetadata> read_client_metadata(const Json& value, const Registration& allowed,
                                            const std::set<crypto::Algorithm>& signs,
                                            MetadataSource source) {
  POSTERN_TRY(auto reader, Reader::of(value, ""));
  ClientMetadata metadata;
  POSTERN_CHECK(
      check_not_offered(reader, "software_statement",
                        "is not taken: no issuer of software statements is trusted here"));
  POSTERN_CHECK(check_redirects(reader));
  POSTERN_CHECK(reader.text("client_name", metadata.name, 200));
  POSTERN_CHECK(check_not_offered(reader, "response_types",
                                  "must be empty: no authorization codes are issued here"));

  POSTERN_CHECK(reader.texts("grant_types", [&](const auto& text, const auto& place) -> Status {
    const auto known = std::find_if(kGrants.begin(), kGrants.end(),
                                    [&](const auto& entry) { return entry.first == text; });
    if (known == kGrants.end() || !allowed.grants.contains(known->second)) {
      return at(place, "is not a grant type that clients may register for here");
    }
    metadata.grants.insert(known->second);
    return {};
  }));
  if (reader.find("grant_types") == nullptr) metadata.grants = allowed.grants;
  if (metadata.grants.empty()) return at("/grant_types", "must not be empty");

  std::string scope;
  POSTERN_CHECK(reader.text("scope", scope));
  if (scope.empty()) {
    metadata.scopes.all = true;
  } else {
    const auto asked = ScopeSet::parse(scope);
    if (!asked.ok()) return at("/scope", asked.error().detail);
    for (const auto& token : asked.value()) {
      if (!allowed.scopes.contains(token)) {
        return at("/scope", "has a scope that clients may not register for here");
      }
      metadata.scopes.names.insert(token);
    }
    if (metadata.scopes.names.empty()) return at("/scope", "must not be blank");
  }

  metadata.method = "client_secret_basic";  // RFC 7591 §2
  POSTERN_CHECK(reader.text("token_endpoint_auth_method", metadata.method, 100));
  const auto method = std::find_if(kMethods.begin(), kMethods.end(), [&](const auto& entry) {
    return entry.first == metadata.method;
  });
  if (method == kMethods.end() || !allowed.authentication.contains(method->second)) {
    return at("/token_endpoint_auth_method",
              "is not a way to authenticate that clients may register for here");
  }
  if (source == MetadataSource::Document) {
    if (method->second == Secret) {
      return at("/token_endpoint_auth_method", "must not be a shared secret in a public document");
    }
    POSTERN_CHECK(
        check_not_offered(reader, "client_secret", "must not stand in a public document"));
    POSTERN_CHECK(check_not_offered(reader, "client_secret_expires_at",
                                    "must not stand in a public document"));
  }
  const auto* jwks = reader.find("jwks");
  POSTERN_TRY(const auto rule, authentication_of(reader, method->second, jwks));
  auto authentication = read_authentication(rule, "");
  if (!authentication.ok()) {
    // In the words of the metadata.
    auto error = std::move(authentication).error();
    if (error.pointer.starts_with("/algorithms")) {
      error.pointer = "/token_endpoint_auth_signing_alg";
    } else if (error.pointer.starts_with("/tls_subject")) {
      error.pointer = "/tls_client_auth_subject_dn";
    }
    return error;
  }
  metadata.authentication = std::move(authentication).value();
  if (jwks != nullptr && (method->second == PrivateKeyJwt || method->second == SelfSignedTls)) {
    metadata.jwks = *jwks;
  }

  POSTERN_CHECK(reader.flag("dpop_bound_access_tokens", metadata.dpop_bound));
  metadata.dpop_bound |= allowed.dpop_bound;
  POSTERN_CHECK(
      reader.flag("tls_client_certificate_bound_access_tokens", metadata.certificate_bound));
  POSTERN_CHECK(read_introspection(reader, signs, metadata));
  return metadata;
}

Json write(const ClientMetadata& metadata, const Registration& allowed) {
  Json json{{"token_endpoint_auth_method", metadata.method},
            {"grant_types", Json::array()},
            {"response_types", Json::array()}};
  if (!metadata.name.empty()) json["client_name"] = metadata.name;
  for (const auto grant : metadata.grants) {
    json["grant_types"].push_back(std::string(spell(kGrants, grant)));
  }
  const auto& scopes = metadata.scopes.all ? allowed.scopes : metadata.scopes;
  if (!scopes.all && !scopes.names.empty()) {
    std::string text;
    for (const auto& scope : scopes.names) text += (text.empty() ? "" : " ") + scope;
    json["scope"] = text;
  }
  const auto& rule = metadata.authentication;
  if (!metadata.jwks.is_null()) json["jwks"] = metadata.jwks;
  if (!rule.jwks_uri.empty()) json["jwks_uri"] = rule.jwks_uri;
  if (rule.algorithms.size() == 1) {
    json["token_endpoint_auth_signing_alg"] =
        std::string(crypto::to_string(rule.algorithms.front()));
  }
  if (rule.tls_subject) {
    const auto& [member, name] = kTlsNames.at(static_cast<std::size_t>(rule.tls_subject->kind));
    json[member] = rule.tls_subject->value;
  }
  if (metadata.dpop_bound) json["dpop_bound_access_tokens"] = true;
  if (metadata.certificate_bound) json["tls_client_certificate_bound_access_tokens"] = true;
  if (metadata.introspection_algorithm) {
    json["introspection_signed_response_alg"] =
        std::string(crypto::to_string(*metadata.introspection_algorithm));
  }
  return json;
}

Client client_of(ClientId id, const ClientMetadata& metadata) {
  Client client;
  client.id = std::move(id);
  client.authentication = metadata.authentication;
  client.grants = metadata.grants;
  client.scopes = metadata.scopes;
  client.dpop_bound = metadata.dpop_bound;
  client.certificate_bound = metadata.certificate_bound;
  client.introspection_algorithm = metadata.introspection_algorithm;
  return client;
}

void hold_to(const std::optional<Registration>& allowed, Client& client) {
  client.backends = {};
  client.audiences.clear();
  if (!allowed || !allowed->authentication.contains(client.authentication.method)) {
    client.enabled = false;
    client.grants.clear();
    client.scopes = {};
    return;
  }
  client.backends = allowed->backends;
  client.audiences = allowed->audiences;
  std::erase_if(client.grants, [&](GrantType grant) { return !allowed->grants.contains(grant); });
  if (client.scopes.all) {
    client.scopes = allowed->scopes;
  } else {
    std::erase_if(client.scopes.names,
                  [&](const std::string& scope) { return !allowed->scopes.contains(scope); });
  }
  client.dpop_bound |= allowed->dpop_bound;
}

}  // namespace postern::policy
