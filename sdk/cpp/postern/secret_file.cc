#include "postern/secret_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

namespace postern::sdk {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const noexcept { return fd_; }

 private:
  int fd_;
};

Error cannot(std::string_view verb, std::string_view what, const std::string& path) {
  return fail(ErrorKind::Usage, "cannot " + std::string(verb) + " the " + std::string(what) +
                                    " file " + path + ": " + std::strerror(errno));
}

bool others_may_use(const struct stat& file) {
  if (!S_ISREG(file.st_mode)) return false;
  const bool mounted = file.st_uid == 0 && ::geteuid() != 0;
  return (file.st_mode & (mounted ? 0037 : 0077)) != 0;
}

/// The descriptor that a path names, such as /dev/stdin or the /dev/fd/63 of a
/// shell's <(…); -1 for other paths. Such a path cannot be opened by a process
/// that is not dumpable, because /proc/self/fd is root's then.
int named_descriptor(const std::string& path) {
  if (path == "-" || path == "/dev/stdin") return STDIN_FILENO;
  for (const std::string_view folder : {"/dev/fd/", "/proc/self/fd/"}) {
    if (path.substr(0, folder.size()) != folder) continue;
    int fd = -1;
    const auto end = path.data() + path.size();
    const auto parsed = std::from_chars(path.data() + folder.size(), end, fd);
    if (parsed.ec == std::errc() && parsed.ptr == end) return fd;
  }
  return -1;
}

int open_to_read(const std::string& path) {
  const int named = named_descriptor(path);
  if (named >= 0) return ::fcntl(named, F_DUPFD_CLOEXEC, 3);
  return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
}

/// What is in a file, up to one byte more than `max_bytes`; nothing, with errno, when it fails.
std::optional<SecretBytes> read_some(int file, std::size_t max_bytes) {
  SecretBytes content(max_bytes + 1);
  std::size_t size = 0;
  while (size < content.size()) {
    const auto count = ::read(file, content.data() + size, content.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::nullopt;
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
  }
  content.resize(size);
  return content;
}

Error too_large(std::string_view what, const std::string& path, std::size_t max_bytes) {
  return fail(ErrorKind::Usage, "the " + std::string(what) + " file " + path + " is larger than " +
                                    std::to_string(max_bytes) + " bytes");
}

/// Else a crash of the machine could forget the file's name.
bool sync_folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  const auto folder = slash == path.npos ? "." : path.substr(0, slash + 1);
  const Descriptor opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (opened.get() < 0) return false;
  return ::fsync(opened.get()) == 0 || errno == EINVAL;  // not every file system can
}

bool is_space(std::byte b) {
  const auto c = static_cast<char>(b);
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

}  // namespace

Result<SecureBuffer> read_secret_file(const std::string& path, std::string_view what,
                                      std::size_t max_bytes) {
  const Descriptor file(open_to_read(path));
  if (file.get() < 0) return cannot("read", what, path);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return cannot("read", what, path);
  if (S_ISDIR(status.st_mode)) {
    return fail(ErrorKind::Usage, "the " + std::string(what) + " file " + path + " is a directory");
  }
  if (named_descriptor(path) < 0 && others_may_use(status)) {
    return fail(ErrorKind::Usage, "the " + std::string(what) + " file " + path +
                                      " may be read or written by others; run: chmod 600 " + path);
  }

  const auto content = read_some(file.get(), max_bytes);
  if (!content) return cannot("read", what, path);
  if (content->size() > max_bytes) return too_large(what, path, max_bytes);
  return SecureBuffer::copy_of(view(*content));
}

Result<SecretBytes> read_regular_file(const std::string& path, std::size_t max_bytes) {
  constexpr std::string_view kWhat = "host's";
  const Descriptor file(
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) return cannot("read", kWhat, path);
  if (!S_ISREG(status.st_mode)) return fail(ErrorKind::Usage, path + " is no regular file");
  auto content = read_some(file.get(), max_bytes);
  if (!content) return cannot("read", kWhat, path);
  if (content->size() > max_bytes) return too_large(kWhat, path, max_bytes);
  return std::move(*content);
}

Result<SecureBuffer> trim_token(const SecureBuffer& content, std::string_view what) {
  auto bytes = content.readable();
  while (!bytes.empty() && is_space(bytes.back())) bytes = bytes.first(bytes.size() - 1);
  while (!bytes.empty() && is_space(bytes.front())) bytes = bytes.subspan(1);
  if (bytes.empty()) return fail(ErrorKind::Usage, "the " + std::string(what) + " is empty");
  if (bytes.size() > kMaxTokenBytes) {
    return fail(ErrorKind::Usage, "the " + std::string(what) + " is too long to be one");
  }
  const bool one_word = std::all_of(bytes.begin(), bytes.end(), [](std::byte b) {
    return b > std::byte{0x20} && b != std::byte{0x7f};
  });
  if (!one_word) {
    return fail(ErrorKind::Usage, "the " + std::string(what) +
                                      " holds white space or control characters inside; "
                                      "it must be one word");
  }
  return SecureBuffer::copy_of(bytes);
}

Result<SecureBuffer> read_token_file(const std::string& path, std::string_view what) {
  POSTERN_TRY(const auto content, read_secret_file(path, what, kMaxTokenBytes + 16));
  return trim_token(content, std::string(what) + " in " + path);
}

namespace {

Status check_replaceable(const std::string& path) {
  struct stat there {};
  if (::lstat(path.c_str(), &there) != 0) {
    if (errno == ENOENT) return {};
    return cannot("write", "secret", path);
  }
  if (S_ISREG(there.st_mode)) return {};
  return fail(ErrorKind::Usage,
              "the secret file " + path + " exists and is " +
                  (S_ISLNK(there.st_mode) ? "a symbolic link" : "no regular file") +
                  ", which is not replaced; give the path of a new or a regular file");
}

/// What is there, in whose place another file may be put.
Result<struct stat> file_to_replace(const std::string& path) {
  POSTERN_CHECK(check_replaceable(path));
  struct stat there {};
  if (::lstat(path.c_str(), &there) != 0) return cannot("replace", "rewritten", path);
  return there;
}

/// What a file is called that has the owner of another, or is ours alone.
const char* kind_of(const struct stat* like) { return like == nullptr ? "secret" : "rewritten"; }

/// With errno.
bool give_owner(int file, const struct stat& like) {
  struct stat made {};
  if (::fstat(file, &made) != 0) return false;
  const bool same = made.st_uid == like.st_uid && made.st_gid == like.st_gid;
  return same || ::fchown(file, like.st_uid, like.st_gid) == 0;
}

/// @param like  whose owner and mode the file is to have; null: ours and 0600
Status write_whole(const std::string& path, std::string_view content, const struct stat* like) {
  std::string temporary = path + ".XXXXXX";
  const Descriptor file(::mkostemp(temporary.data(), O_CLOEXEC));  // creates with mode 0600
  const char* const what = kind_of(like);
  if (file.get() < 0) return cannot("create", what, path);
  const auto give_up = [&] {
    const auto error = cannot("write", what, path);
    ::unlink(temporary.c_str());
    return error;
  };
  while (!content.empty()) {
    const auto count = ::write(file.get(), content.data(), content.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return give_up();
    content.remove_prefix(static_cast<std::size_t>(count));
  }
  if (like != nullptr) {
    if (!give_owner(file.get(), *like)) return give_up();
    if (::fchmod(file.get(), like->st_mode & 07777) != 0) return give_up();
  }
  if (::fsync(file.get()) != 0) return give_up();
  if (::rename(temporary.c_str(), path.c_str()) != 0) return give_up();
  if (!sync_folder_of(path)) return cannot("sync the folder of", what, path);
  return {};
}

/// A file beside `path`, which is gone again. @param like  as of write_whole()
Status try_to_create(const std::string& path, const struct stat* like) {
  std::string temporary = path + ".XXXXXX";
  const Descriptor file(::mkostemp(temporary.data(), O_CLOEXEC));
  if (file.get() < 0) return cannot("create", kind_of(like), path);
  const bool given = like == nullptr || give_owner(file.get(), *like);
  const int why = errno;
  ::unlink(temporary.c_str());
  if (given) return {};
  return fail(ErrorKind::Usage, "cannot give the rewritten file " + path +
                                    " its owner and group: " + std::strerror(why) +
                                    "; run this as its owner, or give it a group of yours first");
}

}  // namespace

Status check_secret_target(const std::string& path) {
  POSTERN_CHECK(check_replaceable(path));
  return try_to_create(path, nullptr);
}

Status write_secret_file(const std::string& path, std::string_view content) {
  POSTERN_CHECK(check_replaceable(path));
  return write_whole(path, content, nullptr);
}

Status check_replace_target(const std::string& path) {
  POSTERN_TRY(const auto there, file_to_replace(path));
  return try_to_create(path, &there);
}

Status replace_file(const std::string& path, std::string_view content) {
  POSTERN_TRY(const auto there, file_to_replace(path));
  return write_whole(path, content, &there);
}

}  // namespace postern::sdk
