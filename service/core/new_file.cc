#include "core/new_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>

#include "core/descriptor.h"

namespace postern {
namespace {

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

bool sync_directory(std::filesystem::path directory) {
  if (directory.empty()) directory = ".";
  const Descriptor opened(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return opened.get() >= 0 && ::fsync(opened.get()) == 0;
}

struct Ownership {
  uid_t owner;
  gid_t group;
};

/// With an owner it takes the place of what is there; without, nothing may be there.
Status put_private_file(const std::filesystem::path& path, std::string_view content,
                        const Ownership* replace) {
  const auto failed = [&](const char* what) {
    const int error = errno;
    return fail(error == EEXIST ? ErrorCode::Conflict : ErrorCode::Unavailable,
                path.string() + ": " + what + ": " + std::system_category().message(error));
  };
  const auto fresh = path.string() + ".new";
  ::unlink(fresh.c_str());  // of a run that was interrupted
  const Descriptor file(
      ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (file.get() < 0) return failed("cannot be created");
  const auto give_up = [&](const char* what) {
    auto error = failed(what);
    ::unlink(fresh.c_str());
    return error;
  };
  // Before the content: it is nobody else's for a moment either.
  if (replace != nullptr && ::fchown(file.get(), replace->owner, replace->group) != 0) {
    return give_up("cannot be given its owner");
  }
  if (!write_all(file.get(), content) || ::fsync(file.get()) != 0) {
    return give_up("cannot be written");
  }
  if (replace != nullptr) {
    if (::rename(fresh.c_str(), path.c_str()) != 0) return give_up("cannot be replaced");
  } else {
    if (::link(fresh.c_str(), path.c_str()) != 0) return give_up("cannot be created");
    ::unlink(fresh.c_str());
  }
  if (!sync_directory(path.parent_path())) return failed("its directory cannot be synced");
  return {};
}

}  // namespace

Status make_private_file(const std::filesystem::path& path, std::string_view content) {
  return put_private_file(path, content, nullptr);
}

Status replace_private_file(const std::filesystem::path& path, std::string_view content,
                            uid_t owner, gid_t group) {
  const Ownership ownership{owner, group};
  return put_private_file(path, content, &ownership);
}

Status sync_file(const std::filesystem::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (file.get() >= 0 && ::fsync(file.get()) == 0 && sync_directory(path.parent_path())) return {};
  return fail(ErrorCode::Unavailable,
              path.string() + ": cannot be synced: " + std::system_category().message(errno));
}

}  // namespace postern
