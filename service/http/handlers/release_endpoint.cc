#include <algorithm>
#include <set>

#include "core/time_format.h"
#include "http/handlers/api.h"

/// POST /api/v1/tenants/{tenant}/release: one call per spawn. The client proves
/// itself by Basic, an assertion or its certificate, the user by their own token; each backend
/// asked for is decided and recorded on its own.
namespace postern::http {
namespace {

using token::Json;

constexpr std::size_t kMaxItems = 64;
constexpr std::size_t kMaxReplyBytes = 2 * 1024 * 1024;  // of values; then items are refused

Error at(std::string pointer, std::string detail) {
  Error error = fail(ErrorCode::MalformedRequest, std::move(detail));
  error.pointer = std::move(pointer);
  return error;
}

Result<grants::ReleaseItemRequest> read_item(const Json& item, const std::string& pointer) {
  if (!item.is_object()) return at(pointer, "must be an object");
  grants::ReleaseItemRequest asked;
  int targets = 0;
  for (const auto& [name, value] : item.items()) {
    const bool target = name == "backend" || name == "audience" || name == "resource";
    if (!target && name != "scope") return at(pointer, "has an unknown member");
    if (!value.is_string() || value.get_ref<const std::string&>().size() > 2000) {
      return at(pointer + "/" + name, "must be text of at most 2000 bytes");
    }
    if (target) {
      ++targets;
      asked.asked = value.get<std::string>();
      asked.is_resource = name == "resource";
    } else if (!value.get_ref<const std::string&>().empty()) {
      asked.scope = value.get<std::string>();
    }
  }
  if (targets != 1 || asked.asked.empty()) {
    return at(pointer, "needs exactly one of backend, audience and resource");
  }
  return asked;
}

std::string exposed(const FieldValue& value) {
  return value.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
}

Json allowed_json(const grants::ReleasedItem& item, sys_seconds now) {
  Json json{{"backend", item.backend.str()},
            {"status", "allowed"},
            {"env", Json::object()},
            {"headers", Json::object()},
            {"files", Json::array()}};
  for (const auto& [name, value] : item.env) json["env"][name] = exposed(value);
  for (const auto& [name, value] : item.headers) json["headers"][name] = exposed(value);
  for (const auto& file : item.files) {
    Json entry{{"name", file.name}, {"content", exposed(file.content)}};
    if (!file.env.empty()) entry["env"] = file.env;
    json["files"].push_back(std::move(entry));
  }
  if (item.expires_at) json["expires_at"] = format_time(*item.expires_at);
  if (item.credential) {
    json["credential"] = {{"name", item.credential->name.str()},
                          {"owner", item.credential->of_tenant ? "tenant" : "principal"},
                          {"version", item.credential->version}};
  }
  if (item.scope && item.expires_at) {
    json["token"] = {{"scope", item.scope->str()},
                     {"expires_in", (*item.expires_at - now).count()}};
  }
  return json;
}

Result<Answer> release_endpoint(const Services& services, const Request& request) {
  const auto decide = [&](const policy::TenantSnapshot& snapshot, const grants::Caller& caller,
                          Json& body, audit::Event& record) -> Result<Answer> {
    const auto subject_token = body.find("subject_token");
    if (subject_token == body.end() || !subject_token->is_string()) {
      return at("/subject_token", "is required: the user's own token");
    }
    const SubjectToken token(SecureBuffer::take(std::move(subject_token->get_ref<std::string&>())));
    POSTERN_TRY(const auto type, text_member(body, "subject_token_type", 200));
    const auto items = body.find("items");
    if (items == body.end() || !items->is_array() || items->empty() || items->size() > kMaxItems) {
      return at("/items", "must be a list of 1 to 64 backends");
    }
    std::vector<grants::ReleaseItemRequest> asked;
    for (std::size_t i = 0; i < items->size(); ++i) {
      POSTERN_TRY(auto item, read_item((*items)[i], "/items/" + std::to_string(i)));
      asked.push_back(std::move(item));
    }
    auto verified = token.expose([&](ByteView bytes) {
      return services.release.verify_subject(
          snapshot, caller, as_text(bytes),
          type.value_or("urn:ietf:params:oauth:token-type:access_token"), wait_of(request));
    });
    POSTERN_TRY(const auto subject, std::move(verified));

    Json answers = Json::array();
    std::vector<audit::Event> records;
    std::size_t total = 0;
    std::set<const policy::Backend*> seen;
    for (const auto& item : asked) {
      auto item_record = record;
      const auto* backend = snapshot.resolve(item.asked);
      // Known names only: a mistaken gateway may have put a token in its place.
      if (backend != nullptr) item_record.with("asked", item.asked.substr(0, 512));
      const auto release = [&]() -> Result<grants::ReleasedItem> {
        if (backend != nullptr && !seen.insert(backend).second) {
          return fail(ErrorCode::MalformedRequest, "this backend is asked for twice");
        }
        if (total > kMaxReplyBytes) {
          return fail(ErrorCode::TooLarge, "the answer is too large; ask for fewer backends");
        }
        return services.release.release(snapshot, caller, *subject, item, item_record,
                                        wait_of(request));
      };
      const auto released = release();
      if (released.ok()) {
        total += released.value().bytes();
        answers.push_back(allowed_json(released.value(), services.clock.now()));
      } else if (released.error().code == ErrorCode::NeedsOutbound) {
        wipe_texts(answers);
        return released.error();  // all of it again, where it may wait
      } else {
        record_error(item_record, released.error());
        answers.push_back(refused_item(snapshot, item.asked, released.error()));
      }
      records.push_back(std::move(item_record));
    }
    Json reply_body{{"items", std::move(answers)}};
    auto reply = json_reply(200, reply_body);
    wipe_texts(reply_body);
    // Escapes can make text several times longer than the values counted above.
    if (reply.body().size() > kMaxReplyBytes * 3 / 2) {
      return fail(ErrorCode::TooLarge, "the answer is too large; ask for fewer backends");
    }
    return Answer{std::move(reply), std::move(records)};
  };
  return client_call(services, request, "credential.release", "release",
                     {"subject_token", "subject_token_type", "items"}, decide);
}

}  // namespace

void add_release_endpoint(Router& router, Gate& gate, Services& services) {
  gate.add(router, "POST", "/api/v1/tenants/{}/release", Pool::Database,
           [&services](const Request& request) { return release_endpoint(services, request); });
}

}  // namespace postern::http
