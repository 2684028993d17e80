#include "postern/json.h"

#include <ostream>
#include <set>
#include <streambuf>
#include <string>
#include <vector>

namespace postern::sdk {
namespace {

class WipedBuffer final : public std::streambuf {
 public:
  SecretBytes take() { return std::move(bytes_); }

 protected:
  int_type overflow(int_type c) override {
    if (!traits_type::eq_int_type(c, traits_type::eof())) bytes_.push_back(static_cast<char>(c));
    return traits_type::not_eof(c);
  }
  std::streamsize xsputn(const char* text, std::streamsize count) override {
    append(bytes_, {text, static_cast<std::size_t>(count)});
    return count;
  }

 private:
  SecretBytes bytes_;
};

struct Refusal {
  const char* reason;
};

}  // namespace

void wipe_strings(Json& value) noexcept {
  if (auto* text = value.get_ptr<std::string*>()) {
    wipe(*text);
  } else if (value.is_structured()) {
    for (auto& element : value) wipe_strings(element);
  }
}

Result<SecretJson> parse_json(std::string_view text, int max_depth) {
  // One set of member names for every object that is open.
  std::vector<std::set<std::string>> names;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        if (depth >= max_depth) throw Refusal{"it is nested too deeply"};
        if (event == Json::parse_event_t::object_start) names.emplace_back();
        break;
      case Json::parse_event_t::object_end: names.pop_back(); break;
      case Json::parse_event_t::key:
        if (!names.back().insert(parsed.get_ref<const std::string&>()).second) {
          throw Refusal{"it names one member twice"};
        }
        break;
      case Json::parse_event_t::array_end:
      case Json::parse_event_t::value: break;
    }
    return true;
  };
  try {
    // nlohmann/json ignores a NUL and what follows it at the end of the text.
    if (text.find('\0') != std::string_view::npos) throw Refusal{"it holds a NUL byte"};
    return SecretJson(Json::parse(text.begin(), text.end(), watch));
  } catch (const Refusal& refusal) {
    return fail(ErrorKind::BrokenAnswer, std::string("is not acceptable JSON: ") + refusal.reason);
  } catch (const Json::exception& e) {
    // The text of a parse_error quotes what it read, which may be a secret.
    const auto* parse_error = dynamic_cast<const Json::parse_error*>(&e);
    const auto where =
        parse_error == nullptr ? "" : " at byte " + std::to_string(parse_error->byte);
    return fail(ErrorKind::BrokenAnswer, "is not valid JSON" + where);
  }
}

SecretBytes dump_secret(const Json& value) {
  WipedBuffer buffer;
  std::ostream out(&buffer);
  // Json::dump() would build a string that grows, and leaves copies behind.
  nlohmann::detail::serializer<Json> serializer(nlohmann::detail::output_adapter<char>(out), ' ',
                                                nlohmann::detail::error_handler_t::replace);
  serializer.dump(value, false, false, 0);
  return buffer.take();
}

}  // namespace postern::sdk
