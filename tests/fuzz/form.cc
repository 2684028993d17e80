// Form::parse: whatever it accepts keeps its promises.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "http/ascii.h"
#include "http/basic_auth.h"
#include "http/form.h"

using postern::http::Form;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto form = Form::parse(text);
  if (form.ok()) {
    static constexpr std::string_view kNames[] = {
        "grant_type", "subject_token", "audience", "resource", "scope", "a", ""};
    for (const auto name : kNames) {
      const auto values = form.value().all(name);
      for (const auto value : values) {
        if (value.empty() || value.find('\0') != value.npos || !postern::http::is_utf8(value)) {
          std::abort();
        }
      }
      if (form.value().required_single(name).ok() != (values.size() == 1)) std::abort();
    }
  }
  (void)postern::http::basic_credentials(text).ok();
  (void)postern::http::bearer_token(text).ok();
  return 0;
}
