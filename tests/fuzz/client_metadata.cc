#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string_view>

#include "grants/client_documents.h"
#include "policy/client_metadata.h"
#include "token/json.h"

/// Client metadata (RFC 7591) and metadata documents: whatever is accepted stays
/// within the template, is read again from what is said to have been registered,
/// and makes a client whose configuration reads back.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern;
  static const auto allowed = policy::read_registration(
      {{"dynamic", true},
       {"client_id_metadata", {"https://a.example/"}},
       {"authentication",
        {"client_secret", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"}},
       {"backends", {"files"}},
       {"scopes", {"files:read"}}},
      "");
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto& most = allowed.value();
  static const std::set<crypto::Algorithm> signs{crypto::Algorithm::ES256};
  const auto json = token::parse_json(text);
  if (json.ok()) {
    const auto metadata = policy::read_client_metadata(json.value(), most, signs,
                                                       policy::MetadataSource::Registration);
    if (metadata.ok()) {
      for (const auto& scope : metadata.value().scopes.names) {
        if (!most.scopes.contains(scope)) std::abort();
      }
      const auto again = policy::read_client_metadata(policy::write(metadata.value(), most), most,
                                                      signs, policy::MetadataSource::Registration);
      if (!again.ok()) std::abort();
      const auto client = policy::client_of(ClientId("dyn-1"), metadata.value());
      if (!policy::read_client(policy::write(client), "").ok()) std::abort();
    }
  }
  const auto document = grants::read_client_document(text, "https://a.example/x", most, signs);
  if (document.ok()) {
    const auto& client = document.value().client;
    if (client.authentication.method == policy::ClientAuthentication::Secret) std::abort();
    if (client.backends.all || !client.backends.contains("files")) std::abort();
  }
  static_cast<void>(most.takes_metadata_of(text));
  return 0;
}
