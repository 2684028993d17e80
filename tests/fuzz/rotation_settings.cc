// read_rotation_settings: what it accepts is within its bounds, and is the same after it
// was written and read again.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "policy/rotation_settings.h"
#include "token/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto require = [](bool promise) {
    if (!promise) std::abort();
  };
  const auto json = postern::token::parse_json({reinterpret_cast<const char*>(data), size});
  if (!json.ok()) return 0;
  const auto settings = postern::policy::read_rotation_settings(json.value());
  if (!settings.ok()) return 0;
  const auto& is = settings.value();
  require(is.grace.count() >= 0 && (!is.interval || is.grace < *is.interval));
  require(is.announce.count() >= 0 && (!is.interval || is.announce + is.grace < *is.interval));
  require(is.roles.size() <= 2 && is.host.find_first_of(" '\"\\/=,") == is.host.npos);
  require(validate(is.password).ok());
  const auto again = postern::policy::read_rotation_settings(postern::policy::write(is));
  require(again.ok() && again.value() == is);
  return 0;
}
