#include <algorithm>

#include "core/time_format.h"
#include "crypto/base64url.h"
#include "crypto/certificate.h"
#include "policy/config_reader.h"

namespace postern::policy {

using namespace config;

namespace {

constexpr Spelling<GrantType, 3> kGrantTypes{{{"token-exchange", GrantType::TokenExchange},
                                              {"client_credentials", GrantType::ClientCredentials},
                                              {"jwt-bearer", GrantType::JwtBearer}}};
constexpr Spelling<ClientAuthentication, 5> kMethods{
    {{"client_secret", ClientAuthentication::Secret},
     {"private_key_jwt", ClientAuthentication::PrivateKeyJwt},
     {"tls_client_auth", ClientAuthentication::Tls},
     {"self_signed_tls_client_auth", ClientAuthentication::SelfSignedTls},
     {"workload_identity", ClientAuthentication::Workload}}};
constexpr Spelling<TlsSubject::Kind, 5> kNames{{{"dn", TlsSubject::Kind::Dn},
                                                {"dns", TlsSubject::Kind::Dns},
                                                {"uri", TlsSubject::Kind::Uri},
                                                {"ip", TlsSubject::Kind::Ip},
                                                {"email", TlsSubject::Kind::Email}}};

Result<TlsSubject> read_tls_subject(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  std::optional<TlsSubject> subject;
  for (const auto& [name, kind] : kNames) {
    const std::string member(name);
    if (reader.find(member.c_str()) == nullptr) continue;
    if (subject) return at(pointer, "must have exactly one of dn, dns, uri, ip and email");
    subject.emplace();
    subject->kind = kind;
    POSTERN_CHECK(reader.required_text(member.c_str(), subject->value, 1024));
  }
  POSTERN_CHECK(reader.finish());
  if (!subject) return at(pointer, "must have exactly one of dn, dns, uri, ip and email");
  return *subject;
}

Result<WorkloadRule> read_workload(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  WorkloadRule rule;
  POSTERN_CHECK(read_slug(reader, "issuer", rule.issuer));
  POSTERN_CHECK(reader.required_text("audience", rule.audience));
  POSTERN_CHECK(read_claim_rules(reader, "claims", rule.claims));
  // An issuer's every token as a credential would be everybody's.
  if (rule.claims.empty()) {
    return at(reader.below("claims"), "must name at least one claim, such as sub, and its values");
  }
  POSTERN_CHECK(reader.finish());
  return rule;
}

Result<Registered> read_registered(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  Registered registered;
  POSTERN_CHECK(reader.required_text("initial_access_token", registered.token, 100));
  std::string text;
  POSTERN_CHECK(reader.required_text("at", text, 40));
  const auto when = parse_time(text);
  if (!when) return at(reader.below("at"), "must be a time such as 2026-12-31T23:59:59Z");
  registered.at = *when;
  POSTERN_CHECK(reader.text("client_name", registered.name, 200));
  POSTERN_CHECK(reader.finish());
  return registered;
}

}  // namespace

Result<AuthenticationRule> config::read_authentication(const Json& value,
                                                       const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  AuthenticationRule rule;
  std::string text;
  POSTERN_CHECK(reader.required_text("method", text));
  POSTERN_CHECK(read_method(text, reader.below("method"), rule.method));
  using enum ClientAuthentication;
  // A member that another method reads is a misunderstanding, so it is unknown here.
  if (rule.method == PrivateKeyJwt) {
    POSTERN_CHECK(read_jwks(reader, "jwks", rule.jwks));
    POSTERN_CHECK(reader.text("jwks_uri", rule.jwks_uri));
    if (rule.jwks.empty() == rule.jwks_uri.empty()) {
      return at(pointer, "needs exactly one of jwks and jwks_uri");
    }
    if (!rule.jwks_uri.empty() && !https_uri(rule.jwks_uri)) {
      return at(reader.below("jwks_uri"), "must be an absolute https URL");
    }
    using crypto::Algorithm;
    rule.algorithms = {Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA};
    std::sort(rule.algorithms.begin(), rule.algorithms.end());
    POSTERN_CHECK(read_algorithms(reader, "algorithms", rule.algorithms));
    POSTERN_CHECK(reader.flag("token_endpoint_audience", rule.token_endpoint_audience));
    POSTERN_CHECK(reader.flag("issuer_slash_audience", rule.issuer_slash_audience));
  } else if (rule.method == Tls) {
    const auto* subject = reader.find("tls_subject");
    if (subject == nullptr) return at(reader.below("tls_subject"), "is required");
    POSTERN_TRY(rule.tls_subject, read_tls_subject(*subject, reader.below("tls_subject")));
    if (rule.tls_subject->kind == TlsSubject::Kind::Dn) {
      const auto name = crypto::DistinguishedName::parse(rule.tls_subject->value);
      if (!name.ok()) return at(reader.below("tls_subject") + "/dn", name.error().detail);
    }
  } else if (rule.method == SelfSignedTls) {
    POSTERN_CHECK(read_sorted(reader, "certificate_sha256", rule.certificate_sha256));
    if (rule.certificate_sha256.empty()) {
      return at(reader.below("certificate_sha256"), "must list the certificates of the client");
    }
    for (const auto& thumbprint : rule.certificate_sha256) {
      const auto bytes = crypto::base64url_decode(thumbprint);
      if (!bytes.ok() || bytes.value().size() != 32) {
        return at(reader.below("certificate_sha256"),
                  "must be the SHA-256 of a DER certificate in base64url, 43 characters");
      }
    }
  } else if (rule.method == Workload) {
    const auto* workload = reader.find("workload");
    if (workload == nullptr) return at(reader.below("workload"), "is required");
    POSTERN_TRY(rule.workload, read_workload(*workload, reader.below("workload")));
  }
  POSTERN_CHECK(reader.finish());
  return rule;
}

Json config::write(const AuthenticationRule& rule) {
  Json json{{"method", std::string(method_name(rule.method))}};
  if (!rule.jwks.empty()) json["jwks"] = Json::parse(rule.jwks);
  if (!rule.jwks_uri.empty()) json["jwks_uri"] = rule.jwks_uri;
  if (!rule.algorithms.empty()) json["algorithms"] = config::write(rule.algorithms);
  if (rule.token_endpoint_audience) json["token_endpoint_audience"] = true;
  if (!rule.issuer_slash_audience) json["issuer_slash_audience"] = false;
  if (rule.tls_subject) {
    json["tls_subject"][std::string(spell(kNames, rule.tls_subject->kind))] =
        rule.tls_subject->value;
  }
  if (!rule.certificate_sha256.empty()) json["certificate_sha256"] = rule.certificate_sha256;
  if (rule.workload) {
    json["workload"] = {{"issuer", rule.workload->issuer},
                        {"audience", rule.workload->audience},
                        {"claims", rule.workload->claims}};
  }
  return json;
}

Status config::read_grant(const std::string& text, const std::string& pointer, GrantType& out) {
  return read_enum(kGrantTypes, text, pointer, out);
}

std::string_view config::grant_name(GrantType grant) { return spell(kGrantTypes, grant); }

Status config::read_method(const std::string& text, const std::string& pointer,
                           ClientAuthentication& out) {
  return read_enum(kMethods, text, pointer, out);
}

std::string_view config::method_name(ClientAuthentication method) {
  return spell(kMethods, method);
}

Result<Client> read_client(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  Client client;
  std::string text;
  POSTERN_CHECK(reader.required_text("id", text, 200));
  // A URL is a client by its metadata document, never by configuration.
  if (!detail::is_name(text)) return at(reader.below("id"), ClientTag::kMessage);
  auto id = ClientId::parse(text);
  if (!id.ok()) return at(reader.below("id"), id.error().detail);
  client.id = std::move(id).value();
  POSTERN_CHECK(reader.texts("grants", [&](const auto& item, const auto& place) -> Status {
    GrantType grant{};
    POSTERN_CHECK(read_enum(kGrantTypes, item, place, grant));
    client.grants.insert(grant);
    return {};
  }));
  if (reader.find("grants") == nullptr) client.grants.insert(GrantType::TokenExchange);
  POSTERN_CHECK(reader.names("backends", client.backends));
  POSTERN_CHECK(reader.names("scopes", client.scopes));
  for (const auto& scope : client.scopes.names) {
    if (!ScopeSet::is_token(scope))
      return at(reader.below("scopes"), "has a malformed scope token");
  }
  POSTERN_CHECK(reader.texts("audiences", [&](const auto& item, const auto&) -> Status {
    client.audiences.push_back(item);
    return {};
  }));
  std::sort(client.audiences.begin(), client.audiences.end());
  text.clear();
  POSTERN_CHECK(reader.text("default_backend", text));
  if (!text.empty()) {
    auto backend = BackendId::parse(text);
    if (!backend.ok()) return at(reader.below("default_backend"), backend.error().detail);
    client.default_backend = std::move(backend).value();
  }
  if (const auto* authentication = reader.find("authentication")) {
    POSTERN_TRY(client.authentication,
                read_authentication(*authentication, reader.below("authentication")));
  }
  POSTERN_CHECK(reader.flag("dpop_bound", client.dpop_bound));
  POSTERN_CHECK(reader.flag("certificate_bound", client.certificate_bound));
  POSTERN_CHECK(reader.names("introspects", client.introspects));
  if (reader.find("introspection_algorithm") != nullptr) {
    text.clear();
    POSTERN_CHECK(reader.text("introspection_algorithm", text));
    using crypto::Algorithm;
    client.introspection_algorithm = crypto::parse_algorithm(text);
    if (client.introspection_algorithm != Algorithm::ES256 &&
        client.introspection_algorithm != Algorithm::EdDSA &&
        client.introspection_algorithm != Algorithm::RS256) {
      return at(reader.below("introspection_algorithm"), "must be one of: ES256, EdDSA, RS256");
    }
  }
  POSTERN_CHECK(reader.flag("enabled", client.enabled));
  if (const auto* registered = reader.find("registered")) {
    POSTERN_TRY(client.registered, read_registered(*registered, reader.below("registered")));
    const bool own = client.backends.all || !client.backends.names.empty() ||
                     client.introspects.all || !client.introspects.names.empty() ||
                     !client.audiences.empty() || client.default_backend ||
                     client.authentication.method == ClientAuthentication::Workload;
    if (own) {
      return at(reader.below("registered"),
                "gives the client what settings.registration says; leave it out to give the "
                "client backends, audiences, introspects or a workload of its own");
    }
  }
  POSTERN_CHECK(reader.finish());
  return client;
}

Json write(const Client& client) {
  Json json{{"id", client.id.str()},
            {"grants", Json::array()},
            {"backends", config::write(client.backends)},
            {"scopes", config::write(client.scopes)},
            {"audiences", client.audiences},
            {"enabled", client.enabled}};
  for (const auto grant : client.grants) {
    json["grants"].push_back(std::string(spell(kGrantTypes, grant)));
  }
  // What is as it always was is not written, so that stored text stays the same.
  if (client.authentication.method != ClientAuthentication::Secret) {
    json["authentication"] = config::write(client.authentication);
  }
  if (client.dpop_bound) json["dpop_bound"] = true;
  if (client.certificate_bound) json["certificate_bound"] = true;
  if (client.introspects.all || !client.introspects.names.empty()) {
    json["introspects"] = config::write(client.introspects);
  }
  if (client.introspection_algorithm) {
    json["introspection_algorithm"] =
        std::string(crypto::to_string(*client.introspection_algorithm));
  }
  if (client.default_backend) json["default_backend"] = client.default_backend->str();
  if (client.registered) {
    auto& registered = json["registered"] = {{"initial_access_token", client.registered->token},
                                             {"at", format_time(client.registered->at)}};
    if (!client.registered->name.empty()) registered["client_name"] = client.registered->name;
  }
  return json;
}

}  // namespace postern::policy
