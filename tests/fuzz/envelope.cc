// What the vault reads back from files and rows. The first byte chooses:
//   'f'  the plaintext of a credential: what decodes must encode to the same bytes
//   'r'  a root key file
//   'p'  how passphrases are stretched to root keys
//   'o'  a sealed version, cut at the second byte: it must not open
//   'k'  the private box of a signing key: it must not open
//   'c'  a text for the audit log: its canonical form must be printable ASCII
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "../support/in_memory_kek_store.h"
#include "audit/event.h"
#include "vault/envelope.h"
#include "vault/fields.h"
#include "vault/root_key.h"
#include "vault/root_key_passphrase.h"

namespace {

using namespace postern;

void require(bool holds) {
  if (!holds) std::abort();
}

void fields(ByteView input) {
  const auto decoded = vault::decode_fields(input);
  if (!decoded.ok()) return;
  require(as_text(vault::encode_fields(decoded.value()).readable()) == as_text(input));
}

void root_keys(ByteView input) {
  const auto keys = vault::RootKeys::parse(as_text(input));
  if (keys.ok()) require(keys.value().active().size() == 32);
}

/// Nothing is stretched without a passphrase, whatever the text says it costs.
void passphrase_parameters(ByteView input) {
  require(!vault::RootKeyPassphrase::derive(as_text(input), "").ok());
}

void open(ByteView input) {
  static test::TestKeyring keys{"acme"};
  static vault::Envelope envelope(keys.keyring);
  if (input.empty()) return;
  auto rest = input.subspan(1);
  const auto cut = std::min(rest.size(), std::to_integer<std::size_t>(input[0]));
  vault::SealedVersion sealed;
  sealed.version = 1;
  sealed.kek_version = KekVersion{1};
  sealed.field_names = {"token"};
  sealed.wrapped_dek.assign(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(cut));
  rest = rest.subspan(cut);
  sealed.sealed.assign(rest.begin(), rest.end());
  const auto opened =
      envelope.open(TenantId("acme"), {Owner::tenant(), CredentialName("x")}, sealed);
  require(!opened.ok() && opened.error().code == ErrorCode::Internal);
}

void private_box(ByteView input) {
  static test::TestKeyring keys{"acme"};
  const auto opened = keys.keyring.unwrap_private(TenantId("acme"), vault::kTokenSigning, "k1",
                                                  {KekVersion{1}, {input.begin(), input.end()}});
  require(!opened.ok() && opened.error().code == ErrorCode::Internal);
}

void canonical(ByteView input) {
  audit::Event event{TenantId("acme"), {}, "x", audit::Outcome::Allowed, "", {}};
  event.with(as_text(input), as_text(input));
  for (const char c : audit::canonical(event)) require(c >= 0x20 && c < 0x7f);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView input(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'f': fields(input); break;
    case 'r': root_keys(input); break;
    case 'p': passphrase_parameters(input); break;
    case 'o': open(input); break;
    case 'k': private_box(input); break;
    case 'c': canonical(input); break;
    default: break;
  }
  return 0;
}
