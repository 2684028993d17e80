#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "core/secret.h"

namespace postern::crypto {

using Hash256 = std::array<std::byte, 32>;

Hash256 sha256(ByteView bytes);

/// SHA-256 over the parts, each preceded by its length as 8 bytes big-endian,
/// so that ("ab","c") and ("a","bc") differ.
Hash256 sha256_parts(std::initializer_list<ByteView> parts);

/// BLAKE2b-256 keyed with 32 bytes, over the parts as above.
Hash256 keyed_hash(const DerivedKey& key, std::initializer_list<ByteView> parts);
Hash256 keyed_hash(const HeldShare& key, std::initializer_list<ByteView> parts);

/// The key that takes both: BLAKE2b-256 keyed with the KEK, over the parts as above,
/// of which one is the other secret. The first names the purpose.
Kek combine(const Kek& key, std::initializer_list<ByteView> parts);

/// Constant time in the content; false at once when lengths differ.
bool equal(ByteView a, ByteView b) noexcept;
inline bool equal(std::string_view a, std::string_view b) noexcept {
  return equal(as_bytes(a), as_bytes(b));
}

/// A 32-byte subkey of a KEK or root key. `label` names the purpose, 1 to 8 bytes.
DerivedKey derive(const Kek& key, std::string_view label, std::uint64_t id = 1);
DerivedKey derive(const RootKey& key, std::string_view label, std::uint64_t id = 1);

}  // namespace postern::crypto
