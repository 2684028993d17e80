#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "audit/event.h"
#include "core/clock.h"
#include "core/ids.h"
#include "core/result.h"
#include "crypto/hmac.h"
#include "vault/keyring.h"

/// Transit of Vault's API: keys with a name and versions, which encrypt, sign and
/// authenticate for clients that never see them.
///
/// A version is sealed as 0x01 || HMAC key (32) || the key: 32 bytes for ciphers, the
/// seed for Ed25519, PKCS#8 for P-256.
namespace postern::vault {

inline constexpr std::string_view kTransitKey = "transit-key";  ///< Keyring::wrap_private

enum class TransitType { Aes256Gcm96, ChaCha20Poly1305, Ed25519, EcdsaP256 };
std::string_view to_string(TransitType type) noexcept;  ///< in Vault's words
std::optional<TransitType> parse_transit_type(std::string_view text) noexcept;
constexpr bool encrypts(TransitType type) {
  return type == TransitType::Aes256Gcm96 || type == TransitType::ChaCha20Poly1305;
}

/// The names of keys are those of credentials.
using TransitName = CredentialName;

struct TransitVersion {
  std::uint32_t version = 0;
  sys_seconds created_at{};
  Keyring::WrappedPrivateKey wrapped;
};

struct TransitKey {
  TransitName name{"unset"};
  std::string id;  ///< of this key: one that comes after it under its name has another
  TransitType type = TransitType::Aes256Gcm96;
  bool derived = false;  ///< each context has a key of its own
  bool deletion_allowed = false;
  std::uint32_t latest_version = 1;
  std::uint32_t min_decryption_version = 1;
  std::uint32_t min_encryption_version = 0;  ///< 0: as min_decryption_version
};

/// What a version is sealed for, so that none is taken for another's.
std::string transit_box_id(std::string_view name, std::string_view type, std::string_view key_id,
                           std::uint32_t version);

/// Where keys are kept. A change is one transaction with its audit events.
/// Implemented by storage.
class TransitStore {
 public:
  virtual ~TransitStore() = default;

  struct Found {
    TransitKey key;
    TransitVersion latest;
  };
  /// Errors: NotFound, Unavailable.
  virtual Result<Found> find(const TenantId& tenant, const TransitName& name) = 0;
  /// Of a key that was found. Errors: NotFound, Unavailable.
  virtual Result<TransitVersion> version(const TenantId& tenant, const std::string& key_id,
                                         std::uint32_t version) = 0;
  /// All of them, oldest first. Errors: Unavailable.
  virtual Result<std::vector<TransitVersion>> versions(const TenantId& tenant,
                                                       const std::string& key_id) = 0;
  /// In the order of names. Errors: Unavailable.
  virtual Result<std::vector<std::string>> names(const TenantId& tenant) = 0;

  /// `seal` makes a version; it is called again when the KEK was rotated meanwhile.
  using Seal = std::function<Result<TransitVersion>(const TransitKey& key, std::uint32_t version)>;
  /// Errors: Conflict when there is one of that name; TooLarge when there are `most`;
  /// NotFound, what `seal` answered, Unavailable.
  virtual Status create(const TenantId& tenant, const TransitKey& key, const Seal& seal,
                        std::uint32_t most, std::span<const audit::Event> events) = 0;
  /// The next version. Errors: NotFound, TooLarge when there are `most`; as above.
  virtual Status rotate(const TenantId& tenant, const TransitName& name, const Seal& seal,
                        std::uint32_t most, std::span<const audit::Event> events) = 0;
  /// Changes deletion_allowed and the least versions, as `edit` does to what there
  /// is. Errors: NotFound, what `edit` answered, Unavailable.
  using Edit = std::function<Status(TransitKey& key)>;
  virtual Status configure(const TenantId& tenant, const TransitName& name, const Edit& edit,
                           std::span<const audit::Event> events) = 0;
  /// With all its versions. Errors: NotFound, what `check` answered, Unavailable.
  using Check = std::function<Status(const TransitKey& key)>;
  virtual Status remove(const TenantId& tenant, const TransitName& name, const Check& check,
                        std::span<const audit::Event> events) = 0;
};

/// How a signature is written: ECDSA as DER or as R || S, and in which base64.
enum class Marshaling { Asn1, Jws };

/// `vault:v{version}:{base64}`, of ciphertexts, signatures and MACs; with Jws in
/// base64url without padding.
struct TransitText {
  std::uint32_t version = 0;
  Bytes bytes;
  /// Errors: MalformedRequest.
  static Result<TransitText> parse(std::string_view text, Marshaling marshaling = Marshaling::Asn1);
  std::string str(Marshaling marshaling = Marshaling::Asn1) const;
};

/// One key, for the length of a request: each version is opened once. What it refuses
/// is MalformedRequest, in Vault's words. Not thread-safe.
class OpenTransitKey {
 public:
  OpenTransitKey(Keyring& keyring, TransitStore& store, TenantId tenant, TransitStore::Found found);
  ~OpenTransitKey();
  OpenTransitKey(OpenTransitKey&&) noexcept;

  const TransitKey& key() const noexcept { return found_.key; }

  /// @param context  of a derived key, and of no other.
  /// @param version  0: the latest.
  Result<TransitText> encrypt(ByteView plaintext, ByteView context, ByteView aad,
                              std::uint32_t version = 0);
  Result<Plaintext> decrypt(const TransitText& ciphertext, ByteView context, ByteView aad);
  Result<TransitText> sign(ByteView input, Marshaling marshaling, std::uint32_t version = 0);
  Result<bool> verify(ByteView input, const TransitText& signature, Marshaling marshaling);
  Result<TransitText> hmac(ByteView input, crypto::HashFunction hash, std::uint32_t version = 0);
  Result<bool> verify_hmac(ByteView input, const TransitText& mac, crypto::HashFunction hash);

  /// Of a version of a signing key: base64 of 32 bytes, or PEM.
  Result<std::string> public_key(const TransitVersion& version);

 private:
  struct Material;
  Result<const Material*> material(std::uint32_t version);
  Result<const Material*> open(const TransitVersion& version);
  Result<std::uint32_t> version_to_use(std::uint32_t asked) const;
  Status may_read(std::uint32_t version) const;

  Keyring& keyring_;
  TransitStore& store_;
  TenantId tenant_;
  TransitStore::Found found_;
  std::map<std::uint32_t, std::unique_ptr<const Material>> opened_;
};

/// Thread-safe; waits for the database.
class Transit {
 public:
  static constexpr std::uint32_t kMostKeys = 1000;      ///< of a tenant
  static constexpr std::uint32_t kMostVersions = 1000;  ///< of a key

  Transit(Keyring& keyring, TransitStore& store, const Clock& clock)
      : keyring_(keyring), store_(store), clock_(clock) {}

  /// Errors: MalformedRequest for a type that cannot be derived; as TransitStore.
  Status create(const TenantId& tenant, TransitKey key, const audit::Event& record);
  Status rotate(const TenantId& tenant, const TransitName& name, const audit::Event& record);
  /// Errors: MalformedRequest for versions that are not there; as TransitStore.
  struct Settings {
    std::optional<std::uint32_t> min_decryption_version, min_encryption_version;
    std::optional<bool> deletion_allowed;
  };
  Status configure(const TenantId& tenant, const TransitName& name, const Settings& settings,
                   const audit::Event& record);
  /// Errors: MalformedRequest unless its settings allow that; as TransitStore.
  Status remove(const TenantId& tenant, const TransitName& name, const audit::Event& record);

  /// Errors: NotFound, Unavailable.
  Result<OpenTransitKey> open(const TenantId& tenant, const TransitName& name);
  Result<std::vector<std::string>> names(const TenantId& tenant) { return store_.names(tenant); }
  Result<std::vector<TransitVersion>> versions(const TenantId& tenant, const TransitKey& key) {
    return store_.versions(tenant, key.id);
  }

 private:
  TransitStore::Seal seal_for(const TenantId& tenant) const;

  Keyring& keyring_;
  TransitStore& store_;
  const Clock& clock_;
};

}  // namespace postern::vault
