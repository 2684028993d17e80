#pragma once

#include <string>

#include "core/result.h"
#include "token/json.h"
#include "vault/credential_rotation.h"

namespace postern::policy {

/// How a credential is rotated, from JSON: docs/rotation.md has the members. Refuses unknown
/// ones, and those that another kind has.
/// Errors: MalformedRequest with a pointer to the member.
Result<vault::RotationSettings> read_rotation_settings(const token::Json& value,
                                                       const std::string& pointer = "");
token::Json write(const vault::RotationSettings& settings);  ///< what is not the default

}  // namespace postern::policy
