#include "outbound/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <vector>

namespace postern::outbound {
namespace {

std::vector<Network> networks(std::initializer_list<const char*> texts) {
  std::vector<Network> parsed;
  for (const char* text : texts) parsed.push_back(Network::parse(text).value());
  return parsed;
}

bool in_any(const std::vector<Network>& ranges, const IpAddress& address) noexcept {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const Network& range) { return range.contains(address); });
}

// IANA IPv4 Special-Purpose Address Registry, and multicast (RFC 5771).
const std::vector<Network>& special_v4() {
  static const auto ranges = networks({
      "0.0.0.0/8",         // this network
      "10.0.0.0/8",        // private
      "100.64.0.0/10",     // shared: carrier-grade NAT, and metadata of some clouds
      "127.0.0.0/8",       // loopback
      "168.63.129.16/32",  // Azure's host, reachable from every guest there
      "169.254.0.0/16",    // link-local: metadata of most clouds
      "172.16.0.0/12",     // private
      "192.0.0.0/24",      // protocol assignments
      "192.0.2.0/24",      // documentation
      "192.31.196.0/24",   // AS112
      "192.52.193.0/24",   // automatic multicast tunnelling
      "192.88.99.0/24",    // 6to4 relays
      "192.168.0.0/16",    // private
      "192.175.48.0/24",   // AS112
      "198.18.0.0/15",     // benchmarking
      "198.51.100.0/24",   // documentation
      "203.0.113.0/24",    // documentation
      "224.0.0.0/4",       // multicast
      "240.0.0.0/4",       // reserved, and broadcast
  });
  return ranges;
}

// Of IPv6 only global unicast is public at all; these are its special parts.
// Everything else (::/8 with mapped, compatible and NAT64 forms, unique local,
// link-local, site-local, multicast, discard) lies outside it.
const Network& global_unicast_v6() {
  static const auto range = Network::parse("2000::/3").value();
  return range;
}
const std::vector<Network>& special_v6() {
  static const auto ranges = networks({
      "2001::/23",          // protocol assignments: Teredo, benchmarking, ORCHID
      "2001:db8::/32",      // documentation
      "2002::/16",          // 6to4
      "2620:4f:8000::/48",  // AS112
      "3fff::/20",          // documentation
  });
  return ranges;
}

}  // namespace

IpAddress IpAddress::v4(const std::array<std::uint8_t, 4>& bytes) {
  IpAddress address;
  std::copy(bytes.begin(), bytes.end(), address.bytes_.begin());
  return address;
}

IpAddress IpAddress::v6(const std::array<std::uint8_t, 16>& bytes) {
  IpAddress address;
  address.is_v4_ = false;
  address.bytes_ = bytes;
  return address;
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  if (text.size() > INET6_ADDRSTRLEN || text.find('\0') != std::string_view::npos) {
    return std::nullopt;
  }
  const std::string copy(text);
  // inet_pton, unlike inet_aton, knows only the dotted-decimal form.
  if (std::array<std::uint8_t, 4> bytes; inet_pton(AF_INET, copy.c_str(), bytes.data()) == 1) {
    return v4(bytes);
  }
  if (std::array<std::uint8_t, 16> bytes; inet_pton(AF_INET6, copy.c_str(), bytes.data()) == 1) {
    return v6(bytes);
  }
  return std::nullopt;
}

bool IpAddress::is_loopback() const noexcept {
  if (is_v4_) return bytes_[0] == 127;
  return bytes_[15] == 1 &&
         std::all_of(bytes_.begin(), bytes_.end() - 1, [](std::uint8_t byte) { return byte == 0; });
}

bool IpAddress::is_public() const noexcept {
  if (is_v4_) return !in_any(special_v4(), *this);
  return global_unicast_v6().contains(*this) && !in_any(special_v6(), *this);
}

std::string IpAddress::str() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(is_v4_ ? AF_INET : AF_INET6, bytes_.data(), text.data(), text.size());
  return text.data();
}

Result<Network> Network::parse(std::string_view cidr) {
  const auto malformed = [] {
    return fail(ErrorCode::MalformedRequest, "a network is written like 10.0.0.0/8");
  };
  const auto slash = cidr.find('/');
  if (slash == std::string_view::npos) return malformed();
  const auto base = IpAddress::parse(cidr.substr(0, slash));
  const auto length = cidr.substr(slash + 1);
  unsigned prefix = 0;
  const auto [end, error] = std::from_chars(length.data(), length.data() + length.size(), prefix);
  if (!base || error != std::errc() || end != length.data() + length.size() ||
      (length.size() > 1 && length.front() == '0') || prefix > (base->is_v4() ? 32U : 128U)) {
    return malformed();
  }
  for (unsigned bit = prefix; bit < base->bytes_.size() * 8; ++bit) {
    if ((base->bytes_[bit / 8] & (0x80U >> bit % 8)) != 0) return malformed();
  }
  return Network(*base, prefix);
}

bool Network::contains(const IpAddress& address) const noexcept {
  if (address.is_v4_ != base_.is_v4_) return false;
  const auto whole = static_cast<std::ptrdiff_t>(prefix_ / 8);
  if (!std::equal(base_.bytes_.begin(), base_.bytes_.begin() + whole, address.bytes_.begin())) {
    return false;
  }
  if (prefix_ % 8 == 0) return true;
  const auto at = static_cast<std::size_t>(whole);
  const unsigned mask = 0xff00U >> prefix_ % 8 & 0xffU;
  return ((base_.bytes_[at] ^ address.bytes_[at]) & mask) == 0;
}

std::string Network::str() const { return base_.str() + "/" + std::to_string(prefix_); }

}  // namespace postern::outbound
