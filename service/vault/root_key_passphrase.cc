#include "vault/root_key_passphrase.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/bytes.h"
#include "core/new_file.h"
#include "crypto/base64url.h"
#include "crypto/random.h"
#include "vault/root_key_id.h"
#include "vault/root_key_lines.h"

namespace postern::vault {
namespace {

constexpr std::string_view kPrefix = "postern-root-argon2id-v1:";
constexpr std::size_t kMostPassphrases = 4;
constexpr std::size_t kLeastBytes = 16;
constexpr std::size_t kMostBytes = 1024;

Error problem(std::string what) { return fail(ErrorCode::Unavailable, std::move(what)); }

Result<std::vector<std::string_view>> passphrases_in(std::string_view text) {
  auto lines = root_key_lines::lines_of(text);
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

std::optional<Line> parse_line(std::string_view text) {
  if (!text.starts_with(kPrefix)) return std::nullopt;
  const auto parts = root_key_lines::parts_of(text.substr(kPrefix.size()));
  if (parts.size() != 4 || !is_root_key_id(parts[0])) return std::nullopt;
  const auto passes = root_key_lines::number_in(parts[1]);
  const auto memory = root_key_lines::number_in(parts[2]);
  const auto salt = crypto::base64url_decode(parts[3]);
  if (!passes || !memory || !salt.ok() || salt.value().size() != crypto::kSaltBytes) {
    return std::nullopt;
  }
  Line line{parts[0], {*passes, *memory}, {}};
  std::copy(salt.value().begin(), salt.value().end(), line.salt.begin());
  return line;
}

}  // namespace

bool RootKeyPassphrase::is_line(std::string_view line) { return parse_line(line).has_value(); }

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
  POSTERN_TRY(const auto line, new_line(passphrases, cost));
  POSTERN_CHECK(root_key_lines::put_first(parameters, line, is_line));
  return line.substr(kPrefix.size(), 16);
}

Result<RootKeys> RootKeyPassphrase::derive(std::string_view parameters,
                                           std::string_view passphrases) {
  // All of it is read before the first passphrase is stretched.
  POSTERN_TRY(const auto lines, root_key_lines::keys_of(parameters, is_line));
  POSTERN_TRY(const auto known, passphrases_in(passphrases));
  std::vector<RootKey> keys;
  for (const auto text : lines) {
    const auto line = *parse_line(text);
    const auto before = keys.size();
    for (const auto passphrase : known) {
      auto bytes = crypto::stretch(as_bytes(passphrase), line.salt, line.cost);
      if (!bytes.ok()) return problem(bytes.error().detail);
      RootKey key(std::move(bytes).value());
      if (root_key_id(key) != line.id) continue;
      keys.push_back(std::move(key));
      break;
    }
    if (keys.size() == before) {
      return problem("no passphrase fits root key " + std::string(line.id));
    }
  }
  return root_key_lines::root_keys(keys);
}

Result<RootKeys> RootKeyPassphrase::load() {
  loaded_.emplace(FileStamp::of(parameters_), FileStamp::of(passphrases_));
  POSTERN_TRY(const auto parameters, root_key_lines::text_of(parameters_));
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
