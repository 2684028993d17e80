// Archives of tenants: the container after its first line, and the records in it. What is
// read of the container was written with its key, and each record has one spelling.

#include <algorithm>
#include <cstddef>
#include <cstdint>
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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const World world;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
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
