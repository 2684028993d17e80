#pragma once

#include <array>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "core/ids.h"
#include "core/text.h"
#include "policy/config.h"

/// What the readers of configuration objects share. For policy/config_*.cc
/// and policy/client_metadata.cc only.
namespace postern::policy::config {

/// MalformedRequest at a place in the request.
Error at(const std::string& pointer, std::string detail);
/// Whether a member's name, which is the caller's own text, may stand in a pointer.
bool harmless_name(std::string_view name);
/// An absolute URI; plain http only where it cannot leave the machine.
bool https_uri(std::string_view text);

class Reader {
 public:
  static Result<Reader> of(const Json& value, std::string pointer) {
    if (!value.is_object()) return at(pointer, "must be an object");
    return Reader(value, std::move(pointer));
  }

  const std::string& pointer() const { return pointer_; }
  std::string below(std::string_view name) const { return pointer_ + "/" + std::string(name); }

  /// Null when absent; an explicit null counts as absent.
  const Json* find(const char* name) {
    known_.insert(name);
    const auto it = value_.find(name);
    return it == value_.end() || it->is_null() ? nullptr : &*it;
  }

  Status text(const char* name, std::string& out, std::size_t max = 2000) {
    const auto* value = find(name);
    if (value == nullptr) return {};
    return read_text(*value, below(name), out, max);
  }
  Status required_text(const char* name, std::string& out, std::size_t max = 2000) {
    if (find(name) == nullptr) return at(below(name), "is required");
    POSTERN_CHECK(text(name, out, max));
    if (out.empty()) return at(below(name), "must not be empty");
    return {};
  }
  Status flag(const char* name, bool& out) {
    const auto* value = find(name);
    if (value == nullptr) return {};
    if (!value->is_boolean()) return at(below(name), "must be true or false");
    out = value->get<bool>();
    return {};
  }
  Status duration(const char* name, seconds& out, std::int64_t low, std::int64_t high) {
    const auto* value = find(name);
    if (value == nullptr) return {};
    const bool whole = value->is_number_integer();
    const bool fits = whole && (!value->is_number_unsigned() ||
                                value->get<std::uint64_t>() <= static_cast<std::uint64_t>(high));
    if (!fits || value->get<std::int64_t>() < low || value->get<std::int64_t>() > high) {
      return at(below(name), "must be a whole number of seconds from " + std::to_string(low) +
                                 " to " + std::to_string(high));
    }
    out = seconds(value->get<std::int64_t>());
    return {};
  }
  Result<std::int64_t> number(const char* name, std::int64_t otherwise, std::int64_t low,
                              std::int64_t high) {
    const auto* value = find(name);
    if (value == nullptr) return otherwise;
    const bool fits = value->is_number_integer() &&
                      (!value->is_number_unsigned() ||
                       value->get<std::uint64_t>() <= static_cast<std::uint64_t>(high));
    if (!fits || value->get<std::int64_t>() < low || value->get<std::int64_t>() > high) {
      return at(below(name), "must be a whole number from " + std::to_string(low) + " to " +
                                 std::to_string(high));
    }
    return value->get<std::int64_t>();
  }
  using EachText = std::function<Status(const std::string& text, const std::string& pointer)>;
  Status texts(const char* name, const EachText& each, std::size_t max_items = 200) {
    const auto* value = find(name);
    if (value == nullptr) return {};
    if (!value->is_array()) return at(below(name), "must be a list");
    if (value->size() > max_items) {
      return at(below(name), "has more than " + std::to_string(max_items) + " entries");
    }
    for (std::size_t i = 0; i < value->size(); ++i) {
      const auto place = below(name) + "/" + std::to_string(i);
      std::string item;
      POSTERN_CHECK(read_text((*value)[i], place, item, 2000));
      if (item.empty()) return at(place, "must not be empty");
      POSTERN_CHECK(each(item, place));
    }
    return {};
  }
  Status names(const char* name, NameSet& out) {
    return texts(name, [&](const std::string& item, const std::string&) -> Status {
      if (item == "*") {
        out.all = true;
      } else {
        out.names.insert(item);
      }
      return {};
    });
  }

  /// Refuses members that nothing asked for.
  Status finish() const {
    for (const auto& [name, value] : value_.items()) {
      if (known_.count(name) == 0) {
        return at(harmless_name(name) ? below(name) : pointer_, "is not a known member");
      }
    }
    return {};
  }

 private:
  Reader(const Json& value, std::string pointer) : value_(value), pointer_(std::move(pointer)) {}

  static Status read_text(const Json& value, const std::string& place, std::string& out,
                          std::size_t max) {
    if (!value.is_string()) return at(place, "must be text");
    const auto& text = value.get_ref<const std::string&>();
    if (text.size() > max) {
      return at(place, "is longer than " + std::to_string(max) + " bytes");
    }
    if (has_control_characters(text)) return at(place, "has control characters");
    out = text;
    return {};
  }

  const Json& value_;
  std::string pointer_;
  std::set<std::string, std::less<>> known_;
};

/// An enum's values as the manifest spells them.
template <class Enum, std::size_t N>
using Spelling = std::array<std::pair<std::string_view, Enum>, N>;

template <class Enum, std::size_t N>
Status read_enum(const Spelling<Enum, N>& spelling, const std::string& text,
                 const std::string& pointer, Enum& out) {
  std::string allowed;
  for (const auto& [name, value] : spelling) {
    if (name == text) {
      out = value;
      return {};
    }
    allowed += (allowed.empty() ? "" : ", ") + std::string(name);
  }
  return at(pointer, "must be one of: " + allowed);
}

template <class Enum, std::size_t N>
std::string_view spell(const Spelling<Enum, N>& spelling, Enum value) {
  for (const auto& [name, candidate] : spelling) {
    if (candidate == value) return name;
  }
  return "";
}

/// A client's way to authenticate, as the manifest spells it.
Status read_method(const std::string& text, const std::string& pointer, ClientAuthentication& out);
std::string_view method_name(ClientAuthentication method);
/// A grant, likewise.
Status read_grant(const std::string& text, const std::string& pointer, GrantType& out);
std::string_view grant_name(GrantType grant);
Result<AuthenticationRule> read_authentication(const Json& value, const std::string& pointer);
Json write(const AuthenticationRule& rule);
Status read_slug(Reader& reader, const char* name, std::string& out);
Status read_algorithm(const std::string& text, const std::string& pointer, crypto::Algorithm& out);
/// A list of algorithms, sorted, each once. Absent: `out` stays as it is.
Status read_algorithms(Reader& reader, const char* name, std::vector<crypto::Algorithm>& out);
/// Texts, sorted.
Status read_sorted(Reader& reader, const char* name, std::vector<std::string>& out);
/// Claims that must have one of some values: {"tid": ["…"], "/a/b": ["…", "…"]}.
Status read_claim_rules(Reader& reader, const char* name, ClaimRules& out);
/// A static JWKS with at least one strong public key, as canonical text.
Status read_jwks(Reader& reader, const char* name, std::string& out);

Json write(const NameSet& set);
Json write(const std::vector<crypto::Algorithm>& algorithms);

}  // namespace postern::policy::config
