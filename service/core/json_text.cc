#include "core/json_text.h"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace postern {
namespace {

constexpr char kHex[] = "0123456789abcdef";

void append_escape(std::string& out, std::uint32_t unit) {
  const char text[] = {
      '\\',           'u', kHex[unit >> 12 & 15], kHex[unit >> 8 & 15], kHex[unit >> 4 & 15],
      kHex[unit & 15]};
  out.append(text, sizeof text);
}

struct Decoded {
  std::uint32_t code_point;
  std::size_t length;
};

/// The code point that starts here. A byte that starts none (RFC 3629 §4: stray,
/// overlong, surrogate, beyond U+10FFFF, cut off) is one U+FFFD.
Decoded decode_utf8(std::string_view text) {
  constexpr Decoded kInvalid{0xFFFD, 1};
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::uint32_t lead = byte(0);
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return kInvalid;
  std::uint32_t code_point = lead & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0u) != 0x80u) return kInvalid;
    code_point = code_point << 6 | (byte(i) & 0x3Fu);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code_point < kSmallest[length] || code_point > 0x10FFFF ||
      (code_point >= 0xD800 && code_point <= 0xDFFF)) {
    return kInvalid;
  }
  return {code_point, length};
}

bool plain(char c) noexcept { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; }

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  std::size_t at = 0;
  while (at < text.size()) {
    std::size_t end = at;
    while (end < text.size() && plain(text[end])) ++end;
    out.append(text, at, end - at);
    at = end;
    if (at == text.size()) break;
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte == '"' || byte == '\\') {
      out += '\\';
      out += text[at++];
    } else if (byte < 0x80) {
      append_escape(out, byte);
      ++at;
    } else {
      const auto [code_point, length] = decode_utf8(text.substr(at));
      if (code_point >= 0x10000) {
        append_escape(out, 0xD800 + ((code_point - 0x10000) >> 10));
        append_escape(out, 0xDC00 + ((code_point - 0x10000) & 0x3FF));
      } else {
        append_escape(out, code_point);
      }
      at += length;
    }
  }
  out += '"';
}

void JsonObjectText::name(std::string_view name) {
  if (!empty()) text_ += ',';
  append_json_string(text_, name);
  text_ += ':';
}

JsonObjectText& JsonObjectText::string(std::string_view name, std::string_view value) {
  this->name(name);
  append_json_string(text_, value);
  return *this;
}

JsonObjectText& JsonObjectText::strings(std::string_view name,
                                        const std::vector<std::string>& values) {
  this->name(name);
  char before = '[';
  for (const auto& value : values) {
    text_ += std::exchange(before, ',');
    append_json_string(text_, value);
  }
  text_ += values.empty() ? "[]" : "]";
  return *this;
}

JsonObjectText& JsonObjectText::number(std::string_view name, std::int64_t value) {
  return json(name, std::to_string(value));
}

JsonObjectText& JsonObjectText::json(std::string_view name, std::string_view value) {
  this->name(name);
  text_ += value;
  return *this;
}

std::string JsonObjectText::str() const { return text_ + '}'; }

}  // namespace postern
