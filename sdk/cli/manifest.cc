#include "cli/manifest.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <locale>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include "cli/utf8.h"
#include "core/ids.h"
#include "postern/secret_file.h"

namespace postern::cli {
namespace {

/// Ends the reading of a file at its first fault.
struct Stop {
  Position position;
  std::string pointer;
  std::string message;
};

/// The text being read, to look at what yaml-cpp's marks point to.
class Source {
 public:
  explicit Source(std::string_view text) : text_(text) {}

  /// Lines and columns from 1; columns count characters, as editors do.
  Position position(const YAML::Mark& mark) const {
    if (mark.is_null()) return {};
    auto column = static_cast<std::size_t>(mark.column);
    // Not in endless lines, where counting for each value would take for ever.
    if (column <= std::min(offset(mark), kLongLine)) {
      const auto before = text_.substr(offset(mark) - column, column);
      column = static_cast<std::size_t>(std::count_if(before.begin(), before.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xc0U) != 0x80;
      }));
    }
    return {static_cast<std::size_t>(mark.line) + 1, column + 1};
  }

  std::string_view from(const YAML::Mark& mark) const { return text_.substr(offset(mark)); }

  /// yaml-cpp takes a quoted text without its closing quote, if the file ends
  /// with a new line: a truncated manifest must not pass for a whole one.
  bool quote_is_closed(const YAML::Mark& mark) const {
    const auto rest = from(mark);
    if (rest.empty() || (rest[0] != '\'' && rest[0] != '"')) return true;
    for (std::size_t i = 1; i < rest.size(); ++i) {
      if (rest[0] == '"' && rest[i] == '\\') {
        ++i;
      } else if (rest[i] == rest[0]) {
        if (rest[0] == '"' || i + 1 == rest.size() || rest[i + 1] != '\'') return true;
        ++i;  // '' stands for one quote
      }
    }
    return false;
  }

 private:
  static constexpr std::size_t kLongLine = 1000;
  std::size_t offset(const YAML::Mark& mark) const {
    return std::min(static_cast<std::size_t>(mark.pos), text_.size());
  }
  std::string_view text_;
};

std::string escaped(std::string_view key) {  // RFC 6901 §3
  std::string out;
  for (const char c : key) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return out;
}

std::string unescaped(std::string_view token) {
  std::string out;
  for (std::size_t i = 0; i < token.size(); ++i) {
    const bool escape = token[i] == '~' && i + 1 < token.size();
    if (escape && (token[i + 1] == '0' || token[i + 1] == '1')) {
      out += token[++i] == '0' ? '~' : '/';
    } else {
      out += token[i];
    }
  }
  return out;
}

bool only(std::string_view text, std::string_view allowed) {
  return !text.empty() && text.find_first_not_of(allowed) == text.npos;
}

bool one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

constexpr std::string_view kDigits = "0123456789";

/// `[-+]? [0-9]+`, `0o…` or `0x…` of YAML 1.2's core schema.
bool looks_like_integer(std::string_view text) {
  if (text.substr(0, 2) == "0o") return only(text.substr(2), "01234567");
  if (text.substr(0, 2) == "0x") return only(text.substr(2), "0123456789abcdefABCDEF");
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  return only(text, kDigits);
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
bool looks_like_float(std::string_view text) {
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  if (const auto e = text.find_first_of("eE"); e != text.npos) {
    auto exponent = text.substr(e + 1);
    if (!exponent.empty() && (exponent[0] == '-' || exponent[0] == '+')) exponent.remove_prefix(1);
    if (!only(exponent, kDigits)) return false;
    text = text.substr(0, e);
  }
  const auto dot = text.find('.');
  if (dot == text.npos) return only(text, kDigits);
  const auto whole = text.substr(0, dot);
  const auto fraction = text.substr(dot + 1);
  return (whole.empty() ? only(fraction, kDigits) : only(whole, kDigits)) &&
         (fraction.empty() || only(fraction, kDigits));
}

std::optional<Json> integer_value(std::string_view text) {
  const bool negative = text[0] == '-';
  if (negative || text[0] == '+') text.remove_prefix(1);
  int base = 10;
  if (text.substr(0, 2) == "0o") base = 8;
  if (text.substr(0, 2) == "0x") base = 16;
  if (base != 10) text.remove_prefix(2);
  std::uint64_t magnitude = 0;
  const auto end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, magnitude, base);
  // Beyond 2^53 JSON readers disagree about the value.
  if (parsed.ec != std::errc() || magnitude > (std::uint64_t{1} << 53)) return std::nullopt;
  if (negative) return Json(-static_cast<std::int64_t>(magnitude));
  return Json(magnitude);
}

/// A plain (unquoted) scalar by YAML 1.2's core schema, where `yes`, `no`,
/// `on` and `off` are text.
Json plain_scalar(const std::string& text, const Position& position, const std::string& pointer) {
  if (one_of(text, {"", "~", "null", "Null", "NULL"})) return Json(nullptr);
  if (one_of(text, {"true", "True", "TRUE"})) return Json(true);
  if (one_of(text, {"false", "False", "FALSE"})) return Json(false);
  const std::string quote_it = "; put it in quotes if it is meant as text";
  if (looks_like_integer(text)) {
    const auto digits = text.find_first_not_of("-+");
    if (text[digits] == '0' && text.size() > digits + 1 &&
        kDigits.find(text[digits + 1]) != std::string_view::npos) {
      // Octal in YAML 1.1, decimal in 1.2.
      throw Stop{position, pointer, "a number must not begin with 0" + quote_it};
    }
    auto value = integer_value(text);
    if (!value) throw Stop{position, pointer, "this number is too large" + quote_it};
    return std::move(*value);
  }
  if (looks_like_float(text)) {
    std::istringstream in(text);
    in.imbue(std::locale::classic());
    double value = 0;
    in >> value;
    if (!in || !std::isfinite(value)) {
      throw Stop{position, pointer, "this number is too large" + quote_it};
    }
    return Json(value);
  }
  const auto unsigned_text = text[0] == '-' || text[0] == '+' ? text.substr(1) : text;
  if (one_of(unsigned_text, {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"})) {
    throw Stop{position, pointer, "JSON has no infinity and no NaN" + quote_it};
  }
  return Json(text);
}

/// Builds JSON from yaml-cpp's events. Its Node API would hide duplicate keys,
/// aliases and tags, which is why it is not used.
class Builder final : public YAML::EventHandler {
 public:
  /// `pointer_bytes` is added up over all documents of a file.
  Builder(const Source& source, std::size_t& pointer_bytes)
      : source_(source), pointer_bytes_(pointer_bytes) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto here = source_.from(mark).substr(0, 1);
    const bool in_list = !levels_.empty() && levels_.back().value->is_array();
    if (in_list && (here == "," || here == "]")) {
      throw Stop{position_of(mark), next_pointer(), "there is nothing before this"};
    }
    scalar(mark, "?", anchor, "");
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Stop{position_of(mark), pointer_, "aliases (*name) are not supported; write it out"};
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    scalar(mark, tag, anchor, value);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Json::array());
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Json::object());
  }
  void OnMapEnd() override { close(); }

  Json take_json() { return std::move(root_); }
  std::map<std::string, Position> take_positions() { return std::move(positions_); }

 private:
  struct Level {
    Json* value;
    std::size_t pointer_size;  ///< of the container's own pointer
    std::optional<std::string> key;
  };

  void scalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
              const std::string& text) {
    const auto position = position_of(mark);
    refuse_features(position, tag, anchor);
    const bool plain = tag == "?" || tag.empty();
    if (!plain && !source_.quote_is_closed(mark)) {
      throw Stop{position, next_pointer(), "the quote that begins here is never closed"};
    }
    refuse_text(position, text);
    if (expects_key()) return key(position, plain, text);
    place(position, plain ? plain_scalar(text, position, next_pointer()) : Json(text));
    leave_value();
  }

  void key(const Position& position, bool plain, const std::string& text) {
    auto& level = levels_.back();
    if (plain && text == "<<") {
      throw Stop{position, pointer_, "merge keys (<<) are not supported; write it out"};
    }
    if (plain && !plain_scalar(text, position, pointer_).is_string()) {
      throw Stop{position, pointer_, "a key must be text; put it in quotes"};
    }
    if (text.size() > kMaxKeyBytes) {
      throw Stop{position, pointer_,
                 "a key is longer than " + std::to_string(kMaxKeyBytes) + " bytes"};
    }
    const auto pointer = pointer_ + "/" + escaped(text);
    if (!note(pointer, position)) {
      throw Stop{position, pointer, "this key is here twice"};
    }
    level.key = text;
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Json value) {
    const auto position = position_of(mark);
    refuse_features(position, tag, anchor);
    if (expects_key()) throw Stop{position, pointer_, "a key must be text, not a list or map"};
    if (levels_.size() >= kMaxManifestDepth) {
      throw Stop{position, next_pointer(),
                 "nested deeper than " + std::to_string(kMaxManifestDepth) + " levels"};
    }
    const auto own_pointer = next_pointer();
    auto* placed = place(position, std::move(value));
    levels_.push_back({placed, pointer_.size(), std::nullopt});
    pointer_ = own_pointer;
  }

  void close() {
    pointer_.resize(levels_.back().pointer_size);
    levels_.pop_back();
    leave_value();
  }

  bool expects_key() const {
    return !levels_.empty() && levels_.back().value->is_object() && !levels_.back().key;
  }

  std::string next_pointer() const {
    if (levels_.empty() || expects_key()) return pointer_;
    const auto& level = levels_.back();
    const auto token = level.key ? escaped(*level.key) : std::to_string(level.value->size());
    return pointer_ + "/" + token;
  }

  Json* place(const Position& position, Json value) {
    if (levels_.empty()) {
      positions_.emplace("", position);
      root_ = std::move(value);
      return &root_;
    }
    note(next_pointer(), position);  // a member keeps the place of its key
    auto& level = levels_.back();
    if (level.key) return &((*level.value)[*level.key] = std::move(value));
    level.value->push_back(std::move(value));
    return &level.value->back();
  }

  /// Remembers where a value stands. False when its place is known already.
  bool note(const std::string& pointer, const Position& position) {
    if (!positions_.emplace(pointer, position).second) return false;
    pointer_bytes_ += pointer.size();
    if (pointer_bytes_ > kMaxPointerBytes) {
      throw Stop{position, "", "too many values under long, nested keys; shorten the keys"};
    }
    return true;
  }

  void leave_value() {
    if (!levels_.empty()) levels_.back().key.reset();
  }

  /// Escapes in quotes can make what the file itself may not hold; those of
  /// yaml-cpp for U+0085 and U+00A0 make bytes that are not UTF-8.
  void refuse_text(const Position& position, std::string_view text) {
    while (!text.empty()) {
      const auto character = utf8::first(text);
      if (character.length == 0) {
        throw Stop{position, next_pointer(),
                   "an escape in this text does not make UTF-8; write the character itself"};
      }
      if (character.code_point == 0) {
        throw Stop{position, next_pointer(), "there is a NUL character in this text"};
      }
      text.remove_prefix(character.length);
    }
  }

  void refuse_features(const Position& position, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != 0) {
      throw Stop{position, next_pointer(), "anchors (&name) are not supported; write it out"};
    }
    // "?" marks a plain scalar, "!" a quoted one.
    if (!tag.empty() && tag != "?" && tag != "!") {
      throw Stop{position, next_pointer(), "tags (!type) are not supported"};
    }
  }

  Position position_of(const YAML::Mark& mark) const { return source_.position(mark); }

  const Source& source_;
  std::size_t& pointer_bytes_;
  Json root_;
  std::vector<Level> levels_;
  std::string pointer_;  ///< of the innermost open container
  std::map<std::string, Position> positions_;
};

/// Finds nothing but errors of syntax, which are shown before anything else:
/// an unclosed bracket must not be reported as a strange key.
class SyntaxCheck final : public YAML::EventHandler {
 public:
  explicit SyntaxCheck(const Source& source) : source_(source) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    // yaml-cpp begins another document at whatever does not fit the one before,
    // and does so for ever at a stray comma, which it never takes.
    if (!first_ && source_.from(mark).substr(0, 3) != "---") {
      throw Stop{source_.position(mark), "", "this does not belong to what stands before it"};
    }
    first_ = false;
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

 private:
  const Source& source_;
  bool first_ = true;
};

/// The place of a byte.
Position position_at(std::string_view text, std::size_t offset) {
  const auto before = text.substr(0, offset);
  const auto line_start = before.rfind('\n');
  return {static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n')) + 1,
          line_start == before.npos ? offset + 1 : offset - line_start};
}

/// Refuses bytes that YAML does not allow, before yaml-cpp guesses at them.
void refuse_bytes(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto length = utf8::first(text.substr(i)).length;
    if (length == 0) {
      throw Stop{position_at(text, i), "", "this is not UTF-8 text"};
    }
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == 0) throw Stop{position_at(text, i), "", "there is a NUL byte here"};
    if ((byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f) {
      throw Stop{position_at(text, i), "", "there is a control character here"};
    }
    i += length;
  }
}

std::string folder_of(const std::string& path) {
  const auto slash = path.find_last_of('/');
  return slash == path.npos ? "" : path.substr(0, slash + 1);
}

std::string resolved(const std::string& manifest, const std::string& path) {
  return !path.empty() && path[0] == '/' ? path : folder_of(manifest) + path;
}

/// Reads a file up to a bound. Errors: Usage.
sdk::Result<std::string> read_file(const std::string& path, std::size_t max_bytes) {
  std::string content(max_bytes + 1, '\0');
  std::ifstream file;
  std::istream* in = &std::cin;
  if (path != "-") {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) {
      return sdk::fail(sdk::ErrorKind::Usage, "is a directory; name a file in it");
    }
    errno = 0;
    file.open(path, std::ios::binary);
    if (!file) {
      return sdk::fail(sdk::ErrorKind::Usage,
                       std::string("cannot read this file: ") + std::strerror(errno));
    }
    in = &file;
  }
  in->read(content.data(), static_cast<std::streamsize>(content.size()));
  if (in->bad()) return sdk::fail(sdk::ErrorKind::Usage, "cannot read this file");
  content.resize(static_cast<std::size_t>(in->gcount()));
  if (content.size() > max_bytes) {
    return sdk::fail(sdk::ErrorKind::Usage,
                     "is larger than " + std::to_string(max_bytes) + " bytes");
  }
  return content;
}

/// Replaces references to files by what they hold.
class Inliner {
 public:
  Inliner(Document& document, std::vector<Fault>& faults) : document_(document), faults_(faults) {}

  void run() {
    each("issuers", [&](Json& issuer, const std::string& pointer) {
      const auto path = take_path(issuer, pointer, "jwks_file", "jwks");
      if (!path) return;
      const auto text = read_file(resolved(document_.file(), *path), kMaxManifestBytes);
      if (!text.ok()) return fault(pointer + "/jwks_file", *path + ": " + text.error().detail);
      auto jwks = sdk::parse_json(text.value(), kMaxManifestDepth);
      if (!jwks.ok()) return fault(pointer + "/jwks_file", *path + " " + jwks.error().detail);
      put(issuer, pointer, "jwks_file", "jwks", std::move(*jwks.value()));
    });
    each("clients", [&](Json& client, const std::string& pointer) {
      if (client.contains("secret")) {
        return fault(pointer + "/secret",
                     "a secret does not belong into a manifest; put it into a file of mode 0600 "
                     "and name that as secret_file");
      }
      const auto path = take_path(client, pointer, "secret_file", "secret");
      if (!path) return;
      const auto secret = sdk::read_token_file(resolved(document_.file(), *path), "client secret");
      if (!secret.ok()) return fault(pointer + "/secret_file", secret.error().detail);
      put(client, pointer, "secret_file", "secret",
          Json(std::string(as_text(secret.value().readable()))));
    });
  }

 private:
  template <class Use>
  void each(const char* list, Use use) {
    auto& json = document_.json();
    const auto it = json.find(list);
    if (it == json.end() || !it->is_array()) return;  // the server says what is wrong with it
    for (std::size_t i = 0; i < it->size(); ++i) {
      if (!(*it)[i].is_object()) continue;
      use((*it)[i], "/" + std::string(list) + "/" + std::to_string(i));
    }
  }

  std::optional<std::string> take_path(Json& object, const std::string& pointer, const char* name,
                                       const char* target) {
    const auto it = object.find(name);
    if (it == object.end()) return std::nullopt;
    if (!it->is_string() || it->get_ref<const std::string&>().empty()) {
      fault(pointer + "/" + name, "must be the path of a file");
      return std::nullopt;
    }
    if (object.contains(target)) {
      fault(pointer + "/" + name, std::string("is given together with ") + target);
      return std::nullopt;
    }
    return it->get<std::string>();
  }

  void put(Json& object, const std::string& pointer, const char* from, const char* to, Json value) {
    object.erase(from);
    object[to] = std::move(value);
    document_.copy_position(pointer + "/" + from, pointer + "/" + to);
  }

  void fault(const std::string& pointer, std::string message) {
    faults_.push_back(document_.fault(pointer, std::move(message)));
  }

  Document& document_;
  std::vector<Fault>& faults_;
};

}  // namespace

std::string Fault::text() const {
  std::string out = file;
  if (position.line > 0) {
    out += ":" + std::to_string(position.line) + ":" + std::to_string(position.column);
  }
  if (!place.empty()) out += ": " + place;
  return out + ": " + message;
}

std::string place_of(std::string_view pointer) {
  std::string out;
  while (!pointer.empty() && pointer[0] == '/') {
    pointer.remove_prefix(1);
    const auto end = std::min(pointer.find('/'), pointer.size());
    const auto token = unescaped(pointer.substr(0, end));
    pointer.remove_prefix(end);
    if (only(token, kDigits)) {
      out += "[" + token + "]";
    } else {
      if (!out.empty()) out += ".";
      out += token;
    }
  }
  return out;
}

Fault Document::fault(std::string_view pointer, std::string message) const {
  // Walk down as far as the document goes, naming what was found by position.
  const Json* at = &json();
  std::string known;  // pointer of `at`
  std::string shown;  // pointer with list entries as indexes, to its end
  auto rest = pointer;
  while (!rest.empty() && rest[0] == '/') {
    rest.remove_prefix(1);
    const auto end = std::min(rest.find('/'), rest.size());
    const std::string token(rest.substr(0, end));
    rest.remove_prefix(end);
    const auto key = unescaped(token);
    std::string step = token;
    const Json* next = nullptr;
    if (at != nullptr && at->is_object()) {
      const auto it = at->find(key);
      if (it != at->end()) next = &*it;
    } else if (at != nullptr && at->is_array()) {
      for (std::size_t i = 0; i < at->size(); ++i) {
        const auto& entry = (*at)[i];
        const auto named = [&](const char* member) {
          return entry.is_object() && entry.contains(member) && entry[member] == key;
        };
        if (key == std::to_string(i) || named("name") || named("id")) {
          next = &entry;
          step = std::to_string(i);
          break;
        }
      }
    }
    shown += "/" + step;
    if (next != nullptr) known = shown;
    at = next;
  }
  // Values put in from other files have no place of their own: use their parent's.
  auto found = positions_.find(known);
  while (found == positions_.end() && !known.empty()) {
    known.resize(known.rfind('/'));
    found = positions_.find(known);
  }
  const auto position = found == positions_.end() ? Position{} : found->second;
  return {file_, position, place_of(shown), std::move(message)};
}

void Document::copy_position(const std::string& from, const std::string& to) {
  if (const auto it = positions_.find(from); it != positions_.end()) {
    positions_.insert_or_assign(to, it->second);
  }
}

Reading read_yaml(std::string_view text, const std::string& file, Documents wanted) {
  Reading out;
  if (text.size() > kMaxManifestBytes) {
    out.faults.push_back(
        {file, {}, "", "is larger than " + std::to_string(kMaxManifestBytes) + " bytes"});
    return out;
  }
  if (text.substr(0, 3) == "\xef\xbb\xbf") text.remove_prefix(3);  // a byte-order mark
  const Source source(text);
  try {
    refuse_bytes(text);
    {
      std::istringstream in{std::string(text)};
      YAML::Parser parser(in);
      SyntaxCheck check(source);
      while (parser.HandleNextDocument(check)) {
      }
    }
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    std::size_t pointer_bytes = 0;
    for (;;) {
      Builder builder(source, pointer_bytes);
      if (!parser.HandleNextDocument(builder)) break;
      auto positions = builder.take_positions();
      sdk::SecretJson json(builder.take_json());
      if (json->is_null()) continue;  // `---` at the end, or a file of comments
      if (wanted == Documents::One && !out.documents.empty()) {
        throw Stop{positions[""], "", "there is a second document here; only one is expected"};
      }
      out.documents.emplace_back(file, std::move(json), std::move(positions));
    }
    if (out.documents.empty()) throw Stop{{}, "", "there is nothing in it"};
  } catch (const Stop& stop) {
    out.documents.clear();
    out.faults.push_back({file, stop.position, place_of(stop.pointer), stop.message});
  } catch (const YAML::Exception& e) {
    out.documents.clear();
    // What yaml-cpp says when its own bound on nesting is reached.
    const auto why = e.msg == "bad file" ? "nested too deeply" : "not valid YAML: " + e.msg;
    out.faults.push_back({file, source.position(e.mark), "", why});
  }
  return out;
}

Reading read_manifests(const std::string& path) {
  const std::string shown = path == "-" ? "(standard input)" : path;
  const auto text = read_file(path, kMaxManifestBytes);
  if (!text.ok()) {
    Reading out;
    out.faults.push_back({shown, {}, "", text.error().detail});
    return out;
  }
  auto out = read_yaml(text.value(), shown, Documents::Many);
  for (auto& document : out.documents) {
    if (!document.json().is_object()) {
      out.faults.push_back(document.fault("", "a manifest must be a map"));
      continue;
    }
    const auto tenant = document.json().find("tenant");
    if (tenant == document.json().end()) {
      out.faults.push_back(document.fault("/tenant", "is required: whose manifest is this?"));
    } else if (!tenant->is_string()) {
      out.faults.push_back(document.fault("/tenant", "must be text; put it in quotes"));
    } else if (auto id = TenantId::parse(tenant->get_ref<const std::string&>()); !id.ok()) {
      out.faults.push_back(document.fault("/tenant", id.error().detail));
    }
    Inliner(document, out.faults).run();
  }
  return out;
}

}  // namespace postern::cli
