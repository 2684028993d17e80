#include "policy/rotation_settings.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "core/text.h"
#include "policy/config_reader.h"

namespace postern::policy {
namespace {

using config::at;
using config::Reader;
using token::Json;
using vault::RotationKind;
using vault::RotationSettings;

constexpr std::int64_t kHour = 3600;
constexpr std::int64_t kDay = 24 * kHour;

/// As vault::validate_fields() has it.
bool is_field_name(std::string_view text) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  return !text.empty() && text.size() <= 64 && letter(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

Status read_field(Reader& reader, const char* name, std::string& out) {
  POSTERN_CHECK(reader.text(name, out, 64));
  if (!out.empty() && !is_field_name(out)) return at(reader.below(name), "is no name of a field");
  return {};
}

/// What PostgreSQL takes without quotes, so that nobody is surprised.
bool is_role(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; };
  return !text.empty() && text.size() <= 63 && letter(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

bool is_database(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

bool is_host(std::string_view text) {
  return !text.empty() && text.size() <= 253 && text.front() != '-' && text.front() != '.' &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
                  c == ':';
         });
}

Status read_kind(Reader& reader, const char* name, std::string_view otherwise,
                 std::initializer_list<RotationKind> allowed, RotationKind& out) {
  std::string text(otherwise);
  POSTERN_CHECK(reader.text(name, text, 20));
  const auto kind = vault::parse_rotation_kind(text);
  if (kind && std::find(allowed.begin(), allowed.end(), *kind) != allowed.end()) {
    out = *kind;
    return {};
  }
  std::string names;
  for (const auto each : allowed) {
    names += (names.empty() ? "" : ", ") + std::string(to_string(each));
  }
  return at(reader.below(name), "must be one of: " + names);
}

Status read_password(Reader& reader, RotationSettings& out) {
  POSTERN_TRY(const auto length, reader.number("length", 32, 12, 200));
  out.password.length = static_cast<std::uint32_t>(length);
  POSTERN_CHECK(reader.text("alphabet", out.password.alphabet, 94));
  POSTERN_CHECK(reader.texts(
      "require",
      [&](const std::string& item, const std::string& place) -> Status {
        auto& all = out.password.require;
        if (std::find(all.begin(), all.end(), item) != all.end())
          return at(place, "is there twice");
        all.push_back(item);
        return {};
      },
      4));
  if (const auto valid = validate(out.password); !valid.ok()) {
    return at(reader.pointer(), valid.error().detail);
  }
  return {};
}

Status read_key(Reader& reader, RotationSettings& out) {
  std::string algorithm("ed25519");
  POSTERN_CHECK(reader.text("algorithm", algorithm, 20));
  const auto kind = crypto::parse_key_pair_kind(algorithm);
  const bool ssh = out.made_as() == RotationKind::SshKey;
  const bool fits =
      kind && !(ssh && (*kind == crypto::KeyPairKind::P256 || *kind == crypto::KeyPairKind::P384));
  if (!fits) {
    return at(reader.below("algorithm"),
              ssh ? "must be one of: ed25519, rsa-3072, rsa-4096"
                  : "must be one of: ed25519, p-256, p-384, rsa-3072, rsa-4096");
  }
  out.key = *kind;
  POSTERN_CHECK(read_field(reader, "public_field", out.public_field));
  if (!out.public_field.empty() && out.public_field == out.field) {
    return at(reader.below("public_field"), "must be another field than that of the private key");
  }
  return {};
}

/// A webhook is told of the public half before the key is handed out.
Status read_announce(Reader& reader, RotationSettings& out) {
  if (out.kind != RotationKind::KeyPair && out.kind != RotationKind::SshKey) return {};
  POSTERN_CHECK(reader.duration("announce_seconds", out.announce, 0, 30 * kDay));
  if (out.interval && out.announce + out.grace >= *out.interval) {
    return at(reader.below("announce_seconds"), "must with the grace be shorter than the interval");
  }
  return {};
}

Status read_made(Reader& reader, RotationSettings& out) {
  const auto made_as = out.made_as();
  if (made_as == RotationKind::Manual) return {};
  const bool password = made_as == RotationKind::Password;
  out.field = password ? "password" : "private_key";
  POSTERN_CHECK(read_field(reader, "field", out.field));
  return password ? read_password(reader, out) : read_key(reader, out);
}

Status read_postgres(Reader& reader, RotationSettings& out) {
  POSTERN_CHECK(reader.required_text("host", out.host, 253));
  if (!is_host(out.host)) {
    return at(reader.below("host"), "must be the name or address of a host, in lower case");
  }
  POSTERN_TRY(const auto port, reader.number("port", 5432, 1, 65535));
  out.port = static_cast<std::uint16_t>(port);
  POSTERN_CHECK(reader.required_text("database", out.database, 63));
  if (!is_database(out.database)) {
    return at(reader.below("database"), "must be of letters, digits, _ and -");
  }
  POSTERN_CHECK(reader.texts(
      "roles",
      [&](const std::string& item, const std::string& place) -> Status {
        if (!is_role(item)) {
          return at(place, "must be a role of lower-case letters, digits and underscores");
        }
        if (!out.roles.empty() && out.roles.front() == item) return at(place, "is there twice");
        out.roles.push_back(item);
        return {};
      },
      2));
  if (out.roles.empty()) {
    return at(reader.below("roles"), "must name one role, or two that take turns");
  }
  POSTERN_CHECK(reader.required_text("admin_credential", out.secret_credential, 200));
  if (!CredentialName::parse(out.secret_credential).ok()) {
    return at(reader.below("admin_credential"), "must be the name of a credential");
  }
  return {};
}

Status read_webhook(Reader& reader, RotationSettings& out) {
  POSTERN_CHECK(reader.required_text("url", out.url, 2000));
  POSTERN_CHECK(reader.required_text("secret_credential", out.secret_credential, 200));
  if (!CredentialName::parse(out.secret_credential).ok()) {
    return at(reader.below("secret_credential"), "must be the name of a credential");
  }
  return {};
}

Status read_times(Reader& reader, RotationSettings& out) {
  if (reader.find("interval_seconds") != nullptr) {
    std::chrono::seconds interval{0};
    POSTERN_CHECK(reader.duration("interval_seconds", interval, kHour, 3660 * kDay));
    out.interval = interval;
  }
  POSTERN_CHECK(reader.duration("grace_seconds", out.grace, 0, 90 * kDay));
  if (out.interval && out.grace >= *out.interval) {
    return at(reader.below("grace_seconds"), "must be shorter than the interval");
  }
  std::string retired("destroy");
  POSTERN_CHECK(reader.text("retired", retired, 10));
  if (retired != "destroy" && retired != "delete") {
    return at(reader.below("retired"), "must be one of: destroy, delete");
  }
  out.destroy = retired == "destroy";
  return {};
}

}  // namespace

Result<RotationSettings> read_rotation_settings(const Json& value, const std::string& pointer) {
  POSTERN_TRY(auto reader, Reader::of(value, pointer));
  RotationSettings out;
  if (reader.find("kind") == nullptr) return at(reader.below("kind"), "is required");
  POSTERN_CHECK(read_kind(reader, "kind", "",
                          {RotationKind::Manual, RotationKind::Password, RotationKind::KeyPair,
                           RotationKind::SshKey, RotationKind::Postgres, RotationKind::Webhook},
                          out.kind));
  if (out.kind == RotationKind::Webhook) {
    POSTERN_CHECK(read_kind(reader, "generate", "password",
                            {RotationKind::Password, RotationKind::KeyPair, RotationKind::SshKey},
                            out.generate));
  }
  POSTERN_CHECK(read_times(reader, out));
  POSTERN_CHECK(read_announce(reader, out));
  POSTERN_CHECK(read_made(reader, out));
  if (out.kind == RotationKind::Postgres) POSTERN_CHECK(read_postgres(reader, out));
  if (out.kind == RotationKind::Webhook) POSTERN_CHECK(read_webhook(reader, out));
  POSTERN_CHECK(reader.finish());
  return out;
}

Json write(const RotationSettings& settings) {
  Json json{{"kind", to_string(settings.kind)},
            {"grace_seconds", settings.grace.count()},
            {"retired", settings.destroy ? "destroy" : "delete"}};
  if (settings.announce.count() > 0) json["announce_seconds"] = settings.announce.count();
  if (settings.interval) json["interval_seconds"] = settings.interval->count();
  if (settings.kind == RotationKind::Webhook) json["generate"] = to_string(settings.generate);
  const auto made_as = settings.made_as();
  if (made_as != RotationKind::Manual) json["field"] = settings.field;
  if (made_as == RotationKind::Password) {
    json["length"] = settings.password.length;
    if (!settings.password.alphabet.empty()) json["alphabet"] = settings.password.alphabet;
    if (!settings.password.require.empty()) json["require"] = settings.password.require;
  }
  if (made_as == RotationKind::KeyPair || made_as == RotationKind::SshKey) {
    json["algorithm"] = to_string(settings.key);
    if (!settings.public_field.empty()) json["public_field"] = settings.public_field;
  }
  if (settings.kind == RotationKind::Postgres) {
    json["host"] = settings.host;
    json["port"] = settings.port;
    json["database"] = settings.database;
    json["roles"] = settings.roles;
    json["admin_credential"] = settings.secret_credential;
  }
  if (settings.kind == RotationKind::Webhook) {
    json["url"] = settings.url;
    json["secret_credential"] = settings.secret_credential;
  }
  return json;
}

}  // namespace postern::policy
