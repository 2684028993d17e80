// Ciphertexts, signatures and MACs of transit as clients send them: what is taken has
// one spelling, and nothing opens that was not made here.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "support/in_memory_audit_log.h"
#include "support/in_memory_kek_store.h"
#include "support/in_memory_transit_store.h"
#include "vault/transit.h"

using namespace postern;

namespace {

/// Two keys with a version each, which are used for nothing.
struct World {
  World() {
    for (const auto type : {vault::TransitType::Aes256Gcm96, vault::TransitType::EcdsaP256}) {
      vault::TransitKey key;
      key.name = vault::TransitName(std::string(vault::to_string(type)));
      key.type = type;
      if (!transit.create(acme, key, {acme, {}, "x", {}, "r", {}}).ok()) std::abort();
    }
  }
  vault::OpenTransitKey open(vault::TransitType type) {
    return transit.open(acme, vault::TransitName(std::string(vault::to_string(type)))).value();
  }

  const TenantId acme{"acme"};
  test::TestKeyring keys{"acme"};
  SystemClock clock;
  test::InMemoryAuditLog log{keys.keyring};
  test::InMemoryTransitStore store{log};
  vault::Transit transit{keys.keyring, store, clock};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World world;
  static auto cipher = world.open(vault::TransitType::Aes256Gcm96);
  static auto signer = world.open(vault::TransitType::EcdsaP256);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto require = [](bool promise) {
    if (!promise) std::abort();
  };
  const auto read = vault::TransitText::parse(text);
  if (read.ok()) require(read.value().str() == text);
  const auto bytes = as_bytes(text);
  for (const auto& each : {read.ok() ? read.value() : vault::TransitText{},
                           vault::TransitText{1, Bytes(bytes.begin(), bytes.end())}}) {
    require(!cipher.decrypt(each, {}, {}).ok());
    for (const auto marshaling : {vault::Marshaling::Asn1, vault::Marshaling::Jws}) {
      const auto valid = signer.verify(as_bytes("x"), each, marshaling);
      require(!valid.ok() || !valid.value());
    }
    const auto mac = signer.verify_hmac(as_bytes("x"), each, crypto::HashFunction::Sha256);
    require(!mac.ok() || !mac.value());
  }
  return 0;
}
