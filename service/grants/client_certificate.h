#pragma once

#include <string>

#include "core/clock.h"
#include "core/result.h"
#include "crypto/certificate.h"
#include "policy/snapshot.h"

namespace postern::grants {

/// The certificate that a client showed and proved to hold, in its TLS handshake
/// with us or with a declared proxy.
struct ShownCertificate {
  crypto::Certificate certificate;
  bool vouched_for = false;  ///< a chain leads to one of the configured authorities
};

/// RFC 8705 §3.1: `x5t#S256`.
std::string thumbprint(const crypto::Certificate& certificate);

/// `tls_client_auth` (RFC 8705 §2.1: vouched for, and with the registered name)
/// and `self_signed_tls_client_auth` (§2.2: one of the registered certificates).
/// `client` may be null. Errors: InvalidClient, in the same words whatever was wrong.
Result<const policy::Client*> authenticate_by_certificate(const policy::TenantSnapshot& snapshot,
                                                          const policy::Client* client,
                                                          const ShownCertificate& shown,
                                                          sys_seconds now);

}  // namespace postern::grants
