#include "audit/chain.h"

#include <array>

namespace postern::audit {
namespace {

std::array<std::byte, 8> big_endian(std::uint64_t value) {
  std::array<std::byte, 8> bytes{};
  for (std::size_t i = bytes.size(); i-- > 0; value >>= 8) {
    bytes[i] = static_cast<std::byte>(value & 0xFF);
  }
  return bytes;
}

}  // namespace

crypto::Hash256 link(const TenantId& tenant, std::uint64_t sequence,
                     const crypto::Hash256& previous, std::string_view body) {
  return crypto::sha256_parts({as_bytes("postern-audit-v1"), as_bytes(tenant.str()),
                               big_endian(sequence), previous, as_bytes(body)});
}

Record append(const TenantId& tenant, ChainHead& head, const Event& event) {
  Record record{head.sequence + 1, canonical(event), {}};
  record.hash = link(tenant, record.sequence, head.hash, record.body);
  head = {record.sequence, record.hash};
  return record;
}

crypto::Hash256 head_mac(const DerivedKey& key, const TenantId& tenant, const ChainHead& head) {
  return crypto::keyed_hash(key, {as_bytes("postern-audit-head-v1"), as_bytes(tenant.str()),
                                  big_endian(head.sequence), head.hash});
}

}  // namespace postern::audit
