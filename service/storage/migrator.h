#pragma once

#include <string>

#include "core/result.h"

namespace postern::storage {

/// Which of the two databases: that of the service, or the share store.
enum class Schema { Service, Shares };

/// How the schema of a database compares with what this binary has compiled in.
enum class SchemaStatus {
  Current,
  Missing,  ///< no schema yet
  Older,    ///< migrate first
  Newer,    ///< made by a later release
  Altered,  ///< a migration differs from the one that was applied
};
std::string_view to_string(SchemaStatus status) noexcept;  ///< "current", "missing", …

struct SchemaState {
  SchemaStatus status = SchemaStatus::Missing;
  int applied = 0;  ///< number of the last migration in the database
  int known = 0;    ///< and in this binary
};

/// For serve and check-config, which refuse all but Current. Any role that may
/// connect can ask. Errors: Unavailable.
Result<SchemaState> schema_state(const std::string& conninfo, Schema schema = Schema::Service);

/// Applies the missing migrations in one transaction, under an advisory lock so
/// that several may start at once. To be run as postern_owner. Does nothing
/// when current. Errors: Conflict when the schema is newer or altered,
/// Unavailable, Internal when a migration fails (nothing is changed then).
Status migrate(const std::string& owner_conninfo, Schema schema = Schema::Service);

struct BootstrapOptions {
  std::string superuser_conninfo;  ///< of a role that may create roles and databases
  std::string database = "postern";
  // An empty password is left as it is: certificate or peer authentication, or set elsewhere.
  std::string owner_password, service_password, auditor_password;
};

/// Creates the roles postern_owner, postern_service and postern_auditor and the
/// database, or brings existing ones into line; safe to repeat and to run twice
/// at once. Errors: MalformedRequest for an unusable name or password, Conflict
/// when an existing role could bypass row-level security, Unavailable.
Status bootstrap(const BootstrapOptions& options);

}  // namespace postern::storage
