#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/ids.h"
#include "core/result.h"

/// Views of the Vault subset: paths under which a user's credential is read. A path
/// never says whose it is, only the token does: what stands in place of a claim must
/// equal what the token says, byte for byte, and goes nowhere else.
namespace postern::policy {

/// What the paths are compared with, of one verified token. None: the token has no
/// such claim, or it is no text.
struct ViewClaims {
  std::optional<std::string> sub;
  std::optional<std::string> preferred_username;
};

/// One view: segments between slashes, each a word or a place (`{sub}`,
/// `{preferred_username}`, `{backend}`).
class View {
 public:
  static constexpr std::size_t kMostBytes = 200;
  static constexpr std::size_t kMostSegments = 8;

  /// @param path     words of letters, digits, `.`, `_` and `-`, none of which begins or
  ///                 ends with a dot or has two in a row; places each once, and one of
  ///                 a claim among them.
  /// @param backend  given exactly when the path has no `{backend}`.
  /// Errors: MalformedRequest.
  static Result<View> parse(std::string_view path, std::optional<BackendId> backend);

  const std::string& path() const noexcept { return path_; }
  const std::optional<BackendId>& backend() const noexcept { return backend_; }

 private:
  friend class Views;
  struct Segment {
    enum class Kind { Word, Sub, PreferredUsername, Backend };
    Kind kind = Kind::Word;
    std::string text{};  ///< of a word
    bool is_word() const noexcept { return kind == Kind::Word; }
  };
  static Result<Segment> segment_of(std::string_view text);
  /// Whether the path is this view's, and the user's of these claims.
  bool takes(const std::vector<std::string_view>& path, const ViewClaims& claims) const;

  std::string path_;
  std::vector<Segment> segments_;
  std::optional<BackendId> backend_;
};

/// The views of a tenant. No path is of two: where one has a word, no place of
/// another takes that word.
class Views {
 public:
  static constexpr std::size_t kMost = 50;

  /// Errors: MalformedRequest when a path could be of this view and of one before it.
  Status add(View view);

  struct Found {
    const View* view = nullptr;
    std::string backend;  ///< as the view or the path names it; there may be none
  };
  /// @param path  percent-decoded segment by segment, without mount and `data/`.
  /// Nothing when it is no view's, or somebody else's.
  std::optional<Found> find(std::string_view path, const ViewClaims& claims) const;

  bool empty() const noexcept { return views_.empty(); }
  const std::vector<View>& all() const noexcept { return views_; }

 private:
  bool is_word_of_another(const View& view, const std::vector<std::string_view>& path) const;

  std::vector<View> views_;
};

}  // namespace postern::policy
