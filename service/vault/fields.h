#pragma once

#include "core/bytes.h"
#include "core/result.h"
#include "core/secret.h"
#include "vault/credential.h"

namespace postern::vault {

/// The plaintext of a credential, as envelope.h gives it. Every set of fields
/// has one encoding, and every accepted text is one.
SecureBuffer encode_fields(const Fields& fields);

/// Reverses encode_fields(). Errors: Internal for anything it cannot have written.
Result<Fields> decode_fields(ByteView plaintext);

}  // namespace postern::vault
