#include "grants/credential_rotations.h"

#include <algorithm>
#include <random>
#include <typeinfo>
#include <utility>

#include "core/log.h"
#include "core/wipe_stack.h"
#include "crypto/random.h"
#include "grants/webhook_rotator.h"
#include "policy/credential_type.h"

namespace postern::grants {
namespace {

using vault::CredentialRotation;
using vault::CredentialRotationStore;
using vault::Fields;
using vault::RotationKind;
using vault::RotationPhase;
using vault::RotationSettings;
using Effect = CredentialRotationStore::Effect;
using std::chrono::seconds;

/// Longer than any step takes: all that is asked outside has time-outs of seconds.
constexpr seconds kLease(120);
/// What must be left of it when a step outside begins.
constexpr seconds kLongestStep(60);
constexpr std::uint32_t kMostAttempts = 6;  ///< of a step before the value is handed out
constexpr std::size_t kThreads = 3;         ///< so many slow servers hold up nobody
constexpr std::uint32_t kDueAtOnce = 30;
constexpr seconds kCounted(30);  ///< how old what metrics say of all replicas may be

seconds delay_of(std::uint32_t attempts) {
  return std::min(seconds(5) * (1 << std::min(attempts, 12u)), seconds(3600));
}
/// Of a rotation that was rolled back and is scheduled.
seconds delay_of_failures(std::uint32_t failures) {
  return std::min(seconds(60) * (1 << std::min(failures, 10u)), seconds(6 * 3600));
}

/// Trying again may help.
bool may_pass(const Error& error) {
  return error.code == ErrorCode::Unavailable || error.code == ErrorCode::KeyUnavailable ||
         error.code == ErrorCode::TenantSealed || error.code == ErrorCode::RateLimited;
}

/// As a row takes it; not cut within a character.
std::string shortened(std::string words) {
  constexpr std::size_t kMost = 400;
  if (words.size() <= kMost) return words;
  auto end = kMost;
  while (end > 0 && (static_cast<unsigned char>(words[end]) & 0xC0) == 0x80) --end;
  words.resize(end);
  return words;
}

/// In our words, and short; without words, its name.
std::string words_of(const Error& error) {
  return shortened(error.detail.empty() ? std::string(to_string(error.code)) : error.detail);
}

/// Somebody stored another value, or took away the one that was to be followed.
bool is_passed_by(const CredentialRotation& is) {
  return is.version != is.running.old_version || is.state != vault::VersionState::Live;
}
std::string passed_by_words(const CredentialRotation& is) {
  return is.version != is.running.old_version ? "another value was stored meanwhile"
                                              : "the value was deleted meanwhile";
}

bool has_expired(const CredentialRotation& is, sys_seconds now) {
  return is.expires_at && *is.expires_at <= now;
}

/// Its next step asks somebody outside.
bool asks_outside(const CredentialRotation& is) {
  if (is.phase == RotationPhase::None || !is.running.settings.reaches_outside()) return false;
  return is.phase != RotationPhase::RollingBack || is.running.sent;
}

std::optional<sys_seconds> next_by_schedule(const CredentialRotation& is, sys_seconds now) {
  if (is.wanted) return is.failures == 0 ? now : now + delay_of_failures(is.failures);
  // Of Manual the date only says when somebody should give a value.
  if (!is.settings || !is.settings->interval || !is.description.rotation_due_at ||
      is.settings->made_as() == RotationKind::Manual) {
    return std::nullopt;
  }
  // So that the new value is handed out when it is due.
  const auto due = *is.description.rotation_due_at - is.settings->announce;
  if (is.failures == 0) return due;
  return std::max(due, now + delay_of_failures(is.failures));
}

void end(CredentialRotation& is, sys_seconds now) {
  is.phase = RotationPhase::None;
  is.running = {};
  is.attempts = 0;
  is.next_at = next_by_schedule(is, now);
}

/// Under the lock it may be another one than what was read before.
Status same(const CredentialRotation& is, const CredentialRotation& read) {
  if (is.running.id == read.running.id && is.phase == read.phase) return {};
  return fail(ErrorCode::Conflict, "the rotation has moved on meanwhile");
}

Error another_version() {
  return fail(ErrorCode::PreconditionFailed, "the credential has another version");
}

Error no_way() {
  return fail(ErrorCode::Conflict,
              "nothing says how this credential is rotated; give a value, or say how it is made");
}

}  // namespace

CredentialRotations::CredentialRotations(CredentialRotationStore& store,
                                         vault::CredentialStore& credentials,
                                         vault::Envelope& envelope, const Clock& clock,
                                         Rotators rotators)
    : store_(store),
      credentials_(credentials),
      envelope_(envelope),
      clock_(clock),
      rotators_(rotators) {}

vault::Rotator* CredentialRotations::rotator_of(const RotationSettings& settings) const {
  if (settings.kind == RotationKind::Postgres) return rotators_.postgres;
  if (settings.kind == RotationKind::Webhook) return rotators_.webhook;
  return nullptr;
}

audit::Event CredentialRotations::step_event(const TenantId& tenant, const Key& key,
                                             const Rotation& is, std::string_view phase) const {
  audit::Event event{tenant, clock_.now(), "credential.rotation_step", audit::Outcome::Allowed, "",
                     {}};
  event.with("caller", "posternd")
      .with("credential", key.name.str())
      .with("credential_owner", key.owner.is_tenant() ? "tenant" : "principal")
      .with("rotation", is.running.id)
      .with("phase", phase);
  if (is.phase != RotationPhase::None) event.with("kind", to_string(is.running.settings.kind));
  if (!key.owner.is_tenant()) {
    event.with("subject_issuer", key.owner.principal().issuer)
        .with("subject", key.owner.principal().subject);
  }
  return event;
}

CredentialRotationStore::Lease CredentialRotations::new_lease() const {
  return {crypto::random_id(), clock_.now() + kLease};
}

// ---- settings ----

Status CredentialRotations::check_settings(const TenantId& tenant, const Key& key,
                                           const RotationSettings& settings) const {
  if (!settings.reaches_outside()) return {};
  const auto* rotator = rotator_of(settings);
  if (rotator == nullptr) {
    return fail(ErrorCode::Forbidden, "the operator of this service lets no rotator go there");
  }
  POSTERN_CHECK(rotator->check(settings));
  const Key secret{key.owner, CredentialName(settings.secret_credential)};
  if (secret.name == key.name) {
    return fail(ErrorCode::MalformedRequest,
                "the credential that is used for the rotation must be another one");
  }
  const auto found = credentials_.metadata(tenant, secret);
  if (!found.ok() && found.error().code == ErrorCode::NotFound) {
    return fail(ErrorCode::MalformedRequest,
                "the credential that is used for the rotation does not exist for this owner");
  }
  POSTERN_CHECK(found);
  auto usable = check_secret(tenant, key, settings);
  if (usable.ok()) return {};
  Error error = std::move(usable).error();
  if (error.code == ErrorCode::Conflict) {
    error.pointer =
        settings.kind == RotationKind::Postgres ? "/admin_credential" : "/secret_credential";
  }
  return error;
}

Status CredentialRotations::check_secret(const TenantId& tenant, const Key& key,
                                         const RotationSettings& settings) const {
  POSTERN_TRY(const auto secret, open_secret(tenant, key, settings));
  if (settings.kind == RotationKind::Webhook) return check_webhook_secret(secret);
  if (vault::log_in_of(secret, secret.count("url") != 0 ? "url" : "password").ok()) return {};
  return fail(ErrorCode::Conflict,
              "the admin credential has neither username and password nor a url with them");
}

Result<Fields> CredentialRotations::open_secret(const TenantId& tenant, const Key& key,
                                                const RotationSettings& settings) const {
  const Key secret{key.owner, CredentialName(settings.secret_credential)};
  const auto sealed = credentials_.latest(tenant, secret);
  if (!sealed.ok() && sealed.error().code == ErrorCode::NotFound) {
    return fail(ErrorCode::Conflict, "the credential that is used for the rotation is gone");
  }
  POSTERN_CHECK(sealed);
  if (sealed.value().expires_at && *sealed.value().expires_at <= clock_.now()) {
    return fail(ErrorCode::Conflict, "the credential that is used for the rotation has expired");
  }
  return envelope_.open(tenant, secret, sealed.value());
}

Result<CredentialRotations::Rotation> CredentialRotations::configure(
    const TenantId& tenant, const Key& key, const std::optional<RotationSettings>& settings,
    audit::Event record, const std::optional<vault::Expected>& expected) {
  POSTERN_TRY(const auto is, store_.find(tenant, key));
  if (settings) {
    POSTERN_CHECK(check_settings(tenant, key, *settings));
    if (settings->made_as() != RotationKind::Manual && is.state == vault::VersionState::Live) {
      POSTERN_CHECK(try_on(tenant, key, is, *settings));
    }
  }
  return store_.change(tenant, key, "", [&](Rotation& now) -> Result<Effect> {
    if (expected && !expected->meets(now.version, now.revision)) return another_version();
    const bool was_scheduled = now.settings && now.settings->interval;
    now.settings = settings;
    auto& due = now.description.rotation_due_at;
    if (settings && settings->interval) {
      due = clock_.now() + *settings->interval;
    } else if (was_scheduled) {
      due.reset();
    }
    now.failures = 0;
    if (!settings) now.wanted = false;
    if (now.phase == RotationPhase::None) {
      now.problem.clear();
      now.next_at = next_by_schedule(now, clock_.now());
    }
    return Effect{Effect::Versions::None, {std::move(record)}};
  });
}

// ---- beginning ----

Result<Fields> CredentialRotations::open(const TenantId& tenant, const Key& key,
                                         std::uint32_t version) {
  POSTERN_TRY(const auto sealed, store_.version(tenant, key, version));
  return envelope_.open(tenant, key, sealed);
}

Result<CredentialRotations::Made> CredentialRotations::make(const TenantId& tenant, const Key& key,
                                                            const Rotation& is,
                                                            const RotationSettings& settings,
                                                            const Fields* given) {
  Made out;
  if (given != nullptr) {
    out.value.fields = vault::copy_of(*given);
  } else {
    POSTERN_TRY(const auto current, open(tenant, key, is.version));
    if (auto* rotator = rotator_of(settings)) {
      POSTERN_TRY(out.new_role, rotator->next_role(settings, current));
      if (!out.new_role.empty()) {
        POSTERN_TRY(auto log_in, vault::log_in_of(current, settings.field));
        out.old_role = std::move(log_in.user);
      }
    }
    POSTERN_TRY(out.value,
                generate_fields(settings, current, out.new_role, "postern-" + key.name.str()));
  }
  POSTERN_CHECK(vault::validate_fields(out.value.fields));
  POSTERN_CHECK(policy::check_fields(is.description.type, out.value.fields));
  return out;
}

Status CredentialRotations::try_on(const TenantId& tenant, const Key& key, const Rotation& is,
                                   RotationSettings settings) {
  settings.key = crypto::KeyPairKind::Ed25519;  // any is in the same place, and this is quick
  POSTERN_CHECK(make(tenant, key, is, settings, nullptr));
  return {};
}

Result<CredentialRotations::Rotation> CredentialRotations::begin(
    const TenantId& tenant, const Key& key, const Rotation& is, RotationSettings settings,
    const Order& order, const CredentialRotationStore::Lease& lease, audit::Event record) {
  POSTERN_TRY(const auto made, make(tenant, key, is, settings, order.given));
  const auto now = clock_.now();
  const auto expires_at = order.expires_at ? order.expires_at : is.expires_at;
  return store_.begin(
      tenant, key, {is.version, is.revision}, lease,
      [&](std::uint32_t version) {
        return envelope_.seal(tenant, key, version, made.value.fields, now, expires_at);
      },
      [&](Rotation& begun) -> Result<Effect> {
        begun.phase = RotationPhase::Pending;
        begun.running.id = crypto::random_id();
        begun.running.settings = settings;
        begun.running.new_role = made.new_role;
        begun.running.old_role = made.old_role;
        begun.running.started_at = now;
        begun.running.public_half = made.value.public_half;
        begun.attempts = 0;
        begun.problem.clear();
        begun.wanted = false;
        begun.next_at = now;  // for whoever has to go on, once the lease has ended
        auto event = record;  // this may run again
        event.with("rotation", begun.running.id)
            .with("kind", to_string(settings.kind))
            .with("phase", "pending")
            .with("credential_version", std::to_string(begun.running.new_version));
        return Effect{Effect::Versions::None, {std::move(event)}};
      });
}

Status CredentialRotations::may_rotate(const Rotation& rotation) const {
  if (rotation.phase != RotationPhase::None) {
    return fail(ErrorCode::Conflict, "a rotation of this credential is under way");
  }
  return can_rotate(rotation);
}

Status CredentialRotations::may_begin(const TenantId& tenant, const Rotation& rotation) {
  POSTERN_CHECK(can_rotate(rotation));
  POSTERN_CHECK(check_settings(tenant, rotation.key, *rotation.settings));
  return try_on(tenant, rotation.key, rotation, *rotation.settings);
}

Status CredentialRotations::can_rotate(const Rotation& rotation) const {
  if (rotation.state != vault::VersionState::Live) {
    return fail(ErrorCode::Conflict, "the credential has no live value");
  }
  if (has_expired(rotation, clock_.now())) {
    return fail(ErrorCode::Conflict, "the value has expired, and is not revived; store another");
  }
  if (!rotation.settings || rotation.settings->made_as() == RotationKind::Manual) return no_way();
  return {};
}

Result<CredentialRotations::Rotation> CredentialRotations::rotate(const TenantId& tenant,
                                                                  const Key& key,
                                                                  const Order& order,
                                                                  audit::Event record) {
  POSTERN_TRY(auto is, store_.find(tenant, key));
  if (order.expected && !order.expected->meets(is.version, is.revision)) {
    return another_version();
  }
  auto settings = order.once ? *order.once : is.settings.value_or(RotationSettings());
  if (order.given != nullptr) {
    if (is.state != vault::VersionState::Live) {
      return fail(ErrorCode::Conflict, "the credential has no live value to follow; store one");
    }
    // It is a write like any other; what is made replaces whatever is there.
    if (is.description.cas_required && !(order.expected && order.expected->named)) {
      return vault::cas_is_required();
    }
    if (has_expired(is, clock_.now()) && !order.expires_at) {
      Error error =
          fail(ErrorCode::MalformedRequest, "is required, because the value before has expired");
      error.pointer = "/expires_at";
      return error;
    }
    settings.kind = RotationKind::Manual;  // whoever gives a value has set it where it counts
    settings.announce = seconds(0);
  } else {
    auto meant = is;
    meant.settings = settings;
    POSTERN_CHECK(may_rotate(meant));
    POSTERN_CHECK(check_settings(tenant, key, settings));
  }
  if (order.grace) settings.grace = *order.grace;
  if (order.announce) settings.announce = *order.announce;
  const auto lease = new_lease();
  POSTERN_TRY(is, begin(tenant, key, is, std::move(settings), order, lease, std::move(record)));
  const auto version = is.running.new_version;
  auto result = run(tenant, key, lease, std::move(is), Outside::Stop);
  wake();
  if (result.ok() && result.value().phase == RotationPhase::None &&
      result.value().version != version) {
    const auto& why = result.value().problem;
    return fail(ErrorCode::Conflict, why.empty() ? "another value was stored meanwhile" : why);
  }
  return result;
}

void CredentialRotations::wake() {
  {
    const std::lock_guard lock(mutex_);
    ++begun_;
  }
  wake_.notify_all();
}

Result<CredentialRotations::Rotation> CredentialRotations::promote_now(const TenantId& tenant,
                                                                       const Key& key,
                                                                       audit::Event record) {
  std::uint32_t announced = 0;
  POSTERN_CHECK(store_.change(tenant, key, "", [&](Rotation& is) -> Result<Effect> {
    if (!is_announced(is)) {
      return fail(ErrorCode::Conflict, "no new key is announced that could be handed out");
    }
    if (is_passed_by(is)) return fail(ErrorCode::Conflict, passed_by_words(is));
    is.next_at = clock_.now();
    announced = is.running.new_version;
    record.with("rotation", is.running.id);
    return Effect{Effect::Versions::None, {std::move(record)}};
  }));
  POSTERN_TRY(auto is, nudge(tenant, key));
  if (is.phase == RotationPhase::RollingBack ||
      (is.phase == RotationPhase::None && is.version != announced)) {
    return fail(ErrorCode::Conflict, is.problem);
  }
  return is;
}

Result<CredentialRotations::Rotation> CredentialRotations::end_grace(const TenantId& tenant,
                                                                     const Key& key,
                                                                     audit::Event record) {
  POSTERN_CHECK(store_.change(tenant, key, "", [&](Rotation& is) -> Result<Effect> {
    if (is.phase != RotationPhase::Previous) {
      return fail(ErrorCode::Conflict, "no value of before waits to be retired");
    }
    is.running.retire_at = clock_.now();
    is.next_at = clock_.now();
    is.attempts = 0;
    record.with("rotation", is.running.id);
    return Effect{Effect::Versions::None, {std::move(record)}};
  }));
  return nudge(tenant, key);
}

Result<CredentialRotations::Rotation> CredentialRotations::cancel(const TenantId& tenant,
                                                                  const Key& key,
                                                                  audit::Event record) {
  POSTERN_CHECK(store_.change(tenant, key, "", [&](Rotation& is) -> Result<Effect> {
    if (!is_before_current(is.phase)) {
      return fail(ErrorCode::Conflict, "no rotation is under way that could be given up");
    }
    is.phase = RotationPhase::RollingBack;
    is.problem = "it was given up by an admin";
    is.attempts = 0;
    is.wanted = false;
    is.next_at = clock_.now();
    record.with("rotation", is.running.id);
    return Effect{Effect::Versions::None, {std::move(record)}};
  }));
  return nudge(tenant, key);
}

Result<CredentialRotations::Rotation> CredentialRotations::hurry(const TenantId& tenant,
                                                                 const Key& key, Again again,
                                                                 audit::Event record) {
  POSTERN_CHECK(store_.change(tenant, key, "", [&](Rotation& is) -> Result<Effect> {
    if (is.phase == RotationPhase::None) {
      return fail(ErrorCode::Conflict, "no rotation is under way");
    }
    is.wanted = again == Again::Yes;
    is.running.settings.announce = seconds(0);
    is.running.settings.grace = seconds(0);
    if (is.phase == RotationPhase::Previous) is.running.retire_at = clock_.now();
    is.next_at = clock_.now();
    is.attempts = 0;
    record.with("rotation", is.running.id);
    return Effect{Effect::Versions::None, {std::move(record)}};
  }));
  return nudge(tenant, key);
}

Result<CredentialRotations::Rotation> CredentialRotations::abandon(const TenantId& tenant,
                                                                   const Key& key,
                                                                   RotationPhase phase,
                                                                   audit::Event record) {
  // Not while somebody is telling the outside.
  const auto lease = new_lease();
  POSTERN_CHECK(store_.take(tenant, key, lease, clock_.now()));
  auto ended = store_.change(tenant, key, lease.id, [&](Rotation& is) -> Result<Effect> {
    if (is.phase != phase) {
      return fail(ErrorCode::Conflict, phase == RotationPhase::Previous
                                           ? "no value of before waits to be retired"
                                           : "no rotation is being rolled back");
    }
    record.with("rotation", is.running.id).with("abandoned", "true");
    auto versions = Effect::Versions::DropNew;
    std::string problem = "abandoned: the new value may be valid outside";
    if (phase == RotationPhase::Previous) {
      problem = "abandoned: the value before may be valid outside";
      versions =
          is.running.settings.destroy ? Effect::Versions::DestroyOld : Effect::Versions::DeleteOld;
    } else {
      ++is.failures;
      is.failed_at = clock_.now();
    }
    is.problem = shortened(problem + (is.problem.empty() ? "" : "; " + is.problem));
    end(is, clock_.now());
    return Effect{versions, {std::move(record)}};
  });
  static_cast<void>(store_.give_back(tenant, key, lease.id));
  wake();
  return ended;
}

Result<CredentialRotations::Rotation> CredentialRotations::nudge(const TenantId& tenant,
                                                                 const Key& key) {
  const auto lease = new_lease();
  auto taken = store_.take(tenant, key, lease, clock_.now());
  // Somebody else is at it, and sees under the lock what was said.
  if (!taken.ok()) return store_.find(tenant, key);
  auto result = run(tenant, key, lease, std::move(taken).value(), Outside::Stop);
  wake();
  return result;
}

// ---- steps ----

Result<CredentialRotations::Rotation> CredentialRotations::go_on(const TenantId& tenant,
                                                                 const Key& key) {
  const auto lease = new_lease();
  POSTERN_TRY(auto is, store_.take(tenant, key, lease, clock_.now()));
  return run(tenant, key, lease, std::move(is), Outside::Go);
}

Result<CredentialRotations::Rotation> CredentialRotations::run(
    const TenantId& tenant, const Key& key, const CredentialRotationStore::Lease& lease,
    Rotation is, Outside outside) {
  constexpr int kMostSteps = 8;
  Result<Rotation> result = std::move(is);
  for (int i = 0; i < kMostSteps && result.ok(); ++i) {
    const auto& now = result.value();
    if (!now.next_at || *now.next_at > clock_.now()) break;
    // What is under way ends all the same.
    if (now.phase == RotationPhase::None && !now.tenant_enabled) break;
    // What would last longer than the lease is begun anew, with a lease of its own.
    const bool late = clock_.now() + kLongestStep > lease.until;
    if (asks_outside(now) && (late || outside == Outside::Stop)) break;
    const auto before = now;
    result = step(tenant, key, lease.id, before);
  }
  // After an error nobody is at it until the lease has ended: so it is in nobody's way. It
  // also ends by itself when it cannot be given back.
  if (result.ok() || result.error().code == ErrorCode::Conflict) {
    static_cast<void>(store_.give_back(tenant, key, lease.id));
  }
  return result;
}

Result<CredentialRotations::Rotation> CredentialRotations::step(const TenantId& tenant,
                                                                const Key& key,
                                                                const std::string& lease,
                                                                const Rotation& is) {
  switch (is.phase) {
    case RotationPhase::None: return begin_scheduled(tenant, key, lease, is);
    case RotationPhase::Pending:
    case RotationPhase::Set: return towards_current(tenant, key, lease, is);
    case RotationPhase::Tested: return promote(tenant, key, lease, is);
    case RotationPhase::Previous: return retire(tenant, key, lease, is);
    case RotationPhase::RollingBack: return undo(tenant, key, lease, is);
  }
  return fail(ErrorCode::Internal, "", "a rotation in no phase");
}

Result<CredentialRotations::Rotation> CredentialRotations::begin_scheduled(const TenantId& tenant,
                                                                           const Key& key,
                                                                           const std::string& lease,
                                                                           const Rotation& is) {
  auto record = step_event(tenant, key, is, "");
  record.action = "credential.rotate";
  record.with("reason", is.wanted ? "emergency" : "schedule");
  const auto begun = [&]() -> Result<Rotation> {
    if (!is.wanted && (!is.settings || !is.settings->interval)) {
      return fail(ErrorCode::Conflict, "nothing is scheduled");
    }
    POSTERN_CHECK(can_rotate(is));
    POSTERN_CHECK(check_settings(tenant, key, *is.settings));
    auto settings = *is.settings;
    if (is.wanted) settings.announce = settings.grace = seconds(0);
    return begin(tenant, key, is, std::move(settings), {}, {lease, clock_.now() + kLease}, record);
  }();
  if (begun.ok()) return begun;
  // Somebody changed it meanwhile: looked at again the next time.
  if (begun.error().code == ErrorCode::PreconditionFailed) return begun;
  return store_.change(tenant, key, lease, [&](Rotation& now) -> Result<Effect> {
    POSTERN_CHECK(same(now, is));
    ++now.failures;
    const auto said_at = std::exchange(now.failed_at, clock_.now());
    const auto problem = std::exchange(now.problem, words_of(begun.error()));
    const bool can = can_rotate(now).ok();
    if (!can) now.wanted = false;  // there is nothing to wait for
    now.next_at = next_by_schedule(now, clock_.now());
    // Said once: what has expired stays so until somebody stores another value.
    const bool is_another = now.expires_at && said_at && *now.expires_at > *said_at;
    if (!can && now.failures > 1 && problem == now.problem && !is_another) return Effect{};
    auto event = record;
    event.outcome = audit::Outcome::Failed;
    event.with("code", to_string(begun.error().code));
    return Effect{Effect::Versions::None, {std::move(event)}};
  });
}

Result<CredentialRotations::Rotation> CredentialRotations::move_to(const TenantId& tenant,
                                                                   const Key& key,
                                                                   const std::string& lease,
                                                                   const Rotation& is,
                                                                   RotationPhase to) {
  return store_.change(tenant, key, lease, [&](Rotation& now) -> Result<Effect> {
    POSTERN_CHECK(same(now, is));
    now.phase = to;
    now.attempts = 0;
    now.problem.clear();
    now.next_at = clock_.now();
    if (is_announced(now)) *now.next_at += now.running.settings.announce;
    return Effect{Effect::Versions::None, {step_event(tenant, key, is, to_string(to))}};
  });
}

Result<CredentialRotations::Rotation> CredentialRotations::postpone(const TenantId& tenant,
                                                                    const Key& key,
                                                                    const std::string& lease,
                                                                    const Rotation& is,
                                                                    const Error& why) {
  log::warning("rotation.postponed", {{"tenant", tenant.str()},
                                      {"phase", to_string(is.phase)},
                                      {"code", to_string(why.code)},
                                      {"diagnostic", why.diagnostic}});
  return store_.change(tenant, key, lease, [&](Rotation& now) -> Result<Effect> {
    POSTERN_CHECK(same(now, is));
    now.next_at = clock_.now() + delay_of(now.attempts);
    ++now.attempts;
    now.problem = words_of(why);
    return Effect{};
  });
}

Result<CredentialRotations::Rotation> CredentialRotations::roll_back(
    const TenantId& tenant, const Key& key, const std::string& lease, const Rotation& is,
    const std::string& why, bool refused) {
  return store_.change(tenant, key, lease, [&](Rotation& now) -> Result<Effect> {
    POSTERN_CHECK(same(now, is));
    now.phase = RotationPhase::RollingBack;
    if (refused) now.running.sent = false;
    now.attempts = 0;
    now.problem = why;
    now.next_at = clock_.now();
    auto event = step_event(tenant, key, is, to_string(now.phase));
    event.outcome = audit::Outcome::Failed;
    event.with("reason", why);
    return Effect{Effect::Versions::None, {std::move(event)}};
  });
}

Result<CredentialRotations::Rotation> CredentialRotations::towards_current(const TenantId& tenant,
                                                                           const Key& key,
                                                                           const std::string& lease,
                                                                           const Rotation& is) {
  if (is_passed_by(is)) return roll_back(tenant, key, lease, is, passed_by_words(is));
  const bool outside = is.running.settings.reaches_outside();
  const bool sets = outside && is.phase == RotationPhase::Pending;
  bool sent = is.running.sent;
  const auto before_change = [&]() -> Status {
    if (sent) return {};
    POSTERN_CHECK(store_.change(tenant, key, lease, [&](Rotation& now) -> Result<Effect> {
      POSTERN_CHECK(same(now, is));
      now.running.sent = true;
      return Effect{};
    }));
    sent = true;
    return {};
  };
  const auto done = [&]() -> Status {
    POSTERN_TRY(const auto made, open(tenant, key, is.running.new_version));
    if (sets) return ask(tenant, key, is, &vault::Rotator::set, &made, before_change);
    if (!outside) POSTERN_CHECK(policy::check_fields(is.description.type, made));
    POSTERN_CHECK(check_generated(is.running.settings, made, is.running.public_half));
    return outside ? ask(tenant, key, is, &vault::Rotator::test, &made) : Status();
  }();
  Result<Rotation> moved = fail(ErrorCode::Internal, "");
  if (done.ok()) {
    moved = move_to(tenant, key, lease, is, sets ? RotationPhase::Set : RotationPhase::Tested);
  } else if (may_pass(done.error()) && is.attempts + 1 < kMostAttempts) {
    moved = postpone(tenant, key, lease, is, done.error());
  } else {
    log::warning("rotation.given_up", {{"tenant", tenant.str()},
                                       {"phase", to_string(is.phase)},
                                       {"code", to_string(done.error().code)},
                                       {"diagnostic", done.error().diagnostic}});
    // A refusal changed nothing, and neither did an earlier attempt, if there was none.
    const bool refused = sets && !is.running.sent && !may_pass(done.error());
    moved = roll_back(tenant, key, lease, is, words_of(done.error()), refused);
  }
  if (!moved.ok() && moved.error().code == ErrorCode::Conflict && sets && sent) {
    repair(tenant, key, is);
  }
  return moved;
}

Status CredentialRotations::ask(const TenantId& tenant, const Key& key, const Rotation& is,
                                OutsideStep asked, const Fields* made,
                                const std::function<Status()>& before_change) {
  auto* rotator = rotator_of(is.running.settings);
  if (rotator == nullptr) {
    return fail(ErrorCode::Forbidden, "the operator lets no rotator go there any more");
  }
  POSTERN_CHECK(rotator->check(is.running.settings));
  std::optional<Fields> current;
  if (is.state == vault::VersionState::Live) {
    POSTERN_TRY(current, open(tenant, key, is.version));
  }
  POSTERN_TRY(const auto secret, open_secret(tenant, key, is.running.settings));
  return (rotator->*asked)(
      {tenant, key, is.running, made, current ? &*current : nullptr, &secret, before_change});
}

void CredentialRotations::repair(const TenantId& tenant, const Key& key, const Rotation& did) {
  const auto repaired = store_.change(tenant, key, "", [&](Rotation& now) -> Result<Effect> {
    // The same rotation sets the same value: nothing to repair.
    if (now.phase != RotationPhase::None) {
      return fail(ErrorCode::Conflict, "a rotation is under way");
    }
    if (now.version == did.running.new_version) {
      return fail(ErrorCode::Conflict, "what was set is what is handed out");
    }
    now.phase = RotationPhase::RollingBack;
    now.running = did.running;
    now.running.sent = true;
    now.problem = "a step ended after its time";
    now.next_at = clock_.now();
    return Effect{Effect::Versions::None, {step_event(tenant, key, now, to_string(now.phase))}};
  });
  log::warning("rotation.late_step",
               {{"tenant", tenant.str()}, {"repaired", repaired.ok() ? "true" : "false"}});
}

Result<CredentialRotations::Rotation> CredentialRotations::promote(const TenantId& tenant,
                                                                   const Key& key,
                                                                   const std::string& lease,
                                                                   const Rotation& is) {
  if (is_passed_by(is)) {
    return roll_back(tenant, key, lease, is, passed_by_words(is));
  }
  // Woken, because what it follows was deleted, which was undone before anybody looked.
  const auto until = is.running.started_at + is.running.settings.announce;
  if (is_announced(is) && is.next_at == sys_seconds() && until > clock_.now()) {
    return store_.change(tenant, key, lease, [&](Rotation& now) -> Result<Effect> {
      POSTERN_CHECK(same(now, is));
      // What was said meanwhile counts: to hand it out, to hurry, that it is deleted again.
      if (is_announced(now) && now.next_at == sys_seconds() && !is_passed_by(now)) {
        now.next_at = until;
      }
      return Effect{};
    });
  }
  auto promoted = store_.change(tenant, key, lease, [&](Rotation& now) -> Result<Effect> {
    POSTERN_CHECK(same(now, is));
    if (is_passed_by(now)) return fail(ErrorCode::Conflict, "another value was stored meanwhile");
    const auto time = clock_.now();
    now.phase = RotationPhase::Previous;
    now.rotated_at = time;
    now.failures = 0;
    now.attempts = 0;
    now.wanted = false;  // nobody has seen this one
    now.public_half = now.running.public_half;
    now.public_version = now.running.new_version;
    now.problem.clear();
    now.running.retire_at = time + now.running.settings.grace;
    now.next_at = now.running.retire_at;
    auto& due = now.description.rotation_due_at;
    if (now.settings && now.settings->interval) {
      due = time + *now.settings->interval;
    } else if (due && *due <= time) {
      due.reset();  // what was asked for is done
    }
    auto event = step_event(tenant, key, is, "current");
    event.with("credential_version", std::to_string(is.running.new_version));
    return Effect{Effect::Versions::Promote, {std::move(event)}};
  });
  if (promoted.ok()) ++rotated_;
  return promoted;
}

Result<CredentialRotations::Rotation> CredentialRotations::retire(const TenantId& tenant,
                                                                  const Key& key,
                                                                  const std::string& lease,
                                                                  const Rotation& is) {
  const auto done = [&]() -> Status {
    if (!is.running.settings.reaches_outside()) return {};
    const auto* rotator = rotator_of(is.running.settings);
    if (rotator != nullptr && !rotator->retires(is.running)) return {};
    return ask(tenant, key, is, &vault::Rotator::retire);
  }();
  // Whatever it is: the value before is still valid, and that is said until it is not.
  if (!done.ok()) return postpone(tenant, key, lease, is, done.error());
  return store_.change(tenant, key, lease, [&](Rotation& now) -> Result<Effect> {
    POSTERN_CHECK(same(now, is));
    const auto versions =
        now.running.settings.destroy ? Effect::Versions::DestroyOld : Effect::Versions::DeleteOld;
    auto event = step_event(tenant, key, is, "retired");
    event.with("credential_version", std::to_string(is.running.old_version));
    now.problem.clear();
    end(now, clock_.now());
    return Effect{versions, {std::move(event)}};
  });
}

Result<CredentialRotations::Rotation> CredentialRotations::undo(const TenantId& tenant,
                                                                const Key& key,
                                                                const std::string& lease,
                                                                const Rotation& is) {
  const auto done = asks_outside(is) ? ask(tenant, key, is, &vault::Rotator::undo) : Status();
  const bool never = !done.ok() && done.error().code == ErrorCode::PreconditionFailed;
  if (!done.ok() && !never) {
    auto why = done.error();
    // What it is rolled back for is what its owner has to know.
    if (!is.problem.empty() && is.attempts == 0)
      why.detail = is.problem + "; undoing it: " + words_of(why);
    return postpone(tenant, key, lease, is, why);
  }
  auto undone = store_.change(tenant, key, lease, [&](Rotation& now) -> Result<Effect> {
    POSTERN_CHECK(same(now, is));
    // The current value must be the one that was set again.
    if (now.version != is.version || now.state != is.state) {
      return fail(ErrorCode::Conflict, "another value was stored meanwhile");
    }
    auto event = step_event(tenant, key, is, "rolled_back");
    event.outcome = audit::Outcome::Failed;
    if (never) now.problem = shortened("not undone outside: " + done.error().detail);
    event.with("reason", now.problem);
    ++now.failures;
    now.failed_at = clock_.now();
    end(now, clock_.now());
    return Effect{Effect::Versions::DropNew, {std::move(event)}};
  });
  if (undone.ok()) ++rolled_back_;
  return undone;
}

// ---- report ----

Result<CredentialRotations::Page> CredentialRotations::report(
    const TenantId& tenant, const vault::CredentialStore::Filter& filter, std::string_view cursor,
    std::uint32_t limit) {
  POSTERN_TRY(auto page, credentials_.list(tenant, filter, cursor, limit));
  Page out{{}, std::move(page.next)};
  if (page.items.empty()) return out;
  std::vector<Key> keys;
  for (const auto& item : page.items) keys.push_back(item.key);
  POSTERN_TRY(auto rotations, store_.of(tenant, keys));
  auto next = rotations.begin();
  for (auto& item : page.items) {
    Rotation rotation{item.key};
    rotation.version = item.version;
    rotation.state = item.state();
    rotation.expires_at = item.expires_at;
    while (next != rotations.end() && next->key < item.key) ++next;
    if (next != rotations.end() && next->key == item.key) rotation = std::move(*next++);
    out.items.push_back({std::move(item), std::move(rotation)});
  }
  return out;
}

CredentialRotations::Stats CredentialRotations::stats() const {
  const std::lock_guard lock(mutex_);
  return {rotated_, rolled_back_, counts_};
}

// ---- the threads ----

std::size_t CredentialRotations::tick() {
  const auto due = store_.due(clock_.now(), kDueAtOnce);
  if (!due.ok()) return 0;
  auto items = due.value();
  // Replicas and threads begin at different ones, so that they rarely meet.
  std::minstd_rand random(std::random_device{}());
  std::shuffle(items.begin(), items.end(), random);
  std::size_t moved = 0;
  for (const auto& [tenant, key] : items) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return moved;
    }
    try {
      const auto done = go_on(tenant, key);
      if (done.ok()) {
        ++moved;
      } else if (done.error().code != ErrorCode::Conflict &&
                 done.error().code != ErrorCode::NotFound) {
        log::warning("rotation.step_failed", {{"tenant", tenant.str()},
                                              {"code", to_string(done.error().code)},
                                              {"diagnostic", done.error().diagnostic}});
      }
    } catch (const std::exception& e) {
      log::error("rotation.step_threw", {{"type", typeid(e).name()}});  // the type, not what()
    }
  }
  return moved;
}

void CredentialRotations::start(std::chrono::milliseconds interval) {
  interval_ = interval;
  for (std::size_t i = 0; i < kThreads; ++i) threads_.emplace_back([this] { work(); });
}

void CredentialRotations::work() {
  std::unique_lock lock(mutex_);
  auto seen = begun_;
  // Reads every row, and so not at every look.
  using std::chrono::steady_clock;
  std::optional<steady_clock::time_point> counted;
  while (!stopping_) {
    lock.unlock();
    const auto moved = tick();
    wipe_stack();
    const bool counts_now = !counted || steady_clock::now() - *counted > kCounted;
    auto counts = counts_now
                      ? store_.counts(clock_.now())
                      : Result<CredentialRotationStore::Counts>(fail(ErrorCode::Conflict, ""));
    if (counts.ok()) counted = steady_clock::now();
    lock.lock();
    if (counts.ok()) counts_ = std::move(counts).value();
    if (moved > 0) continue;  // there may be more
    wake_.wait_for(lock, interval_, [&] { return stopping_ || seen != begun_; });
    seen = begun_;
  }
}

void CredentialRotations::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace postern::grants
