#include <unistd.h>

#include <iostream>

#include "cli/commands.h"
#include "cli/output.h"
#include "core/time_format.h"
#include "postern/json.h"
#include "postern/secret_file.h"

namespace postern::cli {
namespace {

using sdk::ErrorKind;
using sdk::Json;

std::string line_of(const Json& json) {
  return json.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
}

int finish(const sdk::Status& status) {
  return status.ok() ? exit_code::kOk : report(status.error(), "");
}

/// The tenant given as an argument, or the one of --tenant.
sdk::Result<TenantId> chosen(const Settings& settings, const std::string& argument) {
  return argument.empty() ? tenant_of(settings) : tenant_named(argument);
}

sdk::Result<ClientId> client_named(const std::string& text) {
  auto id = ClientId::parse(text);
  if (!id.ok()) return sdk::fail(ErrorKind::Usage, id.error().detail);
  return std::move(id).value();
}

/// Before the server makes a secret: whether --out, or standard output, could take it.
sdk::Status check_out(const std::string& file) {
  return file.empty() ? check_standard_output() : sdk::check_secret_target(file);
}

/// Shows a secret once: into a file of mode 0600, or alone on standard output.
/// Never there when a file was named: output is often kept in a log.
int hand_out(const std::string& file, ByteView secret, const std::string& label,
             const std::string& again) {
  sdk::SecretBytes line;
  sdk::append(line, as_text(secret));
  line.push_back('\n');
  if (file.empty()) {
    say_error("warning: " + label + " is on standard output and is never shown again");
  }
  const auto status =
      file.empty() ? print(sdk::view(line)) : sdk::write_secret_file(file, sdk::view(line));
  if (!status.ok()) return report_lost(status.error(), label, again);
  if (!file.empty()) say_error(label + " is in " + printable(file));
  return exit_code::kOk;
}

Json summary_json(const sdk::TenantSummary& tenant) {
  return {{"tenant", tenant.tenant},
          {"display_name", tenant.display_name},
          {"enabled", tenant.enabled},
          {"epoch", tenant.epoch},
          {"created_at", format_time(tenant.created_at)}};
}

/// A kind of token that a tenant's administrators hand out.
struct TokenKind {
  const char* name;     ///< with its article: "an admin token"
  const char* plain;    ///< "admin token"
  const char* command;  ///< below `postern tenant`
};
constexpr TokenKind kAdminToken{"an admin token", "admin token", "admin-token"};
constexpr TokenKind kInitialToken{"an initial access token", "initial access token",
                                  "initial-access-token"};

/// @param make  (client, tenant, expires_at) -> Result<NewAdminToken>
template <class Make>
int create_token(const Settings& settings, const AdminTokenOptions& options, const TokenKind& kind,
                 const Make& make) {
  const auto doing = std::string("create ") + kind.name;
  const auto tenant = chosen(settings, options.tenant);
  if (!tenant.ok()) return report(tenant.error(), doing);
  const auto expires_at = parse_expiry(options.expires);
  if (!expires_at.ok()) return report(expires_at.error(), doing);
  if (const auto out = check_out(options.out); !out.ok()) return report(out.error(), doing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), doing);
  const auto made = make(client.value(), tenant.value(), expires_at.value());
  if (!made.ok()) return report(made.error(), doing);
  const auto token_id = printable(made.value().token_id);
  return made.value().token.expose([&](ByteView token) {
    return hand_out(options.out, token, kind.plain + (" " + token_id),
                    std::string("postern tenant ") + kind.command + " delete " + token_id +
                        " --tenant " + tenant.value().str() + ", then make another");
  });
}

/// @param remove  (client, tenant) -> Status
template <class Remove>
int delete_token(const Settings& settings, const AdminTokenOptions& options, const TokenKind& kind,
                 const Remove& remove) {
  const auto doing = std::string("delete the ") + kind.plain;
  const auto tenant = chosen(settings, options.tenant);
  if (!tenant.ok()) return report(tenant.error(), doing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), doing);
  const auto status = remove(client.value(), tenant.value());
  if (!status.ok()) return report(status.error(), doing);
  return finish(print(kind.plain + (" " + printable(options.token_id)) + " deleted\n"));
}

}  // namespace

int run_tenant_list(const Settings& settings) {
  constexpr const char* kDoing = "list tenants";
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  Table table({"TENANT", "NAME", "ENABLED", "EPOCH", "CREATED"});
  std::string json;
  std::string cursor;
  do {
    const auto page = client.value().tenants(cursor);
    if (!page.ok()) return report(page.error(), kDoing);
    for (const auto& tenant : page.value().items) {
      json += line_of(summary_json(tenant));
      table.add({printable(tenant.tenant), printable(tenant.display_name),
                 tenant.enabled ? "yes" : "no", std::to_string(tenant.epoch),
                 format_time(tenant.created_at)});
    }
    if (page.value().next_cursor == cursor) break;
    cursor = page.value().next_cursor;
  } while (!cursor.empty());
  return finish(print(settings.json ? json : table.text()));
}

int run_tenant_show(const Settings& settings, const TenantOptions& options) {
  constexpr const char* kDoing = "show the tenant";
  const auto tenant = chosen(settings, options.tenant);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  if (options.manifest) {
    const auto manifest = client.value().manifest(tenant.value());
    if (!manifest.ok()) return report(manifest.error(), kDoing);
    const auto json = sdk::parse_json(manifest.value());
    if (!json.ok()) return report(json.error(), kDoing);
    return finish(print((*json.value()).dump(2, ' ', true, Json::error_handler_t::replace) + "\n"));
  }
  const auto found = client.value().tenant(tenant.value());
  if (!found.ok()) return report(found.error(), kDoing);
  const auto& shown_tenant = found.value();
  if (settings.json) {
    auto json = summary_json(shown_tenant);
    json["issuer"] = shown_tenant.issuer;
    json["counts"] = Json::object();
    for (const auto& [kind, count] : shown_tenant.counts) json["counts"][kind] = count;
    return finish(print(line_of(json)));
  }
  std::string text = "tenant   " + printable(shown_tenant.tenant) + "\nname     " +
                     printable(shown_tenant.display_name) + "\nenabled  " +
                     (shown_tenant.enabled ? "yes" : "no") + "\nissuer   " +
                     printable(shown_tenant.issuer) + "\nepoch    " +
                     std::to_string(shown_tenant.epoch) + "\ncreated  " +
                     format_time(shown_tenant.created_at) + "\nholds    ";
  std::string counts;
  for (const auto& [kind, count] : shown_tenant.counts) {
    counts += (counts.empty() ? "" : ", ") + std::to_string(count) + " " + printable(kind);
  }
  return finish(print(text + counts + "\n"));
}

int run_tenant_delete(const Settings& settings, const TenantOptions& options) {
  constexpr const char* kDoing = "delete the tenant";
  // Never from POSTERN_TENANT: deleting needs the name said here.
  const auto tenant = tenant_named(options.tenant);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  std::string confirmed = options.confirm;
  if (confirmed.empty() && ::isatty(STDIN_FILENO) != 0) {
    say_error("this destroys all that tenant " + options.tenant +
              " has here; what backups hold can still be restored, unless the tenant is erased");
    std::cerr << "Type the tenant's name to go on: " << std::flush;
    std::getline(std::cin, confirmed);
  }
  if (confirmed != options.tenant) {
    return report(
        sdk::fail(ErrorKind::Usage,
                  "not confirmed; nothing was deleted. It needs --confirm " + options.tenant),
        kDoing);
  }
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto status = client.value().delete_tenant(tenant.value());
  if (!status.ok()) return report(status.error(), kDoing);
  return finish(print("tenant " + options.tenant + " deleted\n"));
}

int run_admin_token_create(const Settings& settings, const AdminTokenOptions& options) {
  return create_token(
      settings, options, kAdminToken,
      [&](sdk::Client& client, const TenantId& tenant, std::optional<sys_seconds> expires_at) {
        return client.create_admin_token(tenant, options.description, expires_at);
      });
}

int run_admin_token_list(const Settings& settings, const AdminTokenOptions& options) {
  constexpr const char* kDoing = "list admin tokens";
  const auto tenant = chosen(settings, options.tenant);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto tokens = client.value().admin_tokens(tenant.value());
  if (!tokens.ok()) return report(tokens.error(), kDoing);
  Table table({"ID", "CREATED", "EXPIRES", "DESCRIPTION"});
  std::string json;
  for (const auto& token : tokens.value()) {
    Json line = {{"token_id", token.token_id},
                 {"description", token.description},
                 {"created_at", format_time(token.created_at)}};
    if (token.expires_at) line["expires_at"] = format_time(*token.expires_at);
    json += line_of(line);
    table.add({printable(token.token_id), format_time(token.created_at), shown(token.expires_at),
               printable(token.description)});
  }
  return finish(print(settings.json ? json : table.text()));
}

int run_admin_token_delete(const Settings& settings, const AdminTokenOptions& options) {
  return delete_token(settings, options, kAdminToken,
                      [&](sdk::Client& client, const TenantId& tenant) {
                        return client.delete_admin_token(tenant, options.token_id);
                      });
}

int run_initial_token_create(const Settings& settings, const InitialTokenOptions& options) {
  return create_token(
      settings, options, kInitialToken,
      [&](sdk::Client& client, const TenantId& tenant, std::optional<sys_seconds> expires_at) {
        return client.create_initial_access_token(tenant, options.description, expires_at,
                                                  options.max_uses);
      });
}

int run_initial_token_list(const Settings& settings, const InitialTokenOptions& options) {
  constexpr const char* kDoing = "list initial access tokens";
  const auto tenant = chosen(settings, options.tenant);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto tokens = client.value().initial_access_tokens(tenant.value());
  if (!tokens.ok()) return report(tokens.error(), kDoing);
  Table table({"ID", "CREATED", "EXPIRES", "USED", "DESCRIPTION"});
  std::string json;
  for (const auto& token : tokens.value()) {
    json += line_of({{"token_id", token.token_id},
                     {"description", token.description},
                     {"created_at", format_time(token.created_at)},
                     {"expires_at", format_time(token.expires_at)},
                     {"max_uses", token.max_uses},
                     {"uses", token.uses}});
    table.add({printable(token.token_id), format_time(token.created_at),
               format_time(token.expires_at),
               std::to_string(token.uses) + " of " + std::to_string(token.max_uses),
               printable(token.description)});
  }
  return finish(print(settings.json ? json : table.text()));
}

int run_initial_token_delete(const Settings& settings, const InitialTokenOptions& options) {
  return delete_token(settings, options, kInitialToken,
                      [&](sdk::Client& client, const TenantId& tenant) {
                        return client.delete_initial_access_token(tenant, options.token_id);
                      });
}

int run_client_secret_add(const Settings& settings, const ClientSecretOptions& options) {
  constexpr const char* kDoing = "add a client secret";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  const auto id = client_named(options.client);
  if (!id.ok()) return report(id.error(), kDoing);
  const auto expires_at = parse_expiry(options.expires);
  if (!expires_at.ok()) return report(expires_at.error(), kDoing);
  if (const auto out = check_out(options.out); !out.ok()) return report(out.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto made =
      client.value().add_client_secret(tenant.value(), id.value(), expires_at.value());
  if (!made.ok()) return report(made.error(), kDoing);
  const auto secret_id = printable(made.value().secret_id);
  return made.value().secret.expose([&](ByteView secret) {
    return hand_out(options.out, secret, "secret " + secret_id + " of client " + id.value().str(),
                    "postern client secret remove " + id.value().str() + " " + secret_id +
                        " --tenant " + tenant.value().str() + ", then add another");
  });
}

int run_client_secret_list(const Settings& settings, const ClientSecretOptions& options) {
  constexpr const char* kDoing = "list client secrets";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  const auto id = client_named(options.client);
  if (!id.ok()) return report(id.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto secrets = client.value().client_secrets(tenant.value(), id.value());
  if (!secrets.ok()) return report(secrets.error(), kDoing);
  Table table({"ID", "EXPIRES"});
  std::string json;
  for (const auto& secret : secrets.value()) {
    Json line = {{"secret_id", secret.secret_id}};
    if (secret.expires_at) line["expires_at"] = format_time(*secret.expires_at);
    json += line_of(line);
    table.add({printable(secret.secret_id), shown(secret.expires_at)});
  }
  return finish(print(settings.json ? json : table.text()));
}

int run_client_secret_remove(const Settings& settings, const ClientSecretOptions& options) {
  constexpr const char* kDoing = "remove the client secret";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  const auto id = client_named(options.client);
  if (!id.ok()) return report(id.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto status =
      client.value().delete_client_secret(tenant.value(), id.value(), options.secret_id);
  if (!status.ok()) return report(status.error(), kDoing);
  return finish(print("secret " + printable(options.secret_id) + " removed\n"));
}

int run_status(const Settings& settings) {
  constexpr const char* kDoing = "ask for the status";
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto status = client.value().status();
  if (!status.ok()) return report(status.error(), kDoing);
  const auto& now = status.value();
  if (settings.json) {
    return finish(print(line_of({{"version", now.version},
                                 {"schema_version", now.schema_version},
                                 {"database", now.database},
                                 {"tenants", now.tenants},
                                 {"uptime_seconds", now.uptime_seconds},
                                 {"root_key_id", now.root_key_id}})));
  }
  return finish(print(
      "server    " + printable(settings.url) + "\nversion   " + printable(now.version) +
      "\nschema    " + std::to_string(now.schema_version) + "\ndatabase  " +
      printable(now.database) + "\ntenants   " + std::to_string(now.tenants) + "\nuptime    " +
      std::to_string(now.uptime_seconds) + " s\nroot key  " + printable(now.root_key_id) + "\n"));
}

}  // namespace postern::cli
