#include "grants/client_certificate.h"

#include <algorithm>

#include "crypto/base64url.h"
#include "crypto/hash.h"

namespace postern::grants {
namespace {

bool has_name(const crypto::Certificate& certificate, const policy::TlsSubject& subject) {
  using Kind = policy::TlsSubject::Kind;
  switch (subject.kind) {
    case Kind::Dn: {
      const auto name = crypto::DistinguishedName::parse(subject.value);
      return name.ok() && certificate.has_subject(name.value());
    }
    case Kind::Dns: return certificate.has_dns(subject.value);
    case Kind::Uri: return certificate.has_uri(subject.value);
    case Kind::Ip: return certificate.has_ip(subject.value);
    case Kind::Email: return certificate.has_email(subject.value);
  }
  return false;
}

}  // namespace

std::string thumbprint(const crypto::Certificate& certificate) {
  return crypto::base64url(certificate.sha256());
}

Result<const policy::Client*> authenticate_by_certificate(const policy::TenantSnapshot& snapshot,
                                                          const policy::Client* client,
                                                          const ShownCertificate& shown,
                                                          sys_seconds now) {
  const auto matches = [&] {
    if (client == nullptr || !client->enabled || !snapshot.enabled()) return false;
    // The handshake may have been long ago: the connection outlives nothing.
    if (!shown.certificate.valid_at(now)) return false;
    const auto& rule = client->authentication;
    if (rule.method == policy::ClientAuthentication::Tls) {
      return shown.vouched_for && rule.tls_subject &&
             has_name(shown.certificate, *rule.tls_subject);
    }
    if (rule.method == policy::ClientAuthentication::SelfSignedTls) {
      const auto& known = rule.certificate_sha256;
      return std::find(known.begin(), known.end(), thumbprint(shown.certificate)) != known.end();
    }
    return false;
  };
  if (!matches()) return fail(ErrorCode::InvalidClient, "client authentication failed");
  return client;
}

}  // namespace postern::grants
