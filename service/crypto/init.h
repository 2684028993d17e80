#pragma once

namespace postern::crypto::detail {

/// Chooses libsodium's fastest code and readies its generator. Called by every
/// function that uses libsodium; after the first time it costs one load.
void ensure_sodium();

}  // namespace postern::crypto::detail
