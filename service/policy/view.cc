#include "policy/view.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace postern::policy {
namespace {

Error malformed(std::string detail) { return fail(ErrorCode::MalformedRequest, std::move(detail)); }

std::vector<std::string_view> split(std::string_view path) {
  std::vector<std::string_view> segments;
  for (;;) {
    const auto slash = path.find('/');
    segments.push_back(path.substr(0, slash));
    if (slash == path.npos) return segments;
    path.remove_prefix(slash + 1);
  }
}

bool is_word(std::string_view text) {
  const auto plain = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  };
  return !text.empty() && text.front() != '.' && text.back() != '.' &&
         text.find("..") == text.npos && std::all_of(text.begin(), text.end(), plain);
}

bool equals(const std::optional<std::string>& claim, std::string_view segment) {
  return claim && !claim->empty() && *claim == segment;
}

}  // namespace

Result<View::Segment> View::segment_of(std::string_view text) {
  using Kind = Segment::Kind;
  if (text == "{sub}") return Segment{Kind::Sub};
  if (text == "{preferred_username}") return Segment{Kind::PreferredUsername};
  if (text == "{backend}") return Segment{Kind::Backend};
  if (is_word(text)) return Segment{Kind::Word, std::string(text)};
  return malformed(
      "each segment is {sub}, {preferred_username}, {backend}, or a word of letters, digits, dots, "
      "underscores and hyphens that neither begins nor ends with a dot nor has two in a row");
}

Result<View> View::parse(std::string_view path, std::optional<BackendId> backend) {
  if (path.size() > kMostBytes) return malformed("is longer than 200 bytes");
  View view;
  view.path_ = path;
  const auto count = [&](Segment::Kind kind) {
    return std::count_if(view.segments_.begin(), view.segments_.end(),
                         [&](const Segment& each) { return each.kind == kind; });
  };
  for (const auto text : split(path)) {
    POSTERN_TRY(auto segment, segment_of(text));
    if (view.segments_.size() == kMostSegments) return malformed("has more than 8 segments");
    if (!segment.is_word() && count(segment.kind) > 0) return malformed("has a place twice");
    view.segments_.push_back(std::move(segment));
  }
  if (count(Segment::Kind::Sub) + count(Segment::Kind::PreferredUsername) == 0) {
    return malformed("must have {sub} or {preferred_username}");
  }
  if ((count(Segment::Kind::Backend) == 0) != backend.has_value()) {
    return malformed("needs {backend} in the path, or the name of a backend beside it, not both");
  }
  view.backend_ = std::move(backend);
  return view;
}

bool View::takes(const std::vector<std::string_view>& path, const ViewClaims& claims) const {
  if (path.size() != segments_.size()) return false;
  for (std::size_t i = 0; i < path.size(); ++i) {
    const auto& [kind, word] = segments_[i];
    bool fits = false;
    switch (kind) {
      case Segment::Kind::Word: fits = path[i] == word; break;
      case Segment::Kind::Sub: fits = equals(claims.sub, path[i]); break;
      case Segment::Kind::PreferredUsername:
        fits = equals(claims.preferred_username, path[i]);
        break;
      case Segment::Kind::Backend: fits = !path[i].empty(); break;
    }
    if (!fits) return false;
  }
  return true;
}

Status Views::add(View view) {
  if (views_.size() == kMost) return malformed("there are more than 50 views");
  for (const auto& other : views_) {
    if (other.segments_.size() != view.segments_.size()) continue;
    // Two words that differ, or a word that is kept from the other's place.
    const bool apart = !std::equal(other.segments_.begin(), other.segments_.end(),
                                   view.segments_.begin(), [](const auto& a, const auto& b) {
                                     return a.is_word() == b.is_word() && a.text == b.text;
                                   });
    if (!apart) return malformed("could show the same path as the view " + other.path_);
  }
  views_.push_back(std::move(view));
  return {};
}

bool Views::is_word_of_another(const View& view, const std::vector<std::string_view>& path) const {
  return std::any_of(views_.begin(), views_.end(), [&](const View& other) {
    if (other.segments_.size() != path.size()) return false;
    for (std::size_t i = 0; i < path.size(); ++i) {
      const auto& segment = other.segments_[i];
      if (!view.segments_[i].is_word() && segment.is_word() && segment.text == path[i]) return true;
    }
    return false;
  });
}

std::optional<Views::Found> Views::find(std::string_view path, const ViewClaims& claims) const {
  const auto segments = split(path);
  for (const auto& view : views_) {
    if (!view.takes(segments, claims) || is_word_of_another(view, segments)) continue;
    if (view.backend_) return Found{&view, view.backend_->str()};
    for (std::size_t i = 0; i < segments.size(); ++i) {
      if (view.segments_[i].kind == View::Segment::Kind::Backend) {
        return Found{&view, std::string(segments[i])};
      }
    }
  }
  return std::nullopt;
}

}  // namespace postern::policy
