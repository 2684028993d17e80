#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>
#include <sstream>
#include <string>

#include "token/json.h"

namespace postern::test {

using Names = std::set<std::string>;

inline Names words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

/// How many are in a token's chain of actors.
inline std::size_t actors_of(const token::Json& claims) {
  std::size_t count = 0;
  for (const auto* node = &claims; node->contains("act"); node = &node->at("act")) ++count;
  return count;
}

/// What an answer to a request for a token lets somebody do.
struct Privilege {
  std::string subject, client, audience;
  Names scope;
  std::int64_t expires_at = 0;
  std::size_t actors = 0;
  std::string jkt;      ///< the DPoP key it is bound to
  token::Json tools;    ///< its authorization details; null: it has none
  bool stored = false;  ///< a stored credential, which says none of this but its scope
};

inline Privilege privilege_of(const token::Json& claims) {
  return {claims.at("sub"),
          claims.at("client_id"),
          claims.at("aud"),
          words(claims.value("scope", "")),
          claims.at("exp"),
          actors_of(claims),
          claims.value("cnf", token::Json::object()).value("jkt", ""),
          claims.value("authorization_details", token::Json())};
}

}  // namespace postern::test
