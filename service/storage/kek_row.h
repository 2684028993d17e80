#pragma once

// Inside of service/storage: the columns that say which shares a key takes.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stdexcept>

#include "storage/session.h"
#include "vault/keyring.h"

namespace postern::storage {

/// From kek.held_check and tenant.seals.
inline std::optional<vault::HeldShareDemand> held_in(const pqxx::field& check,
                                                     const pqxx::field& seals) {
  if (check.is_null()) return std::nullopt;
  const auto stored = bytes(check);
  vault::HeldShareDemand held{{}, number<std::uint64_t>(seals)};
  if (stored.size() != held.check.size()) throw std::logic_error("kek.held_check is 32 bytes");
  std::copy(stored.begin(), stored.end(), held.check.begin());
  return held;
}

/// From a column share_id.
inline std::optional<vault::ShareId> share_in(const pqxx::field& field) {
  if (field.is_null()) return std::nullopt;
  const auto stored = bytes(field);
  vault::ShareId id{};
  if (stored.size() != id.size()) throw std::logic_error("share_id is 32 bytes");
  std::copy(stored.begin(), stored.end(), id.begin());
  return id;
}

/// For a column that is made NULL of no bytes.
inline ByteView bytes_of(const std::optional<vault::ShareId>& share) {
  return share ? ByteView(*share) : ByteView();
}

}  // namespace postern::storage
