#include "grants/client_authentication.h"

namespace postern::grants {

Result<const policy::Client*> authenticate_client(const policy::TenantSnapshot& snapshot,
                                                  const std::string& client_id,
                                                  const ClientSecret& secret, sys_seconds now) {
  const bool matches = snapshot.client_secret_matches(client_id, secret, now);
  const auto* client = snapshot.find_client(client_id);
  if (!matches || client == nullptr || !client->enabled || !snapshot.enabled() ||
      client->authentication.method != policy::ClientAuthentication::Secret) {
    return fail(ErrorCode::InvalidClient, "client authentication failed");
  }
  return client;
}

}  // namespace postern::grants
