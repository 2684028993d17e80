// The `.env` files that Docker, dotenv of Node and python-dotenv agree on:
//
//   line  = [ "export" space ] name "=" value | "#" comment | empty
//   value = 'as it is' | "with \n \r \t \" \\ \$" | up to " #" or the end of the line
//
// Values in quotes may go over several lines.
#include <set>

#include "cli/import_sources.h"
#include "cli/utf8.h"

namespace postern::cli {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t'; }

class Dotenv {
 public:
  explicit Dotenv(std::string_view text) : text_(text) {}

  sdk::Result<std::vector<DotenvEntry>> run() {
    for (std::size_t i = 0; i < text_.size();) {
      const auto length = utf8::first(text_.substr(i)).length;
      if (length == 0 || text_[i] == '\0') return fault("it is not text in UTF-8");
      i += length;
      if (text_[i - 1] == '\n') ++line_;
    }
    line_ = 1;
    if (text_.substr(0, 3) == "\xef\xbb\xbf") at_ = 3;
    while (at_ < text_.size()) {
      DotenvEntry entry;
      entry.begin = at_;
      skip_space();
      if (!end_of_line() && peek() != '#') {
        POSTERN_CHECK(read_entry(entry));
        skip_space();
        if (!end_of_line() && peek() != '#') return fault("there is something after the value");
      }
      while (!end_of_line()) ++at_;
      next_line();
      entry.end = at_;
      if (entry.name.empty()) continue;
      if (!names_.insert(entry.name).second) {
        --line_;
        return fault("this name is there twice");
      }
      if (entries_.size() >= kMaxDotenvEntries) return fault("it has too many variables");
      entries_.push_back(std::move(entry));
    }
    return std::move(entries_);
  }

 private:
  sdk::Error fault(const char* why) const {
    return sdk::fail(sdk::ErrorKind::Usage, "line " + std::to_string(line_) + ": " + why);
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\n'; }
  bool end_of_line() const {
    return peek() == '\n' ||
           (peek() == '\r' && (at_ + 1 >= text_.size() || text_[at_ + 1] == '\n'));
  }
  void skip_space() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }
  void next_line() {
    if (at_ < text_.size() && text_[at_] == '\r') ++at_;
    if (at_ < text_.size()) ++at_;
    ++line_;
  }

  sdk::Status read_entry(DotenvEntry& entry) {
    std::string_view name = word();
    if (name == "export" && is_space(peek())) {
      skip_space();
      name = word();
    }
    skip_space();
    if (!is_field_name(name) || peek() != '=' || at_ >= text_.size()) {
      return fault("it is not NAME=VALUE, or the name is none of at most 64 characters");
    }
    entry.name = name;
    ++at_;
    skip_space();
    if (peek() == '\'' || peek() == '"') return read_quoted(entry);
    const auto begin = at_;
    while (!end_of_line() && !(peek() == '#' && is_space(text_[at_ - 1]))) ++at_;
    auto end = at_;
    while (end > begin && is_space(text_[end - 1])) --end;
    const auto value = text_.substr(begin, end - begin);
    entry.literal = value.find('$') == value.npos || value.find_first_of("{(") == value.npos;
    entry.value = SecureBuffer::copy_of(value);
    return {};
  }

  std::string_view word() {
    const auto begin = at_;
    while (!end_of_line() && !is_space(peek()) && peek() != '=') ++at_;
    return text_.substr(begin, at_ - begin);
  }

  sdk::Status read_quoted(DotenvEntry& entry) {
    const char quote = text_[at_++];
    const auto first_line = line_;
    sdk::SecretBytes value;
    for (;; ++at_) {
      if (at_ >= text_.size()) {
        line_ = first_line;
        return fault("a quote is never closed");
      }
      char c = text_[at_];
      if (c == quote) break;
      if (c == '\n') ++line_;
      if (quote == '"' && c == '$' && at_ + 1 < text_.size() && text_[at_ + 1] == '{') {
        entry.literal = false;
      }
      if (quote == '"' && c == '\\' && at_ + 1 < text_.size()) {
        static constexpr std::string_view kFrom = "nrt\"\\$";
        static constexpr std::string_view kTo = "\n\r\t\"\\$";
        if (const auto known = kFrom.find(text_[at_ + 1]); known != kFrom.npos) {
          c = kTo[known];
          ++at_;
        }
      }
      value.push_back(c);
    }
    ++at_;
    entry.value = SecureBuffer::copy_of(sdk::view(value));
    return {};
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::set<std::string> names_;
  std::vector<DotenvEntry> entries_;
};

}  // namespace

sdk::Result<std::vector<DotenvEntry>> parse_dotenv(std::string_view text) {
  return Dotenv(text).run();
}

}  // namespace postern::cli
