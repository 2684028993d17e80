#include "vault/root_key.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

#include "core/bytes.h"
#include "core/new_file.h"
#include "crypto/base64url.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "vault/root_key_access.h"
#include "vault/root_key_id.h"

namespace postern::vault {
namespace {

constexpr std::string_view kPrefix = "postern-root-key-v1:";
constexpr std::size_t kKeyBytes = 32;
constexpr std::size_t kMaxFileBytes = 64 * 1024;

/// An open file, closed at the end.
class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const noexcept { return fd_; }
  bool ok() const noexcept { return fd_ >= 0; }

 private:
  int fd_;
};

Error problem(const std::filesystem::path& file, const std::string& what) {
  return fail(ErrorCode::Unavailable, "the root key file " + file.string() + " " + what);
}

std::string reason(int error) { return std::system_category().message(error); }

RootKey fresh_key() {
  SecureBuffer bytes(kKeyBytes);
  crypto::random_bytes(bytes.writable());
  return RootKey(std::move(bytes));
}

}  // namespace

std::string root_key_id(const RootKey& key) {
  const auto hash =
      crypto::keyed_hash(crypto::derive(key, "rootid"), {as_bytes("postern-root-key-v1")});
  constexpr char kHex[] = "0123456789abcdef";
  std::string id;
  for (const auto byte : std::span(hash).first(8)) {
    id += kHex[std::to_integer<unsigned>(byte >> 4)];
    id += kHex[std::to_integer<unsigned>(byte & std::byte{15})];
  }
  return id;
}

namespace {

struct Line {
  std::string id;
  RootKey key;
};

std::optional<Line> parse_line(std::string_view line) {
  if (!line.starts_with(kPrefix)) return std::nullopt;
  line.remove_prefix(kPrefix.size());
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto bytes = crypto::base64url_decode(line.substr(colon + 1));
  if (!bytes.ok()) return std::nullopt;
  RootKey key(SecureBuffer::copy_of(bytes.value()));
  wipe(bytes.value());
  if (key.size() != kKeyBytes || root_key_id(key) != line.substr(0, colon)) return std::nullopt;
  return Line{std::string(line.substr(0, colon)), std::move(key)};
}

/// All of a file, at most `limit` bytes; nothing when it is longer or does not read.
std::optional<SecureBuffer> read_all(int fd, std::size_t limit) {
  SecureBuffer buffer(limit + 1);
  std::size_t size = 0;
  while (size <= limit) {
    const auto rest = buffer.writable().subspan(size);
    const auto count = ::read(fd, rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::nullopt;
    if (count == 0) return SecureBuffer::copy_of(buffer.readable().first(size));
    size += static_cast<std::size_t>(count);
  }
  return std::nullopt;
}

}  // namespace

void RootKeys::add(RootKey key, std::string id) {
  if (keys_.empty()) active_id_ = id;
  ids_.push_back(id);
  keys_.emplace(std::move(id), std::move(key));
}

const RootKey* RootKeys::find(std::string_view id) const {
  const auto found = keys_.find(id);
  return found == keys_.end() ? nullptr : &found->second;
}

RootKeys RootKeys::generate() {
  RootKeys keys;
  auto key = fresh_key();
  auto id = root_key_id(key);
  keys.add(std::move(key), std::move(id));
  return keys;
}

Result<RootKeys> RootKeys::parse(std::string_view text) {
  RootKeys keys;
  for (int number = 1; !text.empty(); ++number) {
    const auto end = text.find('\n');
    const auto line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty() || line.front() == '#') continue;
    auto parsed = parse_line(line);
    // Never the line itself in the text: it may be a key with one wrong character.
    if (!parsed || keys.find(parsed->id) != nullptr) {
      return fail(ErrorCode::Unavailable, "line " + std::to_string(number) +
                                              " of the root key file is " +
                                              (parsed ? "a repeated key" : "not a root key"));
    }
    keys.add(std::move(parsed->key), std::move(parsed->id));
  }
  if (keys.keys_.empty()) return fail(ErrorCode::Unavailable, "the root key file has no key");
  return keys;
}

namespace {

// O_NONBLOCK: opening a named pipe must not wait for its other end.
File open_file(const std::filesystem::path& path) {
  return File(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
}

/// Its text, when it is what a root key file must be. To be called right after opening it.
Result<SecureBuffer> text_of(const std::filesystem::path& path, const File& file,
                             struct stat& status) {
  if (!file.ok()) {
    return problem(path,
                   errno == ELOOP ? "is a symbolic link" : "cannot be opened: " + reason(errno));
  }
  if (::fstat(file.fd(), &status) != 0) return problem(path, "cannot be read: " + reason(errno));
  if (!S_ISREG(status.st_mode)) return problem(path, "is not a regular file");
  if (status.st_uid != ::geteuid() && status.st_uid != 0) {
    return problem(path, "belongs to neither this user nor root");
  }
  if (!readable_by_owner_only(file.fd(), status.st_mode, ::geteuid())) {
    return problem(path, "is readable by group or others");
  }
  auto text = read_all(file.fd(), kMaxFileBytes);
  if (!text) return problem(path, "cannot be read, or has more than 64 KiB");
  return std::move(*text);
}

Error about(const std::filesystem::path& path, Error error) {
  error.detail += ": " + path.string();
  return error;
}

/// One line for a fresh key, with its line feed.
SecureBuffer fresh_line(std::string& id) {
  const auto key = fresh_key();
  id = root_key_id(key);
  auto encoded = key.expose([](ByteView bytes) { return crypto::base64url(bytes); });
  SecureBuffer line(kPrefix.size() + id.size() + 1 + encoded.size() + 1);
  auto* out = line.writable().data();
  for (const std::string_view part : {kPrefix, std::string_view(id), std::string_view(":"),
                                      std::string_view(encoded), std::string_view("\n")}) {
    out = std::copy(as_bytes(part).begin(), as_bytes(part).end(), out);
  }
  wipe(encoded);
  return line;
}

}  // namespace

Result<RootKeys> RootKeys::load(const std::filesystem::path& path) {
  struct stat status {};
  const auto file = open_file(path);
  POSTERN_TRY(const auto text, text_of(path, file, status));
  auto keys = parse(as_text(text.readable()));
  if (!keys.ok()) return about(path, std::move(keys).error());
  return keys;
}

Status RootKeys::create(const std::filesystem::path& path) {
  std::string id;
  const auto line = fresh_line(id);
  return make_private_file(path, as_text(line.readable()));
}

Result<std::string> RootKeys::add_to(const std::filesystem::path& path) {
  struct stat status {};
  const auto file = open_file(path);
  POSTERN_TRY(const auto text, text_of(path, file, status));
  // Of two at a time one would lose the other's key.
  if (::flock(file.fd(), LOCK_EX | LOCK_NB) != 0) {
    return fail(ErrorCode::Conflict, "the root key file " + path.string() + " is being changed");
  }
  struct stat now {};
  if (::lstat(path.c_str(), &now) != 0 || now.st_ino != status.st_ino ||
      now.st_dev != status.st_dev) {
    return fail(ErrorCode::Conflict, "the root key file " + path.string() + " has been replaced");
  }
  const auto keys = parse(as_text(text.readable()));
  if (!keys.ok()) return about(path, keys.error());

  std::string id;
  const auto line = fresh_line(id);
  SecureBuffer content(line.size() + text.size());
  auto* out = content.writable().data();
  for (const auto part : {line.readable(), text.readable()}) {
    out = std::copy(part.begin(), part.end(), out);
  }
  if (content.size() > kMaxFileBytes) return problem(path, "would have more than 64 KiB");
  POSTERN_CHECK(
      replace_private_file(path, as_text(content.readable()), status.st_uid, status.st_gid));
  return id;
}

bool is_root_key_id(std::string_view id) noexcept {
  return id.size() == 16 && id.find_first_not_of("0123456789abcdef") == id.npos;
}

std::string root_key_ids(const std::vector<std::string>& ids) {
  std::string out;
  for (const auto& id : ids) {
    if (!out.empty()) out += ',';
    out += is_root_key_id(id) ? id : "malformed";
  }
  return out.empty() ? "none" : out;
}

}  // namespace postern::vault
