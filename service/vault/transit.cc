#include "vault/transit.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <utility>

#include "crypto/base64url.h"
#include "crypto/data_cipher.h"
#include "crypto/ecdsa_der.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "crypto/signature.h"

namespace postern::vault {
namespace {

constexpr std::size_t kKeyBytes = 32;
constexpr std::byte kFormat{1};
constexpr std::string_view kPrefix = "vault:v";

Error refused(std::string detail) { return fail(ErrorCode::MalformedRequest, std::move(detail)); }

crypto::Algorithm algorithm_of(TransitType type) {
  return type == TransitType::Ed25519 ? crypto::Algorithm::EdDSA : crypto::Algorithm::ES256;
}

crypto::DataCipher cipher_of(TransitType type) {
  return type == TransitType::Aes256Gcm96 ? crypto::DataCipher::Aes256Gcm
                                          : crypto::DataCipher::ChaCha20Poly1305;
}

/// A fresh version's content.
PrivateKey fresh(TransitType type) {
  const auto with = [](ByteView key) {
    SecureBuffer content(1 + kKeyBytes + key.size());
    const auto out = content.writable();
    out[0] = kFormat;
    crypto::random_bytes(out.subspan(1, kKeyBytes));
    std::copy(key.begin(), key.end(), out.begin() + 1 + kKeyBytes);
    return PrivateKey(std::move(content));
  };
  if (!encrypts(type)) {
    return crypto::SigningKey::generate(algorithm_of(type)).export_private().expose(with);
  }
  SecureBuffer key(kKeyBytes);
  crypto::random_bytes(key.writable());
  return with(key.readable());
}

std::string box_id(const TransitKey& key, std::uint32_t version) {
  return transit_box_id(key.name.str(), to_string(key.type), key.id, version);
}

}  // namespace

std::string_view to_string(TransitType type) noexcept {
  switch (type) {
    case TransitType::Aes256Gcm96: return "aes256-gcm96";
    case TransitType::ChaCha20Poly1305: return "chacha20-poly1305";
    case TransitType::Ed25519: return "ed25519";
    case TransitType::EcdsaP256: return "ecdsa-p256";
  }
  return "";
}

std::optional<TransitType> parse_transit_type(std::string_view text) noexcept {
  using enum TransitType;
  for (const auto type : {Aes256Gcm96, ChaCha20Poly1305, Ed25519, EcdsaP256}) {
    if (text == to_string(type)) return type;
  }
  return std::nullopt;
}

std::string transit_box_id(std::string_view name, std::string_view type, std::string_view key_id,
                           std::uint32_t version) {
  // None of them has a slash.
  std::string id(name);
  id.append("/").append(type).append("/").append(key_id).append("/");
  return id + std::to_string(version);
}

// ---- TransitText ----

Result<TransitText> TransitText::parse(std::string_view text, Marshaling marshaling) {
  const auto malformed = refused("invalid ciphertext, signature or HMAC: not vault:v1:...");
  if (!text.starts_with(kPrefix)) return malformed;
  text.remove_prefix(kPrefix.size());
  TransitText out;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), out.version);
  if (read.ec != std::errc() || out.version == 0 || out.version > INT32_MAX ||
      text.front() == '0') {
    return malformed;
  }
  text.remove_prefix(static_cast<std::size_t>(read.ptr - text.data()));
  if (!text.starts_with(':')) return malformed;
  auto bytes = marshaling == Marshaling::Jws ? crypto::base64url_decode(text.substr(1))
                                             : crypto::base64_decode(text.substr(1));
  if (!bytes.ok()) return malformed;
  out.bytes = std::move(bytes).value();
  return out;
}

std::string TransitText::str(Marshaling marshaling) const {
  return std::string(kPrefix) + std::to_string(version) + ':' +
         (marshaling == Marshaling::Jws ? crypto::base64url(bytes) : crypto::base64(bytes));
}

// ---- OpenTransitKey ----

struct OpenTransitKey::Material {
  DataKey hmac_key;
  std::optional<DataKey> cipher_key;
  std::optional<crypto::SigningKey> signing_key;
};

OpenTransitKey::OpenTransitKey(Keyring& keyring, TransitStore& store, TenantId tenant,
                               TransitStore::Found found)
    : keyring_(keyring), store_(store), tenant_(std::move(tenant)), found_(std::move(found)) {}
OpenTransitKey::~OpenTransitKey() = default;
OpenTransitKey::OpenTransitKey(OpenTransitKey&&) noexcept = default;

Result<const OpenTransitKey::Material*> OpenTransitKey::open(const TransitVersion& version) {
  if (const auto it = opened_.find(version.version); it != opened_.end()) return it->second.get();
  POSTERN_TRY(const auto content,
              keyring_.unwrap_private(tenant_, kTransitKey, box_id(key(), version.version),
                                      version.wrapped));
  auto made = content.expose([&](ByteView bytes) -> Result<std::unique_ptr<const Material>> {
    const auto broken = fail(ErrorCode::Internal, "a transit key could not be opened");
    if (bytes.size() < 1 + kKeyBytes || bytes[0] != kFormat) return broken;
    const auto rest = bytes.subspan(1 + kKeyBytes);
    if (encrypts(key().type) && rest.size() != kKeyBytes) return broken;
    Material material{DataKey(SecureBuffer::copy_of(bytes.subspan(1, kKeyBytes))), {}, {}};
    if (encrypts(key().type)) {
      material.cipher_key.emplace(SecureBuffer::copy_of(rest));
    } else {
      POSTERN_TRY(material.signing_key,
                  crypto::SigningKey::import_private(algorithm_of(key().type),
                                                     PrivateKey(SecureBuffer::copy_of(rest))));
    }
    return std::make_unique<const Material>(std::move(material));
  });
  POSTERN_TRY(auto material, std::move(made));
  return opened_.emplace(version.version, std::move(material)).first->second.get();
}

Result<const OpenTransitKey::Material*> OpenTransitKey::material(std::uint32_t version) {
  if (const auto it = opened_.find(version); it != opened_.end()) return it->second.get();
  if (version == found_.latest.version) return open(found_.latest);
  POSTERN_TRY(const auto row, store_.version(tenant_, key().id, version));
  return open(row);
}

Result<std::uint32_t> OpenTransitKey::version_to_use(std::uint32_t asked) const {
  const auto latest = key().latest_version;
  if (asked == 0 || asked == latest) return latest;
  // Nothing is made that could not be read again.
  const auto least = std::max(key().min_encryption_version, key().min_decryption_version);
  if (asked > latest || asked < least) {
    return refused("key_version is not one that may be used");
  }
  return asked;
}

Status OpenTransitKey::may_read(std::uint32_t version) const {
  if (version > key().latest_version) {
    return refused("invalid ciphertext or signature: version is too new");
  }
  if (version < key().min_decryption_version) {
    return refused("ciphertext or signature version is disallowed by policy (too old)");
  }
  return {};
}

namespace {

/// The key that a context has of a derived one. Errors: MalformedRequest.
Result<DataKey> key_for(const TransitKey& key, const DataKey& base, ByteView context) {
  if (!key.derived) {
    if (!context.empty()) return refused("context is for keys that are derived");
    return DataKey(base.expose([](ByteView bytes) { return SecureBuffer::copy_of(bytes); }));
  }
  if (context.empty()) return refused("missing context for key derivation");
  return crypto::hkdf_sha256(base, context);
}

Error wrong_type(const char* what) {
  return refused(std::string("this type of key does not support ") + what);
}

}  // namespace

Result<TransitText> OpenTransitKey::encrypt(ByteView plaintext, ByteView context, ByteView aad,
                                            std::uint32_t asked) {
  if (!encrypts(key().type)) return wrong_type("encryption");
  POSTERN_TRY(const auto version, version_to_use(asked));
  POSTERN_TRY(const auto* const opened, material(version));
  POSTERN_TRY(const auto used, key_for(key(), *opened->cipher_key, context));
  return TransitText{version, crypto::encrypt_data(cipher_of(key().type), used, plaintext, aad)};
}

Result<Plaintext> OpenTransitKey::decrypt(const TransitText& ciphertext, ByteView context,
                                          ByteView aad) {
  if (!encrypts(key().type)) return wrong_type("decryption");
  POSTERN_CHECK(may_read(ciphertext.version));
  POSTERN_TRY(const auto* const opened, material(ciphertext.version));
  POSTERN_TRY(const auto used, key_for(key(), *opened->cipher_key, context));
  return crypto::decrypt_data(cipher_of(key().type), used, ciphertext.bytes, aad);
}

Result<TransitText> OpenTransitKey::sign(ByteView input, Marshaling marshaling,
                                         std::uint32_t asked) {
  if (encrypts(key().type)) return wrong_type("signing");
  POSTERN_TRY(const auto version, version_to_use(asked));
  POSTERN_TRY(const auto* const opened, material(version));
  auto signature = opened->signing_key->sign(input);
  const bool der = key().type == TransitType::EcdsaP256 && marshaling == Marshaling::Asn1;
  return TransitText{version, der ? crypto::ecdsa_to_der(signature) : std::move(signature)};
}

Result<bool> OpenTransitKey::verify(ByteView input, const TransitText& signature,
                                    Marshaling marshaling) {
  if (encrypts(key().type)) return wrong_type("verification of signatures");
  POSTERN_CHECK(may_read(signature.version));
  POSTERN_TRY(const auto* const opened, material(signature.version));
  auto raw = signature.bytes;
  if (key().type == TransitType::EcdsaP256 && marshaling == Marshaling::Asn1) {
    auto read = crypto::ecdsa_from_der(raw, 32);
    if (!read.ok()) return false;
    raw = std::move(read).value();
  }
  return opened->signing_key->public_key().verify(algorithm_of(key().type), input, raw);
}

Result<TransitText> OpenTransitKey::hmac(ByteView input, crypto::HashFunction hash,
                                         std::uint32_t asked) {
  POSTERN_TRY(const auto version, version_to_use(asked));
  POSTERN_TRY(const auto* const opened, material(version));
  return TransitText{version, crypto::hmac(hash, opened->hmac_key, input)};
}

Result<bool> OpenTransitKey::verify_hmac(ByteView input, const TransitText& mac,
                                         crypto::HashFunction hash) {
  POSTERN_CHECK(may_read(mac.version));
  POSTERN_TRY(const auto* const opened, material(mac.version));
  return crypto::equal(ByteView(crypto::hmac(hash, opened->hmac_key, input)), ByteView(mac.bytes));
}

Result<std::string> OpenTransitKey::public_key(const TransitVersion& version) {
  if (encrypts(key().type)) return std::string();
  POSTERN_TRY(const auto* const opened, open(version));
  const auto parameters = opened->signing_key->public_parameters();
  return key().type == TransitType::Ed25519 ? crypto::base64(parameters.x)
                                            : crypto::p256_pem(parameters.x, parameters.y);
}

// ---- Transit ----

TransitStore::Seal Transit::seal_for(const TenantId& tenant) const {
  return [this, tenant](const TransitKey& key, std::uint32_t version) -> Result<TransitVersion> {
    POSTERN_TRY(auto wrapped,
                keyring_.wrap_private(tenant, kTransitKey, box_id(key, version), fresh(key.type)));
    return TransitVersion{version, clock_.now(), std::move(wrapped)};
  };
}

Status Transit::create(const TenantId& tenant, TransitKey key, const audit::Event& record) {
  if (key.derived && !encrypts(key.type)) return refused("keys that sign cannot be derived");
  key.id = crypto::random_id();
  return store_.create(tenant, key, seal_for(tenant), kMostKeys, {&record, 1});
}

Status Transit::rotate(const TenantId& tenant, const TransitName& name,
                       const audit::Event& record) {
  return store_.rotate(tenant, name, seal_for(tenant), kMostVersions, {&record, 1});
}

Status Transit::configure(const TenantId& tenant, const TransitName& name, const Settings& settings,
                          const audit::Event& record) {
  const auto edit = [&](TransitKey& key) -> Status {
    const auto decryption =
        std::max(1U, settings.min_decryption_version.value_or(key.min_decryption_version));
    const auto encryption = settings.min_encryption_version.value_or(key.min_encryption_version);
    if (decryption > key.latest_version || encryption > key.latest_version) {
      return refused("a least version is one that the key has");
    }
    if (encryption != 0 && encryption < decryption) {
      return refused("what is encrypted with min_encryption_version could not be decrypted");
    }
    key.min_decryption_version = decryption;
    key.min_encryption_version = encryption;
    key.deletion_allowed = settings.deletion_allowed.value_or(key.deletion_allowed);
    return {};
  };
  return store_.configure(tenant, name, edit, {&record, 1});
}

Status Transit::remove(const TenantId& tenant, const TransitName& name,
                       const audit::Event& record) {
  const auto check = [](const TransitKey& key) -> Status {
    if (key.deletion_allowed) return {};
    return refused("deletion is not allowed for this key");  // Vault's words
  };
  return store_.remove(tenant, name, check, {&record, 1});
}

Result<OpenTransitKey> Transit::open(const TenantId& tenant, const TransitName& name) {
  POSTERN_TRY(auto found, store_.find(tenant, name));
  return OpenTransitKey(keyring_, store_, tenant, std::move(found));
}

}  // namespace postern::vault
