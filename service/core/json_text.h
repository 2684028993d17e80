#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// JSON written as text, for the hot path: building a tree of values first costs
/// several times what its members do.
namespace postern {

/// One string with its quotes, in ASCII. A byte that starts no character of
/// UTF-8 (RFC 3629 §4) is written as U+FFFD.
void append_json_string(std::string& out, std::string_view text);

/// One object, member by member. No name may be given twice (RFC 8259 §4).
class JsonObjectText {
 public:
  JsonObjectText& string(std::string_view name, std::string_view value);
  JsonObjectText& strings(std::string_view name, const std::vector<std::string>& values);
  JsonObjectText& number(std::string_view name, std::int64_t value);
  /// @param value  one JSON value as text, taken as it is
  JsonObjectText& json(std::string_view name, std::string_view value);

  bool empty() const noexcept { return text_.size() == 1; }
  std::string str() const;

 private:
  void name(std::string_view name);
  std::string text_ = "{";
};

}  // namespace postern
