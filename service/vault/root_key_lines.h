#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/secret.h"
#include "vault/root_key.h"

/// Files that say how root keys are come by: one key a line, the active one first, and
/// no secret. Lines that are empty or begin with # are skipped; at most four keys.
namespace postern::vault::root_key_lines {

inline constexpr std::size_t kMostKeys = 4;

/// Lines without their ends, those that are empty left out.
std::vector<std::string_view> lines_of(std::string_view text);
/// What stands between the colons.
std::vector<std::string_view> parts_of(std::string_view line);

/// A number from 1 up in its one spelling.
std::optional<std::uint32_t> number_in(std::string_view text);

/// The file's text. Errors: Unavailable.
Result<std::string> text_of(const std::filesystem::path& path);

using IsLine = std::function<bool(std::string_view)>;
/// The lines with keys. Errors: Unavailable for one that is none, and for too many.
Result<std::vector<std::string_view>> keys_of(std::string_view text, const IsLine& is_line);

/// Puts a line first in such a file, whole or not at all. Errors: Unavailable, also
/// when a line of it is none; Conflict while another does so.
Status put_first(const std::filesystem::path& path, std::string_view line, const IsLine& is_line);

/// The root keys, the active one first. One reader, that of root key files, checks ids
/// and repetition. Errors: Unavailable.
Result<RootKeys> root_keys(const std::vector<RootKey>& keys);

}  // namespace postern::vault::root_key_lines
