#include "policy/config_reader.h"

#include <algorithm>

#include "core/text.h"
#include "policy/resource_uri.h"
#include "token/jwk.h"

namespace postern::policy::config {

Error at(const std::string& pointer, std::string detail) {
  Error error = fail(ErrorCode::MalformedRequest, std::move(detail));
  error.pointer = pointer;
  return error;
}

/// Whether a member's name, which is the caller's own text, may stand in a pointer.
bool harmless_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

bool https_uri(std::string_view text) {
  // Plain http only where it cannot leave the machine.
  const auto ok_prefix = [&](std::string_view prefix) {
    if (text.substr(0, prefix.size()) != prefix) return false;
    const auto rest = text.substr(prefix.size());
    return rest.empty() || rest.front() == '/' || rest.front() == ':';
  };
  const bool scheme = text.substr(0, 8) == "https://" || ok_prefix("http://127.0.0.1") ||
                      ok_prefix("http://localhost") || ok_prefix("http://[::1]");
  return scheme && comparable_resource(text).ok();
}

Status read_slug(Reader& reader, const char* name, std::string& out) {
  POSTERN_CHECK(reader.required_text(name, out));
  if (!detail::is_slug(out)) {
    return at(reader.below(name), "must be 1 to 63 lower-case letters, digits or hyphens");
  }
  return {};
}

Status read_algorithm(const std::string& text, const std::string& pointer, crypto::Algorithm& out) {
  const auto algorithm = crypto::parse_algorithm(text);
  if (!algorithm) return at(pointer, "is not a supported JWS algorithm");
  out = *algorithm;
  return {};
}

Status read_algorithms(Reader& reader, const char* name, std::vector<crypto::Algorithm>& out) {
  if (reader.find(name) == nullptr) return {};
  std::set<crypto::Algorithm> algorithms;
  POSTERN_CHECK(reader.texts(name, [&](const auto& text, const auto& place) -> Status {
    crypto::Algorithm algorithm{};
    POSTERN_CHECK(read_algorithm(text, place, algorithm));
    algorithms.insert(algorithm);
    return {};
  }));
  if (algorithms.empty()) return at(reader.below(name), "must not be empty");
  out.assign(algorithms.begin(), algorithms.end());
  return {};
}

Status read_sorted(Reader& reader, const char* name, std::vector<std::string>& out) {
  POSTERN_CHECK(reader.texts(name, [&](const auto& text, const auto&) -> Status {
    out.push_back(text);
    return {};
  }));
  std::sort(out.begin(), out.end());
  return {};
}

Status read_claim_rules(Reader& reader, const char* name, ClaimRules& out) {
  const auto* value = reader.find(name);
  if (value == nullptr) return {};
  if (!value->is_object() || value->size() > 20) {
    return at(reader.below(name), "must be an object of at most 20 claims, each with a list");
  }
  for (const auto& [claim, values] : value->items()) {
    if (claim.empty() || claim.size() > 200 || has_control_characters(claim)) {
      return at(reader.below(name), "has a claim name that is empty, too long or not printable");
    }
    const auto place = reader.below(name) + (harmless_name(claim) ? "/" + claim : "");
    if (!values.is_array() || values.empty() || values.size() > 100) {
      return at(place, "must be a list of 1 to 100 values");
    }
    auto& allowed = out[claim];
    for (const auto& item : values) {
      if (!item.is_string() || item.get_ref<const std::string&>().empty() ||
          item.get_ref<const std::string&>().size() > 512 ||
          has_control_characters(item.get_ref<const std::string&>())) {
        return at(place, "must be a list of texts of 1 to 512 bytes");
      }
      allowed.push_back(item.get<std::string>());
    }
    std::sort(allowed.begin(), allowed.end());
  }
  return {};
}

Status read_jwks(Reader& reader, const char* name, std::string& out) {
  const auto* jwks = reader.find(name);
  if (jwks == nullptr) return {};
  const auto keys = token::JwkSet::parse(*jwks, token::JwkSet::WeakKeys::Refuse);
  if (!keys.ok()) return at(reader.below(name), keys.error().detail);
  if (keys.value().size() == 0) return at(reader.below(name), "has no usable key");
  out = token::dump_json(*jwks);
  return {};
}

Json write(const NameSet& set) {
  if (set.all) return Json::array({"*"});
  return Json(std::vector<std::string>(set.names.begin(), set.names.end()));
}

Json write(const std::vector<crypto::Algorithm>& algorithms) {
  Json json = Json::array();
  for (const auto algorithm : algorithms) json.push_back(std::string(crypto::to_string(algorithm)));
  return json;
}

}  // namespace postern::policy::config
