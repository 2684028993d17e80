#include "vault/root_key_pkcs11.h"

#include <array>
#include <vector>

#include "core/bytes.h"
#include "core/new_file.h"
#include "crypto/base64url.h"
#include "crypto/pkcs11.h"
#include "crypto/random.h"
#include "vault/root_key_id.h"
#include "vault/root_key_lines.h"

namespace postern::vault {
namespace {

using crypto::Pkcs11Token;

constexpr std::string_view kPrefix = "postern-root-pkcs11-v1:";
constexpr std::size_t kKeyBytes = 32;
constexpr std::size_t kBoxBytes = Pkcs11Token::kNonceBytes + kKeyBytes + Pkcs11Token::kTagBytes;

bool is_label(std::string_view text) {
  return !text.empty() && text.size() <= 64 &&
         text.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") ==
             std::string_view::npos;
}

struct Line {
  std::string_view id, label, associated;
  Bytes box;  ///< with the nonce before it
};

std::optional<Line> parse_line(std::string_view text) {
  if (!text.starts_with(kPrefix)) return std::nullopt;
  const auto parts = root_key_lines::parts_of(text);
  if (parts.size() != 4 || !is_root_key_id(parts[1]) || !is_label(parts[2])) return std::nullopt;
  auto box = crypto::base64url_decode(parts[3]);
  if (!box.ok() || box.value().size() != kBoxBytes) return std::nullopt;
  return Line{parts[1], parts[2], text.substr(0, text.size() - parts[3].size() - 1),
              std::move(box).value()};
}

Result<Pkcs11Token> token_of(const RootKeyPkcs11::Where& where,
                             const RootKeyPkcs11::ReadSecret& read) {
  POSTERN_TRY(const auto secret, read(where.pin_file));
  const auto lines = root_key_lines::lines_of(as_text(secret.readable()));
  if (lines.size() != 1) {
    return fail(ErrorCode::Unavailable, "the PIN file must have one line, the PIN");
  }
  return Pkcs11Token::open(where.module, where.token, lines.front());
}

/// A line for a fresh root key.
Result<std::string> new_line(const RootKeyPkcs11::Where& where, std::string_view label,
                             const RootKeyPkcs11::ReadSecret& read) {
  if (!is_label(label)) {
    return fail(ErrorCode::MalformedRequest,
                "the label of the token's key must be 1 to 64 letters, digits, _, . or -");
  }
  POSTERN_TRY(auto token, token_of(where, read));
  if (const auto found = token.find_key(label); !found.ok()) {
    if (found.error().code != ErrorCode::NotFound) return found.error();
    POSTERN_CHECK(token.make_key(label));
  }
  SecureBuffer bytes(kKeyBytes);
  crypto::random_bytes(bytes.writable());
  const RootKey key(std::move(bytes));
  const auto id = root_key_id(key);
  const auto head = std::string(kPrefix) + id + ':' + std::string(label);
  std::array<std::byte, Pkcs11Token::kNonceBytes> nonce{};
  crypto::random_bytes(nonce);
  POSTERN_TRY(const auto box, key.expose([&](ByteView raw) {
    return token.encrypt(label, nonce, raw, as_bytes(head));
  }));
  Bytes whole(nonce.begin(), nonce.end());
  whole.insert(whole.end(), box.begin(), box.end());
  return head + ':' + crypto::base64url(whole) + '\n';
}

std::string id_in(const std::string& line) { return line.substr(kPrefix.size(), 16); }

}  // namespace

bool RootKeyPkcs11::is_line(std::string_view line) { return parse_line(line).has_value(); }

Result<std::string> RootKeyPkcs11::create(const std::filesystem::path& keys, const Where& where,
                                          std::string_view label, const ReadSecret& read) {
  POSTERN_TRY(const auto line, new_line(where, label, read));
  POSTERN_CHECK(make_private_file(keys, line));
  return id_in(line);
}

Result<std::string> RootKeyPkcs11::add_to(const std::filesystem::path& keys, const Where& where,
                                          std::string_view label, const ReadSecret& read) {
  POSTERN_TRY(const auto line, new_line(where, label, read));
  POSTERN_CHECK(root_key_lines::put_first(keys, line, is_line));
  return id_in(line);
}

Result<RootKeys> RootKeyPkcs11::ask() {
  // All of it is read before the token is asked for anything.
  POSTERN_TRY(const auto text, root_key_lines::text_of(keys_));
  POSTERN_TRY(const auto lines, root_key_lines::keys_of(text, is_line));
  POSTERN_TRY(auto token, token_of(where_, read_));
  std::vector<RootKey> keys;
  for (const auto text_line : lines) {
    const auto line = *parse_line(text_line);
    const auto box = ByteView(line.box);
    auto opened = token.decrypt(line.label, box.first(Pkcs11Token::kNonceBytes),
                                box.subspan(Pkcs11Token::kNonceBytes), as_bytes(line.associated));
    if (!opened.ok()) {
      return fail(ErrorCode::Unavailable,
                  "root key " + std::string(line.id) + ": " + opened.error().detail);
    }
    keys.emplace_back(std::move(opened).value());
    if (root_key_id(keys.back()) != line.id) {
      return fail(ErrorCode::Unavailable,
                  "root key " + std::string(line.id) + ": what the token opens is another");
    }
  }
  return root_key_lines::root_keys(keys);
}

Result<RootKeys> RootKeyPkcs11::load() {
  loaded_.emplace(FileStamp::of(keys_), FileStamp::of(where_.pin_file));
  again_.reset();
  auto keys = ask();
  if (keys.ok()) return keys;
  auto error = std::move(keys).error();
  if (error.code == ErrorCode::Unauthenticated) {
    error.code = ErrorCode::Unavailable;
    error.detail += "; it is not tried again until its file is changed, or SIGHUP";
  } else {
    again_ = std::chrono::steady_clock::now() + again_after_;
  }
  error.detail += ": " + keys_.string();
  return error;
}

bool RootKeyPkcs11::changed() {
  return !loaded_ || loaded_->first != FileStamp::of(keys_) ||
         loaded_->second != FileStamp::of(where_.pin_file) ||
         (again_ && std::chrono::steady_clock::now() >= *again_);
}

}  // namespace postern::vault
