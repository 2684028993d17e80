#pragma once

#include "core/bytes.h"
#include "crypto/data_key.h"

namespace postern::crypto {

enum class HashFunction { Sha256, Sha384, Sha512 };

/// HMAC (RFC 2104), as long as the hash.
Bytes hmac(HashFunction hash, const DataKey& key, ByteView message);

/// 32 bytes by HKDF with SHA-256 (RFC 5869), without salt.
DataKey hkdf_sha256(const DataKey& key, ByteView info);

}  // namespace postern::crypto
