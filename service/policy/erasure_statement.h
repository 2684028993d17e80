#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/ids.h"
#include "core/result.h"
#include "token/json.h"
#include "vault/erasure.h"
#include "vault/keyring.h"

/// What the installation says of an erasure, signed: for whoever asks later what became of
/// the data. docs/erasure.md has the members.
namespace postern::policy {

inline constexpr std::string_view kStatementType = "postern-erasure+jwt";

struct Installation {
  std::string base_url;
  std::uint32_t share_backup_days = 0;  ///< how long copies of the share store are kept
};

/// The principal as a statement names it: base64url of SHA-256 over tenant, issuer and
/// subject, each but the last followed by a line feed.
std::string principal_hash(const TenantId& tenant, const Principal& principal);

/// A JWS (EdDSA) of the active root key. Errors: KeyUnavailable.
Result<std::string> sign_statement(const vault::Keyring& keyring, const Installation& installation,
                                   const TenantId& tenant, const vault::Erasure& erasure);

/// The public keys of all root keys that this process has, as a JWK set.
token::Json statement_keys(const vault::Keyring& keyring);

/// The members of a statement that one of these keys signed. Errors: InvalidToken,
/// MalformedRequest (the key set).
Result<token::Json> verify_statement(const token::Json& keys, std::string_view statement);

}  // namespace postern::policy
