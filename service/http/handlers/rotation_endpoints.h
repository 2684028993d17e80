#pragma once

#include "grants/credential_rotations.h"
#include "http/handlers/gate.h"
#include "http/handlers/services.h"
#include "http/router.h"
#include "policy/revocation_list.h"

namespace postern::http {

/// Rotation of stored credentials: how, now, in bulk, and where it stands.
void add_rotation_endpoints(Router& router, Gate& gate, Services& services,
                            grants::CredentialRotations& rotations);

/// What is done after something was stolen.
void add_emergency_endpoint(Router& router, Gate& gate, Services& services,
                            grants::CredentialRotations& rotations,
                            policy::RevocationList& revocations);

}  // namespace postern::http
