#pragma once

#include <cstddef>
#include <string>

#include "core/bytes.h"
#include "core/result.h"

namespace postern::crypto {

/// An ECDSA signature of JWS (R || S, halves of one length) as ASN.1 DER.
Bytes ecdsa_to_der(ByteView raw);

/// The reverse, of DER alone: every other encoding of the same numbers is refused.
/// Errors: MalformedRequest.
Result<Bytes> ecdsa_from_der(ByteView der, std::size_t field_bytes);

/// SubjectPublicKeyInfo of a P-256 key as PEM. @param x, y  32 bytes each.
std::string p256_pem(ByteView x, ByteView y);

}  // namespace postern::crypto
