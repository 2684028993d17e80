#include "vault/credential_rotation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include "core/bytes.h"
#include "crypto/random.h"

namespace postern::vault {
namespace {

constexpr std::string_view kLower = "abcdefghijklmnopqrstuvwxyz";
constexpr std::string_view kUpper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
constexpr std::string_view kDigits = "0123456789";
constexpr double kLeastBits = 64;

template <class Value, std::size_t size>
std::optional<Value> parsed(const std::array<Value, size>& all, std::string_view text) {
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const Value& value) { return to_string(value) == text; });
  return found == all.end() ? std::nullopt : std::optional(*found);
}

std::string alphabet_of(const PasswordRule& rule) {
  if (!rule.alphabet.empty()) return rule.alphabet;
  return std::string(kLower).append(kUpper).append(kDigits);
}

bool is_of(std::string_view name, char c) {
  const auto in = [&](std::string_view set) { return set.find(c) != set.npos; };
  if (name == "lower") return in(kLower);
  if (name == "upper") return in(kUpper);
  if (name == "digit") return in(kDigits);
  return !in(kLower) && !in(kUpper) && !in(kDigits);
}
bool is_class(std::string_view name) {
  return name == "lower" || name == "upper" || name == "digit" || name == "symbol";
}
bool has_each(const PasswordRule& rule, std::string_view text) {
  return std::all_of(rule.require.begin(), rule.require.end(), [&](const auto& name) {
    return std::any_of(text.begin(), text.end(), [&](char c) { return is_of(name, c); });
  });
}

/// Uniform below `bound`, 1 to 256.
std::size_t random_below(std::size_t bound) {
  const std::size_t usable = 256 - 256 % bound;  // or small numbers came more often
  for (;;) {
    std::array<std::byte, 1> byte;
    crypto::random_bytes(byte);
    const auto value = std::to_integer<std::size_t>(byte[0]);
    if (value < usable) return value % bound;
  }
}

// ---- URLs with user and password ----

struct UrlParts {
  std::string_view scheme;  ///< with ://
  std::string_view user, password;
  std::string_view rest;  ///< from @ on
};
std::optional<UrlParts> parts_of(std::string_view url) {
  const auto colon = url.find("://");
  if (colon == url.npos) return std::nullopt;
  const auto after = url.substr(colon + 3);
  const auto authority = after.substr(0, std::min(after.find_first_of("/?#"), after.size()));
  const auto at = authority.find('@');
  const auto divider = authority.find(':');
  if (at == authority.npos || divider == authority.npos || divider > at) return std::nullopt;
  if (authority.find('@', at + 1) != authority.npos) return std::nullopt;  // of the password?
  return UrlParts{url.substr(0, colon + 3), authority.substr(0, divider),
                  authority.substr(divider + 1, at - divider - 1), after.substr(at)};
}

void append_encoded(std::string& out, std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = kLower.find(c) != kLower.npos || kUpper.find(c) != kUpper.npos ||
                       kDigits.find(c) != kDigits.npos || c == '-' || c == '_' || c == '.';
    if (plain) {
      out += c;
    } else {
      out.append({'%', kHex[byte >> 4], kHex[byte & 15]});
    }
  }
}

std::string decoded(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 &&
        digit(text[i + 2]) >= 0) {
      out += static_cast<char>(digit(text[i + 1]) << 4 | digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

FieldValue value_of(std::string text) { return FieldValue(SecureBuffer::take(std::move(text))); }

Status make_password(const RotationSettings& settings, const std::string& role, Fields& fields) {
  auto password = random_password(settings.password);
  if (settings.field != "url") {
    fields.insert_or_assign(settings.field, FieldValue(std::move(password)));
    if (!role.empty()) fields.insert_or_assign("username", value_of(role));
    return {};
  }
  std::string made;
  const bool has = fields.at("url").expose([&](ByteView bytes) {
    const auto parts = parts_of(as_text(bytes));
    if (!parts) return false;
    made.reserve(bytes.size() + 1024);
    made += parts->scheme;
    if (role.empty()) {
      made += parts->user;
    } else {
      append_encoded(made, role);
    }
    made += ':';
    append_encoded(made, as_text(password.readable()));
    made += parts->rest;
    return true;
  });
  if (!has) return fail(ErrorCode::Conflict, "the field url has no user and password");
  fields.insert_or_assign("url", value_of(std::move(made)));
  return {};
}

}  // namespace

std::string_view to_string(RotationKind kind) noexcept {
  switch (kind) {
    case RotationKind::Manual: return "manual";
    case RotationKind::Password: return "password";
    case RotationKind::KeyPair: return "key_pair";
    case RotationKind::SshKey: return "ssh_key";
    case RotationKind::Postgres: return "postgres";
    case RotationKind::Webhook: return "webhook";
  }
  return "";
}

std::optional<RotationKind> parse_rotation_kind(std::string_view text) noexcept {
  constexpr std::array kAll{RotationKind::Manual, RotationKind::Password, RotationKind::KeyPair,
                            RotationKind::SshKey, RotationKind::Postgres, RotationKind::Webhook};
  return parsed(kAll, text);
}

std::string_view to_string(RotationPhase phase) noexcept {
  switch (phase) {
    case RotationPhase::None: return "none";
    case RotationPhase::Pending: return "pending";
    case RotationPhase::Set: return "set";
    case RotationPhase::Tested: return "tested";
    case RotationPhase::Previous: return "previous";
    case RotationPhase::RollingBack: return "rolling_back";
  }
  return "";
}

std::optional<RotationPhase> parse_rotation_phase(std::string_view text) noexcept {
  constexpr std::array kAll{RotationPhase::None,     RotationPhase::Pending,
                            RotationPhase::Set,      RotationPhase::Tested,
                            RotationPhase::Previous, RotationPhase::RollingBack};
  return parsed(kAll, text);
}

Status validate(const PasswordRule& rule) {
  if (rule.length < 12 || rule.length > PasswordRule::kLongest) {
    return fail(ErrorCode::MalformedRequest, "a password has 12 to 200 characters");
  }
  const auto alphabet = alphabet_of(rule);
  for (std::size_t i = 0; i < alphabet.size(); ++i) {
    if (alphabet[i] <= ' ' || alphabet[i] > '~' ||
        alphabet.find(alphabet[i], i + 1) != alphabet.npos) {
      return fail(ErrorCode::MalformedRequest,
                  "an alphabet is of printable ASCII characters, each once");
    }
  }
  if (std::log2(static_cast<double>(alphabet.size())) * rule.length < kLeastBits) {
    return fail(ErrorCode::MalformedRequest,
                "a longer password or a larger alphabet is needed for 64 bits");
  }
  for (const auto& name : rule.require) {
    if (!is_class(name)) {
      return fail(ErrorCode::MalformedRequest, "a class is one of: lower, upper, digit, symbol");
    }
    if (std::none_of(alphabet.begin(), alphabet.end(), [&](char c) { return is_of(name, c); })) {
      return fail(ErrorCode::MalformedRequest, "the alphabet has no character of a required class");
    }
  }
  if (rule.require.size() > 4) return fail(ErrorCode::MalformedRequest, "there are four classes");
  return {};
}

SecureBuffer random_password(const PasswordRule& rule) {
  const auto alphabet = alphabet_of(rule);
  SecureBuffer out(rule.length);
  // All of it anew until it has each class: so each that has is as likely as any other.
  do {
    for (auto& byte : out.writable()) {
      byte = static_cast<std::byte>(alphabet[random_below(alphabet.size())]);
    }
  } while (!has_each(rule, as_text(out.readable())));
  return out;
}

Fields copy_of(const Fields& fields) {
  Fields out;
  for (const auto& [name, value] : fields) {
    out.emplace(
        name,
        FieldValue(value.expose([](ByteView bytes) { return SecureBuffer::copy_of(bytes); })));
  }
  return out;
}

Result<LogIn> log_in_of(const Fields& fields, std::string_view password_field) {
  const auto text = [&](std::string_view name) -> std::optional<std::string> {
    const auto found = fields.find(std::string(name));
    if (found == fields.end()) return std::nullopt;
    return found->second.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  };
  if (password_field == "url") {
    auto url = text("url");
    const auto parts = url ? parts_of(*url) : std::nullopt;
    if (!parts) return fail(ErrorCode::Conflict, "the field url has no user and password");
    LogIn out{decoded(parts->user), SecureBuffer::take(decoded(parts->password))};
    wipe(*url);
    return out;
  }
  auto user = text("username");
  auto password = text(password_field);
  if (!user || !password) {
    return fail(ErrorCode::Conflict, "the credential has not the fields username and password");
  }
  return LogIn{std::move(*user), SecureBuffer::take(std::move(*password))};
}

Result<GeneratedFields> generate_fields(const RotationSettings& settings, const Fields& current,
                                        const std::string& role, std::string_view comment) {
  if (settings.made_as() == RotationKind::Manual) {
    return fail(ErrorCode::Conflict, "the new value must be given: nothing makes one");
  }
  // Beside the old value, which would stay in force, a new one replaces nothing.
  if (current.count(settings.field) == 0) {
    return fail(ErrorCode::Conflict, "the credential has no field " + settings.field +
                                         ": field must name the one that is to be replaced");
  }
  GeneratedFields out{copy_of(current)};
  if (settings.made_as() == RotationKind::Password) {
    POSTERN_CHECK(make_password(settings, role, out.fields));
    return out;
  }
  if (out.fields.count("certificate") != 0) {
    return fail(ErrorCode::Conflict,
                "the credential has a certificate, which is of its present key");
  }
  auto pair = settings.made_as() == RotationKind::SshKey
                  ? crypto::make_ssh_key_pair(settings.key, comment)
                  : crypto::make_pem_key_pair(settings.key);
  out.fields.erase("passphrase");  // of the key before
  out.fields.insert_or_assign(settings.field, FieldValue(std::move(pair.private_text)));
  if (!settings.public_field.empty()) {
    out.fields.insert_or_assign(settings.public_field,
                                FieldValue(SecureBuffer::copy_of(pair.public_text)));
  }
  out.public_half = std::move(pair.public_text);
  return out;
}

Status check_generated(const RotationSettings& settings, const Fields& made,
                       std::string_view public_half) {
  const auto kind = settings.made_as();
  if (kind != RotationKind::KeyPair && kind != RotationKind::SshKey) return {};
  const auto found = made.find(settings.field);
  const bool pair = found != made.end() && found->second.expose([&](ByteView bytes) {
    const auto computed = crypto::public_half(as_text(bytes));
    return computed && !computed->empty() && public_half.starts_with(*computed);
  });
  if (pair) return {};
  return fail(ErrorCode::Conflict, "the new key pair does not fit together");
}

}  // namespace postern::vault
