#include "cli/settings.h"

#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "core/instant.h"
#include "postern/secret_file.h"

namespace postern::cli {
namespace {

using sdk::ErrorKind;

sdk::TransportOptions transport_of(const Settings& settings) {
  sdk::TransportOptions options;
  options.url = settings.url;
  options.ca_file = settings.ca_file;
  return options;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

using Read = std::optional<sys_seconds> (*)(std::string_view text, sys_seconds now);

sdk::Result<std::optional<sys_seconds>> parse_instant(const std::string& text, Read read) {
  if (text.empty()) return std::optional<sys_seconds>();
  const auto time = read(text, SystemClock().now());
  if (time) return time;
  return sdk::fail(ErrorKind::Usage, "\"" + text + "\" " + std::string(kInstantExpected));
}

}  // namespace

std::string default_token_file() {
  if (::geteuid() == 0) return "/var/lib/postern/operator.token";
  auto data = environment("XDG_DATA_HOME");
  // The XDG rules: a relative path is to be ignored.
  if (data.empty() || data[0] != '/') data = environment("HOME") + "/.local/share";
  return data + "/postern/operator.token";
}

sdk::Result<TenantId> tenant_named(const std::string& text) {
  auto id = TenantId::parse(text);
  if (!id.ok()) return sdk::fail(ErrorKind::Usage, id.error().detail);
  return std::move(id).value();
}

sdk::Result<TenantId> tenant_of(const Settings& settings) {
  if (settings.tenant.empty()) {
    return sdk::fail(ErrorKind::Usage, "which tenant? use --tenant or POSTERN_TENANT");
  }
  return tenant_named(settings.tenant);
}

std::string token_type_urn(const std::string& name) {
  return name.find(':') == name.npos ? "urn:ietf:params:oauth:token-type:" + name : name;
}

sdk::Result<sdk::Client> admin_client(const Settings& settings) {
  const auto path = settings.token_file.empty() ? default_token_file() : settings.token_file;
  auto token = sdk::read_token_file(path, "API token");
  if (!token.ok()) {
    auto error = std::move(token).error();
    if (settings.token_file.empty()) {
      error.detail +=
          " (that is the default; name another with --token-file or POSTERN_TOKEN_FILE)";
    }
    return error;
  }
  sdk::Credentials credentials;
  credentials.token = BearerToken(std::move(token).value());
  return sdk::Client::create(transport_of(settings), std::move(credentials));
}

sdk::Result<SubjectToken> subject_token(const Settings& settings) {
  if (settings.subject_token_file.empty()) {
    return sdk::fail(ErrorKind::Usage,
                     "whose call is it? name the file that holds the user's token with "
                     "--subject-token-file or POSTERN_SUBJECT_TOKEN_FILE");
  }
  POSTERN_TRY(auto token, sdk::read_token_file(settings.subject_token_file, "subject token"));
  return SubjectToken(std::move(token));
}

sdk::Result<sdk::Client> user_client(const Settings& settings) {
  POSTERN_TRY(const auto token, subject_token(settings));
  sdk::Credentials credentials;
  credentials.token =
      token.expose([](ByteView bytes) { return BearerToken(SecureBuffer::copy_of(bytes)); });
  return sdk::Client::create(transport_of(settings), std::move(credentials));
}

sdk::Result<sdk::Client> oauth_client(const Settings& settings) {
  if (settings.client_id.empty() || settings.client_secret_file.empty()) {
    return sdk::fail(ErrorKind::Usage,
                     "which client is calling? use --client-id and --client-secret-file, or "
                     "POSTERN_CLIENT_ID and POSTERN_CLIENT_SECRET_FILE");
  }
  POSTERN_TRY(auto secret, sdk::read_token_file(settings.client_secret_file, "client secret"));
  sdk::Credentials credentials;
  credentials.client = sdk::ClientCredentials{settings.client_id, ClientSecret(std::move(secret))};
  return sdk::Client::create(transport_of(settings), std::move(credentials));
}

sdk::Result<std::optional<sys_seconds>> parse_expiry(const std::string& text) {
  return parse_instant(text, instant_after);
}
sdk::Result<std::optional<sys_seconds>> parse_since(const std::string& text) {
  return parse_instant(text, instant_before);
}

}  // namespace postern::cli
