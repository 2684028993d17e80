#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"

namespace postern::outbound {

/// An IPv4 or IPv6 address. Never one inside the other: ::ffff:10.0.0.1 is an
/// IPv6 address, and refused as such.
class IpAddress {
 public:
  /// Strict: four decimal numbers without leading zeros, or RFC 4291 text
  /// without brackets or zone. Nothing for 127.1, 0x7f.1, 2130706433, 010.0.0.1.
  static std::optional<IpAddress> parse(std::string_view text);
  static IpAddress v4(const std::array<std::uint8_t, 4>& bytes);
  static IpAddress v6(const std::array<std::uint8_t, 16>& bytes);

  bool is_v4() const noexcept { return is_v4_; }
  bool is_loopback() const noexcept;
  /// An address of the public Internet. False for every range that IANA's
  /// special-purpose registries reserve: private, loopback, link-local, shared
  /// (CGNAT), multicast, documentation, benchmarking, unique local, and the forms
  /// that carry an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo).
  bool is_public() const noexcept;

  std::string str() const;
  auto operator<=>(const IpAddress&) const = default;

 private:
  friend class Network;
  bool is_v4_ = true;
  std::array<std::uint8_t, 16> bytes_{};  ///< IPv4 uses the first four
};

/// A range of addresses such as 10.0.0.0/8 or fd00::/8.
class Network {
 public:
  /// Errors: MalformedRequest, also when bits behind the prefix are set.
  static Result<Network> parse(std::string_view cidr);
  bool contains(const IpAddress& address) const noexcept;
  std::string str() const;

 private:
  Network(const IpAddress& base, unsigned prefix) : base_(base), prefix_(prefix) {}
  IpAddress base_;
  unsigned prefix_;
};

}  // namespace postern::outbound
