// Template::parse: what it accepts has field names only, and says what its source says.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "policy/config.h"

using postern::policy::Permission;
using postern::policy::Template;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto require = [](bool promise) {
    if (!promise) std::abort();
  };
  if (const auto made = Template::parse(text); made.ok()) {
    std::string rebuilt;
    bool literal_before = false;
    for (const auto& part : made.value().parts()) {
      require(!part.text.empty() && part.text.find('\0') == part.text.npos);
      if (part.is_field) {
        require(part.text.find_first_of("{}/. ") == part.text.npos);
        rebuilt += "{" + part.text + "}";
      } else {
        require(!literal_before);  // neighbours are one part
        for (const char c : part.text)
          rebuilt += c == '{' || c == '}' ? std::string(2, c) : std::string(1, c);
      }
      literal_before = !part.is_field;
    }
    require(rebuilt == text && made.value().source() == text);
  }
  if (const auto permission = Permission::parse(text); permission.ok()) {
    require(permission.value().backend + ":" + permission.value().scope == text);
  }
  return 0;
}
