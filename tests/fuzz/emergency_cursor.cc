// Where an emergency goes on, as a caller gives it back: what is taken is bounded, and is
// written as the same again.

#include "grants/emergency_cursor.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/bytes.h"
#include "crypto/base64url.h"

using namespace postern;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr sys_seconds kNow{std::chrono::seconds(1790000300)};
  const auto text =
      crypto::base64url(as_bytes(std::string_view(reinterpret_cast<const char*>(data), size)));
  const auto read = grants::read_emergency_cursor(text, kNow);
  if (!read.ok()) return 0;
  const auto& leads = read.value().part.leads;
  if (leads.given_at.size() > grants::Leads::kMost ||
      leads.sessions.size() > grants::Leads::kMost) {
    std::abort();
  }
  const auto written = grants::write(read.value());
  const auto again = grants::read_emergency_cursor(written, kNow);
  if (!again.ok() || grants::write(again.value()) != written) std::abort();
  return 0;
}
