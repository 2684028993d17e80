// The content of a stored private key: the first byte chooses the algorithm, the rest is
// what was unwrapped. What is read is exported as the same key again, and signs.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>

#include "crypto/signature.h"

using namespace postern;

namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

constexpr std::array kAlgorithms{crypto::Algorithm::ES256, crypto::Algorithm::EdDSA,
                                 crypto::Algorithm::RS256};
constexpr std::size_t kSeedBytes = 32;

PrivateKey private_key(ByteView bytes) { return PrivateKey(SecureBuffer::copy_of(bytes)); }

std::string exported(const crypto::SigningKey& key) {
  return key.export_private().expose([](ByteView bytes) { return std::string(as_text(bytes)); });
}

auto members(const crypto::PublicParameters& of) {
  return std::tie(of.kty, of.crv, of.n, of.e, of.x, of.y);
}

/// Nothing when it does not sign: of an RSA key OpenSSL reads any numbers, and sees what
/// they are only when they are used.
std::optional<Bytes> signature_by(const crypto::SigningKey& key, ByteView message) {
  try {
    return key.sign(message);
  } catch (const std::runtime_error&) {
    require(key.algorithm() == crypto::Algorithm::RS256);
    return std::nullopt;
  }
}

/// Of a seed the public half is derived; the others have both halves, which need not be a pair.
void check_signature(const crypto::SigningKey& key) {
  const auto message = as_bytes("message");
  const auto signature = signature_by(key, message);
  if (!signature) return;
  const auto verifies = [&](ByteView of) {
    return key.public_key().verify(key.algorithm(), of, *signature);
  };
  if (key.algorithm() == crypto::Algorithm::EdDSA) require(verifies(message));
  require(!verifies(as_bytes("another")));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView content(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  const auto algorithm = kAlgorithms[data[0] % kAlgorithms.size()];
  const auto key = crypto::SigningKey::import_private(algorithm, private_key(content));
  if (algorithm == crypto::Algorithm::EdDSA) require(key.ok() == (content.size() == kSeedBytes));
  if (!key.ok()) {
    require(key.error().code == ErrorCode::Internal && key.error().detail.empty());
    return 0;
  }
  require(key.value().algorithm() == algorithm);
  const auto text = exported(key.value());
  const auto again = crypto::SigningKey::import_private(algorithm, private_key(as_bytes(text)));
  require(again.ok() && exported(again.value()) == text);
  const auto is = key.value().public_parameters(), was = again.value().public_parameters();
  require(members(is) == members(was));
  check_signature(key.value());
  return 0;
}
