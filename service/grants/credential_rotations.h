#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "audit/event.h"
#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "vault/credential.h"
#include "vault/credential_rotation.h"
#include "vault/envelope.h"

namespace postern::grants {

/// Rotates credentials: pending → (set →) tested → previous → none, step by step, each of
/// them idempotent and each committed before the next. Any replica goes on where another
/// one stopped. Thread-safe; waits for the database, and in go_on() for the outside.
class CredentialRotations {
 public:
  using Rotation = vault::CredentialRotation;
  using Key = vault::CredentialKey;

  struct Rotators {
    vault::Rotator* postgres = nullptr;
    vault::Rotator* webhook = nullptr;
  };
  CredentialRotations(vault::CredentialRotationStore& store, vault::CredentialStore& credentials,
                      vault::Envelope& envelope, const Clock& clock, Rotators rotators);
  ~CredentialRotations() { stop(); }
  CredentialRotations(const CredentialRotations&) = delete;
  CredentialRotations& operator=(const CredentialRotations&) = delete;

  /// Errors: NotFound, Unavailable.
  Result<Rotation> find(const TenantId& tenant, const Key& key) { return store_.find(tenant, key); }

  /// Says how it is rotated from now on, or takes that back. With an interval the next one
  /// is due after it; without, none is. The value there is must be one that can be rotated
  /// so. A rotation under way goes on with what it began with.
  /// Errors: MalformedRequest, Forbidden, Conflict; NotFound; PreconditionFailed; those of
  /// opening the value.
  Result<Rotation> configure(const TenantId& tenant, const Key& key,
                             const std::optional<vault::RotationSettings>& settings,
                             audit::Event record,
                             const std::optional<vault::Expected>& expected = {});

  /// What to rotate to, in place of what the settings say.
  struct Order {
    const vault::Fields* given = nullptr;           ///< this value
    std::optional<vault::RotationSettings> once{};  ///< made so
    std::optional<std::chrono::seconds> grace{};
    std::optional<std::chrono::seconds> announce{};
    std::optional<sys_seconds> expires_at{};  ///< of a given value; none: as the one before
    std::optional<vault::Expected> expected{};
  };
  /// Begins a rotation. One that reaches outside goes on by itself; any other is done when
  /// this answers, but for its announcement and its grace. The record is committed with it.
  /// A new value expires when the one before would have, unless it is given with a time. One
  /// that has expired is not replaced by a made one, which would revive it.
  /// Errors: Conflict when one is under way, nothing says how, or the value has expired;
  /// MalformedRequest when one that has expired is followed by a given one without a time;
  /// PreconditionFailed, also when
  /// a value is given, the credential has cas_required and no version is named; as configure().
  Result<Rotation> rotate(const TenantId& tenant, const Key& key, const Order& order,
                          audit::Event record);
  /// Whether rotate() would begin one, as far as the row tells.
  Status may_rotate(const Rotation& rotation) const;
  /// Likewise, once none is under way; and whether what it needs outside is there, and a new
  /// value could follow the one that is there. For dry runs. Errors: as rotate().
  Status may_begin(const TenantId& tenant, const Rotation& rotation);

  /// The new key whose public half is announced is handed out now. Errors: Conflict unless
  /// one waits for that.
  Result<Rotation> promote_now(const TenantId& tenant, const Key& key, audit::Event record);
  /// The value before is retired now. Errors: Conflict unless one waits for that.
  Result<Rotation> end_grace(const TenantId& tenant, const Key& key, audit::Event record);
  /// Gives up a rotation whose value is not handed out yet. Errors: Conflict.
  Result<Rotation> cancel(const TenantId& tenant, const Key& key, audit::Event record);
  /// Ends every wait of a rotation under way: its new key is announced no longer, its value
  /// before gets no grace, and what is postponed is tried again now. With Again::Yes another one
  /// begins when it has ended, unless its own new value is handed out from now on.
  /// Errors: Conflict when none is under way.
  enum class Again { No, Yes };
  Result<Rotation> hurry(const TenantId& tenant, const Key& key, Again again, audit::Event record);
  /// Ends here what cannot be ended outside: a roll-back, or the wait for the value before to
  /// be retired. What is valid outside stays so, and `problem` says that.
  /// @param phase  RollingBack or Previous
  /// Errors: Conflict when it is in another phase, or somebody is at its next step.
  Result<Rotation> abandon(const TenantId& tenant, const Key& key, vault::RotationPhase phase,
                           audit::Event record);

  /// Does what there is to do now. Errors: Conflict when somebody else is at it; NotFound.
  Result<Rotation> go_on(const TenantId& tenant, const Key& key);

  struct Reported {
    vault::CredentialMetadata credential;
    Rotation rotation;
  };
  struct Page {
    std::vector<Reported> items;
    std::string next;
  };
  Result<Page> report(const TenantId& tenant, const vault::CredentialStore::Filter& filter,
                      std::string_view cursor, std::uint32_t limit);

  /// Goes on with whatever is due, in threads of its own, every `interval`, and at once when
  /// something began here.
  void start(std::chrono::milliseconds interval);
  void stop();  ///< idempotent
  /// One look at what is due; how many it went on with.
  std::size_t tick();

  struct Stats {
    std::uint64_t rotated = 0;
    std::uint64_t rolled_back = 0;
    vault::CredentialRotationStore::Counts counts;  ///< of all replicas, as of the last look
  };
  Stats stats() const;

 private:
  vault::Rotator* rotator_of(const vault::RotationSettings& settings) const;
  /// Whether it may go there, and what it needs for that is there. Errors: as configure().
  Status check_settings(const TenantId& tenant, const Key& key,
                        const vault::RotationSettings& settings) const;
  /// Whether the credential that it works with can be used for that. Errors: Conflict; those
  /// of opening it.
  Status check_secret(const TenantId& tenant, const Key& key,
                      const vault::RotationSettings& settings) const;
  Result<vault::Fields> open_secret(const TenantId& tenant, const Key& key,
                                    const vault::RotationSettings& settings) const;
  Result<vault::Fields> open(const TenantId& tenant, const Key& key, std::uint32_t version);
  /// What it takes to begin one: the new value, and for whom.
  struct Made {
    vault::GeneratedFields value;
    std::string new_role, old_role;
  };
  Result<Made> make(const TenantId& tenant, const Key& key, const Rotation& is,
                    const vault::RotationSettings& settings, const vault::Fields* given);
  /// What cannot be rotated so is refused before its hour. Errors: as make().
  Status try_on(const TenantId& tenant, const Key& key, const Rotation& is,
                vault::RotationSettings settings);
  Result<Rotation> begin(const TenantId& tenant, const Key& key, const Rotation& is,
                         vault::RotationSettings settings, const Order& order,
                         const vault::CredentialRotationStore::Lease& lease, audit::Event record);

  Status can_rotate(const Rotation& rotation) const;
  /// A step outside, with what it works with opened for it.
  /// @param made  the new value, where the step needs it
  using OutsideStep = Status (vault::Rotator::*)(const vault::Rotator::Step&);
  Status ask(const TenantId& tenant, const Key& key, const Rotation& is, OutsideStep asked,
             const vault::Fields* made = nullptr,
             const std::function<Status()>& before_change = {});
  void wake();

  /// After an edit by somebody who has no lease: goes on as far as nothing outside is asked.
  Result<Rotation> nudge(const TenantId& tenant, const Key& key);
  vault::CredentialRotationStore::Lease new_lease() const;
  enum class Outside { Stop, Go };
  Result<Rotation> run(const TenantId& tenant, const Key& key,
                       const vault::CredentialRotationStore::Lease& lease, Rotation is,
                       Outside outside);
  Result<Rotation> step(const TenantId& tenant, const Key& key, const std::string& lease,
                        const Rotation& is);
  Result<Rotation> begin_scheduled(const TenantId& tenant, const Key& key, const std::string& lease,
                                   const Rotation& is);
  Result<Rotation> towards_current(const TenantId& tenant, const Key& key, const std::string& lease,
                                   const Rotation& is);
  Result<Rotation> promote(const TenantId& tenant, const Key& key, const std::string& lease,
                           const Rotation& is);
  Result<Rotation> retire(const TenantId& tenant, const Key& key, const std::string& lease,
                          const Rotation& is);
  Result<Rotation> undo(const TenantId& tenant, const Key& key, const std::string& lease,
                        const Rotation& is);
  /// @param refused  the step said that nothing was changed by it
  Result<Rotation> roll_back(const TenantId& tenant, const Key& key, const std::string& lease,
                             const Rotation& is, const std::string& why, bool refused = false);
  Result<Rotation> postpone(const TenantId& tenant, const Key& key, const std::string& lease,
                            const Rotation& is, const Error& why);
  Result<Rotation> move_to(const TenantId& tenant, const Key& key, const std::string& lease,
                           const Rotation& is, vault::RotationPhase to);
  /// Another one has taken the step while this one did it outside.
  void repair(const TenantId& tenant, const Key& key, const Rotation& did);

  audit::Event step_event(const TenantId& tenant, const Key& key, const Rotation& is,
                          std::string_view phase) const;
  void work();

  vault::CredentialRotationStore& store_;
  vault::CredentialStore& credentials_;
  vault::Envelope& envelope_;
  const Clock& clock_;
  const Rotators rotators_;
  std::atomic<std::uint64_t> rotated_{0}, rolled_back_{0};
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  vault::CredentialRotationStore::Counts counts_;
  std::chrono::milliseconds interval_{0};
  std::uint64_t begun_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace postern::grants
