#include "cli/import_secrets.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <vector>

namespace postern::cli {
namespace {

using namespace std::string_view_literals;

// Any word of a name.
constexpr std::array kSecretWords{
    "TOKEN"sv,  "SECRET"sv,     "PASSWORD"sv,   "PASSWD"sv,      "PASS"sv,      "PWD"sv,
    "APIKEY"sv, "PASSPHRASE"sv, "CREDENTIAL"sv, "CREDENTIALS"sv, "PAT"sv,       "AUTHORIZATION"sv,
    "COOKIE"sv, "DSN"sv,        "BEARER"sv,     "AUTHTOKEN"sv,   "ACCESSKEY"sv, "SECRETS"sv};

// A last word after which the value is about a secret and none itself.
constexpr std::array kHarmlessEnds{"FILE"sv,    "PATH"sv,     "DIR"sv,   "URL"sv,  "URI"sv,
                                   "ID"sv,      "NAME"sv,     "TYPE"sv,  "TTL"sv,  "LIMIT"sv,
                                   "TIMEOUT"sv, "ENDPOINT"sv, "HOST"sv,  "USER"sv, "EXPIRY"sv,
                                   "ENABLED"sv, "LENGTH"sv,   "HEADER"sv};

constexpr std::array kSecretPrefixes{
    "ghp_"sv,    "gho_"sv,  "ghu_"sv,        "ghs_"sv,        "ghr_"sv,     "github_pat_"sv,
    "glpat-"sv,  "gldt-"sv, "xoxb-"sv,       "xoxp-"sv,       "xoxa-"sv,    "xoxe-"sv,
    "xapp-"sv,   "sk-"sv,   "sk_live_"sv,    "sk_test_"sv,    "rk_live_"sv, "AKIA"sv,
    "ASIA"sv,    "AIza"sv,  "ya29."sv,       "hf_"sv,         "npm_"sv,     "pypi-"sv,
    "dop_v1_"sv, "SG."sv,   "lin_api_"sv,    "ntn_"sv,        "secret_"sv,  "figd_"sv,
    "hvs."sv,    "hvb."sv,  "shpat_"sv,      "dckr_pat_"sv,   "tvly-"sv,    "pplx-"sv,
    "gsk_"sv,    "r8_"sv,   "sntrys_"sv,     "sbp_"sv,        "eyJ"sv,      "-----BEGIN "sv,
    "BSA"sv,     "fc-"sv,   "postern_op_"sv, "postern_ta_"sv, "glsa_"sv,    "ATATT"sv};

// Shorter ones are words that merely begin like this.
constexpr std::size_t kMinSecretBytes = 16;

std::vector<std::string> words_of_name(std::string_view name) {
  std::vector<std::string> words(1);
  char before = '\0';
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    const bool hump = std::isupper(byte) && std::islower(static_cast<unsigned char>(before));
    if (!std::isalnum(byte) || hump) words.emplace_back();
    if (std::isalnum(byte)) words.back() += static_cast<char>(std::toupper(byte));
    before = c;
  }
  words.erase(std::remove(words.begin(), words.end(), std::string()), words.end());
  return words;
}

template <std::size_t N>
bool among(const std::array<std::string_view, N>& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

bool begins_as_token(std::string_view value) {
  return value.size() >= kMinSecretBytes &&
         std::any_of(kSecretPrefixes.begin(), kSecretPrefixes.end(),
                     [&](auto prefix) { return value.substr(0, prefix.size()) == prefix; });
}

/// `true`, `4096`: a setting whatever it is called.
bool is_setting(std::string_view value) {
  return value.empty() || value == "true" || value == "false" ||
         (value.size() < 6 && value.find_first_not_of("0123456789") == value.npos);
}

/// What stands before the first of these characters, which is taken from the text with it.
std::string_view next_part(std::string_view& text, std::string_view separators) {
  const auto end = std::min(text.find_first_of(separators), text.size());
  const auto part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

/// Why a URL is a secret: user info, a part of its path, its query.
std::string_view why_secret_url(std::string_view url) {
  constexpr auto kOther = "a URL with a secret"sv;
  const auto scheme = url.find("://");
  if (scheme == url.npos || scheme == 0) return {};
  auto rest = url.substr(scheme + 3);
  rest = rest.substr(0, rest.find('#'));
  const auto begin = std::min(rest.find_first_of("/?"), rest.size());
  const auto authority = rest.substr(0, begin);
  if (const auto at = authority.rfind('@'); at != authority.npos) {
    const auto user = authority.substr(0, at);
    const auto colon = user.find(':');
    if (colon != user.npos && colon + 1 < at) return "a URL with a password";
    if (begins_as_token(user)) return kOther;
  }
  auto query = rest.substr(begin);
  auto path = next_part(query, "?");
  while (!path.empty()) {
    if (begins_as_token(next_part(path, "/"))) return kOther;
  }
  while (!query.empty()) {
    auto value = next_part(query, "&");
    const auto name = next_part(value, "=");
    const bool named = !is_setting(value) && !why_secret_name(name).empty();
    if (named || begins_as_token(value)) return kOther;
  }
  return {};
}

}  // namespace

std::string_view why_secret_name(std::string_view name) {
  const auto words = words_of_name(name);
  if (words.empty() || among(kHarmlessEnds, words.back())) return {};
  const bool word = std::any_of(words.begin(), words.end(),
                                [](const auto& each) { return among(kSecretWords, each); });
  // Of keys, those that are named as one: API_KEY, but not KEY_PREFIX nor PUBLIC_KEY.
  const bool key =
      words.back() == "KEY" && (words.size() == 1 || words[words.size() - 2] != "PUBLIC");
  return word || key ? "its name" : "";
}

std::string_view why_secret_value(std::string_view value) {
  if (const auto why = why_secret_url(value); !why.empty()) return why;
  for (const auto scheme : {"Bearer "sv, "Basic "sv, "token "sv}) {
    if (value.size() > scheme.size() + 8 && value.substr(0, scheme.size()) == scheme) {
      return "what it begins with";
    }
  }
  return begins_as_token(value) ? "what it begins with" : "";
}

std::string_view why_secret(std::string_view name, std::string_view value) {
  if (const auto why = why_secret_value(value); !why.empty()) return why;
  return is_setting(value) ? std::string_view() : why_secret_name(name);
}

}  // namespace postern::cli
