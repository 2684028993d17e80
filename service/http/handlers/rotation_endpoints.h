#pragma once

#include <cstdint>

#include "audit/event.h"
#include "grants/credential_rotations.h"
#include "http/handlers/gate.h"
#include "http/handlers/services.h"
#include "http/router.h"
#include "policy/revocation_list.h"
#include "token/json.h"

namespace postern::http {

/// The record of one credential within an act on several: `act` with whose it is.
audit::Event record_of_one(const audit::Event& act, const char* action,
                           const vault::CredentialKey& key);
/// The member `limit` of a body: 1 to 100, else 50. Errors: MalformedRequest.
Result<std::uint32_t> limit_in(const token::Json& body);

/// Set and describe stored credentials: a date may begin a rotation.
void add_credential_write_endpoints(Router& router, Gate& gate, Services& services,
                                    grants::CredentialRotations& rotations);
/// Rotation of stored credentials: how, now, in bulk, and where it stands.
void add_rotation_endpoints(Router& router, Gate& gate, Services& services,
                            grants::CredentialRotations& rotations);

/// What is done after something was stolen.
void add_emergency_endpoint(Router& router, Gate& gate, Services& services,
                            grants::CredentialRotations& rotations,
                            policy::RevocationList& revocations);

}  // namespace postern::http
