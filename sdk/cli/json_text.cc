#include "cli/json_text.h"

#include <algorithm>
#include <set>
#include <stdexcept>
#include <utility>

#include "cli/utf8.h"

namespace postern::cli {
namespace {

struct Fault {
  std::size_t offset;
  const char* reason;
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

template <class Out>
void append_utf8(Out& out, unsigned code) {
  const auto put = [&](unsigned byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

class Parser {
 public:
  Parser(std::string_view text, Comments comments) : text_(text), comments_(comments) {}

  JsonNode run() {
    check_utf8();
    if (text_.substr(0, 3) == "\xef\xbb\xbf") at_ = 3;  // a byte-order mark
    auto node = value(0);
    space();
    if (at_ != text_.size()) fail("there is something after the end");
    return node;
  }

  /// Reads the string that begins here into `out`.
  template <class Out>
  void string(Out& out) {
    expect('"');
    for (;;) {
      const char c = next();
      if (c == '"') return;
      if (static_cast<unsigned char>(c) < 0x20) fail("a string has a control character");
      if (c != '\\') {
        out.push_back(c);
        continue;
      }
      const char escape = next();
      static constexpr std::string_view kFrom = "\"\\/bfnrt";
      static constexpr std::string_view kTo = "\"\\/\b\f\n\r\t";
      if (const auto known = kFrom.find(escape); known != kFrom.npos) {
        out.push_back(kTo[known]);
      } else if (escape == 'u') {
        append_utf8(out, escaped_character());
      } else {
        fail("a string has an unknown escape");
      }
    }
  }

  void start_at(std::size_t offset) { at_ = offset; }

 private:
  [[noreturn]] void fail(const char* reason) const { throw Fault{at_, reason}; }

  void check_utf8() {
    for (std::size_t i = 0; i < text_.size();) {
      const auto length = utf8::first(text_.substr(i)).length;
      if (length == 0) throw Fault{i, "it is not UTF-8 text"};
      if (text_[i] == '\0') throw Fault{i, "it has a NUL byte"};
      i += length;
    }
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  char next() {
    if (at_ == text_.size()) fail("it ends too early");
    return text_[at_++];
  }
  void expect(char c) {
    if (peek() != c) fail(at_ == text_.size() ? "it ends too early" : "it is not valid JSON");
    ++at_;
  }

  void space() {
    for (;;) {
      while (at_ < text_.size() &&
             std::string_view(" \t\r\n").find(text_[at_]) != std::string::npos) {
        ++at_;
      }
      if (peek() != '/') return;
      if (comments_ == Comments::Refused) fail("it has a comment, which this kind of file may not");
      const auto two = text_.substr(at_, 2);
      if (two == "//") {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (two == "/*") {
        const auto close = text_.find("*/", at_ + 2);
        if (close == text_.npos) fail("a comment is never closed");
        at_ = close + 2;
      } else {
        fail("it is not valid JSON");
      }
    }
  }

  JsonNode value(std::size_t depth) {
    space();
    if (++values_ > JsonText::kMaxValues) fail("it has too many values");
    JsonNode node;
    node.begin = at_;
    switch (peek()) {
      case '{': object(node, depth); break;
      case '[': array(node, depth); break;
      case '"': {
        node.kind = JsonNode::Kind::String;
        sdk::SecretBytes ignored;
        string(ignored);
        break;
      }
      default: other();
    }
    node.end = at_;
    return node;
  }

  void object(JsonNode& node, std::size_t depth) {
    node.kind = JsonNode::Kind::Object;
    std::set<std::string> names;
    entries(depth, '}', [&] {
      JsonMember member;
      member.begin = at_;
      string(member.name);
      if (!names.insert(member.name).second) {
        at_ = member.begin;
        fail("a member is there twice");
      }
      space();
      expect(':');
      member.value = value(depth + 1);
      node.members.push_back(std::move(member));
      return &node.members.back().value;
    });
  }

  void array(JsonNode& node, std::size_t depth) {
    node.kind = JsonNode::Kind::Array;
    entries(depth, ']', [&] {
      node.items.push_back(value(depth + 1));
      return &node.items.back();
    });
  }

  template <class Entry>
  void entries(std::size_t depth, char close, Entry entry) {
    if (depth >= JsonText::kMaxDepth) fail("it is nested too deeply");
    ++at_;
    space();
    while (peek() != close) {
      JsonNode* node = entry();
      space();
      if (peek() != ',') break;
      node->comma = at_++;
      space();
      if (peek() == close && comments_ == Comments::Refused) {
        fail("there is a comma after the last entry");
      }
    }
    expect(close);
  }

  void other() {
    if (at_ == text_.size()) fail("it ends too early");
    for (const std::string_view word : {"true", "false", "null"}) {
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return;
      }
    }
    // RFC 8259 §6.
    const auto digits = [&] {
      if (!is_digit(peek())) fail("it is not valid JSON");
      while (is_digit(peek())) ++at_;
    };
    if (peek() == '-') ++at_;
    if (peek() == '0') {
      ++at_;
    } else {
      digits();
    }
    if (peek() == '.') {
      ++at_;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '-' || peek() == '+') ++at_;
      digits();
    }
  }

  unsigned four_digits() {
    unsigned code = 0;
    for (int i = 0; i < 4; ++i) {
      const int digit = hex_digit(next());
      if (digit < 0) fail("a string has a broken escape");
      code = code << 4 | static_cast<unsigned>(digit);
    }
    return code;
  }

  unsigned escaped_character() {
    const auto high = four_digits();
    if (high == 0) fail("a string has a NUL character");
    if (high < 0xd800 || high > 0xdfff) return high;
    if (high > 0xdbff || next() != '\\' || next() != 'u') fail("a string has half a character");
    const auto low = four_digits();
    if (low < 0xdc00 || low > 0xdfff) fail("a string has half a character");
    return 0x10000 + ((high - 0xd800) << 10 | (low - 0xdc00));
  }

  std::string_view text_;
  Comments comments_;
  std::size_t at_ = 0;
  std::size_t values_ = 0;
};

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r") == text.npos; }

}  // namespace

const JsonMember* JsonNode::find(std::string_view name) const {
  const auto it = std::find_if(members.begin(), members.end(),
                               [&](const JsonMember& member) { return member.name == name; });
  return it == members.end() ? nullptr : &*it;
}

sdk::Result<JsonText> JsonText::parse(sdk::SecretBytes text, Comments comments) {
  JsonText out;
  out.text_ = std::move(text);
  try {
    out.root_ = Parser(out.text(), comments).run();
  } catch (const Fault& fault) {
    return sdk::fail(sdk::ErrorKind::Usage,
                     "line " + std::to_string(out.line_of(fault.offset)) + ": " + fault.reason);
  }
  return out;
}

std::size_t JsonText::line_of(std::size_t offset) const {
  const auto before = text().substr(0, offset);
  return static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n')) + 1;
}

sdk::SecretBytes JsonText::string_of(const JsonNode& node) const {
  sdk::SecretBytes out;
  Parser parser(text(), Comments::Refused);
  parser.start_at(node.begin);
  parser.string(out);
  return out;
}

std::string JsonText::space_after(std::size_t offset) const {
  auto rest = text().substr(offset);
  rest = rest.substr(0, rest.find_first_not_of(" \t\r\n"));
  const auto line = rest.rfind('\n');
  if (line == rest.npos) return std::string(rest.substr(0, 1));
  const bool crlf = line > 0 && rest[line - 1] == '\r';
  return std::string(rest.substr(crlf ? line - 1 : line));
}

void TextEdits::replace(std::size_t begin, std::size_t end, std::string with) {
  edits_.push_back({begin, end, std::move(with)});
}

sdk::SecretBytes TextEdits::apply(std::string_view text) const {
  auto sorted = edits_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Edit& a, const Edit& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  sdk::SecretBytes out;
  std::size_t at = 0;
  for (const auto& edit : sorted) {
    if (edit.begin < at) throw std::logic_error("two changes of the same text");
    sdk::append(out, text.substr(at, edit.begin - at));
    sdk::append(out, edit.with);
    at = edit.end;
  }
  sdk::append(out, text.substr(at));
  return out;
}

void remove_members(TextEdits& edits, const JsonText& json, const JsonNode& object,
                    const std::vector<std::size_t>& which) {
  const auto text = json.text();
  const auto cut = [&](std::size_t begin, std::size_t end) {
    const auto line = text.rfind('\n', begin) + 1;  // npos + 1 is 0: the first line
    const auto line_end = std::min(text.find('\n', end), text.size());
    const bool alone = line > object.begin && is_blank(text.substr(line, begin - line)) &&
                       is_blank(text.substr(end, line_end - end)) && line_end < object.end;
    if (alone) return edits.replace(line, line_end + 1, "");
    while (end < text.size() && (text[end] == ' ' || text[end] == '\t')) ++end;
    edits.replace(begin, end, "");
  };
  const auto removed = [&](std::size_t i) {
    return std::find(which.begin(), which.end(), i) != which.end();
  };
  // The last entry that stays keeps its comma only if one stood after the last of all.
  for (std::size_t i = object.members.size(); i-- > 0;) {
    if (removed(i)) continue;
    const auto comma = object.members[i].value.comma;
    if (i + 1 < object.members.size() && object.members.back().value.comma == JsonNode::kNoComma) {
      edits.replace(comma, comma + 1, "");
    }
    break;
  }
  for (const auto i : which) {
    const auto& member = object.members[i];
    const auto comma = member.value.comma;
    if (comma == JsonNode::kNoComma) {
      cut(member.begin, member.value.end);
    } else if (is_blank(text.substr(member.value.end, comma - member.value.end))) {
      cut(member.begin, comma + 1);
    } else {  // a comment before the comma stays
      edits.replace(member.begin, member.value.end, "");
      edits.replace(comma, comma + 1, "");
    }
  }
}

void insert_first(TextEdits& edits, const JsonText& json, const JsonNode& container,
                  const std::vector<std::string>& entries, bool something) {
  const auto space = json.space_after(container.begin + 1);
  std::string out;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    out += (space.empty() && i > 0 ? " " : space) + entries[i];
    if (something || i + 1 < entries.size()) out += ',';
  }
  if (something && space.empty()) out += ' ';
  edits.replace(container.begin + 1, container.begin + 1, std::move(out));
}

}  // namespace postern::cli
