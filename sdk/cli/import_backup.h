#pragma once

#include <string_view>
#include <vector>

#include "postern/secret_bytes.h"

/// What `postern import --restore` puts back, as a credential keeps it.
namespace postern::cli {

/// What one import made of a file.
struct Kept {
  sdk::SecretBytes original;
  sdk::SecretBytes rewritten;
};

/// All imports but the first of these, as JSON: [[original, rewritten], …].
sdk::SecretBytes earlier_text(const std::vector<Kept>& imports);

/// Adds what earlier_text() wrote. False when it is not of that form.
bool add_earlier(std::vector<Kept>& imports, std::string_view text);

sdk::SecretBytes copy_of(std::string_view text);

}  // namespace postern::cli
