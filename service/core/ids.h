#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "core/result.h"

namespace postern {

namespace detail {
/// Lower-case letters, digits and `-`, starting and ending with a letter or
/// digit, at most 63 bytes. Safe in URLs, file names and SQL, and free of
/// case or Unicode look-alikes.
bool is_slug(std::string_view text) noexcept;
/// [A-Za-z0-9][A-Za-z0-9._-]*, at most 200 bytes.
bool is_name(std::string_view text) noexcept;
/// An https URL that can name a client (draft-ietf-oauth-client-id-metadata-document
/// §3): with a path, without dot segments, query, fragment and user info; at most 200
/// bytes, in lower case up to the path, so that it is spelled one way only.
bool is_client_url(std::string_view text) noexcept;
}  // namespace detail

/// A validated identifier of one kind. Constructing from unchecked text goes
/// through parse(); the constructor is for text already validated (from the
/// database, or a literal in a test) and throws logic_error when it is not.
template <class Tag>
class Id {
 public:
  explicit Id(std::string text) : text_(std::move(text)) {
    if (!Tag::valid(text_)) throw std::logic_error("malformed identifier");
  }
  static Result<Id> parse(std::string_view text) {
    if (!Tag::valid(text)) return fail(ErrorCode::MalformedRequest, Tag::kMessage);
    return Id(std::string(text));
  }

  const std::string& str() const noexcept { return text_; }
  auto operator<=>(const Id&) const = default;
  bool operator==(const Id&) const = default;
  friend std::ostream& operator<<(std::ostream& out, const Id& id) { return out << id.text_; }

 private:
  std::string text_;
};

struct TenantTag {
  static bool valid(std::string_view text) noexcept { return detail::is_slug(text); }
  static constexpr const char* kMessage =
      "a tenant id is 1 to 63 lower-case letters, digits or hyphens";
};
struct BackendTag {
  static bool valid(std::string_view text) noexcept { return detail::is_slug(text); }
  static constexpr const char* kMessage =
      "a backend name is 1 to 63 lower-case letters, digits or hyphens";
};
struct ClientTag {
  // The two never meet: no name has a colon.
  static bool valid(std::string_view text) noexcept {
    return detail::is_name(text) || detail::is_client_url(text);
  }
  static constexpr const char* kMessage =
      "a client id is 1 to 200 letters, digits, dots, hyphens or underscores";
};
struct CredentialTag {
  static bool valid(std::string_view text) noexcept { return detail::is_name(text); }
  static constexpr const char* kMessage =
      "a credential name is 1 to 200 letters, digits, dots, hyphens or underscores";
};

/// The isolation unit. Its text is the immutable slug in the issuer URL.
using TenantId = Id<TenantTag>;
using BackendId = Id<BackendTag>;
using ClientId = Id<ClientTag>;
using CredentialName = Id<CredentialTag>;

/// Who a token is about: immutable, and never an e-mail or user name.
/// The tenant is carried beside it, always as the first argument.
struct Principal {
  std::string issuer;   ///< `iss` of the trusted issuer, exact
  std::string subject;  ///< value of the mapped subject claim, 1 to 255 bytes
  auto operator<=>(const Principal&) const = default;
};

/// Whose a credential is: the tenant's (shared), or one principal's.
class Owner {
 public:
  static Owner tenant() { return Owner({}); }
  /// Throws logic_error when issuer or subject is empty: a principal that lost
  /// its issuer would own what is the tenant's.
  static Owner principal(Principal principal) {
    if (principal.issuer.empty() || principal.subject.empty()) {
      throw std::logic_error("a principal has an issuer and a subject");
    }
    return Owner(std::move(principal));
  }

  bool is_tenant() const noexcept { return principal_.issuer.empty(); }
  /// Empty issuer and subject for the tenant itself.
  const Principal& principal() const noexcept { return principal_; }
  auto operator<=>(const Owner&) const = default;

 private:
  explicit Owner(Principal principal) : principal_(std::move(principal)) {}
  Principal principal_;
};

/// Generation of a tenant's key-encrypting key, starting at 1.
enum class KekVersion : std::uint32_t {};

}  // namespace postern

template <class Tag>
struct std::hash<postern::Id<Tag>> {
  std::size_t operator()(const postern::Id<Tag>& id) const noexcept {
    return std::hash<std::string>{}(id.str());
  }
};
