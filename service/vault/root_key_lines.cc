#include "vault/root_key_lines.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <fstream>

#include "core/bytes.h"
#include "core/descriptor.h"
#include "core/new_file.h"
#include "crypto/base64url.h"
#include "vault/root_key_id.h"

namespace postern::vault::root_key_lines {
namespace {

constexpr std::size_t kMostFileBytes = 64 * 1024;

Error cannot_read(const std::filesystem::path& file) {
  return fail(ErrorCode::Unavailable, "the root key file " + file.string() + " cannot be read");
}

}  // namespace

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const auto end = text.find('\n');
    auto line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

std::vector<std::string_view> parts_of(std::string_view line) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto colon = line.find(':');
    parts.push_back(line.substr(0, colon));
    if (colon == std::string_view::npos) return parts;
    line.remove_prefix(colon + 1);
  }
}

std::optional<std::uint32_t> number_in(std::string_view text) {
  std::uint32_t value = 0;
  const auto* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (text.empty() || text.front() == '0' || parsed.ec != std::errc() || parsed.ptr != end) {
    return std::nullopt;
  }
  return value;
}

Result<std::string> text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMostFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (!file.is_open() || file.bad() || text.size() > kMostFileBytes) return cannot_read(path);
  return text;
}

Result<std::vector<std::string_view>> keys_of(std::string_view text, const IsLine& is_line) {
  auto lines = lines_of(text);
  std::erase_if(lines, [](std::string_view line) { return line.front() == '#'; });
  if (!std::all_of(lines.begin(), lines.end(), is_line)) {
    return fail(ErrorCode::Unavailable, "a line of the root key file is not of the form expected");
  }
  if (lines.size() > kMostKeys) {
    return fail(ErrorCode::Unavailable, "the root key file has more than four keys");
  }
  return lines;
}

Status put_first(const std::filesystem::path& path, std::string_view line, const IsLine& is_line) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return cannot_read(path);
  }
  // Of two at a time one would lose the other's line, and with it the other's key.
  struct stat now {};
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 || ::lstat(path.c_str(), &now) != 0 ||
      now.st_ino != status.st_ino || now.st_dev != status.st_dev) {
    return fail(ErrorCode::Conflict, "the root key file " + path.string() + " is being changed");
  }
  POSTERN_TRY(const auto before, text_of(path));
  const auto content = std::string(line) + before;
  POSTERN_TRY([[maybe_unused]] const auto keys, keys_of(content, is_line));
  return replace_private_file(path, content, status.st_uid, status.st_gid);
}

Result<RootKeys> root_keys(const std::vector<RootKey>& keys) {
  SecureBuffer text(kMostKeys * 128);
  std::size_t size = 0;
  for (const auto& key : keys) {
    auto encoded = key.expose([](ByteView raw) { return crypto::base64url(raw); });
    const auto id = root_key_id(key);
    for (const std::string_view part :
         {std::string_view("postern-root-key-v1:"), std::string_view(id), std::string_view(":"),
          std::string_view(encoded), std::string_view("\n")}) {
      std::copy(as_bytes(part).begin(), as_bytes(part).end(),
                text.writable().begin() + static_cast<std::ptrdiff_t>(size));
      size += part.size();
    }
    wipe(encoded);
  }
  return RootKeys::parse(as_text(text.readable().first(size)));
}

}  // namespace postern::vault::root_key_lines
