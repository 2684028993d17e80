#include "vault/root_key_passphrase.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <vector>

#include "core/bytes.h"
#include "core/descriptor.h"
#include "core/new_file.h"
#include "crypto/base64url.h"
#include "crypto/random.h"
#include "vault/root_key_id.h"

namespace postern::vault {
namespace {

constexpr std::string_view kPrefix = "postern-root-argon2id-v1:";
constexpr std::string_view kKeyPrefix = "postern-root-key-v1:";
constexpr std::size_t kMostKeys = 4;
constexpr std::size_t kMostPassphrases = 4;
constexpr std::size_t kLeastBytes = 16;
constexpr std::size_t kMostBytes = 1024;
constexpr std::size_t kMostFileBytes = 64 * 1024;

Error problem(std::string what) { return fail(ErrorCode::Unavailable, std::move(what)); }

/// Lines without their ends, those that are empty left out.
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

Result<std::vector<std::string_view>> passphrases_in(std::string_view text) {
  auto lines = lines_of(text);
  const bool fit = std::all_of(lines.begin(), lines.end(), [](std::string_view line) {
    return line.size() >= kLeastBytes && line.size() <= kMostBytes;
  });
  if (lines.empty() || lines.size() > kMostPassphrases || !fit) {
    return problem("the passphrase file must have one to four lines of 16 to 1024 bytes");
  }
  return lines;
}

struct Line {
  std::string_view id;
  crypto::StretchCost cost;
  crypto::Salt salt{};
};

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t value = 0;
  const auto* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  // One spelling for each number.
  if (parsed.ec != std::errc() || parsed.ptr != end || text.front() == '0') return std::nullopt;
  return value;
}

std::optional<Line> parse_line(std::string_view text) {
  if (!text.starts_with(kPrefix)) return std::nullopt;
  text.remove_prefix(kPrefix.size());
  std::vector<std::string_view> parts;
  for (;;) {
    const auto colon = text.find(':');
    parts.push_back(text.substr(0, colon));
    if (colon == std::string_view::npos) break;
    text.remove_prefix(colon + 1);
  }
  if (parts.size() != 4 || !is_root_key_id(parts[0]) || parts[1].empty() || parts[2].empty()) {
    return std::nullopt;
  }
  const auto passes = number(parts[1]);
  const auto memory = number(parts[2]);
  const auto salt = crypto::base64url_decode(parts[3]);
  if (!passes || !memory || !salt.ok() || salt.value().size() != crypto::kSaltBytes) {
    return std::nullopt;
  }
  Line line{parts[0], {*passes, *memory}, {}};
  std::copy(salt.value().begin(), salt.value().end(), line.salt.begin());
  return line;
}

Error cannot_read(const std::filesystem::path& file) {
  return problem("the passphrase parameters " + file.string() + " cannot be read");
}

Result<std::string> text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMostFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (!file.is_open() || file.bad() || text.size() > kMostFileBytes) return cannot_read(path);
  return text;
}

}  // namespace

Result<std::string> RootKeyPassphrase::new_line(std::string_view passphrases,
                                                crypto::StretchCost cost) {
  POSTERN_TRY(const auto known, passphrases_in(passphrases));
  crypto::Salt salt{};
  crypto::random_bytes(salt);
  POSTERN_TRY(auto bytes, crypto::stretch(as_bytes(known.front()), salt, cost));
  const RootKey key(std::move(bytes));
  return std::string(kPrefix) + root_key_id(key) + ':' + std::to_string(cost.passes) + ':' +
         std::to_string(cost.memory_mib) + ':' + crypto::base64url(salt) + '\n';
}

Result<std::string> RootKeyPassphrase::create(const std::filesystem::path& parameters,
                                              std::string_view passphrases,
                                              crypto::StretchCost cost) {
  POSTERN_TRY(const auto line, new_line(passphrases, cost));
  POSTERN_CHECK(make_private_file(parameters, line));
  return line.substr(kPrefix.size(), 16);
}

Result<std::string> RootKeyPassphrase::add_to(const std::filesystem::path& parameters,
                                              std::string_view passphrases,
                                              crypto::StretchCost cost) {
  const Descriptor file(::open(parameters.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return cannot_read(parameters);
  }
  // Of two at a time one would lose the other's line, and with it the other's key.
  struct stat now {};
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 || ::lstat(parameters.c_str(), &now) != 0 ||
      now.st_ino != status.st_ino || now.st_dev != status.st_dev) {
    return fail(ErrorCode::Conflict,
                "the passphrase parameters " + parameters.string() + " are being changed");
  }
  POSTERN_TRY(const auto before, text_of(parameters));
  for (const auto line : lines_of(before)) {
    if (line.front() != '#' && !parse_line(line)) {
      return problem("a line of the passphrase parameters cannot be read");
    }
  }
  POSTERN_TRY(const auto line, new_line(passphrases, cost));
  POSTERN_CHECK(replace_private_file(parameters, line + before, status.st_uid, status.st_gid));
  return line.substr(kPrefix.size(), 16);
}

Result<RootKeys> RootKeyPassphrase::derive(std::string_view parameters,
                                           std::string_view passphrases) {
  // All of it is read before the first passphrase is stretched.
  std::vector<Line> lines;
  for (const auto text : lines_of(parameters)) {
    if (text.front() == '#') continue;
    const auto line = parse_line(text);
    if (!line) return problem("a line of the passphrase parameters cannot be read");
    if (lines.size() == kMostKeys) {
      return problem("the passphrase parameters have more than four keys");
    }
    lines.push_back(*line);
  }
  POSTERN_TRY(const auto known, passphrases_in(passphrases));
  // In the form of a root key file, so that one reader checks ids, order and repetition.
  SecureBuffer text(kMostKeys * 128);
  std::size_t size = 0;
  const auto add = [&](std::string_view part) {
    std::copy(as_bytes(part).begin(), as_bytes(part).end(),
              text.writable().begin() + static_cast<std::ptrdiff_t>(size));
    size += part.size();
  };
  for (const auto& line : lines) {
    bool found = false;
    for (const auto passphrase : known) {
      auto bytes = crypto::stretch(as_bytes(passphrase), line.salt, line.cost);
      if (!bytes.ok()) return problem(bytes.error().detail);
      const RootKey key(std::move(bytes).value());
      if (root_key_id(key) != line.id) continue;
      auto encoded = key.expose([](ByteView raw) { return crypto::base64url(raw); });
      for (const auto part : {kKeyPrefix, line.id, std::string_view(":"), std::string_view(encoded),
                              std::string_view("\n")}) {
        add(part);
      }
      wipe(encoded);
      found = true;
      break;
    }
    if (!found) {
      return problem("no passphrase fits root key " + std::string(line.id));
    }
  }
  return RootKeys::parse(as_text(text.readable().first(size)));
}

Result<RootKeys> RootKeyPassphrase::load() {
  loaded_.emplace(FileStamp::of(parameters_), FileStamp::of(passphrases_));
  POSTERN_TRY(const auto parameters, text_of(parameters_));
  POSTERN_TRY(const auto passphrases, read_(passphrases_));
  auto keys = derive(parameters, as_text(passphrases.readable()));
  if (keys.ok()) return keys;
  auto error = std::move(keys).error();
  error.detail += ": " + parameters_.string();
  return error;
}

bool RootKeyPassphrase::changed() {
  return !loaded_ || loaded_->first != FileStamp::of(parameters_) ||
         loaded_->second != FileStamp::of(passphrases_);
}

}  // namespace postern::vault
