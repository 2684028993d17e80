#pragma once

#include <string>
#include <vector>

namespace postern::storage {

/// One file of migrations/, as compiled in.
struct Migration {
  std::string name;  ///< "0001_tenants"; the digits are its number
  std::string sql;
};

/// In the order of their numbers, which have no gaps.
const std::vector<Migration>& embedded_migrations();
/// Of the share store, likewise.
const std::vector<Migration>& embedded_share_migrations();

}  // namespace postern::storage
