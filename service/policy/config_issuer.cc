#include <algorithm>

#include "policy/config_reader.h"

namespace postern::policy {

using namespace config;

namespace {

constexpr Spelling<SubjectTokenType, 5> kTokenTypes{
    {{"access_token", SubjectTokenType::AccessToken},
     {"jwt", SubjectTokenType::Jwt},
     {"id_token", SubjectTokenType::IdToken},
     {"id_jag", SubjectTokenType::IdJag},
     {"jwt_bearer", SubjectTokenType::JwtBearer}}};

/// Google's ID tokens of old name this instead of a URL.
constexpr std::string_view kBareGoogle = "accounts.google.com";

/// Entra ID's documents for many tenants speak of issuers that no token names.
bool entra_template(std::string_view issuer) {
  const auto scheme = issuer.find("://");
  if (scheme == std::string_view::npos) return false;
  const auto rest = issuer.substr(scheme + 3);
  const auto host = rest.substr(0, rest.find('/'));
  if (host != "sts.windows.net" && host.find("login.microsoftonline.") != 0 &&
      host.find("login.partner.microsoftonline.") != 0) {
    return false;
  }
  const auto path = rest.substr(std::min(host.size() + 1, rest.size()));
  const auto tenant = path.substr(0, path.find('/'));
  for (const std::string_view word : {"", "common", "organizations", "consumers"}) {
    if (tenant == word) return true;
  }
  return tenant.find_first_of("{}%") != std::string_view::npos;
}

Result<Introspection> read_introspection(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  Introspection introspection;
  POSTERN_CHECK(reader.required_text("endpoint", introspection.endpoint));
  if (!https_uri(introspection.endpoint)) {
    return at(reader.below("endpoint"), "must be an absolute https URL");
  }
  POSTERN_CHECK(reader.required_text("client_id", introspection.client_id, 512));
  std::string name;
  POSTERN_CHECK(reader.required_text("credential", name, 200));
  auto credential = CredentialName::parse(name);
  if (!credential.ok()) return at(reader.below("credential"), credential.error().detail);
  introspection.credential = std::move(credential).value();
  POSTERN_CHECK(reader.duration("cache_for", introspection.cache_for, 0, 300));
  POSTERN_CHECK(reader.finish());
  return introspection;
}

}  // namespace

Result<TrustedIssuer> read_issuer(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  TrustedIssuer issuer;
  POSTERN_CHECK(read_slug(reader, "name", issuer.name));
  POSTERN_CHECK(reader.required_text("issuer", issuer.issuer));
  if (entra_template(issuer.issuer)) {
    return at(reader.below("issuer"),
              "must be one Entra tenant's issuer, with its id in place of common or a template: "
              "https://login.microsoftonline.com/<tenant id>/v2.0, or "
              "https://sts.windows.net/<tenant id>/ for v1 tokens");
  }
  if (issuer.issuer != kBareGoogle && !https_uri(issuer.issuer)) {
    return at(reader.below("issuer"), "must be an absolute https URL, exactly as in the iss claim");
  }

  POSTERN_CHECK(read_jwks(reader, "jwks", issuer.jwks));
  POSTERN_CHECK(reader.text("jwks_uri", issuer.jwks_uri));
  POSTERN_CHECK(reader.flag("discovery", issuer.discovery));
  if (const auto* introspection = reader.find("introspection")) {
    POSTERN_TRY(issuer.introspection,
                read_introspection(*introspection, reader.below("introspection")));
  }
  const int sources = !issuer.jwks.empty() + !issuer.jwks_uri.empty() + issuer.discovery;
  // Without keys an issuer has opaque tokens alone.
  if (sources > 1 || (sources == 0 && !issuer.introspection)) {
    return at(reader.pointer(), "needs exactly one of jwks, jwks_uri and discovery: true");
  }
  if (issuer.discovery && issuer.issuer == kBareGoogle) {
    return at(reader.below("discovery"),
              "needs a URL as issuer; use jwks_uri: https://www.googleapis.com/oauth2/v3/certs");
  }
  if (!issuer.jwks_uri.empty() && !https_uri(issuer.jwks_uri)) {
    return at(reader.below("jwks_uri"), "must be an absolute https URL");
  }

  {
    using crypto::Algorithm;
    issuer.algorithms = {Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA};
    std::sort(issuer.algorithms.begin(), issuer.algorithms.end());
  }
  POSTERN_CHECK(read_algorithms(reader, "algorithms", issuer.algorithms));
  POSTERN_CHECK(read_sorted(reader, "audiences", issuer.audiences));
  if (issuer.audiences.empty()) {
    return at(reader.below("audiences"),
              "must name the aud values that tokens for this gateway carry");
  }

  POSTERN_CHECK(reader.texts("token_types", [&](const auto& text, const auto& place) -> Status {
    SubjectTokenType type{};
    POSTERN_CHECK(read_enum(kTokenTypes, text, place, type));
    issuer.token_types.insert(type);
    return {};
  }));
  if (reader.find("token_types") == nullptr) {
    issuer.token_types = {SubjectTokenType::AccessToken, SubjectTokenType::Jwt,
                          SubjectTokenType::IdToken};
  }
  if (issuer.token_types.empty()) return at(reader.below("token_types"), "must not be empty");

  if (const auto* claims = reader.find("claims")) {
    POSTERN_TRY(auto mapping, Reader::of(*claims, reader.below("claims")));
    POSTERN_CHECK(mapping.text("subject", issuer.claims.subject, 200));
    POSTERN_CHECK(mapping.text("groups", issuer.claims.groups, 200));
    POSTERN_CHECK(mapping.text("scope", issuer.claims.scope, 200));
    POSTERN_CHECK(mapping.finish());
    if (issuer.claims.subject.empty()) {
      return at(mapping.below("subject"), "must not be empty");
    }
    // Mutable or reassignable names would let one person inherit another's
    // credentials (a user name against an immutable id).
    const auto& subject = issuer.claims.subject;
    const auto last = subject.substr(subject.front() == '/' ? subject.rfind('/') + 1 : 0);
    for (const char* mutable_claim : {"email", "preferred_username", "upn", "unique_name", "name",
                                      "nickname", "phone_number", "login", "username"}) {
      if (last == mutable_claim) {
        return at(mapping.below("subject"),
                  "must be an immutable identifier such as sub or oid, not a name or e-mail");
      }
    }
  }
  POSTERN_CHECK(reader.text("subject_prefix", issuer.subject_prefix, 32));
  if (!issuer.subject_prefix.empty() &&
      (issuer.subject_prefix.back() != ':' ||
       !detail::is_slug(
           std::string_view(issuer.subject_prefix).substr(0, issuer.subject_prefix.size() - 1)))) {
    return at(reader.below("subject_prefix"),
              "must be lower-case letters, digits or hyphens, then a colon");
  }
  if (reader.find("max_token_age") != nullptr) {
    seconds age{};
    POSTERN_CHECK(reader.duration("max_token_age", age, 10, 86400 * 30));
    issuer.max_token_age = age;
  }
  POSTERN_CHECK(reader.texts("header_types", [&](const auto& text, const auto&) -> Status {
    std::string type = text;
    std::transform(type.begin(), type.end(), type.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    if (type.starts_with("application/")) type.erase(0, 12);
    issuer.header_types.push_back(std::move(type));
    return {};
  }));
  for (const auto& type : issuer.header_types) {
    // RFC 8725 §3.11: these name tokens of another kind, which must never pass as a user's.
    for (const char* foreign : {"dpop+jwt", "client-authentication+jwt", "secevent+jwt",
                                "logout+jwt", "token-introspection+jwt", "oauth-id-jag+jwt"}) {
      if (type == foreign) {
        return at(reader.below("header_types"), "names a kind of token that is no user's token");
      }
    }
  }
  std::sort(issuer.header_types.begin(), issuer.header_types.end());
  POSTERN_CHECK(read_claim_rules(reader, "required_claims", issuer.required_claims));
  POSTERN_CHECK(reader.flag("id_jag_reuse", issuer.id_jag_reuse));
  POSTERN_CHECK(reader.flag("enabled", issuer.enabled));
  POSTERN_CHECK(reader.finish());
  return issuer;
}

Json write(const TrustedIssuer& issuer) {
  Json json{{"name", issuer.name},
            {"issuer", issuer.issuer},
            {"audiences", issuer.audiences},
            {"claims",
             {{"subject", issuer.claims.subject},
              {"groups", issuer.claims.groups},
              {"scope", issuer.claims.scope}}},
            {"subject_prefix", issuer.subject_prefix},
            {"algorithms", config::write(issuer.algorithms)},
            {"enabled", issuer.enabled}};
  for (const auto type : issuer.token_types) {
    json["token_types"].push_back(std::string(spell(kTokenTypes, type)));
  }
  if (!issuer.jwks.empty()) json["jwks"] = Json::parse(issuer.jwks);
  if (!issuer.jwks_uri.empty()) json["jwks_uri"] = issuer.jwks_uri;
  if (issuer.discovery) json["discovery"] = true;
  if (issuer.max_token_age) json["max_token_age"] = issuer.max_token_age->count();
  if (!issuer.header_types.empty()) json["header_types"] = issuer.header_types;
  if (!issuer.required_claims.empty()) json["required_claims"] = issuer.required_claims;
  if (const auto& asked = issuer.introspection) {
    json["introspection"] = {{"endpoint", asked->endpoint},
                             {"client_id", asked->client_id},
                             {"credential", asked->credential.str()},
                             {"cache_for", asked->cache_for.count()}};
  }
  if (issuer.id_jag_reuse) json["id_jag_reuse"] = true;
  return json;
}

}  // namespace postern::policy
