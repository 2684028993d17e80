// JwkSet::parse: never crashes, never keeps a private key, and every key it
// keeps can be asked to verify.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "token/json.h"
#include "token/jwk.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern;
  using namespace postern::token;
  using enum crypto::Algorithm;
  const JsonLimits limits{.max_bytes = 64 * 1024, .max_depth = 16, .max_values = 2000};
  const auto json = parse_json({reinterpret_cast<const char*>(data), size}, limits);
  if (!json.ok()) return 0;
  const auto skipping = JwkSet::parse(json.value(), JwkSet::WeakKeys::Skip);
  const auto refusing = JwkSet::parse(json.value(), JwkSet::WeakKeys::Refuse);
  if (!skipping.ok()) {
    if (refusing.ok()) std::abort();
    return 0;
  }
  // What is good enough to register is good enough to keep, in full.
  if (refusing.ok() && refusing.value().size() != skipping.value().size()) std::abort();
  for (const auto& jwk : json.value().at("keys")) {
    if (jwk.contains("d") || jwk.contains("k")) std::abort();
  }
  for (const auto algorithm : {RS256, PS256, ES256, ES384, ES512, EdDSA}) {
    for (const auto* jwk : skipping.value().candidates(algorithm, std::nullopt)) {
      const Bytes signature(64, std::byte{1});
      if (jwk->key.verify(algorithm, as_bytes("m"), signature)) std::abort();
    }
  }
  return 0;
}
