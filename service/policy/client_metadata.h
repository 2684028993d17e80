#pragma once

#include <optional>
#include <set>
#include <string>

#include "core/result.h"
#include "crypto/signature.h"
#include "policy/config.h"
#include "token/json.h"

/// What a client says of itself, when it registers (RFC 7591 §2, RFC 8705 §2.1.2
/// and §3.4, RFC 9449 §5.2, RFC 9701 §6) or in its Client ID Metadata Document, and what a
/// tenant lets such clients have.
namespace postern::policy {

/// A client's metadata as far as they mean something here. Members that we do
/// not know, and those for display but the name, are passed over (RFC 7591 §2).
struct ClientMetadata {
  std::string name;
  /// `token_endpoint_auth_method` as the client spelled it: two spell Secret.
  std::string method;
  AuthenticationRule authentication;
  Json jwks;  ///< as sent; null when there is none
  std::set<GrantType> grants;
  NameSet scopes;  ///< all of what the tenant allows when the client did not say
  bool dpop_bound = false;
  bool certificate_bound = false;
  std::optional<crypto::Algorithm> introspection_algorithm;  ///< RFC 9701 §6
};

/// Who published the metadata: a document that everybody can read has no secret.
enum class MetadataSource { Registration, Document };

/// Nothing that was asked for is dropped silently: what such clients may not
/// have here is an error. Errors: MalformedRequest, whose pointer names the member.
/// @param signs  what the tenant's introspection answers can be signed with.
Result<ClientMetadata> read_client_metadata(const Json& value, const Registration& allowed,
                                            const std::set<crypto::Algorithm>& signs,
                                            MetadataSource source);

/// The members that were registered, as RFC 7591 §3.2.1 has them returned.
Json write(const ClientMetadata& metadata, const Registration& allowed);

/// The client that these metadata describe, without backends yet.
Client client_of(ClientId id, const ClientMetadata& metadata);

/// Gives a client that nobody configured the backends and audiences such clients have, and takes
/// whatever else they may not have, or not any more. Disabled when nothing is left.
void hold_to(const std::optional<Registration>& allowed, Client& client);

}  // namespace postern::policy
