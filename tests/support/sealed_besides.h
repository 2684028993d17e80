#pragma once

#include <chrono>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "core/clock.h"
#include "core/ids.h"
#include "crypto/hash.h"
#include "crypto/signature.h"
#include "policy/signing_keys.h"
#include "storage/postgres_transit_store.h"
#include "storage/postgres_wrapping_store.h"
#include "support/postgres_stores.h"
#include "vault/transit.h"
#include "vault/wrapping.h"

namespace postern::test {

/// What a tenant has sealed besides credentials: a key that signs tokens, a transit key,
/// and an answer that waits wrapped.
class SealedBesides {
 public:
  /// As the service makes them.
  SealedBesides(StoreSet& stores, TenantId tenant) : tenant_(std::move(tenant)) {
    policy::ConfigChange change;
    change.add_signing_keys.push_back(made(
        policy::make_signing_key(stores.keyring, tenant_, crypto::Algorithm::ES256, clock_.now())));
    arrange(stores.config.apply(tenant_, change, {}));

    storage::PostgresTransitStore keys(stores.database, stores.log);
    vault::Transit transit(stores.keyring, keys, clock_);
    vault::TransitKey key;
    key.name = kKey;
    arrange(transit.create(tenant_, key, record()));
    auto opened = made(transit.open(tenant_, kKey));
    ciphertext_ = made(opened.encrypt(as_bytes(kText), {}, {}));

    storage::PostgresWrappingStore answers(stores.database, stores.log);
    auto event = record();
    const auto wrapped =
        made(vault::Wrapping(stores.keyring, answers, clock_)
                 .wrap(tenant_, Owner::tenant(), "maker", "sys/wrapping/wrap",
                       std::chrono::hours(1), Plaintext(SecureBuffer::copy_of(kText)), event));
    token_hash_ = wrapped.answer.token_hash;
  }

  static std::set<std::string> all() { return {"signing key", "transit key", "wrapped answer"}; }

  /// What of it opens over these stores, which may be those of a copy.
  std::set<std::string> opened(StoreSet& stores) const {
    std::set<std::string> out;
    const auto stored = made(stores.config.load(tenant_));
    for (const auto& key : stored.signing_keys) {
      const auto secret =
          stores.keyring.unwrap_private(tenant_, vault::kTokenSigning, key.kid, key.wrapped);
      if (secret.ok()) out.insert("signing key");
    }
    if (stored.signing_keys.empty()) throw std::logic_error("no signing key to try");

    storage::PostgresTransitStore keys(stores.database, stores.log);
    auto key = made(vault::Transit(stores.keyring, keys, clock_).open(tenant_, kKey));
    if (is_text(key.decrypt(ciphertext_, {}, {}))) out.insert("transit key");

    storage::PostgresWrappingStore answers(stores.database, stores.log);
    const auto answer = made(answers.find(tenant_, token_hash_, clock_.now()));
    if (is_text(stores.keyring.unwrap_private(tenant_, answer.owner, vault::kWrappedAnswer,
                                              vault::box_id(answer), answer.sealed))) {
      out.insert("wrapped answer");
    }
    return out;
  }

 private:
  template <class R>
  static void arrange(const R& result) {
    if (result.ok()) return;
    throw std::runtime_error(result.error().detail + " " + result.error().diagnostic);
  }
  template <class T>
  static T made(Result<T> result) {
    arrange(result);
    return std::move(result).value();
  }
  template <class R>
  static bool is_text(const R& result) {
    return result.ok() &&
           result.value().expose([](ByteView bytes) { return as_text(bytes) == kText; });
  }
  audit::Event record() const {
    return {tenant_, clock_.now(), "test", audit::Outcome::Allowed, "", {}};
  }

  static constexpr std::string_view kText = "a text of nobody's";
  inline static const vault::TransitName kKey{"orders"};

  SystemClock clock_;
  TenantId tenant_;
  vault::TransitText ciphertext_;
  crypto::Hash256 token_hash_{};
};

}  // namespace postern::test
