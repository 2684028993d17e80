#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "policy/config.h"
#include "policy/config_store.h"
#include "policy/snapshot.h"

namespace postern::policy {

/// A tenant's configuration as a client sends it (docs/manifest.md), read and
/// checked, but not yet compared with what is stored.
struct Manifest {
  TenantId tenant{"unset"};
  std::optional<std::string> display_name;
  std::optional<bool> enabled;
  std::optional<TenantSettings> settings;
  std::set<std::string> named_settings;  ///< members of settings that were given, and not as null
  /// The operator's limits for this tenant. Absent: they stay. Who may change
  /// them is for the caller of plan() to decide.
  std::optional<Guardrails> guardrails;

  struct Object {
    Kind kind{};
    std::string name;
    Json spec;            ///< written by policy::write: defaults included
    std::string pointer;  ///< where it stands in the request
  };
  std::vector<Object> objects;
  struct GivenSecret {
    ClientId client;
    ClientSecret secret;
  };
  std::vector<GivenSecret> client_secrets;
  struct CredentialReference {
    CredentialName name;
    std::vector<std::string> fields;
  };
  std::vector<CredentialReference> credentials;  ///< shared ones that must be stored

  /// Errors: MalformedRequest with the pointer of the first problem.
  static Result<Manifest> read(const Json& value);
};

/// One line of what applying would do.
struct PlannedChange {
  enum class Action { Unchanged, Create, Update, Delete };
  std::string kind;  ///< "tenant" or a Kind's name
  std::string name;
  Action action = Action::Unchanged;
  std::vector<std::string> fields;  ///< top-level members that differ, as pointers
};

struct Plan {
  ConfigChange change;
  std::vector<PlannedChange> lines;
  struct NewSecret {
    ClientId client;
    std::string secret_id;
    ClientSecret secret;  ///< shown once, in the answer
  };
  std::vector<NewSecret> generated;
  std::vector<std::string> warnings;
  bool creates = false;
  /// Nothing would change.
  bool empty() const;
};

enum class Prune { No, Yes };

/// What it takes to get from `stored` (null: no such tenant yet) to the
/// manifest. Objects that the manifest does not name stay, unless `prune`.
/// A client without any secret gets a generated one; a given secret that is
/// not known yet is added, and the others expire 24 hours later.
/// Errors: MalformedRequest when the result would not fit together, Forbidden
/// when something that changes goes beyond the guardrails, with the pointer into
/// the manifest where possible. What went beyond them before stays with a warning:
/// it is held to them whenever something is issued.
Result<Plan> plan(const Manifest& manifest, const StoredTenant* stored, Prune prune,
                  sys_seconds now);

/// The guardrails in stored settings; none when those do not read back.
Guardrails guardrails_of(const TenantRow& row);

/// The stored configuration as a manifest, without secrets.
Json write_manifest(const StoredTenant& stored);

}  // namespace postern::policy
