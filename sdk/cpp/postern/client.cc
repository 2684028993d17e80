#include "postern/client.h"

#include <charconv>

#include "core/time_format.h"
#include "postern/json.h"

namespace postern::sdk {
namespace {

/// An answer that lacks what it must have. Thrown by the readers below, caught in read().
struct BadAnswer {
  std::string reason;
};

const Json& member(const Json& object, const char* name) {
  if (!object.is_object()) throw BadAnswer{"holds something else where an object belongs"};
  const auto it = object.find(name);
  if (it == object.end()) throw BadAnswer{std::string("lacks the member ") + name};
  return *it;
}

/// Null when absent or null.
const Json* optional_member(const Json& object, const char* name) {
  if (!object.is_object()) throw BadAnswer{"holds something else where an object belongs"};
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

const std::string& as_string(const Json& value, const char* name) {
  const auto* text = value.get_ptr<const std::string*>();
  if (text == nullptr) throw BadAnswer{std::string("has a member that is no text: ") + name};
  return *text;
}

const std::string& text(const Json& object, const char* name) {
  return as_string(member(object, name), name);
}

std::string optional_text(const Json& object, const char* name) {
  const auto* value = optional_member(object, name);
  return value == nullptr ? std::string() : as_string(*value, name);
}

bool flag(const Json& object, const char* name) {
  const auto& value = member(object, name);
  if (!value.is_boolean()) throw BadAnswer{std::string("has a member that is no boolean: ") + name};
  return value.get<bool>();
}

std::uint64_t as_count(const Json& value, const char* name) {
  // get<> would turn true into 1 and -1 into 2^64-1.
  if (!value.is_number_unsigned()) {
    throw BadAnswer{std::string("has a member that is no whole number: ") + name};
  }
  return value.get<std::uint64_t>();
}

std::uint64_t count(const Json& object, const char* name) {
  return as_count(member(object, name), name);
}

std::int64_t small_count(const Json& object, const char* name) {
  const auto value = count(object, name);
  if (value > static_cast<std::uint64_t>(INT64_MAX)) {
    throw BadAnswer{std::string("has a number that is too large: ") + name};
  }
  return static_cast<std::int64_t>(value);
}

sys_seconds as_time(const std::string& written, const char* name) {
  const auto time = parse_time(written);
  if (!time) throw BadAnswer{std::string("has a member that is no RFC 3339 time: ") + name};
  return *time;
}

sys_seconds time(const Json& object, const char* name) { return as_time(text(object, name), name); }

std::optional<sys_seconds> optional_time(const Json& object, const char* name) {
  const auto* value = optional_member(object, name);
  if (value == nullptr) return std::nullopt;
  return as_time(as_string(*value, name), name);
}

const Json& list(const Json& object, const char* name) {
  const auto& value = member(object, name);
  if (!value.is_array()) throw BadAnswer{std::string("has a member that is no list: ") + name};
  return value;
}

std::vector<std::string> optional_texts(const Json& object, const char* name) {
  std::vector<std::string> out;
  if (optional_member(object, name) == nullptr) return out;
  for (const auto& item : list(object, name)) out.push_back(as_string(item, name));
  return out;
}

template <class T>
T secret(const Json& object, const char* name) {
  const auto& value = text(object, name);
  if (value.empty()) throw BadAnswer{std::string("has an empty ") + name};
  return T(SecureBuffer::copy_of(std::string_view(value)));
}

template <class Use>
auto read(const HttpAnswer& answer, Use use) -> Result<decltype(use(std::declval<const Json&>()))> {
  const auto broken = [&](const std::string& why) {
    auto error = fail(ErrorKind::BrokenAnswer, "the answer " + why + "; is this a Postern server?");
    error.status = answer.status;
    error.request_id = answer.request_id;
    return error;
  };
  if (answer.content_type != "application/json") return broken("is not application/json");
  auto json = parse_json(view(answer.body));
  if (!json.ok()) return broken(json.error().detail);
  try {
    return use(std::as_const(*json.value()));
  } catch (const BadAnswer& bad) {
    return broken(bad.reason);
  }
}

/// Reads an error body leniently: whatever of it is well formed is kept.
Error refusal(const HttpAnswer& answer) {
  auto error = fail(ErrorKind::Refused, {});
  error.status = answer.status;
  error.request_id = answer.request_id;
  if (int seconds = 0; !answer.retry_after.empty()) {
    const auto& written = answer.retry_after;
    const auto end = written.data() + written.size();
    const auto parsed = std::from_chars(written.data(), end, seconds);
    if (parsed.ec == std::errc() && parsed.ptr == end && seconds >= 0) {
      error.retry_after = std::chrono::seconds(seconds);
    }
  }
  const auto json = parse_json(view(answer.body));
  if (json.ok() && (*json.value()).is_object()) {
    const Json& body = *json.value();
    const auto take = [&](const char* name, std::string& out) {
      const auto it = body.find(name);
      if (it != body.end() && it->is_string()) out = it->get_ref<const std::string&>();
    };
    take("error_description", error.detail);
    take("detail", error.detail);
    take("title", error.title);
    take("pointer", error.pointer);
    take("request_id", error.request_id);
    take("error_uri", error.connect_url);
    take("connect_url", error.connect_url);
    take("type", error.code);
    error.code = error.code.substr(error.code.find_last_of("/:#") + 1);
    take("error", error.code);
  }
  if (error.detail.empty()) error.detail = error.title;
  if (error.detail.empty()) error.detail = error.code;
  if (error.detail.empty()) {
    error.detail = "HTTP status " + std::to_string(answer.status) + " without an explanation";
  }
  return error;
}

std::string tenant_path(const TenantId& tenant, std::string_view rest = {}) {
  return "/api/v1/tenants/" + tenant.str() + std::string(rest);
}

/// Adds parameters to a path; empty values are left out.
class Target {
 public:
  explicit Target(std::string path) : target_(std::move(path)) {}
  Target& with(std::string_view name, std::string_view value) {
    if (value.empty()) return *this;
    target_ += separator_;
    target_.append(name).append("=").append(percent_encode(value));
    separator_ = '&';
    return *this;
  }
  Target& with(const Principal& principal) {
    return with("issuer", principal.issuer).with("subject", principal.subject);
  }
  std::string take() { return std::move(target_); }

 private:
  std::string target_;
  char separator_ = '?';
};

HttpRequest request(std::string method, std::string target) {
  HttpRequest out;
  out.method = std::move(method);
  out.target = std::move(target);
  return out;
}

HttpRequest json_request(std::string method, std::string target, const Json& body) {
  auto out = request(std::move(method), std::move(target));
  out.content_type = "application/json";
  out.body = dump_secret(body);
  return out;
}

std::string etag(std::uint64_t version) {
  std::string out = std::to_string(version);
  out.insert(out.begin(), '"');
  out.push_back('"');
  return out;
}

Json expiry_body(std::optional<sys_seconds> expires_at) {
  Json body = Json::object();
  if (expires_at) body["expires_at"] = format_time(*expires_at);
  return body;
}

void read_summary(const Json& json, TenantSummary& out) {
  out.tenant = text(json, "tenant");
  out.display_name = optional_text(json, "display_name");
  out.enabled = flag(json, "enabled");
  out.epoch = count(json, "epoch");
  out.created_at = time(json, "created_at");
}

ApplyResult read_apply(const Json& json) {
  ApplyResult out;
  out.tenant = text(json, "tenant");
  out.epoch = count(json, "epoch");
  out.created = flag(json, "created");
  out.dry_run = flag(json, "dry_run");
  for (const auto& item : list(json, "changes")) {
    Change change;
    change.kind = text(item, "kind");
    change.name = text(item, "name");
    change.action = text(item, "action");
    change.fields = optional_texts(item, "fields");
    out.changes.push_back(std::move(change));
  }
  if (optional_member(json, "client_secrets") != nullptr) {
    for (const auto& item : list(json, "client_secrets")) {
      out.client_secrets.push_back(
          GeneratedSecret{text(item, "client"), secret<ClientSecret>(item, "client_secret")});
    }
  }
  out.warnings = optional_texts(json, "warnings");
  out.missing_credentials = optional_texts(json, "missing_credentials");
  return out;
}

std::vector<std::pair<std::string, std::string>> read_texts(const Json& json, const char* name) {
  std::vector<std::pair<std::string, std::string>> out;
  const auto* texts = optional_member(json, name);
  if (texts == nullptr) return out;
  if (!texts->is_object()) throw BadAnswer{std::string("has a member that is no object: ") + name};
  for (auto it = texts->begin(); it != texts->end(); ++it) {
    out.emplace_back(it.key(), as_string(it.value(), name));
  }
  return out;
}

CredentialVersion read_version(const Json& json) {
  return {count(json, "version"),
          text(json, "state"),
          optional_texts(json, "fields"),
          time(json, "created_at"),
          optional_time(json, "expires_at"),
          optional_time(json, "deleted_at"),
          optional_time(json, "destroyed_at"),
          optional_member(json, "withdrawn") != nullptr && flag(json, "withdrawn"),
          read_texts(json, "metadata")};
}

Json texts_body(const CredentialDescription::Texts& texts) {
  Json body = Json::object();
  for (const auto& [name, text] : texts) body[name] = text ? Json(*text) : Json(nullptr);
  return body;
}

void describe(Json& body, const CredentialDescription& description) {
  if (description.description) body["description"] = *description.description;
  if (!description.labels.empty()) body["labels"] = texts_body(description.labels);
  if (!description.metadata.empty()) body["metadata"] = texts_body(description.metadata);
  if (description.never_due) body["rotation_due_at"] = nullptr;
  if (description.rotation_due_at) {
    body["rotation_due_at"] = format_time(*description.rotation_due_at);
  }
  if (description.max_versions) body["max_versions"] = *description.max_versions;
  if (description.cas_required) body["cas_required"] = *description.cas_required;
  for (const auto& [name, text] : description.version_metadata) {
    body["version_metadata"][name] = text;
  }
}

CredentialInfo read_credential(const Json& json) {
  CredentialInfo out;
  out.name = text(json, "name");
  const auto& owner = member(json, "owner");
  out.owner_type = text(owner, "type");
  if (out.owner_type == "principal") {
    out.principal = Principal{text(owner, "issuer"), text(owner, "subject")};
  }
  out.version = count(json, "version");
  out.fields = optional_texts(json, "fields");
  out.created_at = time(json, "created_at");
  out.expires_at = optional_time(json, "expires_at");
  out.warnings = optional_texts(json, "warnings");
  if (optional_member(json, "state") != nullptr) out.state = text(json, "state");
  if (optional_member(json, "type") != nullptr) out.type = text(json, "type");
  out.description = optional_text(json, "description");
  out.labels = read_texts(json, "labels");
  out.metadata = read_texts(json, "metadata");
  if (optional_member(json, "max_versions") != nullptr) {
    out.max_versions = count(json, "max_versions");
  }
  if (optional_member(json, "cas_required") != nullptr) {
    out.cas_required = flag(json, "cas_required");
  }
  out.deleted_at = optional_time(json, "deleted_at");
  out.destroyed_at = optional_time(json, "destroyed_at");
  out.rotation_due_at = optional_time(json, "rotation_due_at");
  out.last_used_at = optional_time(json, "last_used_at");
  return out;
}

std::vector<std::pair<std::string, FieldValue>> read_values(const Json& item, const char* name) {
  std::vector<std::pair<std::string, FieldValue>> out;
  const auto* values = optional_member(item, name);
  if (values == nullptr) return out;
  if (!values->is_object()) throw BadAnswer{std::string("has a member that is no object: ") + name};
  for (auto it = values->begin(); it != values->end(); ++it) {
    const std::string_view value = as_string(it.value(), name);
    out.emplace_back(it.key(), FieldValue(SecureBuffer::copy_of(value)));
  }
  return out;
}

ReleasedItem read_released(const Json& json) {
  ReleasedItem out;
  for (const char* name : {"backend", "resource", "audience"}) {
    if (out.backend.empty()) out.backend = optional_text(json, name);
  }
  const auto& status = text(json, "status");
  if (status == "refused") {
    out.error = text(json, "error");
    out.detail = optional_text(json, "detail");
    out.connect_url = optional_text(json, "connect_url");
    return out;
  }
  // Anything but a clear yes is a no.
  if (status != "allowed") throw BadAnswer{"has an item that is neither allowed nor refused"};
  out.allowed = true;
  out.env = read_values(json, "env");
  out.headers = read_values(json, "headers");
  if (optional_member(json, "files") != nullptr) {
    for (const auto& file : list(json, "files")) {
      const std::string_view content = text(file, "content");
      out.files.push_back(ReleasedFile{text(file, "name"), optional_text(file, "env"),
                                       FieldValue(SecureBuffer::copy_of(content))});
    }
  }
  out.expires_at = optional_time(json, "expires_at");
  if (const auto* credential = optional_member(json, "credential"); credential != nullptr) {
    out.credential_name = text(*credential, "name");
    out.credential_owner = text(*credential, "owner");
    out.credential_version = count(*credential, "version");
  }
  if (const auto* token = optional_member(json, "token"); token != nullptr) {
    out.token_scope = optional_text(*token, "scope");
  }
  return out;
}

IssuedToken read_issued(const Json& json) {
  IssuedToken out{secret<AccessToken>(json, "access_token"),
                  optional_text(json, "issued_token_type"),
                  text(json, "token_type"),
                  std::nullopt,
                  optional_text(json, "scope"),
                  {}};
  if (optional_member(json, "expires_in") != nullptr) {
    out.expires_in = std::chrono::seconds(small_count(json, "expires_in"));
  }
  return out;
}

ExchangedItem read_exchanged(const Json& json) {
  ExchangedItem out;
  for (const char* name : {"backend", "resource", "audience"}) {
    if (out.backend.empty()) out.backend = optional_text(json, name);
  }
  const auto& status = text(json, "status");
  if (status == "allowed") {
    out.issued = read_issued(json);
  } else if (status == "refused") {
    out.error = text(json, "error");
    out.detail = optional_text(json, "detail");
    out.connect_url = optional_text(json, "connect_url");
  } else {
    throw BadAnswer{"has an item that is neither allowed nor refused"};
  }
  return out;
}

Json target_items(const std::vector<TargetItem>& items, const std::string& requested_token_type) {
  auto out = Json::array();
  for (const auto& item : items) {
    Json entry = Json::object();
    if (!item.backend.empty()) entry["backend"] = item.backend;
    if (!item.resource.empty()) entry["resource"] = item.resource;
    if (!item.audience.empty()) entry["audience"] = item.audience;
    if (!item.scope.empty()) entry["scope"] = item.scope;
    if (!requested_token_type.empty()) entry["requested_token_type"] = requested_token_type;
    out.push_back(std::move(entry));
  }
  return out;
}

AuditRecord read_record(const Json& json) {
  AuditRecord out;
  out.sequence = count(json, "sequence");
  out.hash = text(json, "hash");
  const auto& event = member(json, "event");
  out.at = text(event, "at");
  out.action = text(event, "action");
  out.outcome = text(event, "outcome");
  out.request_id = optional_text(event, "request_id");
  if (const auto* fields = optional_member(event, "fields"); fields != nullptr) {
    if (!fields->is_object()) throw BadAnswer{"has an event whose fields are no object"};
    for (auto it = fields->begin(); it != fields->end(); ++it) {
      out.fields.emplace_back(it.key(), as_string(it.value(), "fields"));
    }
  }
  out.json = json.dump(-1, ' ', true, Json::error_handler_t::replace);
  return out;
}

std::string public_text(const HttpAnswer& answer) { return std::string(view(answer.body)); }

}  // namespace

bool ApplyResult::changes_anything() const {
  for (const auto& change : changes) {
    if (change.action != "unchanged") return true;
  }
  return created;
}

std::string_view AuditRecord::first_of(std::initializer_list<std::string_view> names) const {
  for (const auto name : names) {
    for (const auto& [key, value] : fields) {
      if (key == name) return value;
    }
  }
  return {};
}

Client::Client(Transport transport, Credentials credentials)
    : transport_(std::move(transport)), credentials_(std::move(credentials)) {}

Result<Client> Client::create(TransportOptions options, Credentials credentials) {
  POSTERN_TRY(auto transport, Transport::create(std::move(options)));
  return Client(std::move(transport), std::move(credentials));
}

Result<HttpAnswer> Client::call(HttpRequest request, Authenticate as) {
  if (as == Authenticate::Bearer) {
    if (!credentials_.token) return fail(ErrorKind::Usage, "this call needs a bearer token");
    request.bearer = &*credentials_.token;
  } else if (as == Authenticate::Client) {
    if (!credentials_.client) return fail(ErrorKind::Usage, "this call needs a client and secret");
    request.client = &*credentials_.client;
  }
  POSTERN_TRY(auto answer, transport_.send(request));
  last_request_id_ = answer.request_id;
  if (answer.status >= 400) return refusal(answer);
  if (answer.status < 200 || answer.status >= 300) {
    return fail(ErrorKind::BrokenAnswer,
                "the answer has the odd HTTP status " + std::to_string(answer.status));
  }
  return answer;
}

Result<ServerStatus> Client::status() {
  POSTERN_TRY(const auto answer, call(request("GET", "/api/v1/status"), Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    ServerStatus out;
    out.version = text(json, "version");
    out.schema_version = small_count(json, "schema_version");
    out.database = text(json, "database");
    out.tenants = small_count(json, "tenants");
    out.uptime_seconds = small_count(json, "uptime_seconds");
    out.root_key_id = text(json, "root_key_id");
    return out;
  });
}

Result<KeyStatus> Client::key_status() {
  POSTERN_TRY(const auto answer, call(request("GET", "/api/v1/keys"), Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    KeyStatus out;
    for (const auto& item : list(json, "root_keys")) {
      out.root_keys.push_back({text(item, "id"), text(item, "state"), small_count(item, "keks"),
                               small_count(item, "tenants")});
    }
    out.keks_to_rotate = small_count(json, "keks_to_rotate");
    const auto& rows = json.at("rows_to_rewrap");
    out.rows_to_rewrap = {small_count(rows, "tenants"), small_count(rows, "credential_versions"),
                          small_count(rows, "signing_keys"),
                          rows.contains("others") ? small_count(rows, "others") : 0};
    out.rows_rewrapped = small_count(json, "rows_rewrapped");
    for (const auto& line : list(json, "advice")) out.advice.push_back(line.get<std::string>());
    return out;
  });
}

Result<Page<TenantSummary>> Client::tenants(const std::string& cursor, std::uint32_t limit) {
  auto target =
      Target("/api/v1/tenants").with("cursor", cursor).with("limit", std::to_string(limit));
  POSTERN_TRY(const auto answer, call(request("GET", target.take()), Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    Page<TenantSummary> page;
    for (const auto& item : list(json, "items")) read_summary(item, page.items.emplace_back());
    page.next_cursor = optional_text(json, "next_cursor");
    return page;
  });
}

Result<Tenant> Client::tenant(const TenantId& tenant) {
  POSTERN_TRY(const auto answer, call(request("GET", tenant_path(tenant)), Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    Tenant out;
    read_summary(json, out);
    out.issuer = text(json, "issuer");
    const auto& counts = member(json, "counts");
    for (auto it = counts.begin(); it != counts.end(); ++it) {
      out.counts.emplace_back(it.key(), static_cast<std::int64_t>(as_count(it.value(), "counts")));
    }
    return out;
  });
}

Status Client::delete_tenant(const TenantId& tenant) {
  auto target = Target(tenant_path(tenant)).with("confirm", tenant.str());
  POSTERN_CHECK(call(request("DELETE", target.take()), Authenticate::Bearer));
  return {};
}

Result<ApplyResult> Client::apply(const TenantId& tenant, const SecretBytes& manifest,
                                  const ApplyOptions& options) {
  auto target = Target(tenant_path(tenant, "/manifest"))
                    .with("dry_run", options.dry_run == DryRun::Yes ? "true" : "false")
                    .with("prune", options.prune == Prune::Yes ? "true" : "false");
  auto put = request("PUT", target.take());
  put.content_type = "application/json";
  put.body = manifest;
  if (options.only_epoch) put.headers.emplace_back("If-Match", etag(*options.only_epoch));
  POSTERN_TRY(const auto answer, call(std::move(put), Authenticate::Bearer));
  return read(answer, read_apply);
}

Result<std::string> Client::manifest(const TenantId& tenant) {
  POSTERN_TRY(const auto answer,
              call(request("GET", tenant_path(tenant, "/manifest")), Authenticate::Bearer));
  return read(answer, [&](const Json&) { return public_text(answer); });
}

Result<std::string> Client::explain(const TenantId& tenant, const ExplainQuestion& question) {
  SecretJson body{Json::object()};
  const auto add = [](Json& object, const char* name, const std::string& text) {
    if (!text.empty()) object[name] = text;
  };
  add(*body, "client", question.client);
  add(*body, "audience", question.audience);
  add(*body, "resource", question.resource);
  add(*body, "scope", question.scope);
  add(*body, "grant", question.grant);
  if (!question.authorization_details.empty()) {
    const auto details = parse_json(question.authorization_details);
    if (!details.ok()) return fail(ErrorKind::Usage, "the authorization details are not JSON");
    (*body)["authorization_details"] = *details.value();
  }
  if (question.subject_token != nullptr) {
    question.subject_token->expose(
        [&](ByteView token) { (*body)["subject_token"] = std::string(as_text(token)); });
    add(*body, "subject_token_type", question.subject_token_type);
  } else if (!question.subject.empty()) {
    Json subject{
        {"issuer", question.issuer}, {"subject", question.subject}, {"groups", question.groups}};
    add(subject, "scope", question.token_scope);
    for (const auto& [name, value] : question.claims) subject["claims"][name].push_back(value);
    (*body)["subject"] = std::move(subject);
  }
  if (question.actor_token != nullptr) {
    question.actor_token->expose(
        [&](ByteView token) { (*body)["actor_token"] = std::string(as_text(token)); });
    add(*body, "actor_token_type", question.actor_token_type);
  } else if (!question.actor.empty()) {
    (*body)["actor"] = {{"issuer", question.actor_issuer}, {"subject", question.actor}};
  }
  POSTERN_TRY(const auto answer,
              call(json_request("POST", tenant_path(tenant, "/explanations"), *body),
                   Authenticate::Bearer));
  return read(answer, [&](const Json&) { return public_text(answer); });
}

namespace {

NewAdminToken read_new_token(const Json& json) {
  return {text(json, "token_id"), secret<BearerToken>(json, "token")};
}

}  // namespace

Result<NewAdminToken> Client::create_admin_token(const TenantId& tenant,
                                                 const std::string& description,
                                                 std::optional<sys_seconds> expires_at) {
  auto body = expiry_body(expires_at);
  body["description"] = description;
  POSTERN_TRY(
      const auto answer,
      call(json_request("POST", tenant_path(tenant, "/admin-tokens"), body), Authenticate::Bearer));
  return read(answer, read_new_token);
}

Result<std::vector<AdminToken>> Client::admin_tokens(const TenantId& tenant) {
  POSTERN_TRY(const auto answer,
              call(request("GET", tenant_path(tenant, "/admin-tokens")), Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    std::vector<AdminToken> out;
    for (const auto& item : list(json, "items")) {
      out.push_back(AdminToken{text(item, "token_id"), optional_text(item, "description"),
                               time(item, "created_at"), optional_time(item, "expires_at")});
    }
    return out;
  });
}

Status Client::delete_admin_token(const TenantId& tenant, const std::string& token_id) {
  const auto path = tenant_path(tenant, "/admin-tokens/" + percent_encode(token_id));
  POSTERN_CHECK(call(request("DELETE", path), Authenticate::Bearer));
  return {};
}

Result<NewAdminToken> Client::create_initial_access_token(const TenantId& tenant,
                                                          const std::string& description,
                                                          std::optional<sys_seconds> expires_at,
                                                          std::uint64_t max_uses) {
  auto body = expiry_body(expires_at);
  body["description"] = description;
  body["max_uses"] = max_uses;
  POSTERN_TRY(const auto answer,
              call(json_request("POST", tenant_path(tenant, "/initial-access-tokens"), body),
                   Authenticate::Bearer));
  return read(answer, read_new_token);
}

Result<std::vector<InitialAccessToken>> Client::initial_access_tokens(const TenantId& tenant) {
  POSTERN_TRY(const auto answer, call(request("GET", tenant_path(tenant, "/initial-access-tokens")),
                                      Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    std::vector<InitialAccessToken> out;
    for (const auto& item : list(json, "items")) {
      out.push_back({text(item, "token_id"), optional_text(item, "description"),
                     time(item, "created_at"), time(item, "expires_at"), count(item, "max_uses"),
                     count(item, "uses")});
    }
    return out;
  });
}

Status Client::delete_initial_access_token(const TenantId& tenant, const std::string& token_id) {
  const auto path = tenant_path(tenant, "/initial-access-tokens/" + percent_encode(token_id));
  POSTERN_CHECK(call(request("DELETE", path), Authenticate::Bearer));
  return {};
}

namespace {

KeyHolder read_key_holder(const Json& json) {
  return {text(json, "state"), small_count(json, "kek_version"), small_count(json, "rows_left")};
}

void put_share(Json& body, const char* name, const SecureBuffer& share) {
  body[name] = std::string(as_text(share.readable()));
}

}  // namespace

Result<KeyHolder> Client::key_holder(const TenantId& tenant) {
  POSTERN_TRY(const auto answer,
              call(request("GET", tenant_path(tenant, "/key-holder")), Authenticate::Bearer));
  return read(answer, read_key_holder);
}

Result<KeyHolder> Client::hold_key(const TenantId& tenant, const SecureBuffer& share,
                                   const SecureBuffer& present) {
  SecretJson body{Json::object()};
  put_share(*body, "share", share);
  if (present.size() > 0) put_share(*body, "present_share", present);
  POSTERN_TRY(
      const auto answer,
      call(json_request("PUT", tenant_path(tenant, "/key-holder"), *body), Authenticate::Bearer));
  return read(answer, read_key_holder);
}

Result<KeyHolder> Client::release_key(const TenantId& tenant, const SecureBuffer& share) {
  SecretJson body{Json::object()};
  put_share(*body, "share", share);
  POSTERN_TRY(const auto answer,
              call(json_request("POST", tenant_path(tenant, "/key-holder/release"), *body),
                   Authenticate::Bearer));
  return read(answer, read_key_holder);
}

Result<KeyHolder> Client::seal_tenant(const TenantId& tenant) {
  POSTERN_TRY(const auto answer,
              call(json_request("POST", tenant_path(tenant, "/key-holder/seal"), Json::object()),
                   Authenticate::Bearer));
  return read(answer, read_key_holder);
}

Result<KeyHolder> Client::unseal_tenant(const TenantId& tenant, const SecureBuffer& share) {
  SecretJson body{Json::object()};
  put_share(*body, "share", share);
  POSTERN_TRY(const auto answer,
              call(json_request("POST", tenant_path(tenant, "/key-holder/unseal"), *body),
                   Authenticate::Bearer));
  return read(answer, read_key_holder);
}

namespace {

Erasure read_erasure(const Json& json) {
  return {text(json, "erasure_id"), text(json, "state"), optional_text(json, "statement")};
}

}  // namespace

Result<Erasure> Client::erase_principal(const TenantId& tenant, const std::string& issuer,
                                        const std::string& subject) {
  Json body = Json::object();
  if (!issuer.empty()) body["issuer"] = issuer;
  if (!subject.empty()) body["subject"] = subject;
  POSTERN_TRY(const auto answer,
              call(json_request("POST", tenant_path(tenant, "/principals/erase"), body),
                   Authenticate::Bearer));
  return read(answer, read_erasure);
}

Result<Erasure> Client::erasure(const TenantId& tenant, const std::string& erasure_id) {
  POSTERN_TRY(const auto answer,
              call(request("GET", tenant_path(tenant, "/erasures/" + percent_encode(erasure_id))),
                   Authenticate::Bearer));
  return read(answer, read_erasure);
}

Result<Erasure> Client::erase_tenant(const TenantId& tenant) {
  POSTERN_TRY(const auto answer, call(json_request("POST", tenant_path(tenant, "/erase"),
                                                   Json{{"confirm", tenant.str()}}),
                                      Authenticate::Bearer));
  return read(answer, read_erasure);
}

Result<Erasure> Client::tenant_erasure(const TenantId& tenant) {
  POSTERN_TRY(const auto answer, call(request("GET", "/api/v1/tenant-erasures/" + tenant.str()),
                                      Authenticate::Bearer));
  return read(answer, read_erasure);
}

namespace {

std::vector<SigningKey> read_signing_keys(const Json& json) {
  std::vector<SigningKey> out;
  for (const auto& item : list(json, "items")) {
    out.push_back({text(item, "kid"), text(item, "algorithm"), text(item, "state"),
                   time(item, "created_at"), time(item, "active_from"),
                   optional_time(item, "retired_at")});
  }
  return out;
}

}  // namespace

Result<std::vector<SigningKey>> Client::signing_keys(const TenantId& tenant) {
  POSTERN_TRY(const auto answer,
              call(request("GET", tenant_path(tenant, "/signing-keys")), Authenticate::Bearer));
  return read(answer, read_signing_keys);
}

Result<std::vector<SigningKey>> Client::rotate_signing_keys(
    const TenantId& tenant, const std::string& algorithm,
    std::optional<std::chrono::seconds> publish_for) {
  Json body = Json::object();
  if (!algorithm.empty()) body["algorithm"] = algorithm;
  if (publish_for) body["publish_for"] = publish_for->count();
  POSTERN_TRY(const auto answer,
              call(json_request("POST", tenant_path(tenant, "/signing-keys/rotation"), body),
                   Authenticate::Bearer));
  return read(answer, read_signing_keys);
}

Status Client::withdraw_signing_key(const TenantId& tenant, const std::string& kid) {
  const auto path = tenant_path(tenant, "/signing-keys/" + percent_encode(kid));
  POSTERN_CHECK(call(request("DELETE", path), Authenticate::Bearer));
  return {};
}

Result<NewClientSecret> Client::add_client_secret(const TenantId& tenant, const ClientId& client,
                                                  std::optional<sys_seconds> expires_at) {
  const auto path = tenant_path(tenant, "/clients/" + client.str() + "/secrets");
  POSTERN_TRY(const auto answer,
              call(json_request("POST", path, expiry_body(expires_at)), Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    return NewClientSecret{text(json, "secret_id"), secret<ClientSecret>(json, "client_secret")};
  });
}

Result<std::vector<ClientSecretInfo>> Client::client_secrets(const TenantId& tenant,
                                                             const ClientId& client) {
  const auto path = tenant_path(tenant, "/clients/" + client.str() + "/secrets");
  POSTERN_TRY(const auto answer, call(request("GET", path), Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    std::vector<ClientSecretInfo> out;
    for (const auto& item : list(json, "items")) {
      out.push_back(ClientSecretInfo{text(item, "secret_id"), optional_time(item, "expires_at")});
    }
    return out;
  });
}

Status Client::delete_client_secret(const TenantId& tenant, const ClientId& client,
                                    const std::string& secret_id) {
  const auto path =
      tenant_path(tenant, "/clients/" + client.str() + "/secrets/" + percent_encode(secret_id));
  POSTERN_CHECK(call(request("DELETE", path), Authenticate::Bearer));
  return {};
}

Result<CredentialInfo> Client::put_credential(const TenantId& tenant, const CredentialName& name,
                                              const CredentialOwner& owner,
                                              const std::vector<CredentialField>& fields,
                                              std::optional<sys_seconds> expires_at,
                                              std::optional<std::uint64_t> only_version,
                                              const std::string& type,
                                              const CredentialDescription& description) {
  SecretJson body{expiry_body(expires_at)};
  if (only_version) (*body)["cas"] = *only_version;
  if (!type.empty()) (*body)["type"] = type;
  describe(*body, description);
  (*body)["fields"] = Json::object();
  for (const auto& field : fields) {
    field.value.expose(
        [&](ByteView value) { (*body)["fields"][field.name] = std::string(as_text(value)); });
  }
  auto target = Target(tenant_path(tenant, "/credentials/" + name.str())).with(owner.principal());
  POSTERN_TRY(const auto answer,
              call(json_request("PUT", target.take(), *body), Authenticate::Bearer));
  return read(answer, read_credential);
}

Result<CredentialInfo> Client::describe_credential(const TenantId& tenant,
                                                   const CredentialName& name,
                                                   const CredentialOwner& owner,
                                                   const CredentialDescription& description) {
  Json body = Json::object();
  describe(body, description);
  auto target = Target(tenant_path(tenant, "/credentials/" + name.str())).with(owner.principal());
  POSTERN_TRY(const auto answer,
              call(json_request("PATCH", target.take(), body), Authenticate::Bearer));
  return read(answer, read_credential);
}

Result<std::vector<CredentialVersion>> Client::credential_versions(const TenantId& tenant,
                                                                   const CredentialName& name,
                                                                   const CredentialOwner& owner) {
  auto target = Target(tenant_path(tenant, "/credentials/" + name.str() + "/versions"))
                    .with(owner.principal());
  POSTERN_TRY(const auto answer, call(request("GET", target.take()), Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    std::vector<CredentialVersion> out;
    for (const auto& item : list(json, "items")) out.push_back(read_version(item));
    return out;
  });
}

Result<CredentialInfo> Client::change_credential_version(const TenantId& tenant,
                                                         const CredentialName& name,
                                                         const CredentialOwner& owner,
                                                         std::uint64_t version,
                                                         VersionChange change) {
  auto path = tenant_path(tenant, "/credentials/" + name.str() + "/versions/");
  path += std::to_string(version);
  if (change == VersionChange::Undelete) path += "/undelete";
  if (change == VersionChange::Destroy) path += "/destroy";
  auto target = Target(std::move(path)).with(owner.principal());
  auto changing = request(change == VersionChange::Delete ? "DELETE" : "POST", target.take());
  POSTERN_TRY(const auto answer, call(std::move(changing), Authenticate::Bearer));
  return read(answer, read_credential);
}

Result<CredentialInfo> Client::credential(const TenantId& tenant, const CredentialName& name,
                                          const CredentialOwner& owner) {
  auto target = Target(tenant_path(tenant, "/credentials/" + name.str())).with(owner.principal());
  POSTERN_TRY(const auto answer, call(request("GET", target.take()), Authenticate::Bearer));
  return read(answer, read_credential);
}

Status Client::delete_credential(const TenantId& tenant, const CredentialName& name,
                                 const CredentialOwner& owner) {
  auto target = Target(tenant_path(tenant, "/credentials/" + name.str())).with(owner.principal());
  POSTERN_CHECK(call(request("DELETE", target.take()), Authenticate::Bearer));
  return {};
}

Result<RevealedCredential> Client::reveal_credential(const TenantId& tenant,
                                                     const CredentialName& name,
                                                     const CredentialOwner& owner,
                                                     const std::string& reason,
                                                     std::optional<std::uint64_t> version) {
  Json body = {{"reason", reason}};
  if (version) body["version"] = *version;
  auto target =
      Target(tenant_path(tenant, "/credentials/" + name.str() + "/reveal")).with(owner.principal());
  POSTERN_TRY(const auto answer,
              call(json_request("POST", target.take(), body), Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    RevealedCredential out;
    out.version = count(json, "version");
    for (auto& [field, value] : read_values(json, "fields")) {
      out.fields.push_back(CredentialField{field, std::move(value)});
    }
    return out;
  });
}

Result<std::string> Client::json_call(std::string method, std::string target,
                                      const std::string& body, const char* what) {
  auto made = request(std::move(method), std::move(target));
  if (!body.empty()) {
    const auto json = parse_json(body);
    if (!json.ok() || !json.value()->is_object()) {
      return fail(ErrorKind::Usage, std::string(what) + " must be a JSON object");
    }
    made = json_request(made.method, made.target, *json.value());
  }
  POSTERN_TRY(const auto answer, call(std::move(made), Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    return json.dump(-1, ' ', true, Json::error_handler_t::replace);
  });
}

Result<std::string> Client::rotation(const TenantId& tenant, const CredentialName& name,
                                     const CredentialOwner& owner) {
  auto target = Target(tenant_path(tenant, "/credentials/" + name.str() + "/rotation"))
                    .with(owner.principal());
  return json_call("GET", target.take(), "", "");
}

Result<std::string> Client::configure_rotation(const TenantId& tenant, const CredentialName& name,
                                               const CredentialOwner& owner,
                                               const std::string& settings) {
  auto target = Target(tenant_path(tenant, "/credentials/" + name.str() + "/rotation"))
                    .with(owner.principal());
  return json_call(settings.empty() ? "DELETE" : "PUT", target.take(), settings, "the settings");
}

Result<std::string> Client::rotate_credential(const TenantId& tenant, const CredentialName& name,
                                              const CredentialOwner& owner,
                                              const RotateRequest& what) {
  SecretJson body{Json::object()};
  for (const auto& field : what.fields) {
    field.value.expose(
        [&](ByteView value) { (*body)["fields"][field.name] = std::string(as_text(value)); });
  }
  if (!what.generate.empty()) {
    const auto generate = parse_json(what.generate);
    if (!generate.ok() || !generate.value()->is_object()) {
      return fail(ErrorKind::Usage, "how it is generated must be a JSON object");
    }
    (*body)["generate"] = *generate.value();
  }
  if (what.grace) (*body)["grace_seconds"] = what.grace->count();
  if (what.expires_at) (*body)["expires_at"] = format_time(*what.expires_at);
  if (what.only_version) (*body)["cas"] = *what.only_version;
  auto target =
      Target(tenant_path(tenant, "/credentials/" + name.str() + "/rotate")).with(owner.principal());
  POSTERN_TRY(const auto answer,
              call(json_request("POST", target.take(), *body), Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    return json.dump(-1, ' ', true, Json::error_handler_t::replace);
  });
}

Result<std::string> Client::steer_rotation(const TenantId& tenant, const CredentialName& name,
                                           const CredentialOwner& owner, RotationStep step) {
  const bool abandon = step == RotationStep::AbandonRetire || step == RotationStep::AbandonCancel;
  const bool retire = step == RotationStep::Retire || step == RotationStep::AbandonRetire;
  const auto* last = step == RotationStep::Promote ? "/rotation/promote"
                     : retire                      ? "/rotation/retire"
                                                   : "/rotation/cancel";
  auto target =
      Target(tenant_path(tenant, "/credentials/" + name.str() + last)).with(owner.principal());
  return json_call("POST", target.take(), abandon ? R"({"abandon":true})" : "", "the request");
}

namespace {

std::string label_selector(const CredentialFilter& filter) {
  std::string labels;
  for (const auto& [name, text] : filter.labels) {
    if (!labels.empty()) labels += ',';
    labels.append(name).append("=").append(text);
  }
  return labels;
}

}  // namespace

Result<std::string> Client::rotations(const TenantId& tenant, const CredentialFilter& filter) {
  auto target = Target(tenant_path(tenant, "/rotations"))
                    .with("labels", label_selector(filter))
                    .with("type", filter.type)
                    .with("overdue", filter.overdue ? "true" : "")
                    .with("cursor", filter.cursor)
                    .with("limit", std::to_string(filter.limit));
  return json_call("GET", target.take(), "", "");
}

Result<std::string> Client::rotate_many(const TenantId& tenant, const std::string& request_) {
  return json_call("POST", tenant_path(tenant, "/rotations"), request_, "the request");
}

Result<std::string> Client::contain(const TenantId& tenant, const std::string& request_) {
  return json_call("POST", tenant_path(tenant, "/emergency"), request_, "the request");
}

Result<Page<CredentialInfo>> Client::credentials(const TenantId& tenant,
                                                 const CredentialFilter& filter) {
  auto target = Target(tenant_path(tenant, "/credentials"))
                    .with("owner", filter.owner)
                    .with(filter.principal)
                    .with("labels", label_selector(filter))
                    .with("type", filter.type)
                    .with("overdue", filter.overdue ? "true" : "")
                    .with("cursor", filter.cursor)
                    .with("limit", std::to_string(filter.limit));
  POSTERN_TRY(const auto answer, call(request("GET", target.take()), Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    Page<CredentialInfo> page;
    for (const auto& item : list(json, "items")) page.items.push_back(read_credential(item));
    page.next_cursor = optional_text(json, "next_cursor");
    return page;
  });
}

Result<std::vector<ReleasedItem>> Client::release(const TenantId& tenant,
                                                  const SubjectToken& subject_token,
                                                  std::string_view subject_token_type,
                                                  const std::vector<TargetItem>& items) {
  SecretJson body{Json::object()};
  subject_token.expose(
      [&](ByteView token) { (*body)["subject_token"] = std::string(as_text(token)); });
  if (!subject_token_type.empty()) (*body)["subject_token_type"] = std::string(subject_token_type);
  (*body)["items"] = target_items(items, "");
  POSTERN_TRY(const auto answer, call(json_request("POST", tenant_path(tenant, "/release"), *body),
                                      Authenticate::Client));
  return read(answer, [&](const Json& json) {
    std::vector<ReleasedItem> out;
    for (const auto& item : list(json, "items")) out.push_back(read_released(item));
    if (out.size() != items.size()) throw BadAnswer{"does not have one item for each asked"};
    return out;
  });
}

Result<AuditPage> Client::audit(const TenantId& tenant, const AuditQuery& query) {
  auto target = Target(tenant_path(tenant, "/audit"))
                    .with("after", query.after ? std::to_string(*query.after) : "")
                    .with("limit", std::to_string(query.limit))
                    .with("action", query.action)
                    .with("order", query.order == AuditOrder::NewestFirst ? "desc" : "asc");
  POSTERN_TRY(const auto answer, call(request("GET", target.take()), Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    AuditPage page;
    for (const auto& item : list(json, "items")) page.items.push_back(read_record(item));
    if (const auto* next = optional_member(json, "next_after"); next != nullptr) {
      page.next_after = as_count(*next, "next_after");
    }
    return page;
  });
}

Result<AuditVerification> Client::verify_audit(const TenantId& tenant) {
  POSTERN_TRY(const auto answer, call(request("GET", tenant_path(tenant, "/audit/verification")),
                                      Authenticate::Bearer));
  return read(answer, [](const Json& json) {
    AuditVerification out;
    out.intact = flag(json, "intact");
    out.records = count(json, "records");
    if (const auto* head = optional_member(json, "head"); head != nullptr) {
      out.head_sequence = count(*head, "sequence");
      out.head_hash = text(*head, "hash");
    }
    if (const auto* bad = optional_member(json, "first_bad"); bad != nullptr) {
      out.first_bad = as_count(*bad, "first_bad");
    }
    out.problem = optional_text(json, "problem");
    return out;
  });
}

Result<IssuedToken> Client::token_request(const TenantId& tenant, SecretBytes form) {
  auto post = request("POST", "/t/" + tenant.str() + "/token");
  post.content_type = "application/x-www-form-urlencoded";
  post.body = std::move(form);
  POSTERN_TRY(auto answer, call(std::move(post), Authenticate::Client));
  return read(answer, [&](const Json& json) {
    auto out = read_issued(json);
    out.json = std::move(answer.body);
    return out;
  });
}

Result<IssuedToken> Client::exchange(const TenantId& tenant, const ExchangeRequest& request) {
  SecretBytes form;
  append_form(form, "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
  request.subject_token.expose(
      [&](ByteView token) { append_form(form, "subject_token", as_text(token)); });
  append_form(form, "subject_token_type", request.subject_token_type);
  if (request.actor_token != nullptr) {
    request.actor_token->expose(
        [&](ByteView token) { append_form(form, "actor_token", as_text(token)); });
    append_form(form, "actor_token_type", request.actor_token_type);
  }
  for (const auto& audience : request.audience) append_form(form, "audience", audience);
  for (const auto& resource : request.resource) append_form(form, "resource", resource);
  if (!request.scope.empty()) append_form(form, "scope", request.scope);
  if (!request.requested_token_type.empty()) {
    append_form(form, "requested_token_type", request.requested_token_type);
  }
  return token_request(tenant, std::move(form));
}

Result<ExchangedItems> Client::exchange(const TenantId& tenant, const ExchangeRequest& request,
                                        const std::vector<TargetItem>& items) {
  SecretJson body{Json::object()};
  request.subject_token.expose(
      [&](ByteView token) { (*body)["subject_token"] = std::string(as_text(token)); });
  (*body)["subject_token_type"] = request.subject_token_type;
  if (request.actor_token != nullptr) {
    request.actor_token->expose(
        [&](ByteView token) { (*body)["actor_token"] = std::string(as_text(token)); });
    (*body)["actor_token_type"] = request.actor_token_type;
  }
  (*body)["items"] = target_items(items, request.requested_token_type);
  POSTERN_TRY(auto answer, call(json_request("POST", tenant_path(tenant, "/exchange"), *body),
                                Authenticate::Client));
  return read(answer, [&](const Json& json) {
    ExchangedItems out;
    for (const auto& item : list(json, "items")) out.items.push_back(read_exchanged(item));
    if (out.items.size() != items.size()) throw BadAnswer{"does not have one item for each asked"};
    out.json = std::move(answer.body);
    return out;
  });
}

Result<IssuedToken> Client::client_credentials(const TenantId& tenant,
                                               const std::vector<std::string>& resource,
                                               const std::string& scope) {
  SecretBytes form;
  append_form(form, "grant_type", "client_credentials");
  for (const auto& uri : resource) append_form(form, "resource", uri);
  if (!scope.empty()) append_form(form, "scope", scope);
  return token_request(tenant, std::move(form));
}

Result<HttpAnswer> Client::about_token(const TenantId& tenant, const char* endpoint,
                                       const SubjectToken& token) {
  auto post = request("POST", "/t/" + tenant.str() + endpoint);
  post.content_type = "application/x-www-form-urlencoded";
  token.expose([&](ByteView bytes) { append_form(post.body, "token", as_text(bytes)); });
  return call(std::move(post), Authenticate::Client);
}

Result<std::string> Client::introspect(const TenantId& tenant, const SubjectToken& token) {
  POSTERN_TRY(const auto answer, about_token(tenant, "/introspect", token));
  return read(answer, [&](const Json& json) {
    flag(json, "active");  // RFC 7662 §2.2: without it the answer is none
    return public_text(answer);
  });
}

Status Client::revoke(const TenantId& tenant, const SubjectToken& token) {
  POSTERN_CHECK(about_token(tenant, "/revoke", token));
  return {};
}

Result<std::string> Client::jwks(const TenantId& tenant) {
  POSTERN_TRY(const auto answer,
              call(request("GET", "/t/" + tenant.str() + "/jwks"), Authenticate::Nobody));
  if (answer.content_type == "application/jwk-set+json") return public_text(answer);
  return read(answer, [&](const Json&) { return public_text(answer); });
}

Result<std::string> Client::metadata(const TenantId& tenant) {
  const auto path = "/.well-known/oauth-authorization-server/t/" + tenant.str();
  POSTERN_TRY(const auto answer, call(request("GET", path), Authenticate::Nobody));
  return read(answer, [&](const Json&) { return public_text(answer); });
}

}  // namespace postern::sdk
