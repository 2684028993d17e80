#include "vault/wrapping.h"

#include <algorithm>
#include <utility>

#include "crypto/base64url.h"
#include "crypto/random.h"
#include "vault/aad.h"

namespace postern::vault {
namespace {

crypto::Hash256 hash_of(std::string_view token) { return crypto::sha256(as_bytes(token)); }

/// A fresh token, and what is kept of it.
std::pair<BearerToken, WrappedAnswer> fresh(Owner owner, std::string maker,
                                            std::string creation_path, sys_seconds now,
                                            std::chrono::seconds expires_in) {
  auto text = std::string(Wrapping::kPrefix) + crypto::random_token();
  WrappedAnswer facts{hash_of(text),
                      crypto::random_id(),
                      std::move(maker),
                      std::move(creation_path),
                      now,
                      now + expires_in,
                      {},
                      std::move(owner)};
  return {BearerToken(SecureBuffer::take(std::move(text))), std::move(facts)};
}

/// Finds the records of one token together, and leads to nothing else.
std::string digest_of(const crypto::Hash256& token_hash) {
  return crypto::base64url(ByteView(token_hash).first(12));
}

void describe(const WrappedAnswer& answer, audit::Event& record) {
  record.with("wrapped", answer.accessor)
      .with("wrapping_token", digest_of(answer.token_hash))
      .with("wrapped_path", answer.creation_path)
      .with("wrapped_by", answer.maker);
}

/// What a store answers of a token that is not there is told to nobody as that.
Error refusal(const Error& error, std::string_view token, audit::Event& record) {
  if (error.code != ErrorCode::NotFound) return error;
  if (Wrapping::has_form(token)) record.with("wrapping_token", digest_of(hash_of(token)));
  return Wrapping::not_valid();
}

/// @param before  the record as it was before the answer was opened: somebody else may
///                have taken it since, and then it is described to nobody
Error not_taken(const Error& error, std::string_view token, const audit::Event& before,
                audit::Event& record) {
  if (error.code == ErrorCode::NotFound) record = before;
  return refusal(error, token, record);
}

}  // namespace

std::string box_id(const WrappedAnswer& answer) {
  const auto seconds = [](sys_seconds time) {
    return static_cast<std::uint64_t>(time.time_since_epoch().count());
  };
  Aad id(kWrappedAnswer);
  id.text(as_text(answer.token_hash)).text(answer.accessor).text(answer.maker);
  id.text(answer.creation_path).number(seconds(answer.created_at));
  id.number(seconds(answer.expires_at));
  return std::string(as_text(id.bytes()));
}

Error Wrapping::not_valid() {
  return fail(ErrorCode::MalformedRequest,
              "wrapping token is not valid or does not exist");  // Vault's words
}

bool Wrapping::has_form(std::string_view text) {
  if (!text.starts_with(kPrefix)) return false;
  text.remove_prefix(kPrefix.size());
  return text.size() == 43 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_';
         });
}

Result<WrappedAnswer> Wrapping::seal(const TenantId& tenant, WrappedAnswer facts,
                                     const PrivateKey& answer) const {
  POSTERN_TRY(facts.sealed,
              keyring_.wrap_private(tenant, facts.owner, kWrappedAnswer, box_id(facts), answer));
  return facts;
}

Result<PrivateKey> Wrapping::opened(const TenantId& tenant, const WrappedAnswer& row) const {
  return keyring_.unwrap_private(tenant, row.owner, kWrappedAnswer, box_id(row), row.sealed);
}

Result<Wrapping::Made> Wrapping::wrap(const TenantId& tenant, const Owner& owner,
                                      const std::string& maker, const std::string& creation_path,
                                      std::chrono::seconds expires_in, Plaintext answer,
                                      audit::Event& record) const {
  if (answer.size() > kMostBytes) return fail(ErrorCode::TooLarge, "too much to be wrapped");
  const auto now = clock_.now();
  auto [token, facts] = fresh(owner, maker, creation_path, now, expires_in);
  describe(facts, record);
  const auto bytes =
      answer.expose([](ByteView view) { return PrivateKey(SecureBuffer::copy_of(view)); });
  const auto seal_it = [&, &facts = facts] { return seal(tenant, facts, bytes); };
  POSTERN_CHECK(store_.add(tenant, seal_it, kMostWaiting, now, {&record, 1}));
  return Made{std::move(token), std::move(facts)};
}

Result<Plaintext> Wrapping::unwrap(const TenantId& tenant, std::string_view token,
                                   audit::Event& record) const {
  std::optional<Plaintext> answer;
  const auto before = record;  // it may be done again, after a rotation
  const auto open = [&](const WrappedAnswer& row) -> Result<std::optional<WrappedAnswer>> {
    POSTERN_TRY(const auto bytes, opened(tenant, row));
    answer = bytes.expose([](ByteView view) { return Plaintext(SecureBuffer::copy_of(view)); });
    record = before;
    describe(row, record);
    return std::optional<WrappedAnswer>();
  };
  if (const auto taken = store_.take(tenant, hash_of(token), clock_.now(), open, {&record, 1});
      !taken.ok()) {
    return not_taken(taken.error(), token, before, record);
  }
  return std::move(*answer);
}

Result<WrappedAnswer> Wrapping::look_up(const TenantId& tenant, std::string_view token,
                                        audit::Event& record) const {
  auto found = store_.find(tenant, hash_of(token), clock_.now());
  if (!found.ok()) return refusal(found.error(), token, record);
  describe(found.value(), record);
  return found;
}

Result<Wrapping::Made> Wrapping::rewrap(const TenantId& tenant, std::string_view token,
                                        audit::Event& record) const {
  const auto now = clock_.now();
  std::optional<Made> made;
  const auto before = record;
  const auto replace = [&](const WrappedAnswer& row) -> Result<std::optional<WrappedAnswer>> {
    POSTERN_TRY(const auto bytes, opened(tenant, row));
    auto [fresh_token, facts] =
        fresh(row.owner, row.maker, row.creation_path, now, row.expires_at - row.created_at);
    record = before;
    describe(row, record);
    record.with("rewrapped", facts.accessor);
    POSTERN_TRY(auto sealed, seal(tenant, facts, bytes));
    made = Made{std::move(fresh_token), std::move(facts)};
    return std::optional(std::move(sealed));
  };
  if (const auto taken = store_.take(tenant, hash_of(token), now, replace, {&record, 1});
      !taken.ok()) {
    return not_taken(taken.error(), token, before, record);
  }
  return std::move(*made);
}

}  // namespace postern::vault
