#include "audit/chain.h"

#include <gtest/gtest.h>

#include <string>

#include "audit/chain_verifier.h"
#include "core/time_format.h"
#include "support/code_of.h"
#include "support/in_memory_audit_log.h"

namespace postern::audit {
namespace {

const TenantId kAcme("acme");

std::string hex(const crypto::Hash256& hash) {
  std::string text;
  for (const auto byte : hash) {
    constexpr char kHex[] = "0123456789abcdef";
    text += kHex[std::to_integer<unsigned>(byte) >> 4];
    text += kHex[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

DerivedKey key(char fill) { return DerivedKey(SecureBuffer::copy_of(std::string(32, fill))); }

// The expected values were computed apart from this code, as an auditor would:
//   h = sha256()                                        # Python's hashlib
//   for part in (b"postern-audit-v1", tenant, sequence.to_bytes(8, "big"), previous, body):
//     h.update(len(part).to_bytes(8, "big") + part)
TEST(AuditChain, LinksAsAnAuditorComputesIt) {
  const auto first = link(kAcme, 1, {}, R"({"action":"token.exchange"})");
  EXPECT_EQ(hex(first), "fa137e427c8ee98f0579fae3bd236301517ddbaae3af59d8e36ece781af0a9a4");
  EXPECT_EQ(hex(link(kAcme, 2, first, "x")),
            "28f9476335be6acbcf4cb4c35f8756d6f66c9330f76345d593a212879e184de8");
}

TEST(AuditChain, EveryPartChangesTheHash) {
  const auto hash = link(kAcme, 7, {}, "body");
  auto previous = crypto::Hash256{};
  previous[31] = std::byte{1};
  EXPECT_NE(hash, link(TenantId("acme2"), 7, {}, "body"));
  EXPECT_NE(hash, link(kAcme, 8, {}, "body"));
  EXPECT_NE(hash, link(kAcme, 7, previous, "body"));
  EXPECT_NE(hash, link(kAcme, 7, {}, "bodx"));
}

TEST(AuditChain, AppendMovesTheHeadOn) {
  ChainHead head;
  const Event event{kAcme, sys_seconds{}, "token.exchange", Outcome::Allowed, "r", {}};
  const auto first = append(kAcme, head, event);
  EXPECT_EQ(first.sequence, 1u);
  EXPECT_EQ(first.body, canonical(event));
  EXPECT_EQ(first.hash, link(kAcme, 1, {}, first.body));
  EXPECT_EQ(head.sequence, 1u);
  EXPECT_EQ(head.hash, first.hash);

  const auto second = append(kAcme, head, event);
  EXPECT_EQ(second.hash, link(kAcme, 2, first.hash, second.body));
  EXPECT_EQ(head.sequence, 2u);
}

TEST(AuditChain, TheHeadMacBindsKeyTenantAndHead) {
  ChainHead head{3, link(kAcme, 3, {}, "body")};
  const auto mac = head_mac(key('k'), kAcme, head);
  EXPECT_EQ(mac, head_mac(key('k'), kAcme, head));
  EXPECT_NE(mac, head_mac(key('x'), kAcme, head));
  EXPECT_NE(mac, head_mac(key('k'), TenantId("acme2"), head));
  auto moved = head;
  moved.sequence = 4;
  EXPECT_NE(mac, head_mac(key('k'), kAcme, moved));
  moved = head;
  moved.hash[0] ^= std::byte{1};
  EXPECT_NE(mac, head_mac(key('k'), kAcme, moved));
}

// ---- the verifier; what it finds in rows is in support/audit_log_suite.h ----

struct Verifying : ::testing::Test {
  Verifying() {
    for (int i = 0; i < 3; ++i) {
      records.push_back(
          append(kAcme, stored.head, {kAcme, sys_seconds{}, "a.b", Outcome::Allowed, "r", {}}));
    }
    stored.kek_version = KekVersion{1};
    const auto mac = head_mac(keys.current(kAcme).value().key, kAcme, stored.head);
    stored.mac.assign(mac.begin(), mac.end());
  }

  Result<Verification> verify(ChainKeys& with) {
    ChainVerifier verifier(kAcme);
    for (const auto& record : records) {
      if (!verifier.add(record)) break;
    }
    return verifier.finish(stored, with);
  }

  test::FixedChainKeys keys;
  std::vector<Record> records;
  StoredHead stored;
};

TEST_F(Verifying, FindsAWholeChainIntact) {
  const auto found = verify(keys);
  ASSERT_TRUE(found.ok());
  EXPECT_TRUE(found.value().intact);
  EXPECT_EQ(found.value().records, 3u);
  EXPECT_EQ(found.value().head, stored.head.hash);
}

TEST_F(Verifying, RefusesAMacOfAnotherLength) {
  const auto whole = stored.mac;
  for (const std::size_t length : {0u, 1u, 31u}) {
    stored.mac.assign(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_EQ(verify(keys).value().problem, "head forged") << length;
  }
  stored.mac = whole;
  stored.mac.push_back(std::byte{0});
  EXPECT_EQ(verify(keys).value().problem, "head forged");
}

TEST_F(Verifying, FindsEveryFlippedBitOfTheMac) {
  for (std::size_t bit = 0; bit < 256; ++bit) {
    stored.mac[bit / 8] ^= std::byte(1 << (bit % 8));
    EXPECT_EQ(verify(keys).value().problem, "head forged") << bit;
    stored.mac[bit / 8] ^= std::byte(1 << (bit % 8));
  }
}

TEST_F(Verifying, StopsAtTheFirstProblem) {
  records[0].body += ' ';
  ChainVerifier verifier(kAcme);
  EXPECT_FALSE(verifier.add(records[0]));
  EXPECT_FALSE(verifier.add(records[1]));
  const auto found = verifier.finish(stored, keys).value();
  EXPECT_EQ(found.first_bad, 1u);
  EXPECT_EQ(found.records, 0u);
}

TEST_F(Verifying, AKeyThatCannotBeHadIsAnErrorNotAForgery) {
  class NoKeys final : public ChainKeys {
   public:
    Result<ChainKey> current(const TenantId&) override {
      return fail(ErrorCode::Unavailable, "down");
    }
    Result<ChainKey> of_version(const TenantId& tenant, KekVersion) override {
      return current(tenant);
    }
  } no_keys;
  EXPECT_EQ(test::code_of(verify(no_keys)), ErrorCode::Unavailable);
}

}  // namespace
}  // namespace postern::audit
