#include "audit/event.h"

#include <algorithm>
#include <cstdint>

#include "core/time_format.h"

namespace postern::audit {
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

void append_string(std::string& out, std::string_view text) {
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

void append_fields(std::string& out, const Event& event) {
  using Field = std::pair<std::string, std::string>;
  std::vector<const Field*> sorted;
  sorted.reserve(event.fields.size());
  for (const auto& field : event.fields) {
    if (!field.second.empty()) sorted.push_back(&field);
  }
  const auto by_name = [](const Field* a, const Field* b) { return a->first < b->first; };
  std::stable_sort(sorted.begin(), sorted.end(), by_name);
  out += '{';
  const Field* previous = nullptr;
  for (const auto* field : sorted) {
    // A repeated name would make the object ambiguous: the first value stays.
    if (previous != nullptr && previous->first == field->first) continue;
    if (previous != nullptr) out += ',';
    append_string(out, field->first);
    out += ':';
    append_string(out, field->second);
    previous = field;
  }
  out += '}';
}

}  // namespace

std::string_view to_string(Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::Allowed: return "allowed";
    case Outcome::Refused: return "refused";
    case Outcome::Failed: return "failed";
  }
  return "failed";
}

std::string canonical(const Event& event) {
  std::size_t size = 128 + event.action.size() + event.request_id.size();
  for (const auto& [name, value] : event.fields) size += name.size() + value.size() + 8;
  std::string out;
  out.reserve(size);
  out += R"({"action":)";
  append_string(out, event.action);
  out += R"(,"at":")";
  out += format_time(event.at);
  out += R"(","fields":)";
  append_fields(out, event);
  out += R"(,"outcome":")";
  out += to_string(event.outcome);
  out += R"(","request_id":)";
  append_string(out, event.request_id);
  out += '}';
  return out;
}

}  // namespace postern::audit
