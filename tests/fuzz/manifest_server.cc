// Manifest::read and plan: what is refused is refused in harmless words, and what
// is accepted, applied and read again has nothing left to change.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "policy/manifest.h"

using namespace postern;
using namespace postern::policy;

namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

void harmless(const Error& error) {
  // Our own words (RFC 6749 §5.2), our own member names and indexes.
  require(std::all_of(error.detail.begin(), error.detail.end(),
                      [](char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; }));
  require(std::all_of(error.pointer.begin(), error.pointer.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' ||
           c == '_' || c == '-' || c == '.';
  }));
  require(error.pointer.empty() || error.pointer.front() == '/');
}

StoredTenant stored_from(const Manifest& manifest, const ConfigChange& change) {
  StoredTenant stored{{manifest.tenant,
                       change.display_name.value_or(""),
                       change.enabled.value_or(true),
                       change.settings.value_or("{}"),
                       1,
                       {}},
                      change.put,
                      change.add_client_secrets,
                      {},
                      {}};
  return stored;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto json = token::parse_json({reinterpret_cast<const char*>(data), size});
  if (!json.ok()) return 0;
  const auto manifest = Manifest::read(json.value());
  if (!manifest.ok()) {
    harmless(manifest.error());
    return 0;
  }
  const auto first = plan(manifest.value(), nullptr, Prune::Yes, {});
  if (!first.ok()) {
    require(first.error().code == ErrorCode::MalformedRequest);
    harmless(first.error());
    return 0;
  }
  const auto stored = stored_from(manifest.value(), first.value().change);
  const auto again = plan(manifest.value(), &stored, Prune::Yes, {});
  require(again.ok() && again.value().empty());
  const auto written = Manifest::read(write_manifest(stored));
  require(written.ok());
  const auto copy = plan(written.value(), &stored, Prune::Yes, {});
  require(copy.ok() && copy.value().empty());
  return 0;
}
