#include "http/preconditions.h"

#include <algorithm>
#include <string_view>

#include "http/ascii.h"

namespace postern::http {
namespace {

constexpr std::size_t kMaxTags = 64;

void skip_space(std::string_view& text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
}

/// RFC 9110 §8.8.3: etagc is %x21 / %x23-7E / obs-text.
bool etag_character(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte == 0x21 || (byte >= 0x23 && byte != 0x7f);
}

}  // namespace

std::string etag(std::uint64_t version) { return '"' + std::to_string(version) + '"'; }
std::string etag(std::uint64_t version, std::uint64_t revision) {
  if (revision == 0) return etag(version);
  return '"' + std::to_string(version) + '.' + std::to_string(revision) + '"';
}

Result<std::optional<Preconditions::Condition>> Preconditions::read(const Request& request,
                                                                    const char* name) {
  const auto malformed = [&] {
    return fail(ErrorCode::MalformedRequest,
                std::string(name) + " must be * or ETags of earlier answers, quotes included");
  };
  const auto sent = request.list(name);
  if (!sent) return std::optional<Condition>();
  Condition condition;
  std::string_view rest(*sent);
  skip_space(rest);
  if (rest == "*") {
    condition.any_version = true;
    return std::optional(std::move(condition));
  }
  for (;;) {
    skip_space(rest);
    if (rest.starts_with(',')) {  // §5.6.1: empty elements are ignored
      rest.remove_prefix(1);
      continue;
    }
    if (rest.empty()) break;
    Tag tag;
    if (rest.starts_with("W/")) {
      tag.weak = true;
      rest.remove_prefix(2);
    }
    if (!rest.starts_with('"')) return malformed();
    std::size_t length = 1;
    while (length < rest.size() && etag_character(rest[length])) ++length;
    if (length == rest.size() || rest[length] != '"') return malformed();
    tag.text = rest.substr(0, length + 1);
    rest.remove_prefix(length + 1);
    skip_space(rest);
    if (!rest.empty() && !rest.starts_with(',')) return malformed();
    condition.tags.push_back(std::move(tag));
    if (condition.tags.size() > kMaxTags) return malformed();
  }
  if (condition.tags.empty()) return malformed();
  return std::optional(std::move(condition));
}

Result<Preconditions> Preconditions::of(const Request& request) {
  Preconditions conditions;
  POSTERN_TRY(conditions.match_, read(request, "If-Match"));
  POSTERN_TRY(conditions.none_match_, read(request, "If-None-Match"));
  return conditions;
}

bool Preconditions::holds(const Condition& condition, const std::optional<std::string>& current,
                          Comparison comparison) {
  if (!current) return false;
  if (condition.any_version) return true;
  return std::any_of(condition.tags.begin(), condition.tags.end(), [&](const Tag& tag) {
    return tag.text == *current && !(tag.weak && comparison == Comparison::Strong);
  });
}

Status Preconditions::check_match(const std::optional<std::string>& current) const {
  if (!match_ || holds(*match_, current, Comparison::Strong)) return {};
  return fail(ErrorCode::PreconditionFailed,
              current ? "it has changed since that ETag; read it again" : "there is none");
}

Status Preconditions::check(std::optional<std::uint64_t> current) const {
  return check_tag(current ? std::optional(etag(*current)) : std::nullopt);
}

Status Preconditions::check_tag(const std::optional<std::string>& current) const {
  POSTERN_CHECK(check_match(current));
  if (none_match_ && holds(*none_match_, current, Comparison::Weak)) {
    return fail(ErrorCode::PreconditionFailed, "there is one already");
  }
  return {};
}

Result<bool> Preconditions::not_modified(std::uint64_t current) const {
  return not_modified_tag(etag(current));
}

Result<bool> Preconditions::not_modified_tag(const std::string& current) const {
  POSTERN_CHECK(check_match(current));
  return none_match_ && holds(*none_match_, current, Comparison::Weak);
}

}  // namespace postern::http
