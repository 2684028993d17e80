#include "grants/explain.h"

#include <algorithm>

#include "core/time_format.h"
#include "grants/entitlement.h"
#include "grants/jwt_bearer.h"
#include "grants/release.h"
#include "grants/token_exchange.h"

namespace postern::grants {

using namespace policy;
using token::Json;

namespace {

constexpr std::size_t kMaxHints = 50;

Json by_json(const Matched& matched) {
  return {{"role", matched.by.role->name},
          {"binding", matched.by.binding->name},
          {"permission", matched.permission->str()}};
}

class Explainer {
 public:
  Explainer(const TenantSnapshot& snapshot, const Question& question, sys_seconds now,
            DecisionPoint* point, Wait wait, vault::CredentialStore* credentials)
      : snapshot_(snapshot),
        question_(question),
        client_(*question.client),
        now_(now),
        point_(point),
        wait_(wait),
        credentials_(credentials) {}

  Explanation run() {
    door_ = door();
    auto decided = decide();
    if (!decided.ok()) {
      out_.refusal = std::move(decided).error();
      if (out_.hints.empty()) hint("request", "the request itself must be another", {});
    }
    out_.names_actor =
        question_.subject != nullptr && (acted_ || !snapshot_.settings().guardrails.impersonation);
    return std::move(out_);
  }

 private:
  /// The way of a request through service/grants.
  Status decide() {
    if (!question_.for_user() && question_.tools) {
      out_.refused_by = "tools";
      return fail(ErrorCode::InvalidAuthorizationDetails,
                  "authorization_details are for the tokens of users");
    }
    out_.refused_by = "client";
    POSTERN_CHECK(check_grant());
    if (const auto& refused = question_.refused) {
      out_.refused_by = refused->by;
      hint(refused->by.c_str(), refused->hint, {});
      return refused->error;
    }
    if (question_.subject) POSTERN_CHECK(check_who_acts());
    auto target = question_.assertion ? target_of(snapshot_, client_, *question_.assertion,
                                                  question_.audiences, question_.resources)
                                      : resolve_target(snapshot_, client_, question_.audiences,
                                                       question_.resources);
    if (!target.ok()) {
      explain_target(target.error());
      return std::move(target).error();
    }
    const auto& backend = *target.value().backend;
    out_.backend = &backend;
    out_.audience = target.value().audience;
    if (question_.subject) out_.tools = tools_of_roles(snapshot_, backend, *question_.subject);
    if ((!question_.subject || jwt_bearer()) && backend.answer == AnswerKind::Vaulted) {
      out_.refused_by = "target";
      hint("target",
           "a stored credential is no answer to this grant; exchange the user's token, or release",
           {});
      return fail(ErrorCode::TargetRefused, "this backend takes a stored credential, not a token");
    }
    if (question_.subject && door_ == Door::Exchange) {
      if (auto answers = check_answers_exchange(backend); !answers.ok()) {
        out_.refused_by = "target";
        hint("target", "ask the release endpoint, or give the backend a token_field",
             {{"backend", backend.name.str()}});
        return answers;
      }
    }

    auto permitted = question_.subject
                         ? entitled_scope(snapshot_, client_, backend, *question_.subject,
                                          question_.scope, now_, outside(), &out_.trace)
                         : entitled_scope_of_client(snapshot_, client_, backend, question_.scope,
                                                    outside(), &out_.trace);
    if (!permitted.ok()) {
      const auto code = permitted.error().code;
      // Nothing else in the way of a decision can fail to answer.
      const bool outside = out_.decision.has_value() || code == ErrorCode::Unavailable ||
                           code == ErrorCode::NeedsOutbound;
      if (code == ErrorCode::InsufficientAuthentication) {
        out_.refused_by = "authentication";
        explain_authentication(backend.require);
      } else if (outside) {
        out_.refused_by = "decision_point";
        hint("decision_point",
             out_.decision ? "the operator's decision point does not allow it"
                           : "the operator's decision point did not answer",
             {});
      } else {
        out_.refused_by = code == ErrorCode::TargetRefused ? "roles" : "ceilings";
        explain_scopes(backend, asked());
      }
      return std::move(permitted).error();
    }
    out_.permitted = permitted.value();
    if (question_.assertion) {
      limit_to_assertion(*question_.assertion);
      permitted = within_assertion(*question_.assertion, backend, std::move(permitted).value());
      if (!permitted.ok()) {
        out_.refused_by = "ceilings";
        explain_scopes(backend, asked());
        return std::move(permitted).error();
      }
    }
    POSTERN_CHECK(decide_tools(target.value()));
    if (question_.subject && backend.answer == AnswerKind::Vaulted) {
      POSTERN_CHECK(check_who_opens_vault());
    } else if (door_ == Door::Release && question_.subject) {
      POSTERN_CHECK(passes_on(actor_chain(*question_.subject, nullptr, client_)));
    }
    auto granted = narrow_scope(permitted.value(), question_.scope);
    if (!granted.ok()) {
      out_.refused_by = "request";
      explain_scopes(backend, asked());
      return std::move(granted).error();
    }
    if (backend.answer == AnswerKind::Vaulted) {
      if (auto whole = check_whole_backend(backend, permitted.value()); !whole.ok()) {
        out_.refused_by = "credential";
        explain_scopes(backend, std::nullopt);
        return whole;
      }
      POSTERN_CHECK(look_for_credential(backend));
      out_.granted = backend.scopes;
    } else {
      if (auto signing = check_signing(snapshot_, backend); !signing.ok()) {
        out_.refused_by = "guardrails";
        hint("guardrail", "an operator must allow the algorithm, or the backend take another",
             {{"backend", backend.name.str()}});
        return signing;
      }
      out_.granted = std::move(granted).value();
    }
    out_.refused_by.clear();
    return {};
  }

  using Door = Question::Grant;
  bool jwt_bearer() const { return door_ == Door::JwtBearer; }

  /// Where nobody said how it is asked, the one that can answer.
  Door door() const {
    if (question_.grant) return *question_.grant;
    if (!question_.subject || question_.subject->own || question_.actor) return Door::Exchange;
    // Whether the client may have it does not change which door it is behind.
    const auto& audiences = question_.audiences;
    const auto& resources = question_.resources;
    const auto named = audiences.size() + resources.size();
    const auto* backend =
        named == 1 ? snapshot_.resolve(audiences.empty() ? resources.front() : audiences.front())
        : named == 0 && client_.default_backend ? snapshot_.resolve(client_.default_backend->str())
                                                : nullptr;
    const bool answers = backend == nullptr || check_answers_exchange(*backend).ok();
    return answers ? Door::Exchange : Door::Release;
  }

  Status check_grant() {
    struct Named {
      GrantType type;
      const char* name;
      const char* refusal;
    };
    const Named asked =
        !question_.for_user() ? Named{GrantType::ClientCredentials, "client_credentials",
                                      "this client may not use client_credentials"}
        : jwt_bearer()
            ? Named{GrantType::JwtBearer, "jwt-bearer", "this client may not use jwt-bearer"}
        : door_ == Door::Release
            ? Named{GrantType::TokenExchange, "token-exchange", "this client may not act for users"}
            : Named{GrantType::TokenExchange, "token-exchange",
                    "this client may not exchange tokens"};
    out_.grant = door_ == Door::Release && question_.for_user() ? "release" : asked.name;
    if (client_.grants.count(asked.type) != 0) return {};
    hint("client_grant", "the client may not use this grant; add it to its grants",
         {{"client", client_.id.str()}, {"grant", asked.name}});
    return fail(ErrorCode::UnauthorizedClient, asked.refusal);
  }

  Status check_who_acts() {
    const auto& subject = *question_.subject;
    if (door_ != Door::Release) {
      return passes_on(check_parties(snapshot_, client_, subject, question_.actor.get()));
    }
    // What is stored has no `act`.
    const auto may = check_may_act(subject, nullptr, snapshot_, client_);
    return may.ok() ? Status() : passes_on(may.error());
  }

  /// The `act` of what is issued, or what stands against it.
  Status passes_on(const Result<Json>& act) {
    if (act.ok()) {
      acted_ = !act.value().is_null();
      return {};
    }
    const auto& subject = *question_.subject;
    const auto* actor = question_.actor.get();
    out_.refused_by = actor != nullptr ? "actor" : "subject";
    if (!subject.may_act.is_null()) {
      hint("subject",
           actor != nullptr ? "the subject token names in may_act who may act, and not this actor"
                            : "the subject token names in may_act who may act, and not this client",
           {});
    } else if (subject.own && subject.own->of_client) {
      hint("subject", "send a token of the user", {});
    } else if (actor != nullptr && !actor->act.is_null()) {
      hint("actor", "send a token that the actor got for itself", {});
    } else {
      hint("subject", "send the user's own token, which fewer have passed on", {});
    }
    Error error = act.error();
    if (jwt_bearer()) error.code = ErrorCode::InvalidGrant;
    return error;
  }

  Status check_who_opens_vault() {
    if (auto actor = check_vaulted_actor(question_.actor.get()); !actor.ok()) {
      out_.refused_by = "actor";
      hint("actor", "ask without the actor", {});
      return actor;
    }
    if (auto opens = check_opens_vault(*question_.subject); !opens.ok()) {
      out_.refused_by = "subject";
      hint("subject", "send the user's own token", {});
      return opens;
    }
    return {};
  }

  /// As Release::open_credential() looks for it, but opens nothing.
  Status look_for_credential(const Backend& backend) {
    if (credentials_ == nullptr) return {};
    if (wait_ == Wait::No) return fail(ErrorCode::NeedsDatabase, "");
    out_.refused_by = "credential";
    const auto missing = [&](Error error) -> Status {
      using Rule = CredentialOwnerRule;
      const auto rule = backend.credential_owner;
      hint("credential", "store the credential, or let the user connect",
           {{"credential", backend.credential->str()},
            {"owner", rule == Rule::Tenant      ? "tenant"
                      : rule == Rule::Principal ? "principal"
                                                : "principal or tenant"}});
      return error;
    };
    for (const auto& key : credentials_for(backend, question_.subject->principal)) {
      auto stored = credentials_->metadata(snapshot_.tenant(), key);
      if (!stored.ok() && stored.error().code == ErrorCode::NotFound) continue;
      POSTERN_CHECK(stored);
      if (stored.value().state() != vault::VersionState::Live) continue;
      if (auto ended = check_not_ended(stored.value().expires_at, now_); !ended.ok()) {
        return missing(std::move(ended).error());
      }
      if (!has_fields(backend, stored.value().field_names)) {
        return missing(door_ == Door::Release ? lacks_field() : lacks_token_field());
      }
      out_.credential = std::move(stored).value();
      return {};
    }
    return missing(no_credential(backend));
  }

  bool has_fields(const Backend& backend, const std::vector<std::string>& names) const {
    const auto has = [&](const std::string& field) {
      return std::find(names.begin(), names.end(), field) != names.end();
    };
    if (door_ != Door::Release) return has(backend.token_field);
    const auto wanted = backend.delivery.fields();
    return std::all_of(wanted.begin(), wanted.end(), has);
  }

  /// An assertion's scope is one more limit of the token.
  void limit_to_assertion(const VerifiedAssertion& assertion) {
    if (!assertion.scope) return;
    for (auto& trace : out_.trace.scopes) {
      if (!trace.scope.empty() && !assertion.scope->contains(trace.scope)) {
        trace.within_token = false;
      }
    }
  }

  Status decide_tools(const Target& target) {
    if (!question_.subject) return {};
    const auto& subject = *question_.subject;
    const auto decide = [&]() -> Status {
      if (target.backend->answer == AnswerKind::Vaulted) {
        return check_all_tools(snapshot_, *target.backend, subject, question_.tools);
      }
      POSTERN_TRY(out_.granted_tools,
                  grants::granted_tools(snapshot_, target, subject, question_.tools));
      return {};
    };
    auto decided = decide();
    if (decided.ok()) return decided;
    out_.refused_by = "tools";
    Json details{{"backend", target.backend->name.str()}, {"tools", Json::array()}};
    for (const auto& tool : out_.tools) details["tools"].push_back(tool.permission->str());
    hint("tools",
         subject.tools ? "tools are limited by the roles of the user and by the subject token"
                       : "tools are limited by the roles of the user",
         std::move(details));
    return decided;
  }

  Outside outside() { return {point_, wait_, question_.actor.get(), &out_.decision}; }

  void hint(const char* kind, std::string text, Json details) {
    if (out_.hints.size() < kMaxHints) {
      out_.hints.push_back({kind, std::move(text), std::move(details)});
    }
  }

  void explain_authentication(const AuthenticationDemand& demand) {
    Json details = Json::object();
    if (!demand.acr.empty()) details["one_of_acr"] = demand.acr;
    if (!demand.amr.empty()) details["every_amr"] = demand.amr;
    if (demand.max_auth_age) details["max_auth_age"] = demand.max_auth_age->count();
    hint("authentication", "the user must authenticate as the backend demands", std::move(details));
  }

  void explain_target(const Error& error) {
    if (error.code == ErrorCode::UnauthorizedClient) {
      if (!snapshot_.enabled()) hint("client", "an operator must enable the tenant", {});
      if (!client_.enabled) {
        hint("client", "enable the client", {{"client", client_.id.str()}});
      }
      if (breach(snapshot_.settings().guardrails, client_)) {
        hint("guardrail",
             "the operator's guardrails do not allow the way this client authenticates",
             {{"client", client_.id.str()}});
      }
      return;
    }
    out_.refused_by = "target";
    const auto look = [&](std::string_view value) {
      const auto* backend = snapshot_.resolve(value);
      if (backend == nullptr) {
        hint("target", "no enabled backend has this name, alias or audience", {});
      } else if (!client_.backends.contains(backend->name.str())) {
        hint("client_backend", "add the backend to those of the client",
             {{"client", client_.id.str()}, {"backend", backend->name.str()}});
      }
    };
    if (question_.audiences.size() + question_.resources.size() > 1) {
      hint("target", "name one target", {});
    }
    for (const auto value : question_.audiences) look(value);
    for (const auto value : question_.resources) look(value);
    if (question_.audiences.empty() && question_.resources.empty()) {
      if (client_.default_backend) {
        look(client_.default_backend->str());
      } else {
        hint("target", "name a target, or give the client a default_backend",
             {{"client", client_.id.str()}});
      }
    }
  }

  std::optional<ScopeSet> asked() const {
    if (!question_.scope) return std::nullopt;
    auto scopes = ScopeSet::parse(*question_.scope);
    if (!scopes.ok() || scopes.value().empty()) return std::nullopt;
    return std::move(scopes).value();
  }

  /// What keeps each of these, or any at all, from being granted.
  void explain_scopes(const Backend& backend, const std::optional<ScopeSet>& wanted) {
    for (const auto& trace : out_.trace.scopes) {
      if (trace.granted()) {
        if (out_.permitted && !out_.permitted->contains(trace.scope) && !trace.scope.empty() &&
            (!wanted || wanted->contains(trace.scope))) {
          hint("decision_point", "the operator's decision point does not allow this scope",
               {{"scope", trace.scope}});
        }
        continue;
      }
      if (wanted && !trace.scope.empty() && !wanted->contains(trace.scope)) continue;
      if (question_.subject) explain_roles(backend, trace);
      if (!trace.within_client) {
        hint("client_scope", "add the scope to those of the client",
             {{"client", client_.id.str()}, {"scope", trace.scope}});
      }
      if (!trace.within_token) {
        hint("token_scope", "the subject token's own scope does not have it",
             {{"scope", trace.scope}});
      }
    }
    if (!wanted) return;
    for (const auto& scope : *wanted) {
      const bool known = std::any_of(out_.trace.scopes.begin(), out_.trace.scopes.end(),
                                     [&](const ScopeTrace& trace) { return trace.scope == scope; });
      if (!known) {
        hint("unknown_scope", "the backend does not have one of the scopes that were asked for",
             {{"backend", backend.name.str()}});
      }
    }
  }

  void explain_roles(const Backend& backend, const ScopeTrace& trace) {
    for (const auto& matched : trace.denied_by) {
      auto details = by_json(matched);
      details["scope"] = trace.scope;
      hint("deny", "a role of this user denies it; a deny wins over every allow",
           std::move(details));
    }
    if (!trace.allowed_by.empty()) return;
    const auto& name = backend.name.str();
    const auto* issuer = snapshot_.find_issuer(question_.subject->principal.issuer);
    const PatternVariables variables{question_.subject->issued_subject,
                                     issuer != nullptr ? issuer->config.name : std::string()};
    bool some_role = false;
    for (const auto& [role_name, role] : snapshot_.config().roles) {
      const auto allows =
          std::find_if(role.allow.begin(), role.allow.end(), [&](const Permission& permission) {
            return permission.matches(name, trace.scope, variables);
          });
      if (allows == role.allow.end()) continue;
      some_role = true;
      bool bound = false;
      for (const auto& [binding_name, binding] : snapshot_.config().bindings) {
        if (binding.role != role_name) continue;
        bound = true;
        hint("binding", "a role that allows it is bound to others; the user lacks what it asks for",
             {{"scope", trace.scope},
              {"role", role_name},
              {"permission", allows->str()},
              {"binding", binding_name},
              {"lacks", lacks(binding)}});
      }
      if (!bound) {
        hint("binding", "a role that allows it is bound to nobody",
             {{"scope", trace.scope}, {"role", role_name}, {"permission", allows->str()}});
      }
    }
    if (!some_role) {
      hint("permission", "no role allows it; add the permission to a role that the user has",
           {{"scope", trace.scope},
            {"permission", name + ":" + (trace.scope.empty() ? "*" : trace.scope)}});
    }
  }

  /// The conditions of a binding that the subject does not meet.
  Json lacks(const Binding& binding) const {
    const auto& subject = *question_.subject;
    Json missing = Json::object();
    const bool named = binding.groups.empty() && binding.subjects.empty();
    const bool in_group =
        std::any_of(binding.groups.begin(), binding.groups.end(), [&](const std::string& group) {
          return std::find(subject.groups.begin(), subject.groups.end(), group) !=
                 subject.groups.end();
        });
    const bool is_subject = std::find(binding.subjects.begin(), binding.subjects.end(),
                                      subject.principal) != binding.subjects.end();
    if (!named && !in_group && !is_subject) {
      if (!binding.groups.empty()) missing["one_of_groups"] = binding.groups;
      if (!binding.subjects.empty()) missing["to_be_one_of_subjects"] = binding.subjects.size();
    }
    if (!issuer_fits(binding, subject.principal, snapshot_.config())) {
      missing["issuer"] = binding.issuer;
    }
    for (const auto& [claim, values] : binding.claims) {
      if (!claim_fits(claim, values, subject.attributes)) missing["claims"][claim] = values;
    }
    return missing;
  }

  const TenantSnapshot& snapshot_;
  const Question& question_;
  const Client& client_;
  const sys_seconds now_;
  DecisionPoint* const point_;
  const Wait wait_;
  vault::CredentialStore* const credentials_;
  Door door_ = Door::Exchange;
  bool acted_ = false;
  Explanation out_;
};

}  // namespace

Explanation explain(const TenantSnapshot& snapshot, const Question& question, sys_seconds now,
                    DecisionPoint* point, Wait wait, vault::CredentialStore* credentials) {
  return Explainer(snapshot, question, now, point, wait, credentials).run();
}

Json write(const TenantSnapshot& snapshot, const Explanation& explanation) {
  Json json{{"allowed", explanation.allowed()},
            {"roles", Json::array()},
            {"scopes", Json::array()},
            {"would_allow", Json::array()}};
  if (!explanation.grant.empty()) json["grant"] = explanation.grant;
  if (explanation.refusal) {
    json["refused_by"] = explanation.refused_by;
    json["code"] = std::string(to_string(explanation.refusal->code));
    json["reason"] = explanation.refusal->detail;
  }
  if (const auto* backend = explanation.backend) {
    json["backend"] = backend->name.str();
    json["audience"] = explanation.audience;
    if (explanation.allowed() && backend->answer == AnswerKind::Minted) {
      json["max_expires_in"] =
          std::min(backend->max_expires_in, snapshot.settings().lifetime_ceiling()).count();
      json["names_actor"] = explanation.names_actor;
    }
    json["answer"] = backend->answer == AnswerKind::Minted ? "minted" : "vaulted";
  }
  if (const auto& decision = explanation.decision) {
    using Answer = Decision::Answer;
    json["decision_point"]["answer"] = decision->answer == Answer::Allowed   ? "allowed"
                                       : decision->answer == Answer::Refused ? "refused"
                                                                             : "undefined";
    if (decision->scopes) {
      // What it says of other backends and tenants is nobody's business here.
      json["decision_point"]["scope"] = decision->scopes->intersect(snapshot.all_scopes()).str();
    }
  } else if (explanation.refused_by == "decision_point") {
    json["decision_point"]["answer"] = "unavailable";
  }
  if (const auto& credential = explanation.credential) {
    json["credential"] = {{"name", credential->key.name.str()},
                          {"owner", credential->key.owner.is_tenant() ? "tenant" : "principal"},
                          {"version", credential->version}};
    if (credential->expires_at) {
      json["credential"]["expires_at"] = format_time(*credential->expires_at);
    }
  }
  for (const auto& tool : explanation.tools) {
    json["tools"].push_back({{"role", tool.by.role->name},
                             {"binding", tool.by.binding->name},
                             {"tool", tool.permission->str()}});
  }
  if (explanation.allowed() && explanation.granted_tools) {
    json["authorization_details"] = write(*explanation.granted_tools);
  }
  if (explanation.allowed()) json["scope"] = explanation.granted.str();
  for (const auto& bound : explanation.trace.roles) {
    json["roles"].push_back({{"role", bound.role->name}, {"binding", bound.binding->name}});
  }
  for (const auto& trace : explanation.trace.scopes) {
    Json scope{{"scope", trace.scope},
               {"granted", explanation.allowed() && explanation.granted.contains(trace.scope)},
               {"allowed_by", Json::array()},
               {"denied_by", Json::array()},
               {"closed_by", Json::array()}};
    for (const auto& matched : trace.allowed_by) scope["allowed_by"].push_back(by_json(matched));
    for (const auto& matched : trace.denied_by) scope["denied_by"].push_back(by_json(matched));
    auto& closed = scope["closed_by"];
    if (trace.needs_role && trace.allowed_by.empty()) closed.push_back("roles");
    if (!trace.denied_by.empty()) closed.push_back("deny");
    if (!trace.within_client) closed.push_back("client");
    if (!trace.within_token) closed.push_back("token");
    if (trace.granted() && explanation.permitted && !trace.scope.empty() &&
        !explanation.permitted->contains(trace.scope)) {
      closed.push_back("decision_point");
    }
    json["scopes"].push_back(std::move(scope));
  }
  for (const auto& hint : explanation.hints) {
    Json entry = hint.details.is_object() ? hint.details : Json::object();
    entry["kind"] = hint.kind;
    entry["text"] = hint.text;
    json["would_allow"].push_back(std::move(entry));
  }
  return json;
}

}  // namespace postern::grants
