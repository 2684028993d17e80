#include <string>

#include "cli/commands.h"
#include "cli/output.h"

namespace postern::cli {

int run_token_introspect(const Settings& settings) {
  constexpr const char* kDoing = "introspect the token";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = oauth_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto token = subject_token(settings);
  if (!token.ok()) return report(token.error(), kDoing);
  const auto answer = client.value().introspect(tenant.value(), token.value());
  if (!answer.ok()) return report(answer.error(), kDoing);
  const auto status = print(printable(answer.value()) + "\n");
  return status.ok() ? exit_code::kOk : report(status.error(), "");
}

int run_token_revoke(const Settings& settings) {
  constexpr const char* kDoing = "revoke the token";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = oauth_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto token = subject_token(settings);
  if (!token.ok()) return report(token.error(), kDoing);
  auto status = client.value().revoke(tenant.value(), token.value());
  if (!status.ok()) return report(status.error(), kDoing);
  // The server does not say whose a token is, nor whether it was one.
  status = print("done: if the token was this client's, it is revoked\n");
  return status.ok() ? exit_code::kOk : report(status.error(), "");
}

}  // namespace postern::cli
