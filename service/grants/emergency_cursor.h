#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/result.h"
#include "grants/touched_credentials.h"
#include "vault/credential.h"

namespace postern::grants {

/// Where an emergency goes on: after a page of what one part of the trail names, or in the
/// next part. It is neither secret nor authentic: who may order an emergency may do to any
/// credential of the tenant what one does.
struct EmergencyCursor {
  /// Fits, with the rest of a body, into the smallest that can be configured, and into an
  /// argument of a command.
  static constexpr std::size_t kMaxBytes = 60'000;
  std::string order;  ///< what names the order it is of, of 64 characters at most
  /// The first page, by the clock of the replica that answered it. What got a new value since
  /// then is not rotated again.
  sys_seconds begun_at{};
  SearchPart part{};
  std::optional<vault::CredentialKey> after{};  ///< the last of the page before
};

/// URL-safe text, of kMaxBytes at most.
std::string write(const EmergencyCursor& cursor);

/// Errors: MalformedRequest for what write() did not make, and for times after `now`, but for
/// what clocks may differ.
Result<EmergencyCursor> read_emergency_cursor(std::string_view text, sys_seconds now);

}  // namespace postern::grants
