#include "vault/key_holder.h"

#include <string>
#include <utility>

#include "crypto/hash.h"

namespace postern::vault {
namespace {

Error no_key_holder() { return fail(ErrorCode::Conflict, "this tenant has no key holder"); }

/// Whether a new KEK may take the place of one that demands a share, or none.
/// @param held   whether the newest demands one
/// @param meets  whether `present`, where there is one, is that
template <class Meets>
Status check_present(bool held, const HeldShare* present, const Meets& meets) {
  if (!held) return present == nullptr ? Status() : no_key_holder();
  if (present == nullptr) {
    return fail(ErrorCode::Conflict,
                "this tenant has a key holder; to replace the share, send the present one too");
  }
  POSTERN_TRY(const bool met, meets());
  if (met) return {};
  return fail(ErrorCode::Forbidden, "this is not the share of the tenant's key holder");
}

}  // namespace

Result<KeyHolder::State> KeyHolder::state(const TenantId& tenant) {
  POSTERN_TRY(const auto seal, keyring_.seal_of(tenant));
  POSTERN_TRY(const auto uses, store_.kek_uses(tenant));
  POSTERN_TRY(const auto backlog, store_.backlog_of(tenant));
  return State{seal, uses.front().version, backlog.rows()};
}

/// Before a share is made: what the share store has been given stays there.
Status KeyHolder::may_add_kek(const TenantId& tenant, const HeldShare* present) {
  keyring_.forget(tenant);  // another replica may have been asked a moment ago
  POSTERN_TRY(const auto is, keyring_.seal_of(tenant));
  return check_present(is != Keyring::Seal::NotHeld, present, [&]() -> Result<bool> {
    POSTERN_TRY(const auto by, keyring_.check_share(tenant, *present));
    return by == Keyring::DemandedBy::Newest;
  });
}

Status KeyHolder::add_kek(const TenantId& tenant, const HeldShare* present,
                          const std::optional<HeldShareDemand>& demand, audit::Event& event) {
  POSTERN_CHECK(keyring_.may_create());
  POSTERN_CHECK(may_add_kek(tenant, present));
  // What is moved to the new KEK has to be opened first.
  POSTERN_CHECK(keyring_.with_current(tenant, [](KekVersion, const Kek&) { return Status(); }));
  POSTERN_TRY(const auto shared, keyring_.make_share(tenant));
  POSTERN_CHECK(
      store_.add_kek(tenant, [&](const WrappedKek& newest) -> Result<RotationStore::KekChange> {
        POSTERN_CHECK(check_present(newest.held.has_value(), present, [&]() -> Result<bool> {
          return crypto::equal(check_of(tenant, *present), newest.held->check);
        }));
        POSTERN_CHECK(keeps_taking_a_share(newest, shared));
        auto kek = keyring_.create(tenant, after(newest.version), demand, shared);
        auto record = event;
        record.with("kek_version", std::to_string(static_cast<std::uint32_t>(kek.version)));
        return RotationStore::KekChange{std::move(kek), std::move(record)};
      }));
  keyring_.forget(tenant);
  return {};
}

Status KeyHolder::hold(const TenantId& tenant, HeldShare share, const HeldShare* present,
                       audit::Event& event) {
  // Its answer was lost, and so it was sent again.
  const auto known = keyring_.check_share(tenant, share);
  if (known.ok() && known.value() == Keyring::DemandedBy::Newest) {
    return unseal(tenant, std::move(share), event);
  }
  POSTERN_CHECK(add_kek(tenant, present, HeldShareDemand{check_of(tenant, share)}, event));
  return keyring_.unseal(tenant, std::move(share));
}

Status KeyHolder::release(const TenantId& tenant, const HeldShare& share, audit::Event& event) {
  return add_kek(tenant, &share, std::nullopt, event);
}

Result<std::uint64_t> KeyHolder::seal(const TenantId& tenant, audit::Event& event) {
  POSTERN_TRY(const auto is, keyring_.seal_of(tenant));
  if (is == Keyring::Seal::NotHeld) return no_key_holder();
  auto epoch = store_.seal(tenant, event);
  // Whatever the database said: who asks for this wants it forgotten.
  keyring_.seal(tenant);
  return epoch;
}

Status KeyHolder::unseal(const TenantId& tenant, HeldShare share, audit::Event& event) {
  POSTERN_TRY(const auto by, keyring_.check_share(tenant, share));
  if (by == Keyring::DemandedBy::OlderOnly) {
    POSTERN_TRY(const auto backlog, store_.backlog_of(tenant));
    if (backlog.rows() == 0) {
      POSTERN_TRY(const auto is, keyring_.seal_of(tenant));
      if (is == Keyring::Seal::NotHeld) return no_key_holder();
      return fail(ErrorCode::Conflict,
                  "this share was replaced, and nothing needs it any more; send the present one");
    }
  }
  // Recorded first: a crash between leaves a record of an unsealing that opened nothing.
  POSTERN_CHECK(log_.append({&event, 1}));
  return keyring_.unseal(tenant, std::move(share));
}

}  // namespace postern::vault
