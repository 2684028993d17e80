#pragma once

// Inside of service/storage: the columns of a KEK that say which share it demands.

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

}  // namespace postern::storage
