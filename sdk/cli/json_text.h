#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "postern/error.h"
#include "postern/secret_bytes.h"

/// JSON as a text that somebody else wrote and goes on to edit: it is changed in
/// few places, and every byte elsewhere stays, comments among them.
namespace postern::cli {

enum class Comments {
  Refused,
  Allowed  ///< and a comma after the last entry, as editors take them
};

struct JsonMember;

/// A value by its place in the text. It holds no text itself, which may be a secret.
struct JsonNode {
  enum class Kind { Object, Array, String, Other };
  static constexpr std::size_t kNoComma = static_cast<std::size_t>(-1);

  Kind kind = Kind::Other;
  std::size_t begin = 0;
  std::size_t end = 0;
  std::size_t comma = kNoComma;     ///< after it
  std::vector<JsonMember> members;  ///< of an object
  std::vector<JsonNode> items;      ///< of an array

  bool is(Kind what) const noexcept { return kind == what; }
  const JsonMember* find(std::string_view name) const;
};

struct JsonMember {
  std::string name;
  std::size_t begin = 0;  ///< of the name
  JsonNode value;
};

class JsonText {
 public:
  static constexpr std::size_t kMaxDepth = 32;
  static constexpr std::size_t kMaxValues = 20'000;

  /// Refused, with the line and a reason that quotes nothing: what is not JSON in UTF-8,
  /// a member that is there twice, more than the bounds above.
  static sdk::Result<JsonText> parse(sdk::SecretBytes text, Comments comments);

  std::string_view text() const noexcept { return sdk::view(text_); }
  const JsonNode& root() const noexcept { return root_; }
  std::size_t line_of(std::size_t offset) const;

  /// What a string says.
  sdk::SecretBytes string_of(const JsonNode& node) const;
  /// What stands between this place and the next value, for one more value there:
  /// a new line with its indent, a space, or nothing.
  std::string space_after(std::size_t offset) const;

 private:
  sdk::SecretBytes text_;
  JsonNode root_;
};

/// Changes of a text, by its offsets, which do not overlap.
class TextEdits {
 public:
  void replace(std::size_t begin, std::size_t end, std::string with);
  bool empty() const noexcept { return edits_.empty(); }
  sdk::SecretBytes apply(std::string_view text) const;

 private:
  struct Edit {
    std::size_t begin;
    std::size_t end;
    std::string with;
  };
  std::vector<Edit> edits_;
};

/// Takes these members (by index, ascending) out of an object. A line that has nothing else goes
/// with its member.
void remove_members(TextEdits& edits, const JsonText& json, const JsonNode& object,
                    const std::vector<std::size_t>& which);

/// Puts entries before those of an array or object, spaced as these are.
/// @param entries    as they are to be written
/// @param something  whether any entry follows
void insert_first(TextEdits& edits, const JsonText& json, const JsonNode& container,
                  const std::vector<std::string>& entries, bool something);

}  // namespace postern::cli
