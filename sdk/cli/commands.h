#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/settings.h"

/// The program's commands. Each takes its options as main.cc parsed them,
/// prints results to standard output and everything else to standard error,
/// and returns the exit code (cli/output.h).
namespace postern::cli {

struct ApplyOptions {
  std::vector<std::string> files;
  bool dry_run = false;
  bool prune = false;
  bool admin_token = false;  ///< make one for each tenant that has none in secrets_dir
  std::string secrets_dir;
};
int run_apply(const Settings& settings, const ApplyOptions& options);
int run_diff(const Settings& settings, const ApplyOptions& options);

struct ExchangeOptions {
  std::string backends;  ///< names with commas between them: a token for each
  // Or one token, for a target by one or several of its names.
  std::vector<std::string> audience;
  std::vector<std::string> resource;
  std::vector<std::string> scopes;  ///< `a b`, or `backend=a b`
  std::string requested_token_type;
  std::string actor_token_file;
  std::string actor_token_type = "access_token";
  bool as_client = false;  ///< client_credentials: no user
  bool decode = false;
};
int run_exchange(const Settings& settings, const ExchangeOptions& options);
int run_decode(const std::string& path);

struct CredentialOptions {
  std::string name;
  // Whose it is: exactly one of the three for set, get and delete.
  bool tenant_owned = false;
  bool as_user = false;
  std::string issuer;
  std::string subject;

  std::vector<std::string> from_file;  ///< FIELD=PATH
  std::vector<std::string> from_env;   ///< FIELD=VARIABLE
  std::vector<std::string> fields;     ///< asked for, or read from standard input
  std::string expires;
  std::string only_version;

  std::string type;
  std::string description;
  std::vector<std::string> labels;         ///< NAME=TEXT
  std::vector<std::string> metadata;       ///< NAME=TEXT
  std::vector<std::string> remove_labels;  ///< names
  std::vector<std::string> remove_metadata;
  std::vector<std::string> version_metadata;
  std::string rotation_due;  ///< time, duration, or `never`
  std::string max_versions;
  std::string cas_required;  ///< true or false
  std::string version;       ///< one of the credential's
  bool overdue = false;
  std::string reason;  ///< why a value is to be shown
};
int run_credential_set(const Settings& settings, const CredentialOptions& options);
int run_credential_list(const Settings& settings, const CredentialOptions& options);
int run_credential_get(const Settings& settings, const CredentialOptions& options);
int run_credential_describe(const Settings& settings, const CredentialOptions& options);
/// The whole credential, or one version of it, which can be brought back.
int run_credential_delete(const Settings& settings, const CredentialOptions& options);
int run_credential_versions(const Settings& settings, const CredentialOptions& options);
int run_credential_undelete(const Settings& settings, const CredentialOptions& options);
int run_credential_destroy(const Settings& settings, const CredentialOptions& options);
/// One field's value as it is, or all of them as JSON.
int run_credential_reveal(const Settings& settings, const CredentialOptions& options);

struct RotationOptions {
  CredentialOptions credential;  ///< which, a value that is given, and what lists are narrowed by
  std::string settings;          ///< JSON, or @FILE
  std::string generate;          ///< a kind, JSON, or @FILE
  std::string grace;             ///< duration
  bool wait = false;
  bool yes = false;
  bool abandon = false;  ///< what cannot be ended outside ends here
  std::string client;
  std::string backend;
  std::string since;
  std::string action;
  std::string reason;
  std::string cursor;
};
int run_credential_rotate(const Settings& settings, const RotationOptions& options);
int run_rotation_show(const Settings& settings, const RotationOptions& options);
int run_rotation_set(const Settings& settings, const RotationOptions& options);
int run_rotation_forget(const Settings& settings, const RotationOptions& options);
int run_rotation_promote(const Settings& settings, const RotationOptions& options);
int run_rotation_retire(const Settings& settings, const RotationOptions& options);
int run_rotation_cancel(const Settings& settings, const RotationOptions& options);
int run_rotation_list(const Settings& settings, const RotationOptions& options);
/// Of many credentials, by label and type; without --yes only shows which.
int run_rotation_bulk(const Settings& settings, const RotationOptions& options);
/// Of all that somebody touched; without --yes only shows which.
int run_rotation_emergency(const Settings& settings, const RotationOptions& options);

struct ExecOptions {
  std::string backends;              ///< names with commas between them
  std::vector<std::string> scopes;   ///< `a b`, or `backend=a b`
  std::vector<std::string> pass;     ///< variables of our environment to hand on
  std::vector<std::string> command;  ///< and its arguments
  bool verbose = false;
};
/// Returns only when the command was not started.
int run_exec(const Settings& settings, const ExecOptions& options);

struct ImportOptions {
  std::string file;
  std::string format;  ///< empty: by the file's name and shape
  bool restore = false;
  std::string backup;  ///< to restore from; empty: by this machine and the file's path

  // Or from Vault.
  std::string vault_url;
  std::string vault_token_file;
  std::string vault_ca_file;
  std::string vault_namespace;
  std::string mount = "secret";
  std::string prefix;

  std::vector<std::string> env;  ///< variables that are secrets whatever they look like
  bool all_env = false;
  std::vector<std::string> except;  ///< variables that are none
  std::vector<std::string> servers;
  std::vector<std::string> backends;  ///< SERVER=BACKEND, or a backend alone for a .env file
  CredentialOptions credential;       ///< whose it is, from_file and from_env

  bool yes = false;
  bool dry_run = false;      ///< the default
  bool manifest = false;     ///< only show the manifest that is needed
  bool apply = false;        ///< and apply it, with the admin's token
  bool overwrite = false;    ///< what is stored and differs
  bool keep_stored = false;  ///< it, in place of what the file has
  bool no_settings = false;  ///< leave POSTERN_* out of the rewritten file
};
int run_import(const Settings& settings, const ImportOptions& options);

struct AuditOptions {
  std::uint32_t lines = 20;
  std::string after;
  std::string action;
  bool follow = false;
  double interval = 1.0;
};
int run_audit_tail(const Settings& settings, const AuditOptions& options);
int run_audit_verify(const Settings& settings);

struct ExplainOptions {
  std::string client;
  std::string issuer;
  std::string subject;
  std::vector<std::string> groups;
  std::vector<std::string> claims;  ///< NAME=VALUE
  std::string token_scope;
  std::string actor;
  std::string actor_issuer;
  std::string actor_token_file;
  std::string actor_token_type = "access_token";
  std::string target;  ///< name, alias, audience or URI
  std::string scope;
  std::string grant;
  std::string authorization_details;
  bool as_client = false;
};
/// Exit code kRefused when the request would be refused.
int run_explain(const Settings& settings, const ExplainOptions& options);

struct TenantOptions {
  std::string tenant;
  std::string confirm;
  bool manifest = false;
};
int run_tenant_list(const Settings& settings);
int run_tenant_show(const Settings& settings, const TenantOptions& options);
int run_tenant_delete(const Settings& settings, const TenantOptions& options);

struct KeyHolderOptions {
  std::string tenant;
  std::string share_file;
  std::string present_share_file;  ///< of the share that is replaced
};
int run_tenant_key_holder(const Settings& settings, const KeyHolderOptions& options);
/// Makes the share when there is no such file.
int run_tenant_hold_key(const Settings& settings, const KeyHolderOptions& options);
int run_tenant_release_key(const Settings& settings, const KeyHolderOptions& options);
int run_tenant_seal(const Settings& settings, const KeyHolderOptions& options);
int run_tenant_unseal(const Settings& settings, const KeyHolderOptions& options);

struct ErasureOptions {
  std::string tenant;
  std::string issuer, subject;  ///< both empty: whom the token is about
  std::string confirm;          ///< the tenant's name once more
};
int run_principal_erase(const Settings& settings, const ErasureOptions& options);
/// Asks for it, or, of a tenant that is gone, for what was said of it.
int run_tenant_erase(const Settings& settings, const ErasureOptions& options);

struct AdminTokenOptions {
  std::string tenant;
  std::string description;
  std::string expires;
  std::string out;  ///< file of mode 0600; empty: standard output
  std::string token_id;
};
int run_admin_token_create(const Settings& settings, const AdminTokenOptions& options);
int run_admin_token_list(const Settings& settings, const AdminTokenOptions& options);
int run_admin_token_delete(const Settings& settings, const AdminTokenOptions& options);

struct InitialTokenOptions : AdminTokenOptions {
  std::uint64_t max_uses = 1;
};
int run_initial_token_create(const Settings& settings, const InitialTokenOptions& options);
int run_initial_token_list(const Settings& settings, const InitialTokenOptions& options);
int run_initial_token_delete(const Settings& settings, const InitialTokenOptions& options);

struct ClientSecretOptions {
  std::string client;
  std::string expires;
  std::string out;
  std::string secret_id;
};
int run_client_secret_add(const Settings& settings, const ClientSecretOptions& options);
int run_client_secret_list(const Settings& settings, const ClientSecretOptions& options);
int run_client_secret_remove(const Settings& settings, const ClientSecretOptions& options);

struct KeysOptions {
  bool signing = false;  ///< which keys: for now there are no others
  std::string algorithm;
  std::int64_t publish_for = -1;  ///< seconds; negative: as the server does
  bool now = false;
  std::string kid;
  bool watch = false;
  double interval = 2.0;  ///< seconds between looks, with --watch
};
int run_keys_status(const Settings& settings, const KeysOptions& options);
int run_keys_list(const Settings& settings);
int run_keys_rotate(const Settings& settings, const KeysOptions& options);
int run_keys_withdraw(const Settings& settings, const KeysOptions& options);

// The token comes from --subject-token-file; the client authenticates.
int run_token_introspect(const Settings& settings);
int run_token_revoke(const Settings& settings);

int run_status(const Settings& settings);

}  // namespace postern::cli
