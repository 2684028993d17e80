#include "vault/envelope.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <span>

#include "crypto/aead.h"
#include "vault/aad.h"
#include "vault/fields.h"

namespace postern::vault {
namespace {

/// Which row: what both of its boxes are bound to.
Aad row_of(const TenantId& tenant, const CredentialKey& key, std::uint32_t version) {
  Aad row("");
  row.tenant(tenant).owner(key.owner).text(key.name.str()).number(version);
  return row;
}

Aad dek_aad(const Aad& row, KekVersion kek_version, const std::optional<ShareId>& share) {
  Aad aad(share ? "postern-dek-v2" : "postern-dek-v1");
  aad.parts_of(row).number(static_cast<std::uint32_t>(kek_version));
  if (share) aad.text(as_text(*share));
  return aad;
}

Aad fields_aad(const Aad& row, const SealedVersion& sealed) {
  Aad aad("postern-fields-v1");
  // The times decide whether it may still be used, so they are bound as well;
  // no expiry is 0.
  const auto seconds = [](sys_seconds time) {
    return static_cast<std::uint64_t>(time.time_since_epoch().count());
  };
  aad.parts_of(row)
      .number(seconds(sealed.created_at))
      .number(sealed.expires_at ? seconds(*sealed.expires_at) : 0);
  const auto& field_names = sealed.field_names;
  aad.number(field_names.size());
  for (const auto& name : field_names) aad.text(name);
  return aad;
}

/// One text for every cause: which part failed would tell an attacker who
/// alters rows how far he came.
Error does_not_open() { return fail(ErrorCode::Internal, "the credential could not be opened"); }

}  // namespace

Result<SealedVersion> Envelope::seal(const TenantId& tenant, const CredentialKey& key,
                                     std::uint32_t version, const Fields& fields,
                                     sys_seconds created_at,
                                     std::optional<sys_seconds> expires_at) {
  POSTERN_CHECK(validate_fields(fields));
  SealedVersion sealed;
  sealed.version = version;
  sealed.created_at = created_at;
  sealed.expires_at = expires_at;
  sealed.field_names.reserve(fields.size());
  for (const auto& [name, value] : fields) sealed.field_names.push_back(name);

  const auto row = row_of(tenant, key, version);
  const auto aad = fields_aad(row, sealed);
  auto fresh = crypto::seal_under_fresh_key(encode_fields(fields).readable(), aad.bytes());
  sealed.sealed = std::move(fresh.box);

  const auto wrap = [&](KekVersion kek_version, const std::optional<ShareId>& share,
                        const Kek& kek) -> Status {
    const auto dek_is = dek_aad(row, kek_version, share);
    sealed.kek_version = kek_version;
    sealed.share = share;
    sealed.wrapped_dek =
        fresh.key.expose([&](ByteView bytes) { return crypto::seal(kek, bytes, dek_is.bytes()); });
    return {};
  };
  POSTERN_CHECK(keyring_.with_current(tenant, key.owner, std::ref(wrap)));
  return sealed;
}

Result<Dek> Envelope::unwrap(const TenantId& tenant, const Owner& owner, const Aad& row,
                             KekVersion from, const std::optional<ShareId>& share,
                             ByteView wrapped_dek) {
  std::optional<Dek> dek;
  const auto open_box = [&](KekVersion kek_version, const Kek& kek) -> Status {
    const auto aad = dek_aad(row, kek_version, share);
    POSTERN_TRY(auto bytes, crypto::open(kek, wrapped_dek, aad.bytes()));
    if (bytes.size() != crypto::kKeyBytes) return does_not_open();
    dek.emplace(std::move(bytes));
    return {};
  };
  const auto unwrapped = keyring_.with_version(tenant, from, owner, share, std::ref(open_box));
  if (!unwrapped.ok()) {
    switch (unwrapped.error().code) {
      case ErrorCode::Unavailable:
      case ErrorCode::KeyUnavailable:
      case ErrorCode::TenantSealed: return unwrapped.error();
      case ErrorCode::NotFound:
        // The tenant is gone, or it never had a KEK of this version: an altered row.
        POSTERN_CHECK(keyring_.with_current(tenant, [](auto, const auto&) { return Status(); }));
        return does_not_open();
      default: return does_not_open();
    }
  }
  return std::move(*dek);
}

Result<WrappedDek> Envelope::rewrap(const TenantId& tenant, const CredentialKey& key,
                                    std::uint32_t version, const WrappedDek& from, KekVersion to,
                                    const std::optional<ShareId>& share) {
  const auto row = row_of(tenant, key, version);
  POSTERN_TRY(const auto dek,
              unwrap(tenant, key.owner, row, from.kek_version, from.share, from.wrapped));
  WrappedDek moved{to, share, {}};
  const auto wrap = [&](KekVersion kek_version, const Kek& kek) -> Status {
    const auto aad = dek_aad(row, kek_version, share);
    moved.wrapped =
        dek.expose([&](ByteView bytes) { return crypto::seal(kek, bytes, aad.bytes()); });
    return {};
  };
  POSTERN_CHECK(keyring_.with_version(tenant, to, key.owner, share, std::ref(wrap)));
  return moved;
}

Result<Fields> Envelope::open(const TenantId& tenant, const CredentialKey& key,
                              const SealedVersion& sealed) {
  const auto row = row_of(tenant, key, sealed.version);
  POSTERN_TRY(const auto dek,
              unwrap(tenant, key.owner, row, sealed.kek_version, sealed.share, sealed.wrapped_dek));
  const auto aad = fields_aad(row, sealed);
  const auto plaintext = crypto::open(dek, sealed.sealed, aad.bytes());
  if (!plaintext.ok()) return does_not_open();
  auto fields = decode_fields(plaintext.value().readable());
  if (!fields.ok()) return does_not_open();
  return fields;
}

}  // namespace postern::vault
