#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "grants/issuance.h"
#include "grants/subject.h"
#include "vault/credential.h"
#include "vault/envelope.h"
#include "vault/last_uses.h"

namespace postern::grants {

class DecisionPoint;

/// One backend asked for in a release call: by name, audience or resource.
struct ReleaseItemRequest {
  std::string asked;  ///< as sent
  bool is_resource = false;
  std::optional<std::string> scope;
};

struct ReleasedFile {
  std::string name;
  std::string env;
  FieldValue content;
};

/// What one backend's server gets, rendered from its delivery template.
struct ReleasedItem {
  BackendId backend;
  std::map<std::string, FieldValue> env;
  std::map<std::string, FieldValue> headers;
  std::vector<ReleasedFile> files;
  std::optional<sys_seconds> expires_at;
  struct CredentialUsed {
    CredentialName name;
    bool of_tenant = false;
    std::uint32_t version = 0;
  };
  std::optional<CredentialUsed> credential;  ///< vaulted
  std::optional<policy::ScopeSet> scope;     ///< minted

  std::size_t bytes() const noexcept;  ///< of all values
};

/// A stored credential in the clear, for one user at one backend.
struct OpenedCredential {
  vault::Fields fields;
  ReleasedItem::CredentialUsed used;
  std::optional<sys_seconds> expires_at;
  sys_seconds created_at{};  ///< of this version
};

/// The act of handing out plaintext: needs an authenticated client and the
/// user's own token (never one issued here). Thread-safe.
class Release {
 public:
  Release(SubjectVerifier& verifier, vault::CredentialStore& credentials, vault::Envelope& envelope,
          const Clock& clock, DecisionPoint* point = nullptr, vault::LastUses* uses = nullptr)
      : verifier_(verifier),
        credentials_(credentials),
        envelope_(envelope),
        clock_(clock),
        point_(point),
        uses_(uses) {}

  /// Errors: as SubjectVerifier::verify; UnauthorizedClient.
  Result<VerifiedTokenPtr> verify_subject(const policy::TenantSnapshot& snapshot,
                                          const Caller& caller, std::string_view subject_token,
                                          std::string_view subject_token_type, Wait wait) const;

  /// As verify_subject, where a client has no way to say what kind of token it has:
  /// one that it could have said.
  Result<VerifiedTokenPtr> verify_undeclared(const policy::TenantSnapshot& snapshot,
                                             const Caller& caller, std::string_view subject_token,
                                             Wait wait) const;

  /// One item, decided on its own, with its own audit record.
  /// @param wait  for a decision point; the database it waits for in any case.
  /// Errors: TargetRefused, ScopeRefused, NeedsOutbound, InteractionRequired (no usable
  /// credential: the user must connect or renew it), Unavailable, Internal.
  Result<ReleasedItem> release(const policy::TenantSnapshot& snapshot, const Caller& caller,
                               const VerifiedToken& subject, const ReleaseItemRequest& item,
                               audit::Event& record, Wait wait = Wait::No) const;

  /// The credential of a vaulted backend as it is stored, for a client that renders it
  /// itself. `record` has the subject already.
  /// @param backend  its name, and no other thing it is called.
  /// Errors: as release(); TargetRefused also for a backend that takes none.
  Result<OpenedCredential> release_fields(const policy::TenantSnapshot& snapshot,
                                          const Caller& caller, const VerifiedToken& subject,
                                          const std::string& backend, audit::Event& record,
                                          Wait wait) const;

  /// The credential that a vaulted backend takes, for whoever may have all of
  /// the backend: a stored credential cannot be narrowed, so its bearer has
  /// every scope of it. Every hand-out of a stored credential comes by here.
  /// @param permitted  what this subject may do there, from policy::permitted_scope.
  /// @param wait       at least Database, or NeedsDatabase.
  /// Errors: ScopeRefused, InteractionRequired (none, or expired), NeedsDatabase,
  /// Unavailable, Internal.
  Result<OpenedCredential> open_credential(const policy::TenantSnapshot& snapshot,
                                           const policy::Backend& backend,
                                           const VerifiedToken& subject,
                                           const policy::ScopeSet& permitted,
                                           const std::optional<std::string_view>& scope, Wait wait,
                                           audit::Event& record) const;

 private:
  struct Entitled {
    policy::Target target;
    policy::ScopeSet permitted;
  };
  /// Where to, and what this user may do there.
  Result<Entitled> entitle(const policy::TenantSnapshot& snapshot, const Caller& caller,
                           const VerifiedToken& subject, const ReleaseItemRequest& item,
                           audit::Event& record, Wait wait) const;

  SubjectVerifier& verifier_;
  vault::CredentialStore& credentials_;
  vault::Envelope& envelope_;
  const Clock& clock_;
  DecisionPoint* point_;
  vault::LastUses* uses_;
};

/// The stored credentials that a vaulted backend takes for a user; the first that
/// is there counts.
std::vector<vault::CredentialKey> credentials_for(const policy::Backend& backend,
                                                  const Principal& user);
/// What was made for a backend never opens the vault. Errors: InvalidToken.
Status check_opens_vault(const VerifiedToken& subject);
/// Why a backend has nothing stored to take for a user.
Error no_credential(const policy::Backend& backend);
/// Errors: InteractionRequired when a stored credential has ended.
Status check_not_ended(const std::optional<sys_seconds>& expires_at, sys_seconds now);

/// Why a stored credential cannot be delivered.
Error lacks_field();

/// Where a user connects a missing credential; empty when the tenant names no page.
std::string connect_url(const policy::TenantSnapshot& snapshot, std::string_view backend);

}  // namespace postern::grants
