#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "core/result.h"
#include "crypto/signature.h"
#include "token/json.h"

namespace postern::policy {

enum class ClientAuthentication;
struct Backend;
struct Client;
struct TenantSettings;
struct TrustedIssuer;

/// A policy engine outside that is asked for each decision (grants/decision_point.h).
struct DecisionPointRule {
  std::string url;                         ///< https; of a decision in OPA's data API
  std::chrono::milliseconds timeout{500};  ///< for one answer
  std::chrono::seconds cache_for{5};       ///< how long one counts
  bool operator==(const DecisionPointRule&) const = default;
};

/// What the operator sets for a tenant and none of its admins can pass. Held
/// twice: a configuration that goes beyond is refused, and whatever was
/// configured before the guardrail, nothing is issued beyond it. An absent
/// member limits nothing; an empty set allows nothing.
struct Guardrails {
  std::optional<std::chrono::seconds> max_token_lifetime;
  std::optional<std::set<std::string, std::less<>>> issuers;  ///< exact `iss` values
  /// Off: every token for a user names in `act` who acts for them.
  bool impersonation = true;
  std::optional<std::set<ClientAuthentication>> client_authentication;
  std::optional<std::set<crypto::Algorithm>> signing_algorithms;  ///< of tokens issued here

  bool reveal = true;     ///< off: no admin is ever shown a stored value
  bool vault_api = true;  ///< off: the tenant does not answer to Vault's API

  std::optional<DecisionPointRule> decision_point;  ///< none: only the tenant's policy decides

  bool allows_issuer(std::string_view iss) const {
    return !issuers || issuers->find(iss) != issuers->end();
  }
  bool allows(ClientAuthentication method) const {
    return !client_authentication || client_authentication->count(method) != 0;
  }
  bool allows_signing(crypto::Algorithm algorithm) const {
    return !signing_algorithms || signing_algorithms->count(algorithm) != 0;
  }
  bool operator==(const Guardrails&) const = default;
};

Result<Guardrails> read_guardrails(const token::Json& value, const std::string& pointer);
token::Json write(const Guardrails& guardrails);  ///< set members only

/// Where a part of the configuration goes beyond the guardrails.
struct Breach {
  std::string member;  ///< of the object
  std::string detail;
};
std::optional<Breach> breach(const Guardrails& guardrails, const TenantSettings& settings);
std::optional<Breach> breach(const Guardrails& guardrails, const TrustedIssuer& issuer);
std::optional<Breach> breach(const Guardrails& guardrails, const Client& client);
std::optional<Breach> breach(const Guardrails& guardrails, const Backend& backend);

}  // namespace postern::policy
