#pragma once

#include <cstddef>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "core/bytes.h"

namespace postern {

/// Owned bytes in locked, guarded, wiped memory. Move-only.
///
/// Small buffers come from an arena of locked pages (one sodium_malloc region
/// cut into slots), because sodium_malloc itself costs four pages and several
/// system calls an object, too much for a value that lives for one request.
/// Every slot is wiped when it is given back. Thread-safe to allocate and free.
class SecureBuffer {
 public:
  SecureBuffer() noexcept = default;
  /// Zero-filled. Throws std::bad_alloc when memory is exhausted.
  explicit SecureBuffer(std::size_t size);
  ~SecureBuffer() {
    if (data_ != nullptr) give_back();  // most of them were moved from
  }
  SecureBuffer(SecureBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  SecureBuffer& operator=(SecureBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  SecureBuffer(const SecureBuffer&) = delete;
  SecureBuffer& operator=(const SecureBuffer&) = delete;

  static SecureBuffer copy_of(ByteView bytes);
  static SecureBuffer copy_of(std::string_view text) { return copy_of(as_bytes(text)); }
  /// Copies the text and wipes the source.
  static SecureBuffer take(std::string&& text);

  std::span<std::byte> writable() noexcept { return {data_, size_}; }
  ByteView readable() const noexcept { return {data_, size_}; }
  std::size_t size() const noexcept { return size_; }

 private:
  void give_back() noexcept;  ///< wipes first

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Overwrites memory in a way the compiler may not remove.
void wipe(std::span<std::byte> bytes) noexcept;
void wipe(std::string& text) noexcept;

/// Whether every page taken for secrets so far could be locked. False means
/// secrets may be swapped out: RLIMIT_MEMLOCK is too low.
bool secure_memory_locked() noexcept;

/// Bytes with a meaning. `Kek`, `Dek` and `SubjectToken` are different types,
/// so one cannot be passed where another is expected. Move-only; wiped on
/// destruction.
template <class Tag>
class Secret {
 public:
  explicit Secret(SecureBuffer bytes) noexcept : bytes_(std::move(bytes)) {}
  Secret(Secret&&) noexcept = default;
  Secret& operator=(Secret&&) noexcept = default;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;

  /// The only way in. Search for `expose(` to review every use of plaintext.
  /// Return what you computed from the bytes, never the span.
  template <class Use>
  decltype(auto) expose(Use&& use) const {
    return std::forward<Use>(use)(bytes_.readable());
  }

  std::size_t size() const noexcept { return bytes_.size(); }
  bool operator==(const Secret&) const = delete;  // use crypto::equal(): constant time

  // GoogleTest prints types it does not know byte by byte; this stops that.
  friend void PrintTo(const Secret&, std::ostream* out) { *out << "[secret]"; }

 private:
  SecureBuffer bytes_;
};

using RootKey = Secret<struct RootKeyTag>;        ///< 32 bytes
using Kek = Secret<struct KekTag>;                ///< 32 bytes
using Dek = Secret<struct DekTag>;                ///< 32 bytes
using DerivedKey = Secret<struct DerivedKeyTag>;  ///< 32 bytes, from crypto::derive
using HeldShare = Secret<struct HeldShareTag>;    ///< 32 bytes that a tenant's key holder has
using Plaintext = Secret<struct PlaintextTag>;    ///< content of a sealed record
using FieldValue = Secret<struct FieldValueTag>;  ///< one field of a credential
using PrivateKey = Secret<struct PrivateKeyTag>;  ///< PKCS#8 DER, or Ed25519 seed
using SubjectToken = Secret<struct SubjectTokenTag>;
using ActorToken = Secret<struct ActorTokenTag>;
using AccessToken = Secret<struct AccessTokenTag>;
using ClientSecret = Secret<struct ClientSecretTag>;
using BearerToken = Secret<struct BearerTokenTag>;  ///< operator, tenant-admin or user token

}  // namespace postern
