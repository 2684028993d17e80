#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/ids.h"
#include "core/result.h"

/// Paths of the Vault subset, and the names of the credentials behind them.
///
/// A name has no slash, so a folder is two dots in it: `team/github` is
/// `team..github`. A segment is made of letters, digits, `.`, `_` and `-`; the
/// first begins with a letter or digit; none begins or ends with a dot or has two
/// in a row. So no two paths have one name, and what a path has besides these
/// characters leads nowhere.
namespace postern::http {

/// @param path  percent-decoded, without mount and `data/`: `team/github`.
/// Errors: MalformedRequest for a path that no credential can have.
Result<CredentialName> credential_of_path(std::string_view path);

/// The reverse; nothing for a credential whose name no path has.
std::optional<std::string> path_of_credential(const CredentialName& name);

/// A folder, with or without a slash at the end, as it begins the paths in it;
/// empty for the top. Errors: MalformedRequest as credential_of_path.
Result<std::string> folder_of_path(std::string_view path);

}  // namespace postern::http
