#include "vault/rotation.h"

#include <algorithm>
#include <thread>

#include "core/log.h"
#include "vault/share_store.h"

namespace postern::vault {
namespace {

using std::chrono::milliseconds;

constexpr int kAttempts = 6;
constexpr milliseconds kFirstPause{100};
constexpr std::uint32_t kPage = 500;
/// Passes that move nothing, before what is left counts as held by somebody.
constexpr int kIdlePasses = 20;

std::string text_of(KekVersion version) {
  return std::to_string(static_cast<std::uint32_t>(version));
}

/// Whether this KEK alone is affected, so that the others can go on.
bool of_one_key(ErrorCode code) {
  return code == ErrorCode::Internal || code == ErrorCode::KeyUnavailable ||
         code == ErrorCode::NotFound;
}

}  // namespace

Rotation::Rotation(RotationStore& store, Keyring& keyring, const Clock& clock, Options options)
    : store_(store), keyring_(keyring), envelope_(keyring), clock_(clock), options_([&] {
        if (!options.pause) {
          options.pause = [](milliseconds time) { std::this_thread::sleep_for(time); };
        }
        if (options.per_second > 0) {
          // Small enough that the rate holds from one second to the next.
          options.batch = std::min(options.batch, std::max(1U, options.per_second / 4));
        }
        return std::move(options);
      }()) {}

audit::Event Rotation::event(const TenantId& tenant, std::string action) const {
  return audit::Event{tenant, clock_.now(), std::move(action), audit::Outcome::Allowed, "", {}}
      .with("caller", "posternd");
}

template <class Step>
auto Rotation::persistently(const Step& step) -> decltype(step()) {
  auto wait = kFirstPause;
  for (int attempt = 1;; ++attempt, wait *= 2) {
    auto result = step();
    if (result.ok() || attempt == kAttempts) return result;
    const auto code = result.error().code;
    if (code != ErrorCode::Unavailable && code != ErrorCode::Conflict) return result;
    options_.pause(wait);
  }
}

Result<Rotation::Progress> Rotation::rotate_root(const Report& report) {
  const auto active = keyring_.active_root_key();
  if (active.empty()) {
    return fail(ErrorCode::KeyUnavailable, "there is no root key to rotate to");
  }
  const auto count_left = [&]() -> Result<std::uint64_t> {
    POSTERN_TRY(const auto uses, persistently([&] { return store_.root_key_uses(); }));
    std::uint64_t left = 0;
    for (const auto& use : uses) left += use.root_key_id != active ? use.keks : 0;
    return left;
  };
  Progress progress;
  POSTERN_TRY(progress.total, count_left());
  Pace pace(options_.per_second, options_.pause);
  // Again until a pass moves none: a replica that has the old file yet may have
  // made a tenant meanwhile.
  for (std::uint64_t before = 0;; before = progress.done) {
    progress.failed = 0;
    std::optional<KekPlace> after;
    for (;;) {
      POSTERN_TRY(const auto places,
                  persistently([&] { return store_.keks_not_under(active, after, kPage); }));
      if (places.empty()) break;
      for (const auto& place : places) {
        const auto change = [&](const WrappedKek& row) -> Result<RotationStore::KekChange> {
          POSTERN_TRY(auto kek, keyring_.rewrap(place.tenant, row));
          auto record = event(place.tenant, "key.rotate_root");
          record.with("kek_version", text_of(row.version))
              .with("from_root_key", root_key_ids({row.root_key_id}))
              .with("to_root_key", kek.root_key_id)
              .with("keks", "1");
          return RotationStore::KekChange{std::move(kek), std::move(record)};
        };
        const auto done =
            persistently([&] { return store_.rewrap_kek(place.tenant, place.version, change); });
        if (done.ok()) {
          ++progress.done;
        } else if (of_one_key(done.error().code)) {
          // A tenant that was removed meanwhile is not in what is left, counted below.
          ++progress.failed;
          log::error("key.rotate_root_failed", {{"tenant", place.tenant.str()},
                                                {"kek_version", text_of(place.version)},
                                                {"diagnostic", done.error().diagnostic}});
        } else {
          return done.error();
        }
        report(progress);
        pace.after(1);
      }
      after = places.back();
    }
    if (progress.done == before) break;
  }
  POSTERN_TRY(progress.left, count_left());
  return progress;
}

Result<Backlog> held_backlog(RotationStore& store) {
  Backlog out;
  POSTERN_TRY(const auto held, store.held_tenants());
  for (const auto& each : held) {
    const auto keks = store.kek_uses(each.tenant);
    if (!keks.ok() && keks.error().code == ErrorCode::NotFound) continue;  // removed meanwhile
    if (!keks.ok()) return keks.error();
    const auto before = out.rows();
    for (const auto& kek : keks.value()) {
      if (&kek == &keks.value().front() || !(each.newest || kek.held)) continue;
      out.credential_versions += kek.credential_versions;
      out.signing_keys += kek.signing_keys;
      out.others += kek.others;
    }
    if (out.rows() > before) ++out.tenants;
  }
  return out;
}

Status keeps_taking_a_share(const WrappedKek& newest, const std::optional<ShareId>& share) {
  return newest.share && !share ? Status(no_share_store()) : Status();
}

Result<KekVersion> Rotation::rotate_tenant(const TenantId& tenant) {
  POSTERN_TRY(const auto version, rotate_older(tenant, sys_seconds::max()));
  return *version;
}

Result<std::optional<KekVersion>> Rotation::rotate_older(const TenantId& tenant, sys_seconds than) {
  using Made = std::optional<KekVersion>;
  POSTERN_CHECK(keyring_.may_create());
  // Before a share is made, which stays: that there is such a tenant, and what for.
  POSTERN_TRY(auto seen, persistently([&] { return store_.newest_kek(tenant); }));
  if (seen.made_at >= than) return Made();
  POSTERN_TRY(const auto share, keyring_.make_share(tenant));
  const bool always = than == sys_seconds::max();
  const auto make = [&](const WrappedKek& newest) -> Result<RotationStore::KekChange> {
    if (!always && newest.version != seen.version) {
      return fail(ErrorCode::Conflict, "the tenant has another KEK since");
    }
    POSTERN_CHECK(keeps_taking_a_share(newest, share));
    auto kek = keyring_.create(tenant, after(newest.version), newest.held, share);
    auto record = event(tenant, "key.rotate_tenant");
    record.with("kek_version", text_of(kek.version)).with("root_key", kek.root_key_id);
    return RotationStore::KekChange{std::move(kek), std::move(record)};
  };
  auto made = persistently([&]() -> Result<Made> {
    auto version = store_.add_kek(tenant, make);
    if (version.ok()) return Made(version.value());
    if (always || version.error().code != ErrorCode::Conflict) return version.error();
    POSTERN_TRY(seen, store_.newest_kek(tenant));
    if (seen.made_at >= than) return Made();
    return version.error();
  });
  keyring_.forget(tenant);
  return made;
}

namespace {

/// Moves rows with the tenant's own keys.
class TenantRewrapper final : public RotationStore::Rewrapper {
 public:
  using Event = std::function<audit::Event()>;
  TenantRewrapper(const TenantId& tenant, Envelope& envelope, Keyring& keyring, Event event)
      : tenant_(tenant), envelope_(envelope), keyring_(keyring), event_(std::move(event)) {}

  Result<WrappedDek> dek(const CredentialKey& key, std::uint32_t version, const WrappedDek& from,
                         KekVersion to, const std::optional<ShareId>& share) override {
    auto wrapped = envelope_.rewrap(tenant_, key, version, from, to, share);
    if (!wrapped.ok()) report("credential", key.name.str(), wrapped.error());
    return wrapped;
  }

  Result<Keyring::OwnedPrivateKey> box(std::string_view purpose, const Box& box,
                                       KekVersion to) override {
    auto moved = keyring_.rewrap_private(tenant_, box.owner, purpose, box.key_id, box.wrapped, to,
                                         box.share);
    if (!moved.ok()) report(purpose, box.name, moved.error());
    return moved;
  }

  audit::Event event(KekVersion to, const Moved& moved) override {
    auto event = event_();
    event.with("kek_version", text_of(to))
        .with("credential_versions", std::to_string(moved.credential_versions))
        .with("signing_keys", std::to_string(moved.signing_keys));
    if (moved.others > 0) event.with("others", std::to_string(moved.others));
    return event;
  }

 private:
  void report(std::string_view kind, const std::string& name, const Error& error) const {
    log::error("key.rewrap_failed", {{"tenant", tenant_.str()},
                                     {"kind", kind},
                                     {"name", name},
                                     {"code", to_string(error.code)}});
  }

  const TenantId& tenant_;
  Envelope& envelope_;
  Keyring& keyring_;
  const Event event_;
};

}  // namespace

/// Before the rows are moved: no transaction may wait for it.
Status Rotation::make_shares(const TenantId& tenant, Progress& progress, Pace& pace,
                             const Report& report) {
  if (!keyring_.has_share_store()) return {};
  for (;;) {
    POSTERN_TRY(const auto principals,
                persistently([&] { return store_.without_share(tenant, kPage); }));
    for (const auto& principal : principals) {
      const auto made = persistently([&] { return keyring_.principal_share(tenant, principal); });
      // Being erased since they were read; then the next page is without them.
      const bool erased = !made.ok() && made.error().code == ErrorCode::Conflict;
      if (!made.ok() && !erased) return made.error();
      if (!erased) ++progress.shares;
      report(progress);
      if (stopped()) return {};
      pace.after(1);
    }
    if (principals.size() < kPage) return {};
  }
}

Result<Rotation::Progress> Rotation::rewrap(const TenantId& tenant, const Report& report) {
  const auto count_left = [&]() -> Result<std::uint64_t> {
    POSTERN_TRY(const auto backlog, persistently([&] { return store_.backlog_of(tenant); }));
    return backlog.rows();
  };
  keyring_.forget(tenant);  // what another process has added is asked for once, not for each row
  TenantRewrapper rewrapper(tenant, envelope_, keyring_,
                            [&] { return event(tenant, "key.rewrap"); });
  Progress progress;
  POSTERN_TRY(progress.total, count_left());
  progress.left = progress.total;
  Pace pace(options_.per_second, options_.pause);
  if (progress.left > 0) POSTERN_CHECK(make_shares(tenant, progress, pace, report));
  if (stopped()) return progress;
  for (int idle = 0; progress.left > 0 && idle < kIdlePasses;) {
    progress.failed = 0;
    const auto before = progress.done;
    RotationStore::Position position;
    for (bool end = false; !end;) {
      const auto from = position;
      POSTERN_TRY(const auto batch, persistently([&] {
                    position = from;
                    return store_.rewrap_rows(tenant, position, options_.batch, rewrapper);
                  }));
      progress.done += batch.moved;
      progress.failed += batch.failed;
      end = batch.end;
      report(progress);
      if (stopped()) return progress;
      pace.after(batch.moved);
    }
    POSTERN_TRY(progress.left, count_left());
    if (progress.left <= progress.failed) break;  // the rest does not open
    // Somebody held the rows that were passed over, for as long as a write takes.
    idle = progress.done == before ? idle + 1 : 0;
    if (idle > 0) options_.pause(kFirstPause);
  }
  if (progress.left == 0) {
    POSTERN_CHECK(persistently([&] { return store_.note_emptied(tenant); }));
  }
  return progress;
}

}  // namespace postern::vault
