// Statements of an erasure: of texts, none verifies but those that this installation signed;
// and of what it would sign, whatever is in it, the same members are read, from a statement
// and from no other kind of token.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>

#include "crypto/signature.h"
#include "policy/erasure_statement.h"
#include "support/in_memory_kek_store.h"
#include "token/json.h"
#include "token/jwk.h"
#include "token/jws.h"
#include "vault/erasure.h"

using namespace postern;

namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

struct World {
  World() {
    const std::chrono::seconds asked(1'790'000'000);
    vault::Erasure erasure;
    erasure.id = "first";
    erasure.asked_at = sys_seconds(asked);
    erasure.done_at = sys_seconds(asked + std::chrono::seconds(7));
    erasure.shares = 4;
    add(erasure);
    erasure.principal = Principal{"https://idp.example", "alice"};
    erasure.covered_since = erasure.asked_at;
    add(erasure);
  }
  void add(const vault::Erasure& erasure) {
    const auto made = policy::sign_statement(keyring, {"https://sts.example", 7}, acme, erasure);
    statements.insert(made.value());
  }

  const TenantId acme{"acme"};
  test::InMemoryKekStore store;
  vault::Keyring keyring{
      vault::RootKeys::parse(
          "postern-root-key-v1:fc44247f4ccb290b:6tNNjHLR5pHpdjvJXas54nu2kUMwlnDT4YtzqhFiahE")
          .value(),
      store};
  const token::Json keys = policy::statement_keys(keyring);
  const crypto::SigningKey key =
      crypto::SigningKey::import_private(crypto::Algorithm::EdDSA, keyring.statement_keys().front())
          .value();
  const std::string kid = token::public_jwk(key).at("kid");
  std::set<std::string, std::less<>> statements;  ///< the same at each start: EdDSA
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const World world;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  require(policy::verify_statement(world.keys, text).ok() == world.statements.contains(text));

  const auto claims = token::parse_json(text);
  if (!claims.ok() || !claims.value().is_object()) return 0;
  const auto sign = [&](std::string_view type) {
    return token::sign_jwt(world.key, world.kid, type, claims.value());
  };
  const auto read = policy::verify_statement(world.keys, sign(policy::kStatementType));
  require(!read.ok() || read.value() == claims.value());
  require(!policy::verify_statement(world.keys, sign("JWT")).ok());
  return 0;
}
