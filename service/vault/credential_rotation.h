#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "audit/event.h"
#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "crypto/key_pair.h"
#include "vault/credential.h"

/// Rotation of credentials: a new value is made, set where it is checked, tested, handed
/// out in place of the one before, and that one ends after a grace. Where a rotation
/// stands is in its row alone; see docs/rotation.md.
namespace postern::vault {

/// How a new value is made, and who has to hear of it.
enum class RotationKind {
  Manual,    ///< somebody gives it
  Password,  ///< random, made here
  KeyPair,   ///< made here, PEM
  SshKey,    ///< made here, in OpenSSH's form
  Postgres,  ///< a password made here, of a role of a PostgreSQL server
  Webhook,   ///< made here, and set by whoever answers at a URL
};
std::string_view to_string(RotationKind kind) noexcept;  ///< "manual", "password", …, "ssh_key"
std::optional<RotationKind> parse_rotation_kind(std::string_view text) noexcept;

struct PasswordRule {
  static constexpr std::size_t kLongest = 200;
  std::uint32_t length = 32;
  /// Distinct printable ASCII characters without blank; empty: letters and digits.
  std::string alphabet{};
  /// Of each of these classes at least one character: lower, upper, digit, symbol.
  std::vector<std::string> require{};
  bool operator==(const PasswordRule&) const = default;
};
/// Bounds: 12 to 200 characters, and at least 64 bits. Errors: MalformedRequest.
Status validate(const PasswordRule& rule);

struct RotationSettings {
  RotationKind kind = RotationKind::Manual;
  std::optional<std::chrono::seconds> interval{};  ///< none: only when somebody asks
  std::chrono::seconds grace{0};                   ///< how long the value before stays valid
  /// Of KeyPair and SshKey: how long the new public half is shown before its key is handed
  /// out, for whoever installs it.
  std::chrono::seconds announce{0};
  bool destroy = true;  ///< the version before, once retired; false: only deleted

  std::string field{};         ///< that is made anew; "url": the password in it
  std::string public_field{};  ///< of a key pair, where the type of the credential has one
  PasswordRule password{};
  crypto::KeyPairKind key = crypto::KeyPairKind::Ed25519;
  RotationKind generate = RotationKind::Password;  ///< of Webhook: Password, KeyPair or SshKey

  // Of Postgres. Two roles take turns, so that the one before stays valid.
  std::string host{};
  std::uint16_t port = 5432;
  std::string database{};
  std::vector<std::string> roles{};
  /// Of Postgres: the credential of the same owner that may alter the roles. Of Webhook:
  /// the one whose field `secret` signs.
  std::string secret_credential{};
  std::string url{};  ///< of Webhook

  bool operator==(const RotationSettings&) const = default;
  /// What a value is made as: kind, or that of a webhook's value.
  RotationKind made_as() const noexcept {
    return kind == RotationKind::Webhook    ? generate
           : kind == RotationKind::Postgres ? RotationKind::Password
                                            : kind;
  }
  bool reaches_outside() const noexcept {
    return kind == RotationKind::Postgres || kind == RotationKind::Webhook;
  }
};

/// Where a rotation stands. `None`: no rotation is under way.
enum class RotationPhase {
  None,
  Pending,      ///< the new value is stored, and nothing outside knows it
  Set,          ///< it is set outside
  Tested,       ///< it was tried, and works
  Previous,     ///< it is what is handed out; the one before is still valid
  RollingBack,  ///< it was given up; what it changed outside is being undone
};
std::string_view to_string(RotationPhase phase) noexcept;  ///< "", "pending", …, "rolling_back"
std::optional<RotationPhase> parse_rotation_phase(std::string_view text) noexcept;
/// A new value is under way, and not handed out yet.
constexpr bool is_before_current(RotationPhase phase) noexcept {
  return phase == RotationPhase::Pending || phase == RotationPhase::Set ||
         phase == RotationPhase::Tested;
}

/// One rotation, from its beginning to its end. It goes on with the settings it began with.
struct RunningRotation {
  std::string id;  ///< random: what is done outside is bound to it
  RotationSettings settings{};
  std::uint32_t new_version = 0;
  std::uint32_t old_version = 0;
  std::string new_role{};  ///< of Postgres
  std::string old_role{};
  std::string public_half{};  ///< of a new key pair
  sys_seconds started_at{};
  std::optional<sys_seconds> retire_at{};  ///< once Previous
  /// Whoever is outside may have heard of the new value: giving it up means to tell them.
  bool sent = false;
};

/// What is kept of a credential's rotation, with what it needs of the credential.
struct CredentialRotation {
  CredentialKey key;
  std::optional<RotationSettings> settings{};
  RotationPhase phase = RotationPhase::None;
  RunningRotation running{};         ///< unless None
  std::uint32_t attempts = 0;        ///< at the present phase that did not succeed
  std::string problem{};             ///< why the last one did not, in our words
  std::string public_half{};         ///< of the newest key pair handed out, for whoever installs it
  std::uint32_t public_version = 0;  ///< whose half it is
  std::optional<sys_seconds> rotated_at{};
  std::optional<sys_seconds> failed_at{};  ///< the last rotation that was rolled back
  std::uint32_t failures = 0;              ///< in a row
  /// Another one is to begin as soon as none is under way, with no grace.
  bool wanted = false;
  std::optional<sys_seconds> next_at{};  ///< when there is something to do
  // Of the credential; written by a change that says so.
  std::uint32_t version = 0;
  std::uint32_t revision = 0;
  VersionState state = VersionState::Live;
  std::optional<sys_seconds> expires_at{};
  CredentialDescription description{};
  /// Of the tenant: while it is not, nothing begins by itself.
  bool tenant_enabled = true;
};

/// Its new key waits for its public half to be installed, and is handed out at next_at.
inline bool is_announced(const CredentialRotation& is) noexcept {
  return is.phase == RotationPhase::Tested && is.running.settings.announce.count() > 0;
}

/// Where rotations are kept. A change is one transaction with its audit event, under the
/// lock of the credential. Implemented by storage.
class CredentialRotationStore {
 public:
  virtual ~CredentialRotationStore() = default;

  /// Also of a credential that nothing was said about. Errors: NotFound, Unavailable.
  virtual Result<CredentialRotation> find(const TenantId& tenant, const CredentialKey& key) = 0;
  /// Those of these credentials that something was said about, in the order of their keys.
  virtual Result<std::vector<CredentialRotation>> of(const TenantId& tenant,
                                                     std::span<const CredentialKey> keys) = 0;

  /// What a change does to the versions, in the same transaction, and its record.
  struct Effect {
    enum class Versions {
      None,
      Promote,    ///< running.new_version is the latest from now on
      DropNew,    ///< running.new_version is no more, unless it was handed out
      DeleteOld,  ///< running.old_version, and
      DestroyOld  ///< it unless it is the latest, or gone
    };
    Versions versions = Versions::None;
    std::vector<audit::Event> events{};
  };
  /// Changes the rotation. `edit` sees it under the lock, as it is, and says what to do; of
  /// the description only rotation_due_at is written.
  /// @param lease  of who took the step; empty: whoever.
  /// Errors: Conflict when the lease is somebody else's; NotFound, those of `edit`, Unavailable.
  using Edit = std::function<Result<Effect>(CredentialRotation&)>;
  virtual Result<CredentialRotation> change(const TenantId& tenant, const CredentialKey& key,
                                            const std::string& lease, const Edit& edit) = 0;

  /// Takes the next step for one alone, until a time. Whoever comes after it may take it too.
  struct Lease {
    std::string id;
    sys_seconds until{};
  };
  /// Begins a rotation: stores a version that nobody sees yet, under the next number, which
  /// `edit` finds in running.new_version, and takes its first step.
  /// Errors: Conflict when one is under way; PreconditionFailed; NotFound; as change().
  virtual Result<CredentialRotation> begin(const TenantId& tenant, const CredentialKey& key,
                                           Expected expected, const Lease& lease,
                                           const CredentialStore::Seal& seal, const Edit& edit) = 0;
  /// Errors: Conflict when somebody has it; NotFound when nothing was ever said; Unavailable.
  virtual Result<CredentialRotation> take(const TenantId& tenant, const CredentialKey& key,
                                          const Lease& lease, sys_seconds now) = 0;
  virtual Status give_back(const TenantId& tenant, const CredentialKey& key,
                           const std::string& lease) = 0;

  /// A version by its number, shown or not, to be opened. NotFound when it is gone.
  virtual Result<SealedVersion> version(const TenantId& tenant, const CredentialKey& key,
                                        std::uint32_t number) = 0;

  struct Due {
    TenantId tenant;
    CredentialKey key;
  };
  /// What has something to do and nobody at it: a few of each tenant at most, and of each
  /// one before the second of any; that longest due first. Of a disabled tenant only what is
  /// under way.
  virtual Result<std::vector<Due>> due(sys_seconds now, std::uint32_t limit) = 0;

  /// Of all tenants, for metrics.
  struct Counts {
    std::map<RotationPhase, std::uint64_t> by_phase{};  ///< those under way
    std::uint64_t overdue = 0;
    std::uint64_t failing = 0;  ///< whose last one failed, or whose step does not succeed
  };
  virtual Result<Counts> counts(sys_seconds now) = 0;
};

/// Makes a value known outside of the service, and takes it back. Every step may be run
/// again after it succeeded, also by another replica.
class Rotator {
 public:
  virtual ~Rotator() = default;

  struct Step {
    const TenantId& tenant;
    const CredentialKey& key;
    const RunningRotation& running;
    const Fields* made = nullptr;     ///< the new value; null once it is gone
    const Fields* current = nullptr;  ///< what is handed out; null when there is nothing
    const Fields* secret = nullptr;   ///< of settings.secret_credential
    /// Called by set() right before something may change outside; its error ends that.
    std::function<Status()> before_change{};
  };
  /// Whether the operator lets it go there, and the fields are what it takes.
  /// Errors: Forbidden, MalformedRequest.
  virtual Status check(const RotationSettings& settings) const = 0;
  /// Which role comes next; "" where there are none. Errors: MalformedRequest.
  virtual Result<std::string> next_role(const RotationSettings& settings,
                                        const Fields& current) const = 0;
  /// Whether retire() has anything to do.
  virtual bool retires(const RunningRotation&) const { return true; }
  // Errors of these: Unavailable when trying again may help, and what was done is in
  // doubt; anything else when not, and nothing was changed.
  virtual Status set(const Step& step) = 0;
  virtual Status test(const Step& step) = 0;
  virtual Status retire(const Step& step) = 0;
  /// Errors: also PreconditionFailed when it can never be done: it ends then, and says so.
  virtual Status undo(const Step& step) = 0;
};

/// A new value: `current` with what is made anew in it.
struct GeneratedFields {
  Fields fields;
  std::string public_half{};
};
/// @param role  of Postgres: goes into the field `username`, or into the URL.
/// Errors: Conflict when the current value cannot be taken over (no such field, a certificate
/// of the key before, no URL).
Result<GeneratedFields> generate_fields(const RotationSettings& settings, const Fields& current,
                                        const std::string& role, std::string_view comment);
/// Whether a made key pair is one. Errors: Conflict.
Status check_generated(const RotationSettings& settings, const Fields& made,
                       std::string_view public_half);

SecureBuffer random_password(const PasswordRule& rule);

/// User and password of a value: from the fields `username` and `password`, or from `url`.
struct LogIn {
  std::string user;
  SecureBuffer password;
};
Result<LogIn> log_in_of(const Fields& fields, std::string_view password_field);
Fields copy_of(const Fields& fields);

}  // namespace postern::vault
