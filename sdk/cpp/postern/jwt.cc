#include "postern/jwt.h"

#include <array>
#include <cstdint>
#include <optional>

#include "postern/json.h"

namespace postern::sdk {
namespace {

std::optional<std::string> decode_base64url(std::string_view text) {
  static constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string out;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const auto digit = kAlphabet.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(digit);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out.push_back(static_cast<char>(bits >> count & 0xff));
    }
  }
  if (count == 6) return std::nullopt;  // one digit too many to be whole bytes
  return out;
}

Result<std::string> readable_part(std::string_view part, const std::string& name) {
  const auto text = decode_base64url(part);
  if (!text) return fail(ErrorKind::Usage, "the " + name + " of the token is not base64url");
  auto json = parse_json(*text);
  if (!json.ok()) {
    return fail(ErrorKind::Usage, "the " + name + " of the token " + json.error().detail);
  }
  const Json& object = *json.value();
  if (!object.is_object()) {
    return fail(ErrorKind::Usage, "the " + name + " of the token is not a JSON object");
  }
  return object.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

Result<UnverifiedJwt> decode_unverified(std::string_view token) {
  const auto first = token.find('.');
  const auto second = first == token.npos ? token.npos : token.find('.', first + 1);
  if (second == token.npos || token.find('.', second + 1) != token.npos) {
    return fail(ErrorKind::Usage,
                "this is not a JWT: it does not have three parts with dots between them");
  }
  POSTERN_TRY(auto header, readable_part(token.substr(0, first), "header"));
  POSTERN_TRY(auto claims, readable_part(token.substr(first + 1, second - first - 1), "payload"));
  return UnverifiedJwt{std::move(header), std::move(claims)};
}

}  // namespace postern::sdk
