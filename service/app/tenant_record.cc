#include "app/tenant_record.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <exception>
#include <set>
#include <stdexcept>
#include <utility>

#include "crypto/base64url.h"
#include "crypto/signature.h"
#include "token/json.h"
#include "vault/archive.h"
#include "vault/fields.h"

namespace postern::app {
namespace {

using token::Json;

Json instant(const std::optional<sys_seconds>& time) {
  return time ? Json(time->time_since_epoch().count()) : Json(nullptr);
}

/// A whole number from 0 to `most`; what is written as a fraction is none.
std::uint64_t number_in(const Json& value, std::uint64_t most = INT64_MAX) {
  if (!value.is_number_unsigned()) throw std::invalid_argument("number");
  const auto number = value.get<std::uint64_t>();
  if (number > most) throw std::out_of_range("number");
  return number;
}
std::uint32_t small_number_in(const Json& value) {
  return static_cast<std::uint32_t>(number_in(value, UINT32_MAX));
}

sys_seconds instant_in(const Json& value) {
  // What the database can hold: up to the year 9999.
  return sys_seconds(std::chrono::seconds(number_in(value, 253'402'300'799)));
}
std::optional<sys_seconds> optional_instant_in(const Json& value) {
  if (value.is_null()) return std::nullopt;
  return instant_in(value);
}

std::uint32_t version_in(const Json& value) {
  const auto version = number_in(value, INT32_MAX);
  if (version < 1) throw std::out_of_range("version");
  return static_cast<std::uint32_t>(version);
}

crypto::Hash256 hash_in(const Json& value) {
  const auto bytes = crypto::base64url_decode(value.get_ref<const std::string&>());
  crypto::Hash256 hash{};
  if (!bytes.ok() || bytes.value().size() != hash.size()) throw std::invalid_argument("hash");
  std::copy(bytes.value().begin(), bytes.value().end(), hash.begin());
  return hash;
}

std::string encoded(ByteView bytes) { return crypto::base64url(bytes); }
Bytes decoded(const Json& value) {
  auto bytes = crypto::base64url_decode(value.get_ref<const std::string&>());
  if (!bytes.ok()) throw std::invalid_argument("base64url");
  return std::move(bytes).value();
}

template <class T>
T valid(Result<T> result) {
  if (!result.ok()) throw std::invalid_argument("not valid");
  return std::move(result).value();
}
void check(const Status& status) {
  if (!status.ok()) throw std::invalid_argument("not valid");
}

SecureBuffer text_of(Json json) {
  auto text = token::dump_json(json);
  token::wipe_texts(json);
  return SecureBuffer::take(std::move(text));
}

// ---- the tenant ----

policy::StoredTenant tenant_in(const Json& json) {
  policy::StoredTenant tenant{
      {TenantId(json.at("tenant").get<std::string>()), {}, false, {}, 0, {}}, {}, {}, {}, {}, {}};
  auto& row = tenant.row;
  row.display_name = json.at("display_name").get<std::string>();
  row.enabled = json.at("enabled").get<bool>();
  row.settings = json.at("settings").get<std::string>();
  for (const auto& each : json.at("objects")) {
    const auto kind = policy::parse_kind(each.at("kind").get_ref<const std::string&>());
    if (!kind) throw std::invalid_argument("kind");
    tenant.objects.push_back(
        {*kind, each.at("name").get<std::string>(), each.at("spec").get<std::string>()});
  }
  for (const auto& each : json.at("client_secrets")) {
    tenant.client_secrets.push_back({ClientId(each.at("client").get<std::string>()),
                                     each.at("id").get<std::string>(), hash_in(each.at("hash")),
                                     optional_instant_in(each.at("expires_at"))});
  }
  for (const auto& each : json.at("admin_tokens")) {
    tenant.admin_tokens.push_back({each.at("id").get<std::string>(),
                                   each.at("description").get<std::string>(),
                                   hash_in(each.at("hash")), instant_in(each.at("created_at")),
                                   optional_instant_in(each.at("expires_at"))});
  }
  for (const auto& each : json.at("initial_tokens")) {
    tenant.initial_tokens.push_back(
        {each.at("id").get<std::string>(), each.at("description").get<std::string>(),
         hash_in(each.at("hash")), instant_in(each.at("created_at")),
         instant_in(each.at("expires_at")), small_number_in(each.at("max_uses")),
         small_number_in(each.at("uses"))});
  }
  for (const auto& each : json.at("signing_algorithms")) {
    tenant.signing_keys.emplace_back().algorithm = each.get<std::string>();
  }
  return tenant;
}

// ---- credentials ----

Json version_json(const CredentialRecord::Version& version) {
  const auto& info = version.info;
  Json json{{"version", info.version},
            {"field_names", info.field_names},
            {"created_at", instant(info.created_at)},
            {"expires_at", instant(info.expires_at)},
            {"deleted_at", instant(info.deleted_at)},
            {"destroyed_at", instant(info.destroyed_at)}};
  if (info.withdrawn) json["withdrawn"] = true;
  if (!info.metadata.empty()) json["metadata"] = info.metadata;
  if (version.fields) json["fields"] = encoded(vault::encode_fields(*version.fields).readable());
  return json;
}

CredentialRecord::Version version_of(const Json& json) {
  CredentialRecord::Version version;
  auto& info = version.info;
  info.version = version_in(json.at("version"));
  info.field_names = json.at("field_names").get<std::vector<std::string>>();
  info.created_at = instant_in(json.at("created_at"));
  info.expires_at = optional_instant_in(json.at("expires_at"));
  info.deleted_at = optional_instant_in(json.at("deleted_at"));
  info.withdrawn = json.value("withdrawn", false);
  if (info.withdrawn && !info.deleted_at) throw std::invalid_argument("withdrawn");
  info.destroyed_at = optional_instant_in(json.at("destroyed_at"));
  if (json.contains("metadata")) info.metadata = json.at("metadata").get<vault::Texts>();
  check(vault::validate_version_metadata(info.metadata));
  // Destroyed is what has no fields, and nothing else is.
  if (info.destroyed_at.has_value() == json.contains("fields"))
    throw std::invalid_argument("fields");
  if (info.destroyed_at) return version;
  version.fields = valid(vault::decode_fields(decoded(json.at("fields"))));
  check(vault::validate_fields(*version.fields));
  const bool named =
      std::equal(version.fields->begin(), version.fields->end(), info.field_names.begin(),
                 info.field_names.end(),
                 [](const auto& field, const auto& name) { return field.first == name; });
  if (!named) throw std::invalid_argument("field names");
  return version;
}

Owner owner_in(const Json& json) {
  if (json.is_null()) return Owner::tenant();
  Principal principal;
  principal.issuer = json.at("issuer").get<std::string>();
  principal.subject = json.at("subject").get<std::string>();
  return Owner::principal(std::move(principal));
}

CredentialRecord credential_in(const Json& json) {
  const auto owner = owner_in(json.at("owner"));
  const CredentialName name(json.at("name").get<std::string>());
  CredentialRecord record{{{owner, name}, version_in(json.at("version")), {}, {}, {}}, {}};
  auto& description = record.metadata.description;
  description.type = json.at("type").get<std::string>();
  description.max_versions = small_number_in(json.at("max_versions"));
  description.cas_required = json.at("cas_required").get<bool>();
  description.description = json.at("description").get<std::string>();
  description.labels = json.at("labels").get<vault::Texts>();
  description.metadata = json.at("metadata").get<vault::Texts>();
  description.rotation_due_at = optional_instant_in(json.at("rotation_due_at"));
  record.metadata.last_used_at = optional_instant_in(json.at("last_used_at"));
  check(vault::validate(description));
  std::uint32_t before = 0;
  for (const auto& each : json.at("versions")) {
    auto version = version_of(each);
    if (version.info.version <= before) throw std::invalid_argument("order");
    before = version.info.version;
    record.versions.push_back(std::move(version));
  }
  if (before != record.metadata.version) throw std::invalid_argument("latest version");
  return record;
}

// ---- transit ----

/// As vault/transit.h has it: a format byte, an HMAC key, and the key.
bool is_transit_content(vault::TransitType type, const PrivateKey& key) {
  constexpr std::size_t kKeyBytes = 32;
  return key.expose([&](ByteView bytes) {
    if (bytes.size() <= 1 + kKeyBytes || bytes[0] != std::byte{1}) return false;
    const auto rest = bytes.subspan(1 + kKeyBytes);
    if (type != vault::TransitType::EcdsaP256) return rest.size() == kKeyBytes;
    return crypto::SigningKey::import_private(crypto::Algorithm::ES256,
                                              PrivateKey(SecureBuffer::copy_of(rest)))
        .ok();
  });
}

TransitRecord transit_in(const Json& json) {
  TransitRecord record;
  auto& key = record.key;
  key.name = vault::TransitName(json.at("name").get<std::string>());
  key.id = json.at("id").get<std::string>();
  const auto type = vault::parse_transit_type(json.at("type").get_ref<const std::string&>());
  if (!type || key.id.empty() || key.id.size() > 64) throw std::invalid_argument("key");
  const bool harmless = std::all_of(key.id.begin(), key.id.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_';
  });
  if (!harmless) throw std::invalid_argument("key");
  key.type = *type;
  key.derived = json.at("derived").get<bool>();
  key.deletion_allowed = json.at("deletion_allowed").get<bool>();
  key.latest_version = version_in(json.at("latest_version"));
  key.min_decryption_version = version_in(json.at("min_decryption_version"));
  key.min_encryption_version = small_number_in(json.at("min_encryption_version"));
  if (key.derived && !vault::encrypts(key.type)) throw std::invalid_argument("derived");
  const bool in_order = key.min_decryption_version <= key.latest_version &&
                        (key.min_encryption_version == 0 ||
                         (key.min_encryption_version >= key.min_decryption_version &&
                          key.min_encryption_version <= key.latest_version));
  if (!in_order) throw std::invalid_argument("least versions");
  for (const auto& each : json.at("versions")) {
    record.versions.push_back({version_in(each.at("version")), instant_in(each.at("created_at")),
                               PrivateKey(SecureBuffer::copy_of(decoded(each.at("key"))))});
    if (!is_transit_content(key.type, record.versions.back().key)) {
      throw std::invalid_argument("key");
    }
    if (record.versions.back().version != record.versions.size())
      throw std::invalid_argument("order");
  }
  if (record.versions.size() != key.latest_version) throw std::invalid_argument("latest version");
  return record;
}

bool same(const SecureBuffer& written, ByteView read) {
  return std::equal(written.readable().begin(), written.readable().end(), read.begin(), read.end());
}

}  // namespace

SecureBuffer encode(const policy::StoredTenant& tenant) {
  const auto& row = tenant.row;
  Json json{{"kind", "tenant"},
            {"tenant", row.tenant.str()},
            {"display_name", row.display_name},
            {"enabled", row.enabled},
            {"settings", row.settings}};
  for (const char* list :
       {"objects", "client_secrets", "admin_tokens", "initial_tokens", "signing_algorithms"}) {
    json[list] = Json::array();
  }
  for (const auto& each : tenant.objects) {
    json["objects"].push_back(
        {{"kind", policy::to_string(each.kind)}, {"name", each.name}, {"spec", each.spec}});
  }
  for (const auto& each : tenant.client_secrets) {
    json["client_secrets"].push_back({{"client", each.client.str()},
                                      {"id", each.secret_id},
                                      {"hash", encoded(each.hash)},
                                      {"expires_at", instant(each.expires_at)}});
  }
  for (const auto& each : tenant.admin_tokens) {
    json["admin_tokens"].push_back({{"id", each.token_id},
                                    {"description", each.description},
                                    {"hash", encoded(each.hash)},
                                    {"created_at", instant(each.created_at)},
                                    {"expires_at", instant(each.expires_at)}});
  }
  for (const auto& each : tenant.initial_tokens) {
    json["initial_tokens"].push_back({{"id", each.token_id},
                                      {"description", each.description},
                                      {"hash", encoded(each.hash)},
                                      {"created_at", instant(each.created_at)},
                                      {"expires_at", instant(each.expires_at)},
                                      {"max_uses", each.max_uses},
                                      {"uses", each.uses}});
  }
  std::set<std::string> algorithms;
  for (const auto& key : tenant.signing_keys) algorithms.insert(key.algorithm);
  json["signing_algorithms"] = algorithms;
  return text_of(std::move(json));
}

SecureBuffer encode(const CredentialRecord& record) {
  const auto& [metadata, versions] = record;
  const auto& description = metadata.description;
  const auto& [issuer, subject] = metadata.key.owner.principal();
  Json json{{"kind", "credential"},
            {"owner", nullptr},
            {"name", metadata.key.name.str()},
            {"version", metadata.version},
            {"type", description.type},
            {"max_versions", description.max_versions},
            {"cas_required", description.cas_required},
            {"description", description.description},
            {"labels", description.labels},
            {"metadata", description.metadata},
            {"rotation_due_at", instant(description.rotation_due_at)},
            {"last_used_at", instant(metadata.last_used_at)},
            {"versions", Json::array()}};
  if (!metadata.key.owner.is_tenant()) json["owner"] = {{"issuer", issuer}, {"subject", subject}};
  for (const auto& version : versions) json["versions"].push_back(version_json(version));
  return text_of(std::move(json));
}

SecureBuffer encode(const TransitRecord& record) {
  const auto& key = record.key;
  Json json{{"kind", "transit_key"},
            {"name", key.name.str()},
            {"id", key.id},
            {"type", vault::to_string(key.type)},
            {"derived", key.derived},
            {"deletion_allowed", key.deletion_allowed},
            {"latest_version", key.latest_version},
            {"min_decryption_version", key.min_decryption_version},
            {"min_encryption_version", key.min_encryption_version},
            {"versions", Json::array()}};
  for (const auto& version : record.versions) {
    json["versions"].push_back(
        {{"version", version.version},
         {"created_at", instant(version.created_at)},
         {"key", version.key.expose([](ByteView bytes) { return encoded(bytes); })}});
  }
  return text_of(std::move(json));
}

SecureBuffer encode(const ArchiveTotals& totals) {
  return text_of({{"kind", "end"},
                  {"credentials", totals.credentials},
                  {"versions", totals.versions},
                  {"transit_keys", totals.transit_keys}});
}

Result<TenantArchiveRecord> decode_record(ByteView bytes) {
  const auto malformed =
      fail(ErrorCode::MalformedRequest, "the archive has what this release does not know");
  token::JsonLimits limits;
  limits.max_bytes = vault::kMostRecordBytes;
  limits.max_values = 5'000'000;
  auto json = token::parse_json(as_text(bytes), limits);
  if (!json.ok()) return malformed;
  auto record = [&]() -> Result<TenantArchiveRecord> {
    try {
      const auto& value = json.value();
      const auto& kind = value.at("kind").get_ref<const std::string&>();
      if (kind == "tenant") return TenantArchiveRecord(tenant_in(value));
      if (kind == "credential") return TenantArchiveRecord(credential_in(value));
      if (kind == "transit_key") return TenantArchiveRecord(transit_in(value));
      if (kind == "end") {
        return TenantArchiveRecord(ArchiveTotals{number_in(value.at("credentials")),
                                                 number_in(value.at("versions")),
                                                 number_in(value.at("transit_keys"))});
      }
      return malformed;
    } catch (const std::exception&) {
      return malformed;
    }
  }();
  token::wipe_texts(json.value());
  if (!record.ok()) return record;
  // One spelling of each record, with no member that was passed over.
  const auto written = std::visit([](const auto& each) { return encode(each); }, record.value());
  if (!same(written, bytes)) return malformed;
  return record;
}

}  // namespace postern::app
