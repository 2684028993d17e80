#pragma once

#include <sys/types.h>

#include "core/bytes.h"

namespace postern::vault {

/// Whether nobody but the file's owner, root and `user` may read or write it.
///
/// With a POSIX ACL the group bits of the mode are the ACL's mask, not the
/// group's rights: systemd (254 and later) gives a service its credential as
/// root:root 0440 with an ACL for that one user, which is as private as 0400.
bool readable_by_owner_only(int fd, mode_t mode, uid_t user);

/// The same for the ACL in the kernel's form (extended attribute
/// system.posix_acl_access). False for anything not understood.
bool acl_is_private(ByteView acl, uid_t user);

}  // namespace postern::vault
