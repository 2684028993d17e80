#include "token/json.h"

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/secret.h"

namespace postern::token {
namespace {

/// Builds the value while parsing, so that a bound or a duplicate name stops the
/// work where it is found and nothing is ever nested deeper than allowed.
class StrictBuilder final : public nlohmann::json_sax<Json> {
 public:
  explicit StrictBuilder(const JsonLimits& limits) : limits_(limits) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override {
    if (!without_nul(value)) return false;
    return add(std::move(value));
  }
  bool binary(binary_t&) override { return refuse("a JSON text has no binary values"); }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (!without_nul(name)) return false;
    auto& object = open_.back()->get_ref<Json::object_t&>();
    const auto [member, added] = object.try_emplace(std::move(name));
    if (!added) return refuse("a JSON object repeats a member name");
    member_ = &member->second;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const Json::exception&) override {
    return refuse("malformed JSON");
  }

  Json&& value() && { return std::move(value_); }
  Error&& error() && { return std::move(error_); }

 private:
  /// Puts a value where the text has it; null when one too many.
  Json* place(Json&& value) {
    if (++values_ > limits_.max_values) {
      too_large("the JSON has too many values");
      return nullptr;
    }
    if (open_.empty()) return &(value_ = std::move(value));
    if (member_ != nullptr) return &(*std::exchange(member_, nullptr) = std::move(value));
    return &open_.back()->get_ref<Json::array_t&>().emplace_back(std::move(value));
  }
  bool add(Json value) { return place(std::move(value)) != nullptr; }
  bool open(Json&& value) {
    if (open_.size() >= limits_.max_depth) return too_large("the JSON is nested too deeply");
    auto* const placed = place(std::move(value));
    if (placed == nullptr) return false;
    open_.push_back(placed);
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  // libpq would cut the text there; no claim or name needs one.
  bool without_nul(const std::string& text) {
    return text.find('\0') == std::string::npos || refuse("a JSON string holds a NUL");
  }
  bool refuse(const char* detail) {
    error_ = fail(ErrorCode::MalformedRequest, detail);
    return false;
  }
  bool too_large(const char* detail) {
    error_ = fail(ErrorCode::TooLarge, detail);
    return false;
  }

  const JsonLimits& limits_;
  std::size_t values_ = 0;
  Json value_;
  Json* member_ = nullptr;   ///< where the value of the name just read goes
  std::vector<Json*> open_;  ///< stable: a container does not grow while a child is open
  Error error_ = fail(ErrorCode::MalformedRequest, "malformed JSON");
};

}  // namespace

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) return fail(ErrorCode::TooLarge, "the JSON is too large");
  // nlohmann/json takes a NUL for the end of the text, and skips a byte-order mark.
  if (text.find('\0') != std::string_view::npos || text.substr(0, 3) == "\xef\xbb\xbf") {
    return fail(ErrorCode::MalformedRequest, "malformed JSON");
  }
  StrictBuilder builder(limits);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return std::move(builder).error();
  return std::move(builder).value();
}

std::string dump_json(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void wipe_texts(Json& value) {
  if (value.is_string()) {
    wipe(value.get_ref<std::string&>());
  } else if (value.is_structured()) {
    for (auto& child : value) wipe_texts(child);
  }
}

std::optional<std::chrono::sys_seconds> numeric_date(const Json& value) {
  constexpr std::int64_t kMax = std::int64_t{1} << 53;
  std::int64_t seconds = 0;
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(kMax)) return std::nullopt;
    seconds = static_cast<std::int64_t>(number);
  } else if (value.is_number_integer()) {
    seconds = value.get<std::int64_t>();
  } else if (value.is_number_float()) {
    const auto number = value.get<double>();
    if (!(number >= 0 && number <= static_cast<double>(kMax))) return std::nullopt;  // also NaN
    seconds = static_cast<std::int64_t>(std::floor(number));
  } else {
    return std::nullopt;
  }
  if (seconds < 0 || seconds > kMax) return std::nullopt;
  return std::chrono::sys_seconds(std::chrono::seconds(seconds));
}

}  // namespace postern::token
