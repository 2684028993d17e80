#include <algorithm>

#include "http/handlers/api.h"

/// POST /api/v1/tenants/{tenant}/exchange: RFC 8693 for a gateway that needs a
/// user's tokens for many backends at once. The tokens are verified once; each
/// item is decided and recorded on its own.
namespace postern::http {
namespace {

using token::Json;

constexpr std::size_t kMaxItems = 64;
constexpr std::string_view kAccessTokenType = "urn:ietf:params:oauth:token-type:access_token";

Error at(std::string pointer, std::string detail) {
  Error error = fail(ErrorCode::MalformedRequest, std::move(detail));
  error.pointer = std::move(pointer);
  return error;
}

/// One item; views into the body.
struct Item {
  std::string asked;  ///< as sent
  grants::ExchangeTarget target;
};

Result<Item> read_item(const Json& value, const std::string& pointer) {
  if (!value.is_object()) return at(pointer, "must be an object");
  Item item;
  int targets = 0;
  for (const auto& [name, member] : value.items()) {
    if (name == "authorization_details") {
      auto details = policy::read_tool_details(member);
      if (!details.ok()) {
        Error error = std::move(details).error();
        error.pointer = pointer + "/" + name;
        return error;
      }
      item.target.tools = std::move(details).value();
      continue;
    }
    const bool target = name == "backend" || name == "audience" || name == "resource";
    if (!target && name != "scope" && name != "requested_token_type") {
      return at(pointer, "has an unknown member");
    }
    if (!member.is_string() || member.get_ref<const std::string&>().size() > 2000) {
      return at(pointer + "/" + name, "must be text of at most 2000 bytes");
    }
    const std::string_view text = member.get_ref<const std::string&>();
    if (target) {
      ++targets;
      item.asked = text;
      (name == "resource" ? item.target.resources : item.target.audiences).push_back(text);
    } else if (!text.empty()) {
      (name == "scope" ? item.target.scope : item.target.requested_token_type) = text;
    }
  }
  if (targets != 1 || item.asked.empty()) {
    return at(pointer, "needs exactly one of backend, audience and resource");
  }
  return item;
}

/// A token out of the body, where no plain copy of it stays.
Result<std::optional<SubjectToken>> token_member(Json& body, const char* name) {
  const auto it = body.find(name);
  if (it == body.end()) return std::optional<SubjectToken>();
  if (!it->is_string() || it->get_ref<const std::string&>().empty()) {
    return at(std::string("/") + name, "must be a token");
  }
  return std::optional<SubjectToken>(
      SubjectToken(SecureBuffer::take(std::move(it->get_ref<std::string&>()))));
}

Result<grants::ExchangeParties> parties_of(const Services& services,
                                           const policy::TenantSnapshot& snapshot,
                                           const grants::Caller& caller, const Request& request,
                                           Json& body, audit::Event& record) {
  POSTERN_TRY(const auto subject, token_member(body, "subject_token"));
  if (!subject) return at("/subject_token", "is required: the user's own token");
  POSTERN_TRY(const auto actor, token_member(body, "actor_token"));
  POSTERN_TRY(const auto subject_type, text_member(body, "subject_token_type", 200));
  POSTERN_TRY(const auto actor_type, text_member(body, "actor_token_type", 200));
  return subject->expose([&](ByteView subject_bytes) {
    grants::ExchangeTokens tokens;
    tokens.subject_token = as_text(subject_bytes);
    tokens.subject_token_type = subject_type ? std::string_view(*subject_type) : kAccessTokenType;
    if (actor_type) tokens.actor_token_type = *actor_type;
    if (!actor) return services.exchange.verify(snapshot, caller, tokens, wait_of(request), record);
    return actor->expose([&](ByteView actor_bytes) {
      tokens.actor_token = as_text(actor_bytes);
      return services.exchange.verify(snapshot, caller, tokens, wait_of(request), record);
    });
  });
}

Json issued_json(const BackendId& backend, const grants::IssuedToken& issued) {
  Json json{{"backend", backend.str()},
            {"status", "allowed"},
            {"access_token", issued.access_token.expose(
                                 [](ByteView bytes) { return std::string(as_text(bytes)); })},
            {"token_type", issued.token_type},
            {"issued_token_type", issued.issued_token_type},
            {"expires_in", issued.expires_in.count()}};
  if (!issued.scope.empty()) json["scope"] = issued.scope.str();
  if (!issued.authorization_details.empty()) {
    json["authorization_details"] = token::parse_json(issued.authorization_details).value();
  }
  return json;
}

Result<Answer> exchange_endpoint(const Services& services, const Request& request) {
  const auto decide = [&](const policy::TenantSnapshot& snapshot, const grants::Caller& caller,
                          Json& body, audit::Event& record) -> Result<Answer> {
    const auto items = body.find("items");
    if (items == body.end() || !items->is_array() || items->empty() || items->size() > kMaxItems) {
      return at("/items", "must be a list of 1 to 64 targets");
    }
    std::vector<Item> asked;
    for (std::size_t i = 0; i < items->size(); ++i) {
      POSTERN_TRY(auto item, read_item((*items)[i], "/items/" + std::to_string(i)));
      asked.push_back(std::move(item));
    }
    POSTERN_TRY(const auto parties, parties_of(services, snapshot, caller, request, body, record));

    Json answers = Json::array();
    std::vector<audit::Event> records;
    for (const auto& item : asked) {
      auto item_record = record;
      const auto* backend = snapshot.resolve(item.asked);
      // Known names only: a mistaken gateway may have put a token in its place.
      if (backend != nullptr) item_record.with("asked", item.asked.substr(0, 512));
      const auto issued = services.exchange.issue_for(snapshot, caller, parties, item.target,
                                                      wait_of(request), item_record);
      if (issued.ok()) {
        answers.push_back(issued_json(backend->name, issued.value()));
      } else if (issued.error().code == ErrorCode::NeedsDatabase ||
                 issued.error().code == ErrorCode::NeedsOutbound) {
        wipe_texts(answers);
        return issued.error();  // all of it again, where it may wait
      } else {
        record_error(item_record, issued.error());
        answers.push_back(refused_item(snapshot, item.asked, issued.error()));
      }
      records.push_back(std::move(item_record));
    }
    Json reply_body{{"items", std::move(answers)}};
    auto reply = json_reply(200, reply_body);
    wipe_texts(reply_body);
    return Answer{std::move(reply), std::move(records)};
  };
  return client_call(
      services, request, "token.exchange", "exchange",
      {"subject_token", "subject_token_type", "actor_token", "actor_token_type", "items"}, decide);
}

}  // namespace

void add_exchange_endpoint(Router& router, Gate& gate, Services& services) {
  gate.add(router, "POST", "/api/v1/tenants/{}/exchange", Pool::Compute,
           [&services](const Request& request) { return exchange_endpoint(services, request); });
}

}  // namespace postern::http
