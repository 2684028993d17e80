#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "core/secret.h"
#include "postern/client.h"

/// What commands about credentials are given: values, and whose they are.
namespace postern::cli {

/// Asks for a value without showing it, or reads standard input. Errors: Usage.
sdk::Result<SecureBuffer> typed_value(const std::string& field);

/// The fields that --from-file, --from-env and --field name. Errors: Usage, also for none.
sdk::Result<std::vector<sdk::CredentialField>> read_fields(const CredentialOptions& options);

/// @param option  what is said to be wrong. Errors: Usage.
sdk::Result<std::uint64_t> whole_number(const std::string& text, const char* option);
/// The version that must be the latest one, by --only-version. Errors: Usage.
sdk::Result<std::optional<std::uint64_t>> only_version(const CredentialOptions& options);

/// Whose credential it is, and a client that may reach it.
struct CredentialAccess {
  sdk::CredentialOwner owner;
  sdk::Client client;
};
/// Errors: Usage, unless exactly one of --tenant-owned, --as-user and --issuer with --subject is
/// there.
sdk::Result<CredentialAccess> credential_access(const Settings& settings,
                                                const CredentialOptions& options);

}  // namespace postern::cli
