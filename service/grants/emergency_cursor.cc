#include "grants/emergency_cursor.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "crypto/base64url.h"
#include "token/json.h"

namespace postern::grants {
namespace {

using token::Json;

constexpr std::chrono::minutes kSkew(5);
constexpr std::size_t kMaxId = 24;  ///< of a session, or of an answer that waited
constexpr std::size_t kMaxOrder = 64;

std::int64_t number(sys_seconds time) { return time.time_since_epoch().count(); }

/// The members that write() makes, read one by one; what is not as it should be is remembered.
class Reader {
 public:
  Reader(const Json& json, sys_seconds now) : json_(json), latest_(now + kSkew) {}

  const Json* member(const char* name) {
    const auto it = json_.find(name);
    if (it == json_.end()) return nullptr;
    ++read_;
    return &*it;
  }
  std::uint64_t count(const char* name) {
    const auto* value = member(name);
    return require(value != nullptr && value->is_number_unsigned()) ? value->get<std::uint64_t>()
                                                                    : 0;
  }
  sys_seconds time(const Json* value) {
    if (!require(value != nullptr && value->is_number_unsigned())) return {};
    const auto seconds = value->get<std::uint64_t>();
    if (!require(seconds <= static_cast<std::uint64_t>(number(latest_)))) return {};
    return sys_seconds(std::chrono::seconds(static_cast<std::int64_t>(seconds)));
  }
  std::string id(const std::string& text, std::size_t most = kMaxId) {
    require(!text.empty() && text.size() <= most);
    return text;
  }
  std::string text(const Json& value) {
    return require(value.is_string()) ? value.get<std::string>() : std::string();
  }
  bool require(bool condition) { return (good_ &= condition), condition; }

  /// Nothing else is in it.
  bool is_good() const { return good_ && read_ == json_.size(); }

 private:
  const Json& json_;
  const sys_seconds latest_;
  std::size_t read_ = 0;
  bool good_ = true;
};

std::optional<vault::CredentialKey> key_in(const Json& json, Reader& reader) {
  if (!reader.require(json.is_array() && json.size() == 3)) return std::nullopt;
  auto issuer = reader.text(json[0]);
  auto subject = reader.text(json[1]);
  auto name = CredentialName::parse(reader.text(json[2]));
  if (!reader.require(name.ok() && issuer.empty() == subject.empty())) return std::nullopt;
  auto owner =
      issuer.empty() ? Owner::tenant() : Owner::principal({std::move(issuer), std::move(subject)});
  return vault::CredentialKey{std::move(owner), std::move(name).value()};
}

Leads leads_in(Reader& reader) {
  Leads out;
  if (const auto* given = reader.member("given")) {
    const bool fits = given->is_object() && !given->empty() && given->size() <= Leads::kMost;
    if (!reader.require(fits)) return out;
    for (const auto& [id, at] : given->items()) {
      out.given_at.insert_or_assign(reader.id(id), reader.time(&at));
    }
    out.read_after = reader.time(reader.member("read_after"));
  }
  if (const auto* sessions = reader.member("sessions")) {
    const bool fits =
        sessions->is_array() && !sessions->empty() && sessions->size() <= Leads::kMost;
    if (!reader.require(fits)) return out;
    for (const auto& id : *sessions) out.sessions.insert(reader.id(reader.text(id)));
    reader.require(out.sessions.size() == sessions->size());
  }
  if (const auto* left_out = reader.member("left_out")) {
    out.some_left_out = reader.require(left_out->is_boolean()) && left_out->get<bool>();
    reader.require(out.some_left_out);
  }
  return out;
}

}  // namespace

std::string write(const EmergencyCursor& cursor) {
  Json json{{"order", cursor.order},
            {"begun_at", number(cursor.begun_at)},
            {"records", cursor.part.most_records},
            {"before", cursor.part.before}};
  const auto& leads = cursor.part.leads;
  for (const auto& [id, at] : leads.given_at) json["given"][id] = number(at);
  if (!leads.given_at.empty())
    json["read_after"] = std::max<std::int64_t>(number(leads.read_after), 0);
  for (const auto& id : leads.sessions) json["sessions"].push_back(id);
  if (leads.some_left_out) json["left_out"] = true;
  if (cursor.after) {
    const auto& owner = cursor.after->owner;
    const auto& [issuer, subject] = owner.principal();
    json["after"] = Json::array({issuer, subject, cursor.after->name.str()});
  }
  return crypto::base64url(as_bytes(token::dump_json(json)));
}

Result<EmergencyCursor> read_emergency_cursor(std::string_view text, sys_seconds now) {
  const auto malformed = fail(ErrorCode::MalformedRequest, "is none that this service gave");
  if (text.size() > EmergencyCursor::kMaxBytes) return malformed;
  const auto bytes = crypto::base64url_decode(text);
  if (!bytes.ok()) return malformed;
  const auto json = token::parse_json(as_text(bytes.value()));
  if (!json.ok() || !json.value().is_object()) return malformed;
  Reader reader(json.value(), now);
  EmergencyCursor out;
  const auto* order = reader.member("order");
  if (order == nullptr) return malformed;
  out.order = reader.id(reader.text(*order), kMaxOrder);
  out.begun_at = reader.time(reader.member("begun_at"));
  out.part.most_records = reader.count("records");
  reader.require(out.part.most_records >= 1 && out.part.most_records <= SearchPart::kMostRecords);
  out.part.before = reader.count("before");
  reader.require(out.part.before <= std::numeric_limits<std::int64_t>::max());  // as its column
  out.part.leads = leads_in(reader);
  if (const auto* after = reader.member("after")) out.after = key_in(*after, reader);
  if (!reader.is_good()) return malformed;
  return out;
}

}  // namespace postern::grants
