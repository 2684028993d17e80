#include "crypto/signature.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <sodium.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <span>
#include <stdexcept>
#include <utility>

#include "crypto/init.h"

namespace postern::crypto {
namespace {

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* object) const noexcept {
    Free(object);
  }
};
using PkeyPtr = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using PkeyContextPtr = std::unique_ptr<EVP_PKEY_CTX, Freed<EVP_PKEY_CTX_free>>;
using BnPtr = std::unique_ptr<BIGNUM, Freed<BN_free>>;
using ParamBuilderPtr = std::unique_ptr<OSSL_PARAM_BLD, Freed<OSSL_PARAM_BLD_free>>;
using ParamsPtr = std::unique_ptr<OSSL_PARAM, Freed<OSSL_PARAM_free>>;
using Pkcs8Ptr = std::unique_ptr<PKCS8_PRIV_KEY_INFO, Freed<PKCS8_PRIV_KEY_INFO_free>>;

/// OpenSSL leaves its errors in a queue of the thread, where the next user of
/// the thread (TLS) would take them for its own.
struct ErrorQueueGuard {
  ErrorQueueGuard() = default;
  ErrorQueueGuard(const ErrorQueueGuard&) = delete;
  ErrorQueueGuard& operator=(const ErrorQueueGuard&) = delete;
  ~ErrorQueueGuard() { ERR_clear_error(); }
};

[[noreturn]] void openssl_failed() { throw std::runtime_error("OpenSSL operation failed"); }

template <class Ptr>
Ptr checked(Ptr pointer) {
  if (!pointer) openssl_failed();
  return pointer;
}

enum class Family { Rsa, P256, P384, P521, Ed25519 };

Family family_of(Algorithm algorithm) noexcept {
  switch (algorithm) {
    case Algorithm::RS256:
    case Algorithm::RS384:
    case Algorithm::RS512:
    case Algorithm::PS256:
    case Algorithm::PS384:
    case Algorithm::PS512: return Family::Rsa;
    case Algorithm::ES256: return Family::P256;
    case Algorithm::ES384: return Family::P384;
    case Algorithm::ES512: return Family::P521;
    case Algorithm::EdDSA: return Family::Ed25519;
  }
  return Family::Ed25519;
}

bool is_pss(Algorithm algorithm) noexcept {
  return algorithm == Algorithm::PS256 || algorithm == Algorithm::PS384 ||
         algorithm == Algorithm::PS512;
}

struct Curve {
  std::string_view jose_name;
  const char* openssl_name;
  std::size_t field_bytes;
  std::string_view order;  ///< n, big-endian, field_bytes long
};

// Group orders: SEC 2, sections 2.4.2, 2.5.1 and 2.6.1.
constexpr std::string_view kOrderP256(
    "\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"
    "\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51",
    32);
constexpr std::string_view kOrderP384(
    "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
    "\xff\xff\xff\xff\xff\xff\xff\xff\xc7\x63\x4d\x81\xf4\x37\x2d\xdf"
    "\x58\x1a\x0d\xb2\x48\xb0\xa7\x7a\xec\xec\x19\x6a\xcc\xc5\x29\x73",
    48);
constexpr std::string_view kOrderP521(
    "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
    "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
    "\xff\xfa\x51\x86\x87\x83\xbf\x2f\x96\x6b\x7f\xcc\x01\x48\xf7\x09"
    "\xa5\xd0\x3b\xb5\xc9\xb8\x89\x9c\x47\xae\xbb\x6f\xb7\x1e\x91\x38"
    "\x64\x09",
    66);

const Curve& curve_of(Family family) {
  static constexpr Curve kP256{"P-256", "P-256", 32, kOrderP256};
  static constexpr Curve kP384{"P-384", "P-384", 48, kOrderP384};
  static constexpr Curve kP521{"P-521", "P-521", 66, kOrderP521};
  switch (family) {
    case Family::P256: return kP256;
    case Family::P384: return kP384;
    case Family::P521: return kP521;
    case Family::Rsa:
    case Family::Ed25519: break;
  }
  throw std::logic_error("not an elliptic curve of ours");
}

std::optional<Family> curve_named(std::string_view name) noexcept {
  if (name == "P-256") return Family::P256;
  if (name == "P-384") return Family::P384;
  if (name == "P-521") return Family::P521;
  return std::nullopt;
}

// ---- digests ---------------------------------------------------------------

// Fetched once: EVP_sha256() would look its implementation up at every use.
const EVP_MD* digest_algorithm(Algorithm algorithm) {
  static const EVP_MD* const sha256 = checked(EVP_MD_fetch(nullptr, "SHA256", nullptr));
  static const EVP_MD* const sha384 = checked(EVP_MD_fetch(nullptr, "SHA384", nullptr));
  static const EVP_MD* const sha512 = checked(EVP_MD_fetch(nullptr, "SHA512", nullptr));
  switch (algorithm) {
    case Algorithm::RS256:
    case Algorithm::PS256:
    case Algorithm::ES256: return sha256;
    case Algorithm::RS384:
    case Algorithm::PS384:
    case Algorithm::ES384: return sha384;
    case Algorithm::RS512:
    case Algorithm::PS512:
    case Algorithm::ES512: return sha512;
    case Algorithm::EdDSA: break;
  }
  throw std::logic_error("EdDSA hashes by itself");
}

struct Digest {
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes;
  unsigned int length = 0;
};

Digest digest(Algorithm algorithm, ByteView message) {
  Digest result;
  if (EVP_Digest(message.data(), message.size(), result.bytes.data(), &result.length,
                 digest_algorithm(algorithm), nullptr) != 1) {
    openssl_failed();
  }
  return result;
}

// ---- ECDSA signature forms -------------------------------------------------

constexpr std::size_t kMaxDer = 3 + 2 * (3 + 66);
constexpr unsigned char kDerInteger = 0x02;
constexpr unsigned char kDerSequence = 0x30;

/// Appends an INTEGER holding a big-endian unsigned number; gives the new end.
unsigned char* put_der_integer(unsigned char* out, std::span<const unsigned char> number) {
  while (number.size() > 1 && number.front() == 0) number = number.subspan(1);
  const bool sign_byte = (number.front() & 0x80) != 0;
  *out++ = kDerInteger;
  *out++ = static_cast<unsigned char>(number.size() + (sign_byte ? 1 : 0));  // at most 67
  if (sign_byte) *out++ = 0;
  return std::copy(number.begin(), number.end(), out);
}

/// R || S (RFC 7518 §3.4) to the DER that OpenSSL wants. Gives the length.
std::size_t raw_to_der(std::span<const unsigned char> raw,
                       std::array<unsigned char, kMaxDer>& der) {
  std::array<unsigned char, kMaxDer> body;
  auto* end = put_der_integer(body.data(), raw.first(raw.size() / 2));
  end = put_der_integer(end, raw.last(raw.size() / 2));
  const auto length = static_cast<std::size_t>(end - body.data());
  auto* out = der.data();
  *out++ = kDerSequence;
  if (length >= 0x80) *out++ = 0x81;  // P-521 only; never above 138
  *out++ = static_cast<unsigned char>(length);
  out = std::copy(body.data(), end, out);
  return static_cast<std::size_t>(out - der.data());
}

/// The DER that OpenSSL wrote to R || S.
Bytes der_to_raw(std::span<const unsigned char> der, std::size_t field_bytes) {
  Bytes raw(2 * field_bytes);
  auto rest = der.subspan(der[1] == 0x81 ? 3 : 2);
  for (std::size_t i = 1; i <= 2; ++i) {
    auto number = rest.subspan(2, rest[1]);
    rest = rest.subspan(2 + rest[1]);
    while (number.size() > field_bytes) number = number.subspan(1);  // the sign byte
    std::copy(number.begin(), number.end(),
              as_uchar(std::span(raw)) + (i * field_bytes - number.size()));
  }
  return raw;
}

/// Both halves in [1, n-1]. OpenSSL checks this too; "psychic signatures"
/// (CVE-2022-21449) are worth a check that does not rest on one library.
bool in_range(std::string_view half, std::string_view order) noexcept {
  return half.find_first_not_of('\0') != std::string_view::npos && half < order;
}

// ---- RSA key strength ------------------------------------------------------

constexpr int kMinRsaBits = 2048;
constexpr int kMaxRsaBits = 8192;

/// The keys of CVE-2017-15361 (ROCA) have primes k*M + (65537^a mod M) with M a
/// product of small primes, so that modulo each of those the modulus is a power
/// of 65537. A good key passes all 17 with probability below 2^-27.
bool has_roca_fingerprint(const BIGNUM* modulus) {
  static constexpr std::array<unsigned, 17> kPrimes = {11, 13, 17,  19,  37,  53,  61,  71, 73,
                                                       79, 97, 103, 107, 109, 127, 151, 157};
  for (const unsigned prime : kPrimes) {
    const auto residue = static_cast<unsigned>(BN_mod_word(modulus, prime));
    const unsigned generator = 65537 % prime;
    unsigned power = 1;
    bool in_group = false;
    do {
      in_group = in_group || power == residue;
      power = power * generator % prime;
    } while (power != 1);
    if (!in_group) return false;
  }
  return true;
}

bool has_small_factor(const BIGNUM* modulus) {
  for (unsigned candidate = 3; candidate < 2000; candidate += 2) {
    if (BN_mod_word(modulus, candidate) == 0) return true;
  }
  return false;
}

Bytes number_bytes(const BIGNUM* number) {
  Bytes bytes(static_cast<std::size_t>(BN_num_bytes(number)));
  BN_bn2bin(number, as_uchar(std::span(bytes)));
  return bytes;
}

Bytes number_parameter(const EVP_PKEY* key, const char* name) {
  BIGNUM* number = nullptr;
  if (EVP_PKEY_get_bn_param(key, name, &number) != 1) openssl_failed();
  const BnPtr owner(number);
  return number_bytes(number);
}

// ---- prepared operations ---------------------------------------------------

using Prepare = int (*)(EVP_PKEY_CTX*);

/// A context with everything set, to be copied for each operation: preparing one
/// looks up implementations behind locks, copying one costs a tenth of a microsecond.
PkeyContextPtr prepare(EVP_PKEY* key, Algorithm algorithm, Prepare init) {
  auto context = checked(PkeyContextPtr(EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr)));
  bool ok = init(context.get()) == 1;
  if (family_of(algorithm) == Family::Rsa) {
    ok = ok &&
         EVP_PKEY_CTX_set_rsa_padding(
             context.get(), is_pss(algorithm) ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) == 1 &&
         EVP_PKEY_CTX_set_signature_md(context.get(), digest_algorithm(algorithm)) == 1;
    if (is_pss(algorithm)) {
      // RFC 7518 §3.5: the salt is as long as the hash, and MGF1 uses the same hash.
      ok = ok && EVP_PKEY_CTX_set_rsa_mgf1_md(context.get(), digest_algorithm(algorithm)) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(context.get(), RSA_PSS_SALTLEN_DIGEST) == 1;
    }
  }
  if (!ok) openssl_failed();
  return context;
}

Error weak(std::string reason) { return fail(ErrorCode::MalformedRequest, std::move(reason)); }

PkeyPtr key_from(const char* type, OSSL_PARAM_BLD* builder) {
  const ParamsPtr parameters(OSSL_PARAM_BLD_to_param(builder));
  const PkeyContextPtr context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  if (!parameters || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1) {
    return nullptr;
  }
  return PkeyPtr(key);
}

}  // namespace

// ---- names -----------------------------------------------------------------

std::string_view to_string(Algorithm algorithm) noexcept {
  switch (algorithm) {
    case Algorithm::RS256: return "RS256";
    case Algorithm::RS384: return "RS384";
    case Algorithm::RS512: return "RS512";
    case Algorithm::PS256: return "PS256";
    case Algorithm::PS384: return "PS384";
    case Algorithm::PS512: return "PS512";
    case Algorithm::ES256: return "ES256";
    case Algorithm::ES384: return "ES384";
    case Algorithm::ES512: return "ES512";
    case Algorithm::EdDSA: return "EdDSA";
  }
  return "";
}

std::optional<Algorithm> parse_algorithm(std::string_view name) noexcept {
  using enum Algorithm;
  for (const auto algorithm :
       {RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA}) {
    if (name == to_string(algorithm)) return algorithm;
  }
  // RFC 9864 deprecates the polymorphic name; for Ed25519 keys both mean the same.
  if (name == "Ed25519") return EdDSA;
  return std::nullopt;
}

// ---- PublicKey -------------------------------------------------------------

struct PublicKey::Impl {
  Family family;
  PkeyPtr pkey;                             ///< RSA and EC
  std::array<unsigned char, 32> ed25519{};  ///< Ed25519

  explicit Impl(Family of) : family(of) {}
  Impl(Family of, PkeyPtr key) : family(of), pkey(std::move(key)) {}

  /// A prepared verification, made at first use: an RSA key has six and is
  /// mostly used with one.
  PkeyContextPtr verification(Algorithm algorithm) const {
    auto& slot = slots[static_cast<std::size_t>(algorithm)];
    std::call_once(slot.once,
                   [&] { slot.context = prepare(pkey.get(), algorithm, EVP_PKEY_verify_init); });
    return checked(PkeyContextPtr(EVP_PKEY_CTX_dup(slot.context.get())));
  }

 private:
  struct Slot {
    std::once_flag once;
    PkeyContextPtr context;
  };
  mutable std::array<Slot, 10> slots;  // by Algorithm
};

PublicKey::PublicKey(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
PublicKey::PublicKey(PublicKey&&) noexcept = default;
PublicKey& PublicKey::operator=(PublicKey&&) noexcept = default;
PublicKey::PublicKey(const PublicKey&) = default;
PublicKey& PublicKey::operator=(const PublicKey&) = default;
PublicKey::~PublicKey() = default;

Result<PublicKey> PublicKey::rsa(ByteView modulus, ByteView exponent) {
  const ErrorQueueGuard guard;
  // Longer than any key of ours even with a few leading zeros.
  if (modulus.size() > kMaxRsaBits / 8 + 8 || exponent.size() > 16) {
    return weak("an RSA key has at most 8192 bits and an exponent of at most 64 bits");
  }
  const auto n =
      checked(BnPtr(BN_bin2bn(as_uchar(modulus), static_cast<int>(modulus.size()), nullptr)));
  const auto e =
      checked(BnPtr(BN_bin2bn(as_uchar(exponent), static_cast<int>(exponent.size()), nullptr)));
  if (BN_num_bits(n.get()) < kMinRsaBits) return weak("an RSA key has at least 2048 bits");
  if (BN_num_bits(n.get()) > kMaxRsaBits) return weak("an RSA key has at most 8192 bits");
  if (!BN_is_odd(e.get()) || BN_num_bits(e.get()) < 17) {
    return weak("an RSA exponent is odd and at least 65537");
  }
  if (BN_num_bits(e.get()) > 64) return weak("an RSA exponent has at most 64 bits");
  if (!BN_is_odd(n.get()) || has_small_factor(n.get())) {
    return weak("the RSA modulus has a small factor");
  }
  if (has_roca_fingerprint(n.get())) return weak("the RSA key is of a broken generator (ROCA)");

  const auto builder = checked(ParamBuilderPtr(OSSL_PARAM_BLD_new()));
  if (OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get()) != 1) {
    openssl_failed();
  }
  auto key = key_from("RSA", builder.get());
  if (!key) return weak("malformed RSA key");
  return PublicKey(std::make_shared<const Impl>(Family::Rsa, std::move(key)));
}

Result<PublicKey> PublicKey::ec(std::string_view curve_name, ByteView x, ByteView y) {
  const ErrorQueueGuard guard;
  const auto family = curve_named(curve_name);
  if (!family) return weak("unsupported elliptic curve");
  const auto& curve = curve_of(*family);
  if (x.size() != curve.field_bytes || y.size() != curve.field_bytes) {
    return weak("wrong length of a coordinate");  // RFC 7518 §6.2.1.2
  }
  Bytes point{std::byte{0x04}};  // SEC 1 §2.3.3, uncompressed; infinity has no such form
  point.insert(point.end(), x.begin(), x.end());
  point.insert(point.end(), y.begin(), y.end());
  const auto builder = checked(ParamBuilderPtr(OSSL_PARAM_BLD_new()));
  if (OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, curve.openssl_name,
                                      0) != 1 ||
      OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                       point.size()) != 1) {
    openssl_failed();
  }
  auto key = key_from("EC", builder.get());
  // fromdata already refuses points off the curve; these curves have cofactor 1,
  // so a point on the curve has the right order.
  if (!key) return weak("the point is not on the curve");
  return PublicKey(std::make_shared<const Impl>(*family, std::move(key)));
}

Result<PublicKey> PublicKey::ed25519(ByteView x) {
  detail::ensure_sodium();
  if (x.size() != crypto_sign_PUBLICKEYBYTES) return weak("an Ed25519 key has 32 bytes");
  // Canonical, on the curve, in the prime-order group, not of small order.
  if (crypto_core_ed25519_is_valid_point(as_uchar(x)) != 1) {
    return weak("the point is not a sound Ed25519 key");
  }
  auto impl = std::make_shared<Impl>(Family::Ed25519);
  std::copy_n(as_uchar(x), x.size(), impl->ed25519.begin());
  return PublicKey(std::move(impl));
}

bool PublicKey::supports(Algorithm algorithm) const noexcept {
  return family_of(algorithm) == impl_->family;
}

bool PublicKey::verify(Algorithm algorithm, ByteView message, ByteView signature) const {
  if (!supports(algorithm)) return false;
  if (impl_->family == Family::Ed25519) {
    return signature.size() == crypto_sign_BYTES &&
           crypto_sign_verify_detached(as_uchar(signature), as_uchar(message), message.size(),
                                       impl_->ed25519.data()) == 0;
  }
  const ErrorQueueGuard guard;
  const unsigned char* form = as_uchar(signature);
  std::size_t length = signature.size();
  std::array<unsigned char, kMaxDer> der;
  if (impl_->family == Family::Rsa) {
    if (length != static_cast<std::size_t>(EVP_PKEY_get_size(impl_->pkey.get()))) return false;
  } else {
    const auto& curve = curve_of(impl_->family);
    if (length != 2 * curve.field_bytes) return false;
    const auto halves = as_text(signature);
    if (!in_range(halves.substr(0, curve.field_bytes), curve.order) ||
        !in_range(halves.substr(curve.field_bytes), curve.order)) {
      return false;
    }
    length = raw_to_der({form, length}, der);
    form = der.data();
  }
  const auto hash = digest(algorithm, message);
  const auto context = impl_->verification(algorithm);
  return EVP_PKEY_verify(context.get(), form, length, hash.bytes.data(), hash.length) == 1;
}

// ---- SigningKey ------------------------------------------------------------

struct SigningKey::Impl {
  Algorithm algorithm;
  PkeyPtr pkey;            ///< RSA and EC
  PkeyContextPtr signing;  ///< prepared, copied for each signature
  SecureBuffer ed25519;    ///< libsodium's form: seed || public key
  PublicKey public_key;
};

namespace {

Result<PublicKey> public_half(Family family, const EVP_PKEY* key) {
  if (family == Family::Rsa) {
    return PublicKey::rsa(number_parameter(key, OSSL_PKEY_PARAM_RSA_N),
                          number_parameter(key, OSSL_PKEY_PARAM_RSA_E));
  }
  const auto& curve = curve_of(family);
  const auto coordinate = [&](const char* name) {
    auto bytes = number_parameter(key, name);
    bytes.insert(bytes.begin(), curve.field_bytes - bytes.size(), std::byte{0});
    return bytes;
  };
  return PublicKey::ec(curve.jose_name, coordinate(OSSL_PKEY_PARAM_EC_PUB_X),
                       coordinate(OSSL_PKEY_PARAM_EC_PUB_Y));
}

}  // namespace

SigningKey::SigningKey(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SigningKey::SigningKey(SigningKey&&) noexcept = default;
SigningKey& SigningKey::operator=(SigningKey&&) noexcept = default;
SigningKey::~SigningKey() = default;

SigningKey SigningKey::generate(Algorithm algorithm) {
  detail::ensure_sodium();
  const auto family = family_of(algorithm);
  if (family == Family::Ed25519) {
    SecureBuffer seed(crypto_sign_SEEDBYTES);
    randombytes_buf(seed.writable().data(), seed.size());
    return import_private(algorithm, PrivateKey(std::move(seed))).value();
  }
  const ErrorQueueGuard guard;
  auto key = checked(PkeyPtr(family == Family::Rsa ? EVP_RSA_gen(kMinRsaBits)
                                                   : EVP_EC_gen(curve_of(family).openssl_name)));
  auto signing = prepare(key.get(), algorithm, EVP_PKEY_sign_init);
  auto public_key = public_half(family, key.get()).value();
  return SigningKey(std::make_unique<Impl>(
      Impl{algorithm, std::move(key), std::move(signing), SecureBuffer(), std::move(public_key)}));
}

Result<SigningKey> SigningKey::import_private(Algorithm algorithm, const PrivateKey& key) {
  detail::ensure_sodium();
  const ErrorQueueGuard guard;
  const auto unusable = [] { return fail(ErrorCode::Internal, "", "stored signing key unusable"); };
  const auto family = family_of(algorithm);
  if (family == Family::Ed25519) {
    if (key.size() != crypto_sign_SEEDBYTES) return unusable();
    SecureBuffer pair(crypto_sign_SECRETKEYBYTES);
    std::array<std::byte, crypto_sign_PUBLICKEYBYTES> x;
    key.expose([&](ByteView seed) {
      crypto_sign_seed_keypair(as_uchar(std::span<std::byte>(x)), as_uchar(pair.writable()),
                               as_uchar(seed));
    });
    auto public_key = PublicKey::ed25519(x);
    if (!public_key.ok()) return unusable();
    return SigningKey(std::make_unique<Impl>(
        Impl{algorithm, nullptr, nullptr, std::move(pair), std::move(public_key).value()}));
  }
  auto pkey = key.expose([](ByteView der) -> PkeyPtr {
    const unsigned char* at = as_uchar(der);
    const Pkcs8Ptr info(d2i_PKCS8_PRIV_KEY_INFO(nullptr, &at, static_cast<long>(der.size())));
    if (!info || at != as_uchar(der) + der.size()) return nullptr;
    return PkeyPtr(EVP_PKCS82PKEY(info.get()));
  });
  if (!pkey) return unusable();
  if (family == Family::Rsa) {
    if (EVP_PKEY_is_a(pkey.get(), "RSA") != 1) return unusable();
  } else {
    std::array<char, 32> group{};
    if (EVP_PKEY_is_a(pkey.get(), "EC") != 1 ||
        EVP_PKEY_get_utf8_string_param(pkey.get(), OSSL_PKEY_PARAM_GROUP_NAME, group.data(),
                                       group.size(), nullptr) != 1 ||
        OBJ_txt2nid(group.data()) != EC_curve_nist2nid(curve_of(family).openssl_name)) {
      return unusable();
    }
  }
  auto public_key = public_half(family, pkey.get());
  if (!public_key.ok()) return unusable();
  auto signing = prepare(pkey.get(), algorithm, EVP_PKEY_sign_init);
  return SigningKey(std::make_unique<Impl>(Impl{algorithm, std::move(pkey), std::move(signing),
                                                SecureBuffer(), std::move(public_key).value()}));
}

PrivateKey SigningKey::export_private() const {
  if (family_of(impl_->algorithm) == Family::Ed25519) {
    return PrivateKey(
        SecureBuffer::copy_of(impl_->ed25519.readable().first(crypto_sign_SEEDBYTES)));
  }
  const ErrorQueueGuard guard;
  const auto info = checked(Pkcs8Ptr(EVP_PKEY2PKCS8(impl_->pkey.get())));
  const int length = i2d_PKCS8_PRIV_KEY_INFO(info.get(), nullptr);
  if (length <= 0) openssl_failed();
  SecureBuffer der(static_cast<std::size_t>(length));
  auto* at = as_uchar(der.writable());
  if (i2d_PKCS8_PRIV_KEY_INFO(info.get(), &at) != length) openssl_failed();
  return PrivateKey(std::move(der));
}

Algorithm SigningKey::algorithm() const noexcept { return impl_->algorithm; }
PublicKey SigningKey::public_key() const { return impl_->public_key; }

PublicParameters SigningKey::public_parameters() const {
  PublicParameters parameters;
  const auto family = family_of(impl_->algorithm);
  if (family == Family::Ed25519) {
    parameters.kty = "OKP";
    parameters.crv = "Ed25519";
    const auto x = impl_->ed25519.readable().subspan(crypto_sign_SEEDBYTES);
    parameters.x.assign(x.begin(), x.end());
  } else if (family == Family::Rsa) {
    parameters.kty = "RSA";
    parameters.n = number_parameter(impl_->pkey.get(), OSSL_PKEY_PARAM_RSA_N);
    parameters.e = number_parameter(impl_->pkey.get(), OSSL_PKEY_PARAM_RSA_E);
  } else {
    const auto& curve = curve_of(family);
    parameters.kty = "EC";
    parameters.crv = curve.jose_name;
    parameters.x = number_parameter(impl_->pkey.get(), OSSL_PKEY_PARAM_EC_PUB_X);
    parameters.y = number_parameter(impl_->pkey.get(), OSSL_PKEY_PARAM_EC_PUB_Y);
    for (auto* coordinate : {&parameters.x, &parameters.y}) {
      coordinate->insert(coordinate->begin(), curve.field_bytes - coordinate->size(), std::byte{0});
    }
  }
  return parameters;
}

Bytes SigningKey::sign(ByteView message) const {
  const auto family = family_of(impl_->algorithm);
  if (family == Family::Ed25519) {
    Bytes signature(crypto_sign_BYTES);
    crypto_sign_detached(as_uchar(std::span(signature)), nullptr, as_uchar(message), message.size(),
                         as_uchar(impl_->ed25519.readable()));
    return signature;
  }
  const ErrorQueueGuard guard;
  const auto hash = digest(impl_->algorithm, message);
  const auto context = checked(PkeyContextPtr(EVP_PKEY_CTX_dup(impl_->signing.get())));
  Bytes signature(kMaxRsaBits / 8);
  std::size_t length = signature.size();
  if (EVP_PKEY_sign(context.get(), as_uchar(std::span(signature)), &length, hash.bytes.data(),
                    hash.length) != 1) {
    openssl_failed();
  }
  signature.resize(length);
  if (family == Family::Rsa) return signature;
  return der_to_raw({as_uchar(ByteView(signature)), length}, curve_of(family).field_bytes);
}

}  // namespace postern::crypto
