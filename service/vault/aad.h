#pragma once

#include <string_view>

#include "core/bytes.h"
#include "core/ids.h"

namespace postern::vault {

/// Builds the associated data that binds a box to its one row: each part with
/// its length as 4 bytes big-endian before it, the format label first, so that
/// no two different rows, and no two kinds of box, have the same bytes.
class Aad {
 public:
  explicit Aad(std::string_view label) { text(label); }
  Aad& text(std::string_view part);
  Aad& number(std::uint64_t value);  ///< 8 bytes big-endian
  Aad& tenant(const TenantId& tenant) { return text(tenant.str()); }
  Aad& owner(const Owner& owner) {
    return text(owner.principal().issuer).text(owner.principal().subject);
  }
  ByteView bytes() const noexcept { return bytes_; }

 private:
  Bytes bytes_;
};

}  // namespace postern::vault
