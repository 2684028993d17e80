#include "policy/signing_keys.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "policy/snapshot.h"
#include "token/json.h"
#include "token/jwk.h"

namespace postern::policy {
namespace {

/// Far below the 100 that a key set may hold, for all algorithms together.
constexpr std::size_t kMostKeys = 10;

}  // namespace

Result<StoredSigningKey> make_signing_key(vault::Keyring& keyring, const TenantId& tenant,
                                          crypto::Algorithm algorithm, sys_seconds now,
                                          const vault::WrappedKek* under) {
  const auto key = crypto::SigningKey::generate(algorithm);
  const auto jwk = token::public_jwk(key);
  const auto kid = jwk.at("kid").get<std::string>();
  const auto secret = key.export_private();
  auto wrapped = under != nullptr
                     ? keyring.wrap_private_under(*under, tenant, vault::kTokenSigning, kid, secret)
                     : keyring.wrap_private(tenant, vault::kTokenSigning, kid, secret);
  POSTERN_CHECK(wrapped);
  return StoredSigningKey{kid,
                          std::string(crypto::to_string(algorithm)),
                          token::dump_json(jwk),
                          SigningKeyState::Active,
                          std::move(wrapped).value(),
                          now,
                          std::nullopt,
                          std::nullopt};
}

Result<ConfigChange> rotate_signing_keys(vault::Keyring& keyring, const StoredTenant& stored,
                                         const std::vector<crypto::Algorithm>& algorithms,
                                         std::chrono::seconds publish_for, sys_seconds now) {
  const auto keys = published_keys(stored.signing_keys, now);
  ConfigChange change;
  change.expected_epoch = stored.row.epoch;
  for (const auto& key : stored.signing_keys) {
    const bool published = std::any_of(keys.begin(), keys.end(),
                                       [&](const auto& other) { return other.kid == key.kid; });
    if (!published) change.remove_signing_keys.push_back(key.kid);
  }
  for (const auto algorithm : algorithms) {
    const auto name = crypto::to_string(algorithm);
    std::size_t kept = 0;
    bool signs = false;
    for (const auto& key : keys) {
      if (key.algorithm != name) continue;
      const auto state = key.state(now);
      if (state == SigningKeyState::Pending) {
        if (publish_for.count() > 0) {
          return fail(ErrorCode::Conflict,
                      "a key of this algorithm waits to take over; let it, or rotate at once");
        }
        change.remove_signing_keys.push_back(key.kid);
        continue;
      }
      signs |= state == SigningKeyState::Active;
      ++kept;
      // Said outright: by its time alone it would tie with one made in the same second.
      if (publish_for.count() == 0 && state == SigningKeyState::Active) {
        change.set_signing_key_state.emplace_back(key.kid, SigningKeyState::Retired);
      }
    }
    if (kept >= kMostKeys) {
      return fail(ErrorCode::Conflict,
                  "too many keys of this algorithm are still needed; try again in an hour");
    }
    POSTERN_TRY(auto made, make_signing_key(keyring, stored.row.tenant, algorithm, now));
    const bool at_once = publish_for.count() == 0 || !signs;
    made.state = at_once ? SigningKeyState::Active : SigningKeyState::Pending;
    made.active_from = at_once ? now : now + publish_for;
    change.add_signing_keys.push_back(std::move(made));
  }
  return change;
}

Result<ConfigChange> withdraw_signing_key(const StoredTenant& stored, std::string_view kid,
                                          sys_seconds now) {
  const auto keys = published_keys(stored.signing_keys, now);
  const auto found =
      std::find_if(keys.begin(), keys.end(), [&](const auto& key) { return key.kid == kid; });
  if (found == keys.end()) return fail(ErrorCode::NotFound, "no such signing key");
  ConfigChange change;
  change.expected_epoch = stored.row.epoch;
  change.remove_signing_keys.push_back(found->kid);
  for (const auto& key : keys) {
    if (key.algorithm == found->algorithm && key.kid != found->kid &&
        key.state(now) == SigningKeyState::Retired) {
      change.set_signing_key_state.emplace_back(key.kid, SigningKeyState::Retired);
    }
  }
  return change;
}

std::vector<crypto::Algorithm> signing_algorithms(const StoredTenant& stored) {
  std::vector<crypto::Algorithm> found;
  for (const auto& key : stored.signing_keys) {
    const auto algorithm = crypto::parse_algorithm(key.algorithm);
    if (algorithm && std::find(found.begin(), found.end(), *algorithm) == found.end()) {
      found.push_back(*algorithm);
    }
  }
  return found;
}

}  // namespace postern::policy
