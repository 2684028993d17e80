#include "vault/wrapping.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "support/code_of.h"
#include "support/in_memory_audit_log.h"
#include "support/in_memory_kek_store.h"
#include "support/in_memory_wrapping_store.h"
#include "support/wrapping_store_suite.h"

namespace postern::test {
namespace {

using namespace std::chrono_literals;

class InMemoryWrapping final : public WrappingStoreHarness {
 public:
  vault::WrappingStore& store() override { return store_; }
  vault::WrappingStore& other_replica() override { return store_; }
  audit::AuditLog& log() override { return log_; }
  TenantId add_tenant() override {
    TenantId tenant("tenant-" + std::to_string(++tenants_));
    keys_.add(tenant);
    return tenant;
  }

 private:
  int tenants_ = 0;
  TestKeyring keys_;
  InMemoryAuditLog log_{keys_.keyring};
  InMemoryWrappingStore store_{log_};
};

INSTANTIATE_TEST_SUITE_P(InMemory, WrappingStoreSuite, ::testing::Values(WrappingStoreFactory{[] {
                           return std::make_unique<InMemoryWrapping>();
                         }}));

class MovableClock final : public Clock {
 public:
  sys_seconds now() const override { return now_; }
  void advance(std::chrono::seconds by) { now_ += by; }

 private:
  sys_seconds now_{1'800'000'000s};
};

/// Where somebody else takes what is being opened.
class Outrun final : public vault::WrappingStore {
 public:
  explicit Outrun(vault::WrappingStore& store) : store_(store) {}
  Status add(const TenantId& tenant, const Seal& seal, std::uint32_t most, sys_seconds now,
             std::span<const audit::Event> events) override {
    return store_.add(tenant, seal, most, now, events);
  }
  Result<vault::WrappedAnswer> find(const TenantId& tenant, const crypto::Hash256& token_hash,
                                    sys_seconds now) override {
    return store_.find(tenant, token_hash, now);
  }
  Status take(const TenantId& tenant, const crypto::Hash256& token_hash, sys_seconds now,
              const Open& open, std::span<const audit::Event> events) override {
    const auto slowly = [&](const vault::WrappedAnswer& row) {
      auto instead = open(row);
      const auto nothing_instead = [](const vault::WrappedAnswer&) {
        return Result<std::optional<vault::WrappedAnswer>>(std::optional<vault::WrappedAnswer>());
      };
      EXPECT_TRUE(store_.take(tenant, token_hash, now, nothing_instead, {}).ok());
      return instead;
    };
    return store_.take(tenant, token_hash, now, slowly, events);
  }

 private:
  vault::WrappingStore& store_;
};

struct WrappingTest : ::testing::Test {
  audit::Event record_of(const TenantId& tenant) const {
    return {tenant, clock.now(), "vault.unwrap", {}, "r", {}};
  }
  Result<vault::Wrapping::Made> wrap(const std::string& text, std::chrono::seconds ttl = 60s) {
    auto record = record_of(acme);
    return wrapping.wrap(acme, Owner::tenant(), "client gw", "secret/data/db", ttl,
                         Plaintext(SecureBuffer::copy_of(text)), record);
  }
  static std::string text_of(const BearerToken& token) {
    return token.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  }
  std::string token_of(const std::string& text, std::chrono::seconds ttl = 60s) {
    return text_of(wrap(text, ttl).value().token);
  }
  /// The answer, or the code.
  std::string unwrap(const std::string& token) { return unwrap_of(acme, token); }
  std::string unwrap_of(const TenantId& tenant, const std::string& token) {
    auto record = record_of(tenant);
    const auto answer = wrapping.unwrap(tenant, token, record);
    if (!answer.ok()) return std::string(to_string(answer.error().code));
    return answer.value().expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  }

  const TenantId acme{"acme"}, beta{"beta"};
  TestKeyring keys{"acme", "beta"};
  MovableClock clock;
  InMemoryAuditLog log{keys.keyring};
  InMemoryWrappingStore store{log};
  vault::Wrapping wrapping{keys.keyring, store, clock};
};

TEST_F(WrappingTest, GivesTheAnswerOnceAndSaysWhoseItWas) {
  const auto token = token_of("the answer");
  EXPECT_TRUE(token.starts_with("postern_wt_"));
  EXPECT_EQ(token.size(), 11u + 43u);
  auto record = record_of(acme);
  const auto found = wrapping.look_up(acme, token, record);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found.value().creation_path, "secret/data/db");
  EXPECT_EQ(unwrap(token), "the answer") << "a look-up takes nothing";
  EXPECT_EQ(unwrap(token), "MalformedRequest");
  EXPECT_EQ(code_of(wrapping.look_up(acme, token, record)), ErrorCode::MalformedRequest);
  EXPECT_EQ(code_of(wrapping.rewrap(acme, token, record)), ErrorCode::MalformedRequest);
  const auto records = log.read(acme, {}).value();
  ASSERT_EQ(records.size(), 2u);
  for (const auto& each : records) {
    EXPECT_NE(each.body.find(found.value().accessor), std::string::npos);
    EXPECT_EQ(each.body.find(token.substr(11)), std::string::npos);
    EXPECT_EQ(each.body.find("the answer"), std::string::npos);
  }
}

TEST_F(WrappingTest, NoOtherTokenAndNoOtherTenantGetsIt) {
  const auto token = token_of("the answer");
  EXPECT_EQ(unwrap_of(beta, token), "MalformedRequest");
  for (const auto& other : {std::string(), token + "x", token.substr(0, token.size() - 1),
                            token.substr(11), "postern_wt_" + std::string(43, 'A')}) {
    EXPECT_EQ(unwrap(other), "MalformedRequest") << other;
  }
  EXPECT_EQ(unwrap(token), "the answer");
}

TEST_F(WrappingTest, ExpiresAndIsBounded) {
  const auto token = token_of("the answer", 60s);
  clock.advance(60s);
  EXPECT_EQ(unwrap(token), "MalformedRequest");
  EXPECT_EQ(code_of(wrap(std::string(vault::Wrapping::kMostBytes + 1, 'x'))), ErrorCode::TooLarge);
  const auto largest = std::string(vault::Wrapping::kMostBytes, 'x');
  EXPECT_EQ(unwrap(token_of(largest)), largest);
  for (std::uint32_t i = 0; i < vault::Wrapping::kMostWaiting; ++i) ASSERT_TRUE(wrap("x").ok());
  EXPECT_EQ(code_of(wrap("x")), ErrorCode::RateLimited);
}

TEST_F(WrappingTest, ARewrapChangesTheTokenAlone) {
  const auto first = token_of("the answer", 90s);
  clock.advance(60s);
  auto record = record_of(acme);
  const auto made = wrapping.rewrap(acme, first, record);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made.value().answer.expires_at - made.value().answer.created_at, 90s);
  EXPECT_EQ(made.value().answer.creation_path, "secret/data/db");
  EXPECT_EQ(unwrap(first), "MalformedRequest");
  clock.advance(80s);
  EXPECT_EQ(unwrap(text_of(made.value().token)), "the answer");
}

TEST_F(WrappingTest, WhoOpenedItTooLateIsToldAsLittleAsWhoComesLater) {
  Outrun outrun(store);
  const vault::Wrapping late(keys.keyring, outrun, clock);
  using Names = std::vector<std::string>;
  const auto names_in = [](const audit::Event& record) {
    Names names;
    for (const auto& field : record.fields) names.push_back(field.first);
    return names;
  };
  auto record = record_of(acme);
  EXPECT_EQ(code_of(late.unwrap(acme, token_of("the answer"), record)),
            ErrorCode::MalformedRequest);
  EXPECT_EQ(names_in(record), Names{"wrapping_token"});
  record = record_of(acme);
  EXPECT_EQ(code_of(late.rewrap(acme, token_of("the answer"), record)),
            ErrorCode::MalformedRequest);
  EXPECT_EQ(names_in(record), Names{"wrapping_token"});
}

TEST_F(WrappingTest, ARowThatWasAlteredGivesNothing) {
  const std::vector<std::function<void(vault::WrappedAnswer&)>> changes{
      [](auto& row) { row.expires_at += 1h; },
      [](auto& row) { row.created_at -= 1s; },
      [](auto& row) { row.creation_path = "secret/data/other"; },
      [](auto& row) { row.maker = "operator"; },
      [](auto& row) { row.accessor += "x"; },
      [](auto& row) { row.sealed.wrapped.back() ^= std::byte{1}; },
      [](auto& row) { row.sealed.wrapped.clear(); },
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const auto token = token_of("the answer");
    store.alter(changes[i]);
    EXPECT_EQ(unwrap(token), "Internal") << i;
  }
}

TEST_F(WrappingTest, AnotherAnswersBoxDoesNotOpenInItsPlace) {
  const auto one = token_of("of one");
  const auto two = token_of("of two");
  std::vector<vault::WrappedAnswer> rows;
  store.alter([&](auto& row) { rows.push_back(row); });
  std::size_t next = 0;
  store.alter([&](auto& row) { row.sealed = rows[1 - next++].sealed; });
  EXPECT_EQ(unwrap(one), "Internal");
  EXPECT_EQ(unwrap(two), "Internal");
}

}  // namespace
}  // namespace postern::test
