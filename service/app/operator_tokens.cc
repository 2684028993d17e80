#include "app/wiring.h"
#include "core/new_file.h"
#include "crypto/random.h"

namespace postern::app {
namespace {

constexpr std::string_view kPrefix = "postern_op_";
constexpr std::size_t kTokenBytes = 11 + 43;

crypto::Hash256 hash_of(ByteView token) {
  return crypto::sha256_parts({as_bytes("postern-operator-token-v1"), token});
}

}  // namespace

Result<OperatorTokens> OperatorTokens::load(const std::filesystem::path& file) {
  POSTERN_TRY(const auto content, read_secret_file(file));
  OperatorTokens tokens;
  std::string_view rest = as_text(content.readable());
  while (!rest.empty()) {
    const auto end = std::min(rest.find('\n'), rest.size());
    const auto line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty() || line.front() == '#') continue;
    if (line.size() != kTokenBytes || line.substr(0, kPrefix.size()) != kPrefix) {
      return fail(ErrorCode::Unavailable,
                  file.string() + ": has a line that is not an operator token");
    }
    tokens.hashes_.push_back(hash_of(as_bytes(line)));
  }
  if (tokens.hashes_.empty()) {
    return fail(ErrorCode::Unavailable, file.string() + ": has no operator token");
  }
  return tokens;
}

Status OperatorTokens::create(const std::filesystem::path& file) {
  std::string line = std::string(kPrefix) + crypto::random_token() + "\n";
  auto made = make_private_file(file, line);
  wipe(line);
  return made;
}

bool OperatorTokens::contains(const BearerToken& token) const {
  const auto hash = token.expose(hash_of);
  bool found = false;
  for (const auto& known : hashes_) found |= crypto::equal(ByteView(known), ByteView(hash));
  return found;
}

}  // namespace postern::app
