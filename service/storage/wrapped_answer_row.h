#pragma once

// Inside of service/storage: a row of wrapped_answer.

#include <algorithm>
#include <stdexcept>

#include "storage/credential_row.h"
#include "storage/kek_row.h"
#include "storage/session.h"
#include "vault/wrapping.h"

namespace postern::storage {

#define WRAPPED_ANSWER_COLUMNS                                                                    \
  "token_hash, accessor, maker, creation_path, "                                                  \
  "extract(epoch FROM created_at)::bigint, extract(epoch FROM expires_at)::bigint, kek_version, " \
  "sealed, owner_issuer, owner_subject, share_id"

inline vault::WrappedAnswer wrapped_answer_in(const pqxx::row& row) {
  vault::WrappedAnswer out;
  const auto hash = bytes(row[0]);
  if (hash.size() != out.token_hash.size()) throw std::logic_error("a hash of another length");
  std::copy(hash.begin(), hash.end(), out.token_hash.begin());
  out.accessor = text(row[1]);
  out.maker = text(row[2]);
  out.creation_path = text(row[3]);
  out.created_at = instant(row[4]);
  out.expires_at = instant(row[5]);
  out.sealed = {KekVersion{number<std::uint32_t>(row[6])}, bytes(row[7]), share_in(row[10])};
  out.owner = owner_of(text(row[8]), text(row[9]));
  return out;
}

}  // namespace postern::storage
