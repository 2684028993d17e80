#include "vault/credential.h"

#include <algorithm>
#include <cstddef>

#include "core/text.h"

namespace postern::vault {
namespace {

constexpr std::size_t kMaxDescription = 1000;

struct Bounds {
  const char* member;
  std::size_t count, name, text;
};
constexpr Bounds kLabels{"/labels", 32, 63, 200};
constexpr Bounds kMetadata{"/metadata", 64, 128, 512};  // those of Vault's custom_metadata
// Fewer: a list of versions has those of a hundred.
constexpr Bounds kVersionMetadata{"/version_metadata", 16, 128, 512};

Error at(ErrorCode code, std::string pointer, std::string detail) {
  Error error = fail(code, std::move(detail));
  error.pointer = std::move(pointer);
  return error;
}

bool label_name(std::string_view name) {
  const auto alphanumeric = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && alphanumeric(name.front()) &&
         std::all_of(name.begin(), name.end(), [&](char c) {
           return alphanumeric(c) || c == '.' || c == '_' || c == '/' || c == '-';
         });
}

Status validate(const Texts& texts, const Bounds& bounds) {
  if (texts.size() > bounds.count) {
    return at(ErrorCode::TooLarge, bounds.member,
              "has more than " + std::to_string(bounds.count) + " members");
  }
  for (const auto& [name, text] : texts) {
    if (name.empty() || name.size() > bounds.name || has_control_characters(name)) {
      return at(ErrorCode::MalformedRequest, bounds.member,
                "a name in it has 1 to " + std::to_string(bounds.name) +
                    " bytes and no control characters");
    }
    if (text.size() > bounds.text || has_control_characters(text)) {
      return at(ErrorCode::MalformedRequest, bounds.member,
                "a text in it has at most " + std::to_string(bounds.text) +
                    " bytes and no control characters");
    }
  }
  return {};
}

}  // namespace

std::string_view to_string(VersionState state) noexcept {
  switch (state) {
    case VersionState::Live: return "live";
    case VersionState::Deleted: return "deleted";
    case VersionState::Destroyed: return "destroyed";
  }
  return "live";
}

Error cas_is_required() {
  return fail(ErrorCode::PreconditionFailed,
              "this credential is only written by who says which version is there");
}
Error version_is_destroyed() {
  return fail(ErrorCode::Conflict, "this version is destroyed, which cannot be undone");
}
Error version_is_withdrawn() {
  return fail(
      ErrorCode::Forbidden,
      "this version was disabled by an admin, and an admin brings it back; store a new value");
}

Status validate_version_metadata(const Texts& metadata) {
  return validate(metadata, kVersionMetadata);
}

Status validate(const CredentialDescription& description) {
  if (description.max_versions < 1 ||
      description.max_versions > CredentialDescription::kMostVersions) {
    return at(ErrorCode::MalformedRequest, "/max_versions", "must be a number from 1 to 100");
  }
  if (description.description.size() > kMaxDescription) {
    return at(ErrorCode::TooLarge, "/description", "is longer than 1000 bytes");
  }
  // Lines are for people; what else controls a terminal is not.
  std::string lines = description.description;
  std::replace(lines.begin(), lines.end(), '\n', ' ');
  if (has_control_characters(lines)) {
    return at(ErrorCode::MalformedRequest, "/description", "has control characters");
  }
  POSTERN_CHECK(validate(description.labels, kLabels));
  for (const auto& [name, text] : description.labels) {
    if (!label_name(name)) {
      return at(ErrorCode::MalformedRequest, kLabels.member,
                "a label's name is letters, digits and . _ / - and begins with a letter or digit");
    }
    if (text.find(',') != text.npos) {
      return at(ErrorCode::MalformedRequest, kLabels.member, "a label's text has no comma");
    }
  }
  return validate(description.metadata, kMetadata);
}

}  // namespace postern::vault
