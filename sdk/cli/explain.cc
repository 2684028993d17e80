#include <algorithm>

#include "cli/commands.h"
#include "cli/output.h"
#include "postern/json.h"
#include "postern/secret_file.h"

namespace postern::cli {
namespace {

using sdk::ErrorKind;
using sdk::Json;

std::string text_of(const Json& json, const char* name) {
  const auto it = json.find(name);
  return it != json.end() && it->is_string() ? printable(it->get<std::string>()) : std::string();
}

const Json& list_of(const Json& json, const char* name) {
  static const Json kNone = Json::array();
  const auto it = json.find(name);
  return it != json.end() && it->is_array() ? *it : kNone;
}

/// "developer: files:*, reader: files:files:read"
std::string rules(const Json& matched) {
  std::string out;
  for (const auto& rule : matched) {
    out += (out.empty() ? "" : ", ") + text_of(rule, "role") + ": " + text_of(rule, "permission");
  }
  return out;
}

std::string scope_line(const Json& scope) {
  const auto name = text_of(scope, "scope");
  std::string out = "  " + (name.empty() ? "(all of it)" : name);
  const bool granted = scope.value("granted", false);
  std::string closed;
  for (const auto& what : list_of(scope, "closed_by")) {
    if (what.is_string()) {
      closed += (closed.empty() ? "" : ", ") + printable(what.get<std::string>());
    }
  }
  out += granted ? "  granted" : closed.empty() ? "  open" : "  closed by " + closed;
  if (const auto by = rules(list_of(scope, "allowed_by")); !by.empty()) out += "; allowed by " + by;
  if (const auto by = rules(list_of(scope, "denied_by")); !by.empty()) out += "; denied by " + by;
  return out + "\n";
}

/// The names a hint is about, besides its kind and text.
std::string names_in(const Json& hint) {
  std::string out;
  for (const auto& [name, value] : hint.items()) {
    if (name == "kind" || name == "text") continue;
    const auto shown_value = value.is_string()
                                 ? value.get<std::string>()
                                 : value.dump(-1, ' ', true, Json::error_handler_t::replace);
    out += (out.empty() ? "" : ", ") + printable(name) + " " + printable(shown_value);
  }
  return out;
}

std::string for_people(const Json& json, bool allowed) {
  std::string out = allowed ? "allowed" : "refused";
  if (text_of(json, "grant") == "release") out += "  by release";
  if (const auto backend = text_of(json, "backend"); !backend.empty()) out += "  " + backend;
  if (allowed) {
    if (const auto scope = text_of(json, "scope"); !scope.empty()) out += "  " + scope;
    if (const auto it = json.find("max_expires_in"); it != json.end() && it->is_number_integer()) {
      out += "  for at most " + std::to_string(it->get<std::int64_t>()) + " s";
    }
    if (json.value("names_actor", false)) out += "  naming who acts";
    out += '\n';
  } else {
    out += "\nat       " + text_of(json, "refused_by") + "\nreason   " + text_of(json, "reason") +
           "\n";
  }
  std::string roles;
  for (const auto& role : list_of(json, "roles")) {
    roles += (roles.empty() ? "" : ", ") + text_of(role, "role") + " (by " +
             text_of(role, "binding") + ")";
  }
  out += "roles    " + (roles.empty() ? "none" : roles) + "\n";
  if (!list_of(json, "scopes").empty()) out += "scopes\n";
  for (const auto& scope : list_of(json, "scopes")) out += scope_line(scope);
  if (const auto point = json.find("decision_point"); point != json.end() && point->is_object()) {
    out += "decision point  " + text_of(*point, "answer");
    if (point->contains("scope")) out += ", at most: " + text_of(*point, "scope");
    out += '\n';
  }
  if (const auto it = json.find("credential"); it != json.end() && it->is_object()) {
    out += "credential  " + text_of(*it, "name") + " of the " + text_of(*it, "owner") + "\n";
  }
  for (const auto& tool : list_of(json, "tools")) {
    out += "tools    " + text_of(tool, "tool") + " (" + text_of(tool, "role") + " by " +
           text_of(tool, "binding") + ")\n";
  }
  if (const auto& details = list_of(json, "authorization_details"); !details.empty()) {
    out += "limited to  " + printable(details.dump(-1, ' ', true, Json::error_handler_t::replace)) +
           "\n";
  }
  if (!list_of(json, "would_allow").empty()) out += "what would allow it\n";
  for (const auto& hint : list_of(json, "would_allow")) {
    out += "  " + text_of(hint, "text");
    if (const auto names = names_in(hint); !names.empty()) out += ": " + names;
    out += '\n';
  }
  return out;
}

}  // namespace

int run_explain(const Settings& settings, const ExplainOptions& options) {
  constexpr const char* kDoing = "explain";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  sdk::ExplainQuestion question;
  question.client = options.client;
  question.issuer = options.issuer;
  question.subject = options.subject;
  question.groups = options.groups;
  question.token_scope = options.token_scope;
  question.audience = options.target;
  question.scope = options.scope;
  question.grant = options.grant;
  question.authorization_details = options.authorization_details;
  for (const auto& claim : options.claims) {
    const auto equals = claim.find('=');
    if (equals == claim.npos || equals == 0) {
      return report(sdk::fail(ErrorKind::Usage, "--claim takes NAME=VALUE"), kDoing);
    }
    question.claims.emplace_back(claim.substr(0, equals), claim.substr(equals + 1));
  }
  std::optional<SubjectToken> token;
  if (options.subject.empty() && !options.as_client) {
    if (settings.subject_token_file.empty()) {
      return report(sdk::fail(ErrorKind::Usage,
                              "who asks? --issuer and --subject, --subject-token-file, or "
                              "--as-client"),
                    kDoing);
    }
    auto read = subject_token(settings);
    if (!read.ok()) return report(read.error(), kDoing);
    token.emplace(std::move(read).value());
    question.subject_token = &*token;
    // An assertion is of one type.
    if (options.grant != "jwt-bearer") {
      question.subject_token_type = token_type_urn(settings.subject_token_type);
    }
  }
  question.actor = options.actor;
  question.actor_issuer = options.actor_issuer;
  std::optional<ActorToken> actor;
  if (!options.actor_token_file.empty()) {
    auto read = sdk::read_token_file(options.actor_token_file, "actor token");
    if (!read.ok()) return report(read.error(), kDoing);
    actor.emplace(std::move(read).value());
    question.actor_token = &*actor;
    question.actor_token_type = token_type_urn(options.actor_token_type);
  }
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto answer = client.value().explain(tenant.value(), question);
  if (!answer.ok()) return report(answer.error(), kDoing);
  const auto json = sdk::parse_json(answer.value());
  if (!json.ok()) return report(json.error(), kDoing);
  const auto& explanation = *json.value();
  const bool allowed = explanation.is_object() && explanation.value("allowed", false);
  const auto printed =
      print(settings.json ? explanation.dump(2, ' ', true, Json::error_handler_t::replace) + "\n"
                          : for_people(explanation, allowed));
  if (!printed.ok()) return report(printed.error(), "");
  return allowed ? exit_code::kOk : exit_code::kRefused;
}

}  // namespace postern::cli
