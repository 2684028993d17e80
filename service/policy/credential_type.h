#pragma once

#include <string>
#include <string_view>

#include "core/result.h"
#include "vault/credential.h"

namespace postern::policy {

/// What a credential is, which says what fields it has: docs/credentials.md has
/// the table. `generic` has any.
bool is_credential_type(std::string_view name);
std::string credential_types();  ///< their names, with commas between them

/// Whether these fields are what a credential of the type has: the required ones,
/// no others, each of its format. Reads values and keeps nothing of them.
/// Errors: MalformedRequest with a pointer to the field, in our words, never with
/// anything of a value; Conflict for a type that this release does not know.
Status check_fields(std::string_view type, const vault::Fields& fields);

}  // namespace postern::policy
