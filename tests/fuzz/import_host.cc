// Whatever a host's file holds, reading it ends. What is rewritten is read again
// in the same way, has the same servers, and none of their secrets.

#include "cli/import_sources.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "cli/json_text.h"

using postern::SecureBuffer;
using namespace postern::cli;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

ImportRules rules() {
  ImportRules out;
  out.settings = {{"POSTERN_TENANT", "acme"}};
  out.look_up = [](const Reference&) -> std::optional<SecureBuffer> {
    return SecureBuffer::copy_of(std::string_view("looked-up-value"));
  };
  out.read = [](const std::string&) -> postern::sdk::Result<postern::sdk::SecretBytes> {
    postern::sdk::SecretBytes text;
    postern::sdk::append(text, "FILE_TOKEN=from-the-file\nMODE=fast\n");
    return text;
  };
  return out;
}

std::size_t servers_in(std::string_view text, const char* list) {
  postern::sdk::SecretBytes copy;
  postern::sdk::append(copy, text);
  const auto json = JsonText::parse(std::move(copy), Comments::Allowed);
  require(json.ok());
  return json.value().root().find(list)->value.members.size();
}

void try_as(std::string_view text, ImportFormat format, const char* list) {
  postern::sdk::SecretBytes copy;
  postern::sdk::append(copy, text);
  const auto with = rules();
  const auto found = read_host_file(std::move(copy), format, "/w/.vscode/mcp.json", with);
  if (!found.ok()) {
    require(!found.error().detail.empty());
    return;
  }
  for (const auto& file : found.value().files) {
    if (file.path != "/w/.vscode/mcp.json") continue;
    require(postern::sdk::view(file.original) == text);
    const auto rewritten = postern::sdk::view(file.rewritten);
    require(servers_in(text, list) == servers_in(rewritten, list));
    postern::sdk::SecretBytes again;
    postern::sdk::append(again, rewritten);
    auto after = rules();
    after.read = [&](const std::string& path) -> postern::sdk::Result<postern::sdk::SecretBytes> {
      for (const auto& other : found.value().files) {
        if (other.path != path) continue;
        postern::sdk::SecretBytes left;
        postern::sdk::append(left, postern::sdk::view(other.rewritten));
        return left;
      }
      return with.read(path);
    };
    const auto second = read_host_file(std::move(again), format, "/w/.vscode/mcp.json", after);
    require(second.ok() && second.value().files.empty());
  }
}

/// What no folder tells is told by the list that it has, and by nothing else in it.
void try_format_of(std::string_view text) {
  require(format_of("/w/.cursor/mcp.json", text) == ImportFormat::Cursor);
  require(format_of("/w/.vscode/mcp.json", text) == ImportFormat::VsCode);
  const auto format = format_of("/w/mcp.json", text);
  require(format == ImportFormat::McpJson || format == ImportFormat::VsCode);
  postern::sdk::SecretBytes copy;
  postern::sdk::append(copy, text);
  const auto json = JsonText::parse(std::move(copy), Comments::Allowed);
  const bool has_servers = json.ok() && json.value().root().find("servers") != nullptr;
  require((format == ImportFormat::VsCode) == has_servers);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try_as(text, ImportFormat::ClaudeDesktop, "mcpServers");
  try_as(text, ImportFormat::Cursor, "mcpServers");
  try_as(text, ImportFormat::VsCode, "servers");
  try_as(text, ImportFormat::McpJson, "mcpServers");
  try_format_of(text);
  return 0;
}
