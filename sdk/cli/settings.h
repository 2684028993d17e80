#pragma once

#include <string>
#include <vector>

#include "core/ids.h"
#include "core/secret.h"
#include "postern/client.h"

namespace postern::cli {

/// What the global options and POSTERN_* variables say.
struct Settings {
  std::string url = "http://127.0.0.1:8711";
  std::string tenant;
  std::string token_file;  ///< empty: default_token_file()
  std::string client_id;
  std::string client_secret_file;
  std::string subject_token_file;
  std::string subject_token_type = "access_token";
  std::string ca_file;
  bool json = false;
};

/// Where `posternd dev` leaves the operator's token:
/// /var/lib/postern/operator.token for root, else
/// $XDG_DATA_HOME/postern/operator.token or ~/.local/share/postern/operator.token.
std::string default_token_file();

/// The tenant named by --tenant, or by the command itself.
sdk::Result<TenantId> tenant_of(const Settings& settings);
sdk::Result<TenantId> tenant_named(const std::string& text);

/// `access_token`, `jwt` and `id_token` as their URNs; a URN stays as it is.
std::string token_type_urn(const std::string& name);

// Clients by how they prove who is calling. Errors: Usage.
sdk::Result<sdk::Client> admin_client(const Settings& settings);  ///< --token-file
sdk::Result<sdk::Client> user_client(const Settings& settings);   ///< --subject-token-file
sdk::Result<sdk::Client> oauth_client(const Settings& settings);  ///< --client-id and its secret

sdk::Result<SubjectToken> subject_token(const Settings& settings);

/// An instant: RFC 3339, or a duration from now such as 90d, 12h, 30m, 45s.
sdk::Result<std::optional<sys_seconds>> parse_expiry(const std::string& text);
/// Likewise, with a duration back from now.
sdk::Result<std::optional<sys_seconds>> parse_since(const std::string& text);

}  // namespace postern::cli
