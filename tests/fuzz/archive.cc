// Archives of tenants: their first line, the container after it, and the records in it. What
// is read of the container was written with its key, and each record has one spelling.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <variant>

#include "app/tenant_record.h"
#include "vault/archive.h"

using namespace postern;

namespace {

constexpr std::string_view kPassphrase = "a passphrase of the fuzzer";

struct World {
  World() {
    std::ostringstream out;
    auto writer = vault::ArchiveWriter::begin(out, as_bytes(kPassphrase), {2, 8}).value();
    first_line = out.str();
    if (!writer.add(as_bytes("{}"), vault::ArchiveWriter::Place::Last).ok()) std::abort();
    std::istringstream in(out.str());
    reader.emplace(vault::ArchiveReader::begin(in, as_bytes(kPassphrase)).value());
  }
  std::string first_line;
  std::optional<vault::ArchiveReader> reader;
};

void require(bool promise) {
  if (!promise) std::abort();
}

/// Whether it may name a cost within the bounds. Stretching takes longer than this has time for.
bool may_stretch(const std::string& text) {
  unsigned passes = 0;
  unsigned memory_mib = 0;
  return std::sscanf(text.c_str(), "postern-archive-v1:%u:%u:", &passes, &memory_mib) == 2 &&
         passes >= 2 && passes <= 16 && memory_mib >= 8 && memory_mib <= 1024;
}

void first_line(const World& world, const std::string& text) {
  std::istringstream in(text);
  const auto another = world.reader->again(in);
  require(another.ok() == text.starts_with(world.first_line));
  if (may_stretch(text)) return;
  std::istringstream from_the_start(text);
  const auto reader = vault::ArchiveReader::begin(from_the_start, as_bytes(kPassphrase));
  require(!reader.ok() && reader.error().code == ErrorCode::MalformedRequest);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const World world;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  first_line(world, std::string(text));
  std::istringstream in(world.first_line + std::string(text));
  auto reader = world.reader->again(in);
  require(reader.ok() && !reader.value().next().ok());

  const auto record = app::decode_record(as_bytes(text));
  if (record.ok()) {
    const auto written =
        std::visit([](const auto& each) { return app::encode(each); }, record.value());
    require(as_text(written.readable()) == text);
  }
  return 0;
}
