#include "policy/erasure_statement.h"

#include <chrono>

#include "core/time_format.h"
#include "crypto/base64url.h"
#include "crypto/hash.h"
#include "crypto/signature.h"
#include "token/jwk.h"
#include "token/jws.h"

namespace postern::policy {
namespace {

using token::Json;

Json backups_json(const Installation& installation, const vault::Erasure& erasure) {
  // Of nothing that was erased there is a share: then the root key opens what copies have.
  Json json{{"covered", erasure.covered_since.has_value() && erasure.shares > 0}};
  if (erasure.covered_since && erasure.shares > 0) {
    json["since"] = format_time(*erasure.covered_since);
    if (installation.share_backup_days > 0) {
      json["shares_in_backups_until"] =
          format_time(*erasure.done_at + std::chrono::hours(24) * installation.share_backup_days);
    }
  }
  return json;
}

}  // namespace

std::string principal_hash(const TenantId& tenant, const Principal& principal) {
  const auto text = tenant.str() + '\n' + principal.issuer + '\n' + principal.subject;
  return crypto::base64url(crypto::sha256(as_bytes(text)));
}

Result<std::string> sign_statement(const vault::Keyring& keyring, const Installation& installation,
                                   const TenantId& tenant, const vault::Erasure& erasure) {
  const auto seeds = keyring.statement_keys();
  if (seeds.empty())
    return fail(ErrorCode::KeyUnavailable, "", "erasure: no root key to sign with");
  POSTERN_TRY(const auto key,
              crypto::SigningKey::import_private(crypto::Algorithm::EdDSA, seeds.front()));
  Json claims{{"iss", installation.base_url},
              {"iat", erasure.done_at->time_since_epoch().count()},
              {"erasure_id", erasure.id},
              {"tenant", tenant.str()},
              {"erased", erasure.principal ? "principal" : "tenant"},
              {"asked_at", format_time(erasure.asked_at)},
              {"done_at", format_time(*erasure.done_at)},
              {"credentials", erasure.credentials},
              {"versions", erasure.versions},
              {"shares_destroyed", erasure.shares},
              {"backups", backups_json(installation, erasure)}};
  if (erasure.principal) claims["principal_sha256"] = principal_hash(tenant, *erasure.principal);
  const auto jwk = token::public_jwk(key);
  return token::sign_jwt(key, jwk.at("kid").get<std::string>(), kStatementType, claims);
}

Json statement_keys(const vault::Keyring& keyring) {
  Json keys = Json::array();
  for (const auto& seed : keyring.statement_keys()) {
    const auto key = crypto::SigningKey::import_private(crypto::Algorithm::EdDSA, seed);
    if (key.ok()) keys.push_back(token::public_jwk(key.value()));
  }
  return {{"keys", std::move(keys)}};
}

Result<Json> verify_statement(const Json& keys, std::string_view statement) {
  POSTERN_TRY(const auto set, token::JwkSet::parse(keys, token::JwkSet::WeakKeys::Refuse));
  POSTERN_TRY(const auto unverified, token::UnverifiedJwt::parse(statement));
  if (unverified.typ() != kStatementType) {
    return fail(ErrorCode::InvalidToken, "this is no statement of an erasure");
  }
  return unverified.verify(set);
}

}  // namespace postern::policy
