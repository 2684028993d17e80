#include "vault/aad.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>

namespace postern::vault {

Aad& Aad::text(std::string_view part) {
  if (part.size() > std::numeric_limits<std::uint32_t>::max()) {
    throw std::logic_error("associated data part too long");
  }
  if (bytes_.capacity() == 0) bytes_.reserve(256);
  const auto size = static_cast<std::uint32_t>(part.size());
  for (const int shift : {24, 16, 8, 0}) {
    bytes_.push_back(static_cast<std::byte>(size >> shift & 0xFF));
  }
  const auto view = as_bytes(part);
  bytes_.insert(bytes_.end(), view.begin(), view.end());
  return *this;
}

Aad& Aad::number(std::uint64_t value) {
  std::array<char, 8> big_endian{};
  for (std::size_t i = big_endian.size(); i-- > 0; value >>= 8) {
    big_endian[i] = static_cast<char>(value & 0xFF);
  }
  return text({big_endian.data(), big_endian.size()});
}

}  // namespace postern::vault
