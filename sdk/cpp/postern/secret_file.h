#pragma once

#include <string>
#include <string_view>

#include "core/secret.h"
#include "postern/error.h"
#include "postern/secret_bytes.h"

namespace postern::sdk {

constexpr std::size_t kMaxTokenBytes = 64 * 1024;

/// Reads a file that holds a secret. Refused when group or others may read or
/// write it; a group may read it when root owns it and we are not root, which
/// is how container platforms mount secrets. Pipes pass, and so do descriptors
/// we were given ("-", /dev/stdin, /dev/fd/N). `what` names the file's role in messages.
/// Errors: Usage, with the command that repairs it.
Result<SecureBuffer> read_secret_file(const std::string& path, std::string_view what,
                                      std::size_t max_bytes);

/// The same for one token or password: white space around it is dropped, and
/// white space or control characters inside it are refused.
Result<SecureBuffer> read_token_file(const std::string& path, std::string_view what);

/// Whether write_secret_file() could write now, and would replace nothing but a
/// regular file: makes and removes a file beside it. Errors: Usage, for a
/// symbolic link, a device, a folder and the like, and a folder that is not
/// there or cannot be written to.
Status check_secret_target(const std::string& path);

/// Writes a file of mode 0600, whole or not at all: a temporary file beside it
/// is written, synced and renamed over it. Errors: Usage, as those of
/// check_secret_target().
Status write_secret_file(const std::string& path, std::string_view content);

/// Reads a regular file, whoever may read it. Not through a symbolic link in its last part.
/// Errors: Usage, also when it has more bytes.
Result<SecretBytes> read_regular_file(const std::string& path, std::size_t max_bytes);

/// Whether replace_file() could do so now: makes and removes a file beside it, with its owner.
/// Errors: Usage, as those of replace_file().
Status check_replace_target(const std::string& path);

/// Puts `content` in the place of a regular file, whole or not at all, with that file's mode and
/// owner. Errors: Usage, for what is no regular file of ours to replace.
Status replace_file(const std::string& path, std::string_view content);

/// The token in `content`, or why it is none.
Result<SecureBuffer> trim_token(const SecureBuffer& content, std::string_view what);

}  // namespace postern::sdk
