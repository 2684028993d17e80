#pragma once

#include <string>

#include "core/clock.h"
#include "core/result.h"
#include "core/secret.h"
#include "policy/snapshot.h"

namespace postern::grants {

/// The client whose id and secret these are (RFC 6749 §2.3.1). Unknown,
/// disabled and wrong secret look alike, in text and in work done.
/// Errors: InvalidClient.
Result<const policy::Client*> authenticate_client(const policy::TenantSnapshot& snapshot,
                                                  const std::string& client_id,
                                                  const ClientSecret& secret, sys_seconds now);

}  // namespace postern::grants
