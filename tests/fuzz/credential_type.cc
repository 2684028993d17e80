// check_fields: each format of each type reads any bytes; what it says of them is
// in our words, and the same each time.
//
// Input: one byte that picks the field, then its value.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "policy/credential_type.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern;
  constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kFields{{
      {"api_key", "api_key"},
      {"basic", "username"},
      {"oauth", "token_endpoint"},
      {"pem_key", "private_key"},
      {"ssh_key", "private_key"},
      {"kubeconfig", "kubeconfig"},
      {"service_account", "service_account_json"},
      {"database_url", "url"},
  }};
  if (size < 2) return 0;
  const auto& [type, name] = kFields[data[0] % kFields.size()];
  const std::string_view value(reinterpret_cast<const char*>(data + 1), size - 1);
  vault::Fields fields;
  fields.emplace(std::string(name), FieldValue(SecureBuffer::copy_of(value)));
  const auto status = policy::check_fields(type, fields);
  if (status.ok() != policy::check_fields(type, fields).ok()) std::abort();
  if (status.ok()) return 0;
  const auto& error = status.error();
  if (error.code != ErrorCode::MalformedRequest || !error.pointer.starts_with("/fields")) {
    std::abort();
  }
  // Longer than any word of ours, so a value that is in it was copied.
  if (value.size() > 100 && error.detail.find(value) != std::string::npos) std::abort();
  return 0;
}
