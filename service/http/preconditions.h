#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "http/message.h"

namespace postern::http {

/// The entity-tag of a version: `"7"`. Ours are all strong.
std::string etag(std::uint64_t version);
/// Of what changes within a version too: `"7"`, then `"7.1"`, `"7.2"`.
std::string etag(std::uint64_t version, std::uint64_t revision);

/// What a request's If-Match and If-None-Match ask of the version it meets
/// (RFC 9110 §13.1.1, §13.1.2). `current` is that version, or its entity-tag;
/// nothing: no version.
class Preconditions {
 public:
  /// Errors: MalformedRequest unless `*` or a list of entity-tags.
  static Result<Preconditions> of(const Request& request);

  bool any() const { return match_ || none_match_; }
  /// Whether they hold for one version only, or for none: what `*` in If-Match is not.
  bool names_version() const {
    return (match_ && !match_->any_version) || (none_match_ && none_match_->any_version);
  }

  /// For methods that change something, in the order of §13.2.2.
  /// Errors: PreconditionFailed.
  Status check(std::optional<std::uint64_t> current) const;
  Status check_tag(const std::optional<std::string>& current) const;

  /// For GET and HEAD of what is there: true asks for 304.
  /// Errors: PreconditionFailed, of If-Match.
  Result<bool> not_modified(std::uint64_t current) const;
  Result<bool> not_modified_tag(const std::string& current) const;

 private:
  struct Tag {
    bool weak = false;
    std::string text;  ///< with its quotes
  };
  struct Condition {
    bool any_version = false;  ///< `*`
    std::vector<Tag> tags;
  };
  enum class Comparison { Strong, Weak };

  static Result<std::optional<Condition>> read(const Request& request, const char* name);
  static bool holds(const Condition& condition, const std::optional<std::string>& current,
                    Comparison comparison);
  Status check_match(const std::optional<std::string>& current) const;

  std::optional<Condition> match_;
  std::optional<Condition> none_match_;
};

}  // namespace postern::http
