#pragma once

// Inside of service/storage: what the rows of credentials and their versions say.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "storage/kek_row.h"
#include "storage/session.h"
#include "vault/credential.h"

namespace postern::storage {

inline Owner owner_of(std::string issuer, std::string subject) {
  if (issuer.empty() && subject.empty()) return Owner::tenant();
  return Owner::principal({std::move(issuer), std::move(subject)});
}

/// Field names are [A-Za-z_][A-Za-z0-9_]*, so a comma separates them.
inline std::vector<std::string> names_in(const pqxx::field& field) {
  const auto names = text(field);
  std::vector<std::string> out;
  for (std::size_t begin = 0; begin <= names.size();) {
    const auto end = std::min(names.find(',', begin), names.size());
    out.push_back(names.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

/// As names_in() reads it.
inline std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) {
    if (name.find(',') != std::string::npos) throw std::logic_error("a comma in a field name");
    out += (out.empty() ? "" : ",") + name;
  }
  return out;
}

/// From columns version, kek_version, wrapped_dek, sealed, field names joined by commas,
/// created_at and expires_at in seconds, share_id.
inline vault::SealedVersion sealed_in(const pqxx::row& row) {
  return {number<std::uint32_t>(row[0]),
          KekVersion{number<std::uint32_t>(row[1])},
          bytes(row[2]),
          bytes(row[3]),
          names_in(row[4]),
          instant(row[5]),
          optional_instant(row[6]),
          share_in(row[7])};
}

}  // namespace postern::storage
