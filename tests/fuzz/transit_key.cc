// The content of a version of a transit key: the first byte chooses the type, the rest is
// what is unwrapped. A version opens as a whole or not at all; what it makes it reads.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>

#include "support/in_memory_audit_log.h"
#include "support/in_memory_kek_store.h"
#include "support/in_memory_transit_store.h"
#include "vault/transit.h"

using namespace postern;
using vault::TransitType;

namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

constexpr std::array kTypes{TransitType::Aes256Gcm96, TransitType::ChaCha20Poly1305,
                            TransitType::Ed25519, TransitType::EcdsaP256};
/// Of every type but P-256: format, HMAC key, key.
constexpr std::size_t kContentBytes = 1 + 32 + 32;

struct World {
  /// A key of one version with this content, sealed as the service does it.
  vault::OpenTransitKey key(TransitType type, ByteView content) {
    vault::TransitStore::Found found;
    found.key.name = vault::TransitName("orders");
    found.key.id = "id";
    found.key.type = type;
    found.latest.version = 1;
    found.latest.wrapped =
        keys.keyring
            .wrap_private(acme, vault::kTransitKey,
                          vault::transit_box_id("orders", vault::to_string(type), "id", 1),
                          PrivateKey(SecureBuffer::copy_of(content)))
            .value();
    return {keys.keyring, store, acme, std::move(found)};
  }

  const TenantId acme{"acme"};
  test::TestKeyring keys{"acme"};
  test::InMemoryAuditLog log{keys.keyring};
  test::InMemoryTransitStore store{log};
};

/// Whether it encrypts; then it decrypts that, and nothing else.
bool encrypts(vault::OpenTransitKey& key, ByteView plaintext) {
  const auto made = key.encrypt(plaintext, {}, {});
  if (!made.ok()) return false;
  const auto read = key.decrypt(made.value(), {}, {});
  require(read.ok() && read.value().expose(
                           [&](ByteView bytes) { return as_text(bytes) == as_text(plaintext); }));
  auto other = made.value();
  other.bytes.back() ^= std::byte{1};
  require(!key.decrypt(other, {}, {}).ok());
  return true;
}

/// Whether it signs; then it verifies that, and nothing else. What is stored of a P-256 key
/// has both halves, which need not be a pair.
bool signs(vault::OpenTransitKey& key, ByteView input) {
  bool any = false;
  for (const auto marshaling : {vault::Marshaling::Asn1, vault::Marshaling::Jws}) {
    const auto made = key.sign(input, marshaling);
    if (!made.ok()) continue;
    any = true;
    const auto genuine = key.verify(input, made.value(), marshaling);
    const auto other = key.verify(as_bytes("another"), made.value(), marshaling);
    require(genuine.ok() && other.ok() && !other.value());
    require(genuine.value() || key.key().type == TransitType::EcdsaP256);
  }
  return any;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World world;
  if (size == 0) return 0;
  const ByteView content(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  const auto type = kTypes[data[0] % kTypes.size()];
  auto key = world.key(type, content);
  const auto input = as_bytes("input");
  const auto mac = key.hmac(input, crypto::HashFunction::Sha256);
  const bool opens = mac.ok();
  require(opens == (vault::encrypts(type) ? encrypts(key, input) : signs(key, input)));
  if (type != TransitType::EcdsaP256) {
    const bool whole = content.size() == kContentBytes && content[0] == std::byte{1};
    require(opens == whole);
  }
  if (!opens) {
    require(mac.error().code == ErrorCode::Internal);
    return 0;
  }
  const auto verified = key.verify_hmac(input, mac.value(), crypto::HashFunction::Sha256);
  require(verified.ok() && verified.value());
  return 0;
}
