#include "http/form.h"

#include <algorithm>
#include <string>

#include "http/ascii.h"

namespace postern::http {
namespace {

/// Decodes one name or value to `out` and moves it on; nothing when malformed.
std::optional<std::string_view> decode(std::string_view text, char*& out) {
  const char* const begin = out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '+') {
      c = ' ';
    } else if (c == '%') {
      if (text.size() - i < 3) return std::nullopt;
      const int high = hex_value(text[i + 1]);
      const int low = hex_value(text[i + 2]);
      if (high < 0 || low < 0 || (high == 0 && low == 0)) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      return std::nullopt;
    }
    *out++ = c;
  }
  const std::string_view decoded(begin, static_cast<std::size_t>(out - begin));
  if (!is_utf8(decoded)) return std::nullopt;
  return decoded;
}

Error repeated(std::string_view name) {
  // A name of ours is safe to repeat; anybody else's is not echoed.
  return fail(ErrorCode::MalformedRequest, "parameter sent more than once: " + std::string(name));
}

}  // namespace

Result<Form> Form::parse(std::string_view text, Source source) {
  const std::string what = source == Source::Body ? "the form" : "the query string";
  if (text.size() > kMaxBytes) return fail(ErrorCode::TooLarge, what + " is larger than 64 KiB");
  Form form;
  if (text.empty()) return form;
  form.storage_ = SecureBuffer(text.size());  // decoding never makes text longer
  char* out = reinterpret_cast<char*>(form.storage_.writable().data());

  std::size_t sent = 0;
  while (!text.empty()) {
    const auto pair = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(text.size(), pair.size() + 1));
    if (pair.empty()) continue;
    if (++sent > kMaxParameters) {
      return fail(ErrorCode::MalformedRequest, what + " has more than 64 parameters");
    }
    const auto equals = pair.find('=');
    const auto name = decode(pair.substr(0, equals), out);
    const auto value =
        decode(equals == pair.npos ? std::string_view{} : pair.substr(equals + 1), out);
    if (!name || !value) {
      return fail(ErrorCode::MalformedRequest,
                  (source == Source::Body ? std::string("the body") : what) +
                      " is not application/x-www-form-urlencoded in UTF-8");
    }
    // RFC 6749 §3.2: parameters sent without a value are treated as omitted.
    if (value->empty() && source == Source::Body) continue;
    form.parameters_.emplace_back(*name, *value);
  }
  return form;
}

std::vector<std::string_view> Form::all(std::string_view name) const {
  std::vector<std::string_view> values;
  for (const auto& [key, value] : parameters_) {
    if (key == name) values.push_back(value);
  }
  return values;
}

Result<std::optional<std::string_view>> Form::optional_single(std::string_view name) const {
  std::optional<std::string_view> found;
  for (const auto& [key, value] : parameters_) {
    if (key != name) continue;
    if (found) return repeated(name);
    found = value;
  }
  return found;
}

Result<std::string_view> Form::required_single(std::string_view name) const {
  POSTERN_TRY(const auto value, optional_single(name));
  if (!value) {
    return fail(ErrorCode::MalformedRequest, "parameter missing: " + std::string(name));
  }
  return *value;
}

Status Form::only(std::initializer_list<std::string_view> known) const {
  for (const auto& [name, value] : parameters_) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return fail(ErrorCode::MalformedRequest, "unknown query parameter");
    }
  }
  return {};
}

Status Form::refuse_repeats_except(std::initializer_list<std::string_view> repeatable) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto name = parameters_[i].first;
    if (std::find(repeatable.begin(), repeatable.end(), name) != repeatable.end()) continue;
    for (std::size_t k = 0; k < i; ++k) {
      if (parameters_[k].first == name) {
        return fail(ErrorCode::MalformedRequest, "a parameter was sent more than once");
      }
    }
  }
  return {};
}

}  // namespace postern::http
