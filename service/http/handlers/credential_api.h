#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "http/handlers/api.h"

/// What the endpoints about stored credentials share.
namespace postern::http {

/// Everything that may be shown of one; never a value.
token::Json metadata_json(const vault::CredentialMetadata& metadata);

/// Its entity-tag: another one after each change, but for when it was last used.
std::string tag_of(const vault::CredentialMetadata& metadata);

/// Whose credentials this request is about. A user's own, always; for the
/// others the principal that `issuer` and `subject` name, or nothing.
enum class Untrusted { Refuse, Allow };
Result<std::optional<Principal>> principal_of(const policy::TenantSnapshot& snapshot,
                                              const Caller& caller, const Query& query,
                                              Untrusted untrusted);

/// The credential that path and query name, also in the record.
Result<vault::CredentialKey> key_of(const Request& request, const policy::TenantSnapshot& snapshot,
                                    const Caller& caller, audit::Event& record,
                                    Untrusted untrusted = Untrusted::Allow);

/// A user may store what some backend will ask of them, and nothing else: the
/// vault is not a free store. Errors: Forbidden.
Status check_may_store(const policy::TenantSnapshot& snapshot, const Caller& caller,
                       const CredentialName& name);

/// A user may not take away what a rotation that is an admin's works on: one that somebody
/// outside is told of, and one that an emergency asked for. Without the credential it would
/// never end outside, and the value before stay valid there. The same holds for the credential
/// that such a rotation works with. Errors: Forbidden.
Status check_may_remove(const Services& services, const TenantId& tenant,
                        const vault::CredentialKey& key, const Caller& caller);
/// Likewise of versions: without the latest one, the new value is given up.
/// @param versions  none: the latest one
Status check_may_remove(const Services& services, const TenantId& tenant,
                        const vault::CredentialKey& key, const Caller& caller,
                        std::span<const std::uint32_t> versions);
/// Likewise of a write: another value gives up one that is not handed out yet.
Status check_may_replace(const Services& services, const TenantId& tenant,
                         const vault::CredentialKey& key, const Caller& caller);

/// What a change must find, once the request's conditions hold for what is there;
/// nothing when it names no conditions.
/// @param absent  whether there may be none; if not, that is NotFound whatever the
///                conditions (RFC 9110 §13.2.1).
enum class Absent { Refuse, Allow };
Result<std::optional<vault::Expected>> expected_by(const Services& services, const Request& request,
                                                   const policy::TenantSnapshot& snapshot,
                                                   const vault::CredentialKey& key, Absent absent);

/// Likewise of a write: also by its `cas`, as Vault calls the version alone that the caller
/// saw (0: none).
Result<std::optional<vault::Expected>> expected_of_write(const Services& services,
                                                         const Request& request,
                                                         const policy::TenantSnapshot& snapshot,
                                                         const vault::CredentialKey& key,
                                                         const token::Json& body, Absent absent);

/// The member `fields` of a body, which keeps nothing of them. Errors: MalformedRequest.
Result<vault::Fields> fields_of(token::Json& body);

/// `name=text,name=text`; no label's text has a comma. Errors: MalformedRequest.
Result<vault::Texts> labels_of(std::string_view selector);

/// Registers one for operators, tenant admins and users of the tenant.
using CredentialCall = Result<Done> (*)(const Services&, const Request&,
                                        const policy::TenantSnapshot&, const Caller&,
                                        audit::Event&);
void add_credential_endpoint(Router& router, Gate& gate, Services& services, const char* method,
                             const char* pattern, const char* action, CredentialCall call);

}  // namespace postern::http
