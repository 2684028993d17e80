#include "audit/chain_verifier.h"

namespace postern::audit {

void ChainVerifier::found(const char* problem, std::uint64_t first_bad) {
  result_.problem = problem;
  result_.first_bad = first_bad;
}

bool ChainVerifier::add(const Record& record) {
  if (!result_.problem.empty()) return false;
  const auto expected = head_.sequence + 1;
  if (record.sequence != expected) {
    found("record missing", expected);
  } else if (link(tenant_, expected, head_.hash, record.body) != record.hash) {
    found("record altered", expected);
  } else {
    head_ = {expected, record.hash};
    result_.records = expected;
  }
  return result_.problem.empty();
}

Result<Verification> ChainVerifier::finish(const StoredHead& stored, ChainKeys& keys) {
  result_.head = head_.hash;
  if (!result_.problem.empty()) return result_;
  if (stored.head.sequence > head_.sequence) {
    found("record missing", head_.sequence + 1);
  } else if (stored.head.sequence < head_.sequence) {
    found("head does not match", stored.head.sequence + 1);
  } else if (stored.head.hash != head_.hash) {
    found("head does not match", 0);
  } else {
    const auto key = keys.of_version(tenant_, stored.kek_version);
    if (!key.ok() && key.error().code != ErrorCode::NotFound) return key.error();
    if (!key.ok() || !crypto::equal(head_mac(key.value().key, tenant_, stored.head), stored.mac)) {
      found("head forged", 0);
    }
  }
  result_.intact = result_.problem.empty();
  return result_;
}

}  // namespace postern::audit
