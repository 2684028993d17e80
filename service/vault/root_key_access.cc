// system.posix_acl_access, little-endian: u32 version 2, then per entry
//   u16 tag || u16 rights (4 read, 2 write, 1 execute) || u32 id
#include "vault/root_key_access.h"

#include <sys/stat.h>
#include <sys/xattr.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace postern::vault {
namespace {

constexpr std::uint32_t kAclVersion = 2;
constexpr std::size_t kEntryBytes = 8;
constexpr std::uint32_t kOwner = 0x01, kUser = 0x02, kMask = 0x10;

std::uint32_t little_endian(ByteView bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) {
    value = value << 8 | std::to_integer<std::uint32_t>(bytes[i]);
  }
  return value;
}

}  // namespace

bool acl_is_private(ByteView acl, uid_t user) {
  if (acl.size() < 4 || little_endian(acl.first(4)) != kAclVersion) return false;
  acl = acl.subspan(4);
  if (acl.empty() || acl.size() % kEntryBytes != 0) return false;
  for (; !acl.empty(); acl = acl.subspan(kEntryBytes)) {
    const auto tag = little_endian(acl.first(2));
    const auto rights = little_endian(acl.subspan(2, 2));
    const auto id = little_endian(acl.subspan(4, 4));
    const bool trusted = tag == kOwner || tag == kMask || (tag == kUser && (id == user || id == 0));
    if (!trusted && rights != 0) return false;
  }
  return true;
}

bool readable_by_owner_only(int fd, mode_t mode, uid_t user) {
  if ((mode & (S_IRWXG | S_IRWXO)) == 0) return true;
  if ((mode & S_IRWXO) != 0) return false;
  std::array<std::byte, 4 + 64 * kEntryBytes> acl{};
  const auto size = ::fgetxattr(fd, "system.posix_acl_access", acl.data(), acl.size());
  return size > 0 && acl_is_private(ByteView(acl).first(static_cast<std::size_t>(size)), user);
}

}  // namespace postern::vault
