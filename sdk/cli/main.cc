#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <string>
#include <typeinfo>
#include <vector>

#include "cli/commands.h"
#include "cli/environment.h"
#include "cli/output.h"

#ifndef POSTERN_VERSION
#define POSTERN_VERSION "unknown"
#endif

namespace postern::cli {
namespace {

constexpr const char* kFooter =
    "\nOptions may stand before or after the command. Files with secrets must not be readable by\n"
    "others. Exit codes: 0 done, 1 refused by the server (diff: differences), 2 wrong use,\n"
    "3 server not reachable, 4 done, but what came of it could not be shown or kept. exec: 77 "
    "refused, 69 not reachable, 78 wrong use, 126 and 127 when\n"
    "the command cannot be run or found; else the command's own.";

constexpr const char* kExecFooter =
    "\npostern exec BACKEND[,BACKEND…] [OPTIONS] [--] COMMAND [ARGUMENT…]\n\n"
    "The command gets PATH HOME USER LOGNAME SHELL LANG LANGUAGE LC_* TERM TZ TMPDIR\n"
    "XDG_RUNTIME_DIR of this environment, what --pass names, and what the backends release.\n"
    "Everything after the backends (or after `--`) belongs to the command.\n\n"
    "  postern exec github -- npx -y @modelcontextprotocol/server-github";

/// Chooses what to run: the last parsed command sets it.
using Action = std::function<int()>;

struct Options {
  Settings settings;
  ApplyOptions apply;
  ExchangeOptions exchange;
  CredentialOptions credential;
  RotationOptions rotation;
  ExecOptions exec;
  ImportOptions import;
  AuditOptions audit;
  ExplainOptions explain;
  TenantOptions tenant;
  KeyHolderOptions key_holder;
  ErasureOptions erasure;
  AdminTokenOptions admin_token;
  InitialTokenOptions initial_token;
  ClientSecretOptions client_secret;
  KeysOptions keys;
  std::string decode_file;
};

void add_settings(CLI::App& app, Settings& settings) {
  const auto add = [&](const char* flag, std::string& value, const char* variable,
                       const char* help) {
    return app.add_option(flag, value, help)->envname(variable)->group("Global options");
  };
  add("--url", settings.url, "POSTERN_URL", "Where posternd listens")->capture_default_str();
  add("--tenant", settings.tenant, "POSTERN_TENANT", "Whose data the command is about");
  add("--token-file", settings.token_file, "POSTERN_TOKEN_FILE",
      ("Operator's or tenant admin's token (default: " + default_token_file() + ")").c_str());
  add("--client-id", settings.client_id, "POSTERN_CLIENT_ID", "OAuth client that is calling");
  add("--client-secret-file", settings.client_secret_file, "POSTERN_CLIENT_SECRET_FILE",
      "Its secret");
  add("--subject-token-file", settings.subject_token_file, "POSTERN_SUBJECT_TOKEN_FILE",
      "The user's token");
  add("--subject-token-type", settings.subject_token_type, "POSTERN_SUBJECT_TOKEN_TYPE",
      "access_token, jwt, id_token or a URN")
      ->capture_default_str();
  add("--ca-file", settings.ca_file, "POSTERN_CA_FILE", "PEM file of the server's authority");
  app.add_flag("--json", settings.json, "Machine-readable output")->group("Global options");
}

void add_apply(CLI::App& app, Options& options, Action& action) {
  const auto add_files = [&](CLI::App* command) {
    command->add_option("-f,--file", options.apply.files, "Manifest; - is standard input")
        ->required()
        ->allow_extra_args(false);
    command->add_flag("--prune", options.apply.prune,
                      "Also delete what the manifest does not name");
  };
  auto* apply = app.add_subcommand("apply", "Make tenants as their manifests say");
  add_files(apply);
  apply->add_flag("--dry-run", options.apply.dry_run, "Only say what would change");
  auto* folder = apply->add_option("--secrets-dir", options.apply.secrets_dir,
                                   "Folder for generated secrets, as <tenant>.<client>.secret");
  apply
      ->add_flag("--admin-token", options.apply.admin_token,
                 "Make a tenant-admin token, as <tenant>.admin.token, unless the file is there")
      ->needs(folder);
  apply->callback([&] { action = [&] { return run_apply(options.settings, options.apply); }; });

  auto* diff = app.add_subcommand("diff", "Say how manifests differ from what the server has");
  add_files(diff);
  diff->footer("\nExit codes: 0 no difference, 1 differences, 2 could not tell.");
  diff->callback([&] { action = [&] { return run_diff(options.settings, options.apply); }; });
}

void add_exchange(CLI::App& app, Options& options, Action& action) {
  auto& exchange = options.exchange;
  auto* command = app.add_subcommand("exchange", "Exchange a user's token for narrow ones");
  command->add_option("backends", exchange.backends, "Backends, with commas: a token for each");
  command->add_option("--audience", exchange.audience, "Backend by name or audience")
      ->allow_extra_args(false);
  command->add_option("--resource", exchange.resource, "Backend by its resource URI")
      ->allow_extra_args(false);
  command
      ->add_option("--scope", exchange.scopes,
                   "Scopes, with spaces between them; BACKEND=SCOPES for one of several")
      ->allow_extra_args(false);
  command->add_option("--requested-token-type", exchange.requested_token_type,
                      "access_token or jwt");
  command->add_option("--actor-token-file", exchange.actor_token_file, "Token of the acting party");
  command->add_option("--actor-token-type", exchange.actor_token_type, "As --subject-token-type");
  command->add_flag("--as-client", exchange.as_client,
                    "client_credentials: a token for the client itself");
  command->add_flag("--decode", exchange.decode, "Show header and claims instead of the token");
  command->callback(
      [&] { action = [&] { return run_exchange(options.settings, options.exchange); }; });

  auto* decode = app.add_subcommand("decode", "Show the parts of a JWT, without verifying it");
  decode->add_option("file", options.decode_file, "File with the token (default: standard input)");
  decode->callback([&] { action = [&] { return run_decode(options.decode_file); }; });
}

/// Whose credential a command about rotation is about.
void add_owner(CLI::App& command, CredentialOptions& credential) {
  command.add_flag("--tenant-owned", credential.tenant_owned, "The tenant's shared credential");
  command.add_flag("--as-user", credential.as_user,
                   "The caller's own, proved by --subject-token-file");
  command.add_option("--issuer", credential.issuer, "Of the user whose credential it is");
  command.add_option("--subject", credential.subject, "Of the user whose credential it is");
}

void add_rotate(CLI::App& credential, Options& options, Action& action) {
  auto& rotation = options.rotation;
  auto* rotate = credential.add_subcommand(
      "rotate", "Have a new value handed out: as its settings say, made so, or given");
  rotate->add_option("name", rotation.credential.name, "Credential")->required();
  add_owner(*rotate, rotation.credential);
  rotate->add_option("--generate", rotation.generate,
                     "password, key_pair or ssh_key; or how, as JSON or @FILE");
  rotate
      ->add_option("--from-file", rotation.credential.from_file,
                   "FIELD=PATH of the new value; - is standard input")
      ->allow_extra_args(false);
  rotate->add_option("--from-env", rotation.credential.from_env, "FIELD=VARIABLE")
      ->allow_extra_args(false);
  rotate->add_option("--field", rotation.credential.fields, "FIELD: ask for it")
      ->allow_extra_args(false);
  rotate->add_option("--grace", rotation.grace, "How long the value before is kept, such as 1h");
  rotate->add_option("--expires", rotation.credential.expires,
                     "Of a given value: time, or duration such as 90d (else as the one before)");
  rotate->add_option("--only-version", rotation.credential.only_version,
                     "Fail unless this version is the current one");
  rotate->add_flag("--wait", rotation.wait, "Until it is handed out or announced, or was given up");
  rotate->callback(
      [&] { action = [&] { return run_credential_rotate(options.settings, options.rotation); }; });
}

void add_credential(CLI::App& app, Options& options, Action& action) {
  auto& credential = options.credential;
  auto* group = app.add_subcommand("credential", "Stored backend secrets");
  group->require_subcommand(1);
  const auto add = [&](const char* name, const char* help,
                       int (*run)(const Settings&, const CredentialOptions&)) {
    auto* command = group->add_subcommand(name, help);
    command->add_flag("--tenant-owned", credential.tenant_owned, "The tenant's shared credential");
    command->add_flag("--as-user", credential.as_user,
                      "The caller's own, proved by --subject-token-file");
    command->add_option("--issuer", credential.issuer, "Of the user whose credential it is");
    command->add_option("--subject", credential.subject, "Of the user whose credential it is");
    command->callback(
        [&, run] { action = [&, run] { return run(options.settings, options.credential); }; });
    return command;
  };
  auto* set = add("set", "Store a new version", run_credential_set);
  set->add_option("name", credential.name, "Credential")->required();
  set->add_option("--from-file", credential.from_file, "FIELD=PATH; - is standard input")
      ->allow_extra_args(false);
  set->add_option("--from-env", credential.from_env, "FIELD=VARIABLE")->allow_extra_args(false);
  set->add_option("--field", credential.fields, "FIELD: ask for it, or read standard input")
      ->allow_extra_args(false);
  set->add_option("--expires", credential.expires, "Time, or duration such as 90d");
  set->add_option("--only-version", credential.only_version,
                  "Fail unless this version is the current one; 0: unless there is none");
  set->add_option("--type", credential.type, "What it is, which its fields are held to");
  set->add_option("--version-metadata", credential.version_metadata,
                  "NAME=TEXT, said about this version for good; no secret")
      ->allow_extra_args(false);
  const auto describing = [&](CLI::App* command) {
    command->add_option("--description", credential.description, "For people");
    command->add_option("--label", credential.labels, "NAME=TEXT; lists can be narrowed by it")
        ->allow_extra_args(false);
    command->add_option("--metadata", credential.metadata, "NAME=TEXT; no secret")
        ->allow_extra_args(false);
    command->add_option("--rotation-due", credential.rotation_due,
                        "Time, duration such as 90d, or never");
    command->add_option("--max-versions", credential.max_versions, "How many are kept, 1 to 100");
    command
        ->add_option("--cas-required", credential.cas_required,
                     "Whether each write must name the version it replaces")
        ->check(CLI::IsMember({"true", "false"}));
  };
  describing(set);
  auto* list = add("list", "List credentials; never their values", run_credential_list);
  list->add_option("--label", credential.labels, "NAME=TEXT: only those that have it")
      ->allow_extra_args(false);
  list->add_option("--type", credential.type, "Only those of this type");
  list->add_flag("--overdue", credential.overdue, "Only those that were to be rotated by now");

  const auto add_named = [&](const char* name, const char* help,
                             int (*run)(const Settings&, const CredentialOptions&)) {
    auto* command = add(name, help, run);
    command->add_option("name", credential.name, "Credential")->required();
    return command;
  };
  add_named("get", "Show what is known of a credential; never its values", run_credential_get);
  auto* describe =
      add_named("describe", "Change what is said about a credential", run_credential_describe);
  describing(describe);
  describe->add_option("--remove-label", credential.remove_labels, "NAME")->allow_extra_args(false);
  describe->add_option("--remove-metadata", credential.remove_metadata, "NAME")
      ->allow_extra_args(false);
  add_named("versions", "List a credential's versions", run_credential_versions);
  const auto add_version = [&](CLI::App* command, const char* help) {
    return command->add_option("--version", credential.version, help);
  };
  add_version(
      add_named("delete", "Delete a credential, or one version of it", run_credential_delete),
      "Only this version; it can be brought back");
  add_version(add_named("undelete", "Bring a deleted version back", run_credential_undelete),
              "Which one")
      ->required();
  add_version(add_named("destroy", "Destroy a version for good", run_credential_destroy),
              "Which one")
      ->required();
  auto* reveal = add_named("reveal", "Show a value, where operator and tenant allow it",
                           run_credential_reveal);
  add_version(reveal, "Which one (default: the latest)");
  reveal->add_option("--reason", credential.reason, "Goes into the audit trail")->required();
  reveal->add_option("--field", credential.fields, "Only its value, as it is")->expected(1);
  add_rotate(*group, options, action);
}

void add_rotation(CLI::App& app, Options& options, Action& action) {
  auto& rotation = options.rotation;
  auto* group =
      app.add_subcommand("rotation", "How credentials are rotated, and where that stands");
  group->require_subcommand(1);
  const auto add = [&](const char* name, const char* help,
                       int (*run)(const Settings&, const RotationOptions&)) {
    auto* command = group->add_subcommand(name, help);
    command->callback(
        [&, run] { action = [&, run] { return run(options.settings, options.rotation); }; });
    return command;
  };
  const auto add_named = [&](const char* name, const char* help,
                             int (*run)(const Settings&, const RotationOptions&)) {
    auto* command = add(name, help, run);
    command->add_option("name", rotation.credential.name, "Credential")->required();
    add_owner(*command, rotation.credential);
    return command;
  };
  add_named("show", "How a credential is rotated, and where that stands", run_rotation_show);
  add_named("set", "Say how a credential is rotated", run_rotation_set)
      ->add_option("--settings", rotation.settings, "JSON, or @FILE; see docs/rotation.md")
      ->required();
  add_named("forget", "Take that back", run_rotation_forget);
  add_named("promote", "Hand out the key that is announced now", run_rotation_promote);
  add_named("retire", "End the grace of the value before now", run_rotation_retire)
      ->add_flag("--abandon", rotation.abandon, "Here alone: outside it may stay valid");
  add_named("cancel", "Give up a rotation whose value is not handed out yet", run_rotation_cancel)
      ->add_flag("--abandon", rotation.abandon,
                 "End a roll-back here alone: outside the new value may stay valid");
  const auto narrowed = [&](CLI::App* command) {
    command->add_option("--label", rotation.credential.labels, "NAME=TEXT: only those that have it")
        ->allow_extra_args(false);
    command->add_option("--type", rotation.credential.type, "Only those of this type");
    return command;
  };
  narrowed(add("list", "Age, last use and what is due, of all credentials", run_rotation_list))
      ->add_flag("--overdue", rotation.credential.overdue, "Only those that are overdue");
  narrowed(add("bulk", "Rotate many, as their settings say", run_rotation_bulk))
      ->add_flag("--yes", rotation.yes, "Do it; else only show which");
  auto* emergency =
      add("emergency", "Rotate or disable all that somebody touched", run_rotation_emergency);
  emergency->add_option("--issuer", rotation.credential.issuer, "Of the user who touched them");
  emergency->add_option("--subject", rotation.credential.subject, "The user who touched them");
  emergency->add_option("--client", rotation.client, "The client that touched them");
  emergency->add_option("--backend", rotation.backend, "The backend they were released for");
  emergency
      ->add_option("--since", rotation.since,
                   "From which time on it counts, or for how long, such as 24h or 7d")
      ->required();
  emergency->add_option("--action", rotation.action, "What is done")
      ->check(CLI::IsMember({"rotate", "disable"}))
      ->required();
  emergency->add_option("--reason", rotation.reason, "Goes into the audit trail")->required();
  emergency->add_flag("--yes", rotation.yes, "Do it; else only show which");
  emergency->add_option("--cursor", rotation.cursor, "Where one that did not end goes on");
}

void add_exec(CLI::App& app, Options& options, Action& action) {
  auto* command = app.add_subcommand(
      "exec", "Replace this process by a command that has what backends release");
  command->footer(kExecFooter);
  command->add_option("backends", options.exec.backends, "Backends, with commas between them")
      ->required();
  command->add_option("--scope", options.exec.scopes, "Scopes, or BACKEND=SCOPES")
      ->allow_extra_args(false);
  command->add_option("--pass", options.exec.pass, "Variable of this environment to hand on")
      ->allow_extra_args(false);
  command->add_flag("-v,--verbose", options.exec.verbose,
                    "Say on standard error what was released; never the values");
  command->callback([&] { action = [&] { return run_exec(options.settings, options.exec); }; });
}

void add_import(CLI::App& app, Options& options, Action& action) {
  auto& import = options.import;
  auto* command = app.add_subcommand(
      "import", "Move secrets out of a host's file, or of Vault, into credentials");
  command->footer(
      "\nShows what it would do, with names and never values; --yes does it. Servers in the file\n"
      "are then started by `postern exec`, and --restore puts the file back.");
  auto* file = command->add_option("file", import.file, "The host's configuration, or a .env file");
  command->add_option("--format", import.format, "What it is, when its name does not say")
      ->check(
          CLI::IsMember({"mcp", "claude-desktop", "vscode", "cursor", "dotenv", "docker-catalog"}));
  auto* vault = command->add_option("--vault", import.vault_url, "URL of Vault or OpenBao, KV 2");
  file->excludes(vault);
  const auto add_vault = [&](const char* flag, std::string& value, const char* help) {
    return command->add_option(flag, value, help)->needs(vault);
  };
  add_vault("--vault-token-file", import.vault_token_file, "Its token");
  add_vault("--vault-ca-file", import.vault_ca_file, "PEM file of its authority");
  add_vault("--vault-namespace", import.vault_namespace, "Namespace there");
  add_vault("--mount", import.mount, "Where KV is mounted")->capture_default_str();
  add_vault("--prefix", import.prefix, "Only what is below this path");

  const auto add_list = [&](const char* flag, std::vector<std::string>& list, const char* help) {
    command->add_option(flag, list, help)->allow_extra_args(false);
  };
  add_list("--env", import.env, "Variable that is a secret, whatever it looks like");
  command->add_flag("--all-env", import.all_env, "All variables are secrets");
  add_list("--except", import.except, "Variable that is no secret");
  add_list("--server", import.servers, "Only this server");
  add_list("--backend", import.backends, "SERVER=BACKEND; the backend alone for a .env file");
  add_list("--from-file", import.credential.from_file,
           "NAME=PATH: a value that is not in the file");
  add_list("--from-env", import.credential.from_env, "NAME=VARIABLE: likewise");
  auto* owned = command->add_flag("--tenant-owned", import.credential.tenant_owned,
                                  "Credentials of the tenant (default: of --subject-token-file)");
  auto* issuer = command->add_option("--issuer", import.credential.issuer,
                                     "Of the user whose credentials they are");
  auto* subject = command->add_option("--subject", import.credential.subject,
                                      "Of the user whose credentials they are");
  issuer->needs(subject)->excludes(owned);
  subject->needs(issuer);

  auto* yes = command->add_flag("--yes", import.yes, "Do it");
  command->add_flag("--dry-run", import.dry_run, "Only show what would be done (the default)")
      ->excludes(yes);
  auto* manifest = command
                       ->add_flag("--manifest", import.manifest,
                                  "Only show the manifest that an admin has to apply")
                       ->excludes(yes);
  command->add_flag("--apply", import.apply, "Apply that manifest, with --token-file")->needs(yes);
  auto* overwrite = command->add_flag("--overwrite", import.overwrite,
                                      "Replace what is stored and differs; with --restore, a file "
                                      "that was changed since");
  command->add_flag("--keep-stored", import.keep_stored, "Leave what is stored as it is")
      ->excludes(overwrite);
  command->add_flag("--no-settings", import.no_settings,
                    "Leave POSTERN_ variables out of the rewritten file");
  auto* restore =
      command
          ->add_flag("--restore", import.restore, "Put the file back as it was before its import")
          ->needs(file)
          ->excludes(manifest);
  command
      ->add_option(
          "--backup", import.backup,
          "import-…, as the import showed it: of a file or machine with another name since")
      ->needs(restore);
  command->callback([&] { action = [&] { return run_import(options.settings, options.import); }; });
}

void add_audit(CLI::App& app, Options& options, Action& action) {
  auto* group = app.add_subcommand("audit", "The tenant's audit trail");
  group->require_subcommand(1);
  auto* tail = group->add_subcommand("tail", "Show the last records");
  tail->add_option("-n,--lines", options.audit.lines, "How many")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000));
  tail->add_flag("-f,--follow", options.audit.follow, "Go on with new ones");
  tail->add_option("--after", options.audit.after, "Begin after the record of this number");
  tail->add_option("--action", options.audit.action, "Only this action, such as token.exchange");
  tail->add_option("--interval", options.audit.interval, "Seconds between looks, with --follow")
      ->check(CLI::Range(0.05, 3600.0))
      ->capture_default_str();
  tail->callback([&] { action = [&] { return run_audit_tail(options.settings, options.audit); }; });
  auto* verify = group->add_subcommand("verify", "Check the hash chain from end to end");
  verify->callback([&] { action = [&] { return run_audit_verify(options.settings); }; });
}

void add_explain(CLI::App& app, Options& options, Action& action) {
  auto& explain = options.explain;
  auto* command = app.add_subcommand(
      "explain", "Say why a request is allowed or refused; for operators and tenant admins");
  command->footer(
      "\nThe user is --issuer and --subject, or the token of --subject-token-file.\n"
      "Exit codes: 0 allowed, 1 refused, 2 wrong options, 3 no answer.");
  command->add_option("--client", explain.client, "Client that asks")->required();
  command->add_option("--target", explain.target, "Backend by name, alias or audience");
  command->add_option("--scope", explain.scope, "Scopes asked for, with spaces between them");
  command->add_option("--grant", explain.grant, "How it asks, when not by token exchange")
      ->check(CLI::IsMember({"token-exchange", "release", "jwt-bearer", "client_credentials"}));
  command->add_option("--authorization-details", explain.authorization_details,
                      "Tools asked for, as JSON (RFC 9396)");
  // An empty shell variable must not ask about somebody else.
  const CLI::Validator named(
      [](std::string& text) { return text.empty() ? "must not be empty" : std::string(); }, "TEXT");
  auto* subject =
      command->add_option("--subject", explain.subject, "The user's `sub`")->check(named);
  auto* issuer = command->add_option("--issuer", explain.issuer, "The user's issuer")->check(named);
  subject->needs(issuer);
  issuer->needs(subject);
  command->add_option("--group", explain.groups, "Group of the user, as the token says it")
      ->allow_extra_args(false)
      ->needs(subject);
  command->add_option("--claim", explain.claims, "NAME=VALUE: claim of the user's token")
      ->allow_extra_args(false)
      ->needs(subject);
  command->add_option("--token-scope", explain.token_scope, "Scope of the user's token")
      ->needs(subject);
  auto* as_client =
      command->add_flag("--as-client", explain.as_client, "The client asks for itself")
          ->excludes(subject);
  auto* actor = command->add_option("--actor", explain.actor, "`sub` of who acts for the user")
                    ->check(named)
                    ->excludes(as_client);
  auto* actor_issuer =
      command->add_option("--actor-issuer", explain.actor_issuer, "Issuer of who acts")
          ->check(named);
  actor->needs(actor_issuer);
  actor_issuer->needs(actor);
  command->add_option("--actor-token-file", explain.actor_token_file, "In the place of --actor")
      ->check(named)
      ->excludes(actor)
      ->excludes(as_client);
  command->add_option("--actor-token-type", explain.actor_token_type, "As --subject-token-type");
  command->callback(
      [&] { action = [&] { return run_explain(options.settings, options.explain); }; });
}

void add_initial_tokens(CLI::App& tenant, Options& options, Action& action) {
  auto* group = tenant.add_subcommand("initial-access-token",
                                      "Tokens with which clients register themselves");
  group->require_subcommand(1);
  auto& token = options.initial_token;
  auto* create = group->add_subcommand("create", "Make a token; it is shown once");
  create->add_option("id", token.tenant, "Tenant (default: --tenant)");
  create->add_option("--description", token.description, "Whom it is for")->required();
  create->add_option("--max-uses", token.max_uses, "How many clients may register (default: 1)")
      ->check(CLI::Range(1, 1000));
  create->add_option("--expires", token.expires, "Time, or duration such as 7d (default: a day)");
  create->add_option("--out", token.out, "File to put it into, mode 0600");
  create->callback([&] {
    action = [&] { return run_initial_token_create(options.settings, options.initial_token); };
  });
  auto* list = group->add_subcommand("list", "List tokens; never the tokens themselves");
  list->add_option("id", token.tenant, "Tenant (default: --tenant)");
  list->callback([&] {
    action = [&] { return run_initial_token_list(options.settings, options.initial_token); };
  });
  auto* remove = group->add_subcommand("delete", "Delete a token by its id");
  remove->add_option("token-id", token.token_id, "Token")->required();
  remove->callback([&] {
    action = [&] { return run_initial_token_delete(options.settings, options.initial_token); };
  });
}

void add_key_holder(CLI::App& group, Options& options, Action& action) {
  auto& holder = options.key_holder;
  const auto add = [&](const char* name, const char* help,
                       int (*run)(const Settings&, const KeyHolderOptions&)) {
    auto* command = group.add_subcommand(name, help);
    command->add_option("id", holder.tenant, "Tenant (default: --tenant)");
    command->callback(
        [&, run] { action = [&, run] { return run(options.settings, options.key_holder); }; });
    return command;
  };
  const auto share = [&](CLI::App* command, const char* help) {
    command->add_option("--share-file", holder.share_file, help)->required();
    return command;
  };
  add("key-holder", "Whether its key demands a share, and whether it is sealed",
      run_tenant_key_holder);
  share(add("hold-key", "Have the tenant's key demand a share that only you have",
            run_tenant_hold_key),
        "The share; made when there is no such file, mode 0600")
      ->add_option("--present-share-file", holder.present_share_file,
                   "The share that this one replaces");
  share(add("release-key", "Have it demand none any more", run_tenant_release_key), "The share");
  add("seal", "Forget the share: nothing of the tenant opens", run_tenant_seal);
  share(add("unseal", "Give the share to the replica that answers", run_tenant_unseal),
        "The share");
}

void add_principal(CLI::App& app, Options& options, Action& action) {
  auto* group = app.add_subcommand("principal", "People, as issuer and subject");
  group->require_subcommand(1);
  auto& erasure = options.erasure;
  auto* erase = group->add_subcommand(
      "erase", "Remove all that a person has stored, and destroy its key, for backups too");
  erase->add_option("id", erasure.tenant, "Tenant (default: --tenant)");
  auto* issuer = erase->add_option("--issuer", erasure.issuer, "Issuer (default: of your token)");
  auto* subject = erase->add_option("--subject", erasure.subject, "Subject at the issuer");
  issuer->needs(subject);
  subject->needs(issuer);
  erase->add_flag_callback(
      "--yes", [&] { options.erasure.confirm = "yes"; }, "Do not ask");
  erase->callback(
      [&] { action = [&] { return run_principal_erase(options.settings, options.erasure); }; });
}

void add_tenant(CLI::App& app, Options& options, Action& action) {
  auto* group = app.add_subcommand("tenant", "Tenants and their admin tokens");
  group->require_subcommand(1);
  auto* list = group->add_subcommand("list", "List tenants");
  list->callback([&] { action = [&] { return run_tenant_list(options.settings); }; });
  auto* show = group->add_subcommand("show", "Show one tenant");
  show->add_option("id", options.tenant.tenant, "Tenant (default: --tenant)");
  show->add_flag("--manifest", options.tenant.manifest, "Its whole configuration, as JSON");
  show->callback(
      [&] { action = [&] { return run_tenant_show(options.settings, options.tenant); }; });
  auto* remove = group->add_subcommand("delete", "Delete a tenant and destroy its keys");
  remove->add_option("id", options.tenant.tenant, "Tenant")->required();
  remove->add_option("--confirm", options.tenant.confirm, "The tenant's name once more");
  remove->callback(
      [&] { action = [&] { return run_tenant_delete(options.settings, options.tenant); }; });

  auto* erase = group->add_subcommand(
      "erase", "Delete a tenant and destroy its keys, for backups too; shows the statement");
  erase->add_option("id", options.erasure.tenant, "Tenant")->required();
  erase->add_option("--confirm", options.erasure.confirm, "The tenant's name once more");
  erase->callback(
      [&] { action = [&] { return run_tenant_erase(options.settings, options.erasure); }; });

  auto* tokens = group->add_subcommand("admin-token", "Tokens that administer one tenant");
  tokens->require_subcommand(1);
  auto& token = options.admin_token;
  auto* create = tokens->add_subcommand("create", "Make a token; it is shown once");
  create->add_option("id", token.tenant, "Tenant (default: --tenant)");
  create->add_option("--description", token.description, "What it is for")->required();
  create->add_option("--expires", token.expires, "Time, or duration such as 90d");
  create->add_option("--out", token.out, "File to put it into, mode 0600");
  create->callback([&] {
    action = [&] { return run_admin_token_create(options.settings, options.admin_token); };
  });
  auto* list_tokens = tokens->add_subcommand("list", "List tokens; never the tokens themselves");
  list_tokens->add_option("id", token.tenant, "Tenant (default: --tenant)");
  list_tokens->callback([&] {
    action = [&] { return run_admin_token_list(options.settings, options.admin_token); };
  });
  auto* delete_token = tokens->add_subcommand("delete", "Delete a token by its id");
  delete_token->add_option("token-id", token.token_id, "Token")->required();
  delete_token->callback([&] {
    action = [&] { return run_admin_token_delete(options.settings, options.admin_token); };
  });
  add_initial_tokens(*group, options, action);
  add_key_holder(*group, options, action);
}

void add_client(CLI::App& app, Options& options, Action& action) {
  auto* group = app.add_subcommand("client", "OAuth clients of a tenant");
  group->require_subcommand(1);
  auto* secrets = group->add_subcommand("secret", "A client's secrets; two may live at a time");
  secrets->require_subcommand(1);
  auto& secret = options.client_secret;
  const auto add = [&](const char* name, const char* help,
                       int (*run)(const Settings&, const ClientSecretOptions&)) {
    auto* command = secrets->add_subcommand(name, help);
    command->add_option("client", secret.client, "Client")->required();
    command->callback(
        [&, run] { action = [&, run] { return run(options.settings, options.client_secret); }; });
    return command;
  };
  auto* add_secret = add("add", "Make a further secret; it is shown once", run_client_secret_add);
  add_secret->add_option("--expires", secret.expires, "Time, or duration such as 90d");
  add_secret->add_option("--out", secret.out, "File to put it into, mode 0600");
  add("list", "List secrets; never the secrets themselves", run_client_secret_list);
  add("remove", "Remove a secret by its id", run_client_secret_remove)
      ->add_option("secret-id", secret.secret_id, "Secret")
      ->required();
}

void add_keys(CLI::App& app, Options& options, Action& action) {
  auto* group = app.add_subcommand(
      "keys", "The keys that a tenant signs its tokens with; where keys that seal are in use");
  group->require_subcommand(1);
  auto* status = group->add_subcommand(
      "status", "Root keys and tenants' KEKs, and what rotating them has left to do (operators)");
  auto* watch = status->add_flag("--watch", options.keys.watch, "Again, until nothing is left");
  status->add_option("--interval", options.keys.interval, "Seconds between looks, with --watch")
      ->check(CLI::Range(0.1, 3600.0))
      ->needs(watch);
  status->callback(
      [&] { action = [&] { return run_keys_status(options.settings, options.keys); }; });
  auto* list = group->add_subcommand("list", "List signing keys; never private parts");
  list->callback([&] { action = [&] { return run_keys_list(options.settings); }; });
  auto* rotate = group->add_subcommand("rotate", "Make new keys that take over in 15 minutes");
  rotate->add_flag("--signing", options.keys.signing, "The keys that tokens are signed with")
      ->required();
  rotate->add_option("--algorithm", options.keys.algorithm, "Only this one's (default: all)")
      ->check(CLI::IsMember({"ES256", "EdDSA", "RS256"}));
  auto* after = rotate
                    ->add_option("--publish-for", options.keys.publish_for,
                                 "Seconds for which they are only published")
                    ->check(CLI::Range(0, 604800));
  rotate->add_flag("--now", options.keys.now, "At once: verifiers may refuse tokens for minutes")
      ->excludes(after);
  rotate->callback(
      [&] { action = [&] { return run_keys_rotate(options.settings, options.keys); }; });
  auto* withdraw =
      group->add_subcommand("withdraw", "Stop publishing a key; what it signed is void");
  withdraw->add_option("kid", options.keys.kid, "Key")->required();
  withdraw->callback(
      [&] { action = [&] { return run_keys_withdraw(options.settings, options.keys); }; });
}

void add_token(CLI::App& app, Options& options, Action& action) {
  auto* group =
      app.add_subcommand("token", "Tokens that were issued; read by --subject-token-file");
  group->require_subcommand(1);
  auto* introspect = group->add_subcommand("introspect", "Ask what a token is worth now");
  introspect->callback([&] { action = [&] { return run_token_introspect(options.settings); }; });
  auto* revoke = group->add_subcommand("revoke", "Revoke a token, and what rests on it");
  revoke->callback([&] { action = [&] { return run_token_revoke(options.settings); }; });
}

/// The command that is missing or does not exist, as a person would say it.
std::string missing_command(const CLI::App& app, const std::vector<std::string>& words) {
  const auto* at = &app;
  std::string path = "postern";
  for (const auto& word : words) {
    const auto found =
        at->get_subcommands([&](const CLI::App* command) { return command->get_name() == word; });
    if (found.empty()) return "there is no command \"" + word + "\" in `" + path + "`";
    at = found.front();
    path += " " + word;
  }
  return "which command of `" + path + "`?";
}

/// A secret file opened as descriptor 0 to 2 would be mistaken for a terminal.
/// What is written to one that was closed fails, rather than vanish.
void occupy_standard_descriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDONLY) != fd) std::abort();
  }
}

int run(int argc, char** argv) {
  occupy_standard_descriptors();
  ::prctl(PR_SET_DUMPABLE, 0);  // secrets pass through this process: no core dump
  // A reader that went away must not end us before new secrets are in their files.
  std::signal(SIGPIPE, SIG_IGN);

  Options options;
  Action action;
  CLI::App app("postern: tokens and credentials for MCP gateways and the servers behind them");
  app.name("postern");
  app.set_version_flag("--version", std::string("postern ") + POSTERN_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  add_settings(app, options.settings);
  add_apply(app, options, action);
  add_exchange(app, options, action);
  add_credential(app, options, action);
  add_rotation(app, options, action);
  add_exec(app, options, action);
  add_import(app, options, action);
  add_audit(app, options, action);
  add_explain(app, options, action);
  add_principal(app, options, action);
  add_tenant(app, options, action);
  add_client(app, options, action);
  add_keys(app, options, action);
  add_token(app, options, action);
  auto* status = app.add_subcommand("status", "Ask the server how it is");
  status->callback([&] { action = [&] { return run_status(options.settings); }; });

  app.footer(kFooter);  // last: commands made after it would repeat it

  if (argc < 2) {
    say_error("which command? `postern --help` lists them");
    return exit_code::kUsage;
  }
  auto arguments = split_exec(std::vector<std::string>(argv + 1, argv + argc));
  options.exec.command = std::move(arguments.command);
  const bool is_exec =
      std::find(arguments.ours.begin(), arguments.ours.end(), "exec") != arguments.ours.end();
  const auto words = words_of(arguments.ours);
  try {
    std::reverse(arguments.ours.begin(), arguments.ours.end());  // as CLI11 wants it
    app.parse(arguments.ours);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    const bool no_command =
        error.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError) &&
        std::string_view(error.what()).find("subcommand") != std::string_view::npos;
    say_error(printable(no_command ? missing_command(app, words) : error.what()));
    say_note("`postern --help`, or --help after a command, shows how it is used");
    return is_exec ? exit_code::kExecUsage : exit_code::kUsage;
  }
  return action();
}

}  // namespace
}  // namespace postern::cli

int main(int argc, char** argv) {
  try {
    return postern::cli::run(argc, argv);
  } catch (const std::exception& e) {
    // Not what(): it may quote what was being read.
    postern::cli::say_error(std::string("a bug or no memory: ") + typeid(e).name());
    return postern::cli::exit_code::kUsage;
  }
}
