#include "grants/explain.h"
#include "grants/subject_claims.h"
#include "http/handlers/api.h"

/// POST /api/v1/tenants/{tenant}/explanations: why a request is, or would be,
/// allowed or refused. It shows the tenant's policy, so it is for administrators.
namespace postern::http {
namespace {

using Kind = Caller::Kind;
using token::Json;

Error at(std::string pointer, std::string detail) {
  Error error = fail(ErrorCode::MalformedRequest, std::move(detail));
  error.pointer = std::move(pointer);
  return error;
}

using Refused = grants::Question::Refused;

Result<std::vector<std::string>> texts_member(const Json& object, const char* name,
                                              const std::string& pointer) {
  std::vector<std::string> out;
  const auto it = object.find(name);
  if (it == object.end()) return out;
  if (!it->is_array() || it->size() > 1000) return at(pointer, "must be a list of texts");
  for (const auto& item : *it) {
    if (!item.is_string() || item.get_ref<const std::string&>().size() > 512) {
      return at(pointer, "must be a list of texts of at most 512 bytes");
    }
    out.push_back(item.get<std::string>());
  }
  return out;
}

/// A subject as it is described, in the place of a token that says so.
Result<grants::VerifiedTokenPtr> described(const Json& subject,
                                           const policy::TenantSnapshot& snapshot) {
  if (!subject.is_object()) return at("/subject", "must be an object");
  for (const auto& [name, value] : subject.items()) {
    if (name != "issuer" && name != "subject" && name != "groups" && name != "claims" &&
        name != "scope" && name != "acr" && name != "amr" && name != "auth_time") {
      return at("/subject", "takes issuer, subject, groups, claims, scope, acr, amr and auth_time");
    }
  }
  grants::VerifiedToken rights;
  rights.auth_context = Json::object();
  if (const auto acr = subject.find("acr"); acr != subject.end()) {
    if (!acr->is_string() || acr->get_ref<const std::string&>().size() > 512) {
      return at("/subject/acr", "must be text");
    }
    rights.auth_context["acr"] = *acr;
  }
  if (subject.contains("amr")) {
    POSTERN_TRY(rights.auth_context["amr"], texts_member(subject, "amr", "/subject/amr"));
  }
  if (const auto time = subject.find("auth_time"); time != subject.end()) {
    if (!token::numeric_date(*time)) return at("/subject/auth_time", "must be a number of seconds");
    rights.auth_context["auth_time"] = *time;
  }
  const auto text = [&](const char* name, std::size_t max) -> Result<std::string> {
    const auto it = subject.find(name);
    const auto pointer = std::string("/subject/") + name;
    if (it == subject.end() || !it->is_string()) return at(pointer, "is required, as text");
    if (it->get_ref<const std::string&>().size() > max) return at(pointer, "is too long");
    return it->get<std::string>();
  };
  POSTERN_TRY(rights.principal.issuer, text("issuer", 2000));
  POSTERN_TRY(rights.principal.subject, text("subject", 255));
  POSTERN_TRY(rights.groups, texts_member(subject, "groups", "/subject/groups"));
  const auto* issuer = snapshot.find_issuer(rights.principal.issuer);
  if (issuer != nullptr) {
    // As SubjectVerifier does with what a token says.
    for (auto& group : rights.groups) group.insert(0, issuer->config.subject_prefix);
    auto issued = grants::issued_subject_of(snapshot, issuer->config, rights.principal.subject);
    if (!issued.ok()) return at("/subject/subject", issued.error().detail);
    rights.issued_subject = std::move(issued).value();
  }
  if (subject.contains("scope")) {
    POSTERN_TRY(const auto scope, text("scope", 8192));
    if (issuer != nullptr && !issuer->config.claims.scope.empty()) {
      auto parsed = policy::ScopeSet::parse(scope);
      if (!parsed.ok()) return at("/subject/scope", parsed.error().detail);
      rights.scope = std::move(parsed).value();
    }
  }
  if (const auto claims = subject.find("claims"); claims != subject.end()) {
    if (!claims->is_object() || claims->size() > 50) {
      return at("/subject/claims", "must be an object of at most 50 claims, each with a list");
    }
    for (const auto& [name, values] : claims->items()) {
      POSTERN_TRY(rights.attributes[name], texts_member(*claims, name.c_str(), "/subject/claims"));
    }
  }
  return std::make_shared<const grants::VerifiedToken>(std::move(rights));
}

/// An actor as it is described: a user, or a client that got a token for itself.
Result<grants::VerifiedTokenPtr> described_actor(const Json& actor,
                                                 const policy::TenantSnapshot& snapshot) {
  if (!actor.is_object() || actor.size() != 2 || !actor.contains("issuer")) {
    return at("/actor", "takes issuer and subject, and both are required");
  }
  if (actor.at("issuer") == snapshot.issuer_url() && actor.contains("subject") &&
      actor.at("subject").is_string()) {
    const auto& id = actor.at("subject").get_ref<const std::string&>();
    const auto* client = snapshot.find_client(id);
    if (client == nullptr || !client->enabled) {
      return at("/actor/subject", "is no enabled client of this tenant");
    }
    grants::VerifiedToken token;
    token.principal = {snapshot.issuer_url(), id};
    token.issued_subject = id;
    return std::make_shared<const grants::VerifiedToken>(std::move(token));
  }
  auto who = described(actor, snapshot);
  if (who.ok()) return who;
  Error error = std::move(who).error();
  error.pointer = "/actor";
  return error;
}

/// What a token of a described party would be refused for.
std::optional<Refused> refusal_of(const policy::TenantSnapshot& snapshot, const char* by,
                                  const grants::VerifiedToken& party) {
  const auto& principal = party.principal;
  if (principal.issuer == snapshot.issuer_url()) return std::nullopt;
  if (snapshot.find_issuer(principal.issuer) == nullptr) {
    return Refused{
        by, fail(ErrorCode::InvalidToken, "the token's issuer is not trusted by this tenant"),
        "trust the issuer: it is unknown, disabled, or beyond the guardrails"};
  }
  if (snapshot.disabled(principal, party.groups, party.attributes)) {
    return Refused{by, fail(ErrorCode::InvalidToken, "this user is disabled"),
                   "a role that this user has denies everything"};
  }
  return std::nullopt;
}

/// The client that asks: configured, registered, or known by its document.
struct Asking {
  const policy::Client* client = nullptr;
  std::shared_ptr<const void> keeps;
};
Result<Asking> asking_client(const Services& services, const policy::TenantSnapshot& snapshot,
                             const Request& request, std::string_view id) {
  if (const auto* client = snapshot.find_client(id)) return Asking{client, nullptr};
  auto* documents = services.authentication.documents;
  if (documents == nullptr || !detail::is_client_url(id)) {
    return fail(ErrorCode::NotFound, "no such client");
  }
  auto found =
      documents->find(snapshot, id, source_of(services.authentication, request), wait_of(request));
  if (!found.ok() && found.error().code == ErrorCode::InvalidClient) {
    return fail(ErrorCode::NotFound, "no such client: " + found.error().detail);
  }
  POSTERN_CHECK(found);
  return Asking{&found.value()->client, found.value()};
}

/// A token in the body, and its type. Errors: MalformedRequest.
struct TokenMember {
  SubjectToken token;
  policy::SubjectTokenType type;
};
Result<TokenMember> token_member(Json& body, const char* name, const char* type_name) {
  auto& text = body[name];
  if (!text.is_string()) return at(std::string("/") + name, "must be text");
  SubjectToken token(SecureBuffer::take(std::move(text.get_ref<std::string&>())));
  POSTERN_TRY(const auto type, text_member(body, type_name, 200));
  POSTERN_TRY(
      const auto parsed,
      grants::parse_token_type(type.value_or("urn:ietf:params:oauth:token-type:access_token")));
  return TokenMember{std::move(token), parsed};
}

/// Whose token was verified; nobody's when it is refused for what it is, which is
/// noted. Errors: what is not the token's fault.
Result<grants::VerifiedTokenPtr> party_of(Result<grants::VerifiedTokenPtr> verified, const char* by,
                                          std::optional<Refused>& refused) {
  if (verified.ok() || verified.error().code != ErrorCode::InvalidToken) return verified;
  if (!refused) {
    refused = Refused{by, std::move(verified).error(),
                      std::string("the ") + by + " token is refused as it says"};
  }
  return grants::VerifiedTokenPtr();
}

using Grant = grants::Question::Grant;

/// How a user is asked for, when the question says it.
Result<std::optional<Grant>> grant_member(const Json& body) {
  using Named = std::optional<Grant>;
  const auto it = body.find("grant");
  if (it == body.end()) return Named();
  const bool user = body.contains("subject_token") || body.contains("subject");
  if (!user && *it == "client_credentials") return Named();
  if (user && *it == "token-exchange") return Named(Grant::Exchange);
  if (user && *it == "release") {
    if (!body.contains("authorization_details")) return Named(Grant::Release);
    return at("/authorization_details", "a release takes none");
  }
  if (user && *it == "jwt-bearer") {
    if (!body.contains("subject_token_type")) return Named(Grant::JwtBearer);
    return at("/subject_token_type", "an assertion has no such type");
  }
  return at("/grant",
            "must be token-exchange, release or jwt-bearer for a user, client_credentials without "
            "one");
}

/// Who acts for the user, by a token or described.
Status read_actor(const Services& services, const Request& request,
                  const policy::TenantSnapshot& snapshot, Json& body, grants::Question& question) {
  auto& refused = question.refused;
  const bool by_token = body.contains("actor_token");
  const auto actor = body.find("actor");
  if (!by_token) {
    if (body.contains("actor_token_type")) {
      return at("/actor_token_type", "was sent without actor_token");
    }
    if (actor == body.end()) return {};
  }
  const bool exchange = (body.contains("subject") || body.contains("subject_token")) &&
                        question.grant.value_or(Grant::Exchange) == Grant::Exchange;
  if (!exchange) return at(by_token ? "/actor_token" : "/actor", "is for token-exchange only");
  if (!by_token) {
    POSTERN_TRY(question.actor, described_actor(*actor, snapshot));
    if (!refused) refused = refusal_of(snapshot, "actor", *question.actor);
    return {};
  }
  POSTERN_TRY(const auto sent, token_member(body, "actor_token", "actor_token_type"));
  auto verified = sent.token.expose([&](ByteView bytes) {
    return services.verifier.verify(snapshot, grants::Caller(*question.client), as_text(bytes),
                                    sent.type, wait_of(request), grants::OwnToken::Accept);
  });
  POSTERN_TRY(question.actor, party_of(std::move(verified), "actor", refused));
  return {};
}

Result<Done> explanation(const Services& services, const Request& request,
                         const policy::TenantSnapshot& snapshot, audit::Event& record) {
  POSTERN_TRY(auto body,
              json_body(request, {"client", "subject", "subject_token", "subject_token_type",
                                  "actor", "actor_token", "actor_token_type", "audience",
                                  "resource", "scope", "grant", "authorization_details"}));
  POSTERN_TRY(const auto client_id, text_member(body, "client", 512));
  if (!client_id) return at("/client", "is required: the client that asks");
  POSTERN_TRY(const auto asking, asking_client(services, snapshot, request, *client_id));
  const auto* client = asking.client;
  record.with("client", *client_id);
  POSTERN_TRY(const auto audience, text_member(body, "audience"));
  POSTERN_TRY(const auto resource, text_member(body, "resource"));
  POSTERN_TRY(const auto scope, text_member(body, "scope", 8192));
  const bool by_token = body.contains("subject_token");
  if (by_token && body.contains("subject")) {
    return at("/subject", "describes the user whom subject_token proves; send one of the two");
  }
  if (body.contains("actor_token") && body.contains("actor")) {
    return at("/actor", "describes whom actor_token proves; send one of the two");
  }

  grants::Question question;
  question.client = client;
  // RFC 8693 §2.1: what is sent without a value is not sent.
  if (audience && !audience->empty()) question.audiences.push_back(*audience);
  if (resource && !resource->empty()) question.resources.push_back(*resource);
  if (scope && !scope->empty()) question.scope = *scope;
  POSTERN_TRY(question.grant, grant_member(body));
  const bool jwt_bearer = question.grant == Grant::JwtBearer;
  const auto own =
      question.grant == Grant::Release ? grants::OwnToken::Refuse : grants::OwnToken::Accept;
  if (const auto details = body.find("authorization_details"); details != body.end()) {
    auto tools = policy::read_tool_details(*details);
    if (!tools.ok()) return at("/authorization_details", tools.error().detail);
    question.tools = std::move(tools).value();
  }
  auto& refused = question.refused;
  if (by_token) {
    POSTERN_TRY(const auto sent, token_member(body, "subject_token", "subject_token_type"));
    auto verified = sent.token.expose([&](ByteView bytes) -> Result<grants::VerifiedTokenPtr> {
      if (jwt_bearer) {
        POSTERN_TRY(auto assertion,
                    services.verifier.verify_assertion(snapshot, grants::Caller(*client),
                                                       as_text(bytes), wait_of(request)));
        question.assertion =
            std::make_shared<const grants::VerifiedAssertion>(std::move(assertion));
        return grants::VerifiedTokenPtr(question.assertion, &question.assertion->token);
      }
      return services.verifier.verify(snapshot, grants::Caller(*client), as_text(bytes), sent.type,
                                      wait_of(request), own);
    });
    POSTERN_TRY(question.subject, party_of(std::move(verified), "subject", refused));
    if (refused && jwt_bearer) refused->error.code = ErrorCode::InvalidGrant;
  } else if (const auto subject = body.find("subject"); subject != body.end()) {
    POSTERN_TRY(question.subject, described(*subject, snapshot));
    refused = refusal_of(snapshot, "subject", *question.subject);
  }
  POSTERN_CHECK(read_actor(services, request, snapshot, body, question));
  if (question.subject) {
    record.with("subject_issuer", question.subject->principal.issuer)
        .with("subject", question.subject->principal.subject);
  }
  if (question.actor) {
    record.with("actor_issuer", question.actor->principal.issuer)
        .with("actor", question.actor->principal.subject);
  }
  const auto answer =
      grants::explain(snapshot, question, services.clock.now(), services.decision_point,
                      wait_of(request), &services.credentials);
  if (answer.refusal && (answer.refusal->code == ErrorCode::NeedsOutbound ||
                         answer.refusal->code == ErrorCode::NeedsDatabase)) {
    return *answer.refusal;
  }
  if (answer.backend != nullptr) record.with("backend", answer.backend->name.str());
  record.with("would_be", answer.allowed() ? "allowed" : "refused");
  return Done{json_reply(200, grants::write(snapshot, answer)), Done::Recorded::ByGate};
}

}  // namespace

void add_explanation_endpoint(Router& router, Gate& gate, Services& services) {
  gate.add(router, "POST", "/api/v1/tenants/{}/explanations", Pool::Compute,
           [&services](const Request& request) {
             return tenant_call(
                 services, request, "policy.explain", {Kind::Operator, Kind::TenantAdmin},
                 [&](const policy::TenantSnapshot& snapshot, const Caller&, audit::Event& record) {
                   return explanation(services, request, snapshot, record);
                 });
           });
}

}  // namespace postern::http
