// A stored URL with user and password: what is rotated reads back as the role and the new
// password, and the rest of the URL is as it was.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "vault/credential_rotation.h"

using namespace postern;

namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

std::string text_of(const FieldValue& value) {
  return value.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string url(reinterpret_cast<const char*>(data), size);
  vault::Fields fields;
  fields.insert_or_assign("url", FieldValue(SecureBuffer::copy_of(std::string_view(url))));
  const auto before = vault::log_in_of(fields, "url");
  vault::RotationSettings settings;
  settings.kind = vault::RotationKind::Password;
  settings.field = "url";
  settings.password.alphabet = "aB9%:@/?#[]+&=";
  for (const std::string role : {"", "app:a/%41@b"}) {
    const auto made = vault::generate_fields(settings, fields, role, "");
    require(made.ok() == before.ok());
    if (!made.ok()) continue;
    const auto after = vault::log_in_of(made.value().fields, "url");
    require(after.ok() && after.value().user == (role.empty() ? before.value().user : role));
    const auto password = as_text(after.value().password.readable());
    require(password.size() == settings.password.length);
    require(password.find_first_not_of(settings.password.alphabet) == password.npos);
    const auto now = text_of(made.value().fields.at("url"));
    const auto scheme = url.find("://") + 3;
    require(now.substr(0, scheme) == url.substr(0, scheme));
    require(now.ends_with(url.substr(url.find('@', scheme))));
  }
  return 0;
}
