#include "policy/guardrails.h"

#include "policy/config.h"
#include "policy/config_reader.h"

namespace postern::policy {

using namespace config;

namespace {

/// `…/v1/data/<path>` and no query; OPA may stand below a path of its own.
bool names_decision(const std::string& url) {
  constexpr std::string_view kData = "/v1/data/";
  const auto data = url.find(kData, url.find("://") + 3);
  return data != url.npos && data + kData.size() < url.size() && url.find('?') == url.npos &&
         url.find("..") == url.npos && url.find('%') == url.npos;
}

Result<DecisionPointRule> read_decision_point(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  DecisionPointRule rule;
  POSTERN_CHECK(reader.required_text("url", rule.url));
  // The path of a decision in OPA's data API, and nothing that would change what is asked.
  if (!https_uri(rule.url) || !names_decision(rule.url)) {
    return at(reader.below("url"),
              "must be the https URL of a decision, such as https://opa.example/v1/data/postern");
  }
  POSTERN_TRY(const auto milliseconds, reader.number("timeout_ms", 500, 50, 2000));
  rule.timeout = std::chrono::milliseconds(milliseconds);
  POSTERN_CHECK(reader.duration("cache_for", rule.cache_for, 0, 60));
  POSTERN_CHECK(reader.finish());
  return rule;
}

}  // namespace

Result<Guardrails> read_guardrails(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  Guardrails guardrails;
  if (reader.find("max_token_lifetime") != nullptr) {
    seconds lifetime{};
    POSTERN_CHECK(reader.duration("max_token_lifetime", lifetime, 10, 3600));
    guardrails.max_token_lifetime = lifetime;
  }
  if (reader.find("issuers") != nullptr) {
    guardrails.issuers.emplace();
    POSTERN_CHECK(reader.texts("issuers", [&](const auto& text, const auto& place) -> Status {
      // Google signs for either spelling.
      if (!https_uri(text) && text != "accounts.google.com") {
        return at(place, "must be an absolute https URL, exactly as in the iss claim");
      }
      guardrails.issuers->insert(text);
      return {};
    }));
  }
  POSTERN_CHECK(reader.flag("impersonation", guardrails.impersonation));
  POSTERN_CHECK(reader.flag("reveal", guardrails.reveal));
  POSTERN_CHECK(reader.flag("vault_api", guardrails.vault_api));
  if (reader.find("client_authentication") != nullptr) {
    guardrails.client_authentication.emplace();
    POSTERN_CHECK(
        reader.texts("client_authentication", [&](const auto& text, const auto& place) -> Status {
          ClientAuthentication method{};
          POSTERN_CHECK(read_method(text, place, method));
          guardrails.client_authentication->insert(method);
          return {};
        }));
  }
  if (reader.find("signing_algorithms") != nullptr) {
    guardrails.signing_algorithms.emplace();
    POSTERN_CHECK(
        reader.texts("signing_algorithms", [&](const auto& text, const auto& place) -> Status {
          crypto::Algorithm algorithm{};
          POSTERN_CHECK(read_algorithm(text, place, algorithm));
          guardrails.signing_algorithms->insert(algorithm);
          return {};
        }));
  }
  if (const auto* point = reader.find("decision_point")) {
    POSTERN_TRY(guardrails.decision_point,
                read_decision_point(*point, reader.below("decision_point")));
  }
  POSTERN_CHECK(reader.finish());
  return guardrails;
}

Json write(const Guardrails& guardrails) {
  Json json = Json::object();
  if (guardrails.max_token_lifetime) {
    json["max_token_lifetime"] = guardrails.max_token_lifetime->count();
  }
  if (guardrails.issuers) json["issuers"] = *guardrails.issuers;
  if (!guardrails.impersonation) json["impersonation"] = false;
  if (!guardrails.reveal) json["reveal"] = false;
  if (!guardrails.vault_api) json["vault_api"] = false;
  if (guardrails.client_authentication) {
    auto& methods = json["client_authentication"] = Json::array();
    for (const auto method : *guardrails.client_authentication) {
      methods.push_back(std::string(method_name(method)));
    }
  }
  if (const auto& point = guardrails.decision_point) {
    json["decision_point"] = {{"url", point->url},
                              {"timeout_ms", point->timeout.count()},
                              {"cache_for", point->cache_for.count()}};
  }
  if (guardrails.signing_algorithms) {
    auto& algorithms = json["signing_algorithms"] = Json::array();
    for (const auto algorithm : *guardrails.signing_algorithms) {
      algorithms.push_back(std::string(crypto::to_string(algorithm)));
    }
  }
  return json;
}

std::optional<Breach> breach(const Guardrails& guardrails, const TenantSettings& settings) {
  if (!guardrails.max_token_lifetime ||
      settings.max_token_lifetime <= *guardrails.max_token_lifetime) {
    return std::nullopt;
  }
  return Breach{"max_token_lifetime", "is longer than the operator's guardrail for this tenant, " +
                                          std::to_string(guardrails.max_token_lifetime->count()) +
                                          " seconds"};
}

std::optional<Breach> breach(const Guardrails& guardrails, const TrustedIssuer& issuer) {
  if (guardrails.allows_issuer(issuer.issuer)) return std::nullopt;
  return Breach{"issuer", "is not among the issuers that the operator allows this tenant"};
}

std::optional<Breach> breach(const Guardrails& guardrails, const Client& client) {
  if (guardrails.allows(client.authentication.method)) return std::nullopt;
  return Breach{"authentication",
                "is not a way to authenticate that the operator allows this tenant's clients"};
}

std::optional<Breach> breach(const Guardrails& guardrails, const Backend& backend) {
  if (backend.answer == AnswerKind::Vaulted ||
      guardrails.allows_signing(backend.signing_algorithm)) {
    return std::nullopt;
  }
  return Breach{"signing_algorithm", "is not one that the operator allows this tenant"};
}

}  // namespace postern::policy
