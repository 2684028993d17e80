// Rows of credentials that are altered at scale, as whoever writes the database could:
// parts of one put into another, and flipped bits. Nothing opens, and the error does not
// tell which part it was.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/ids.h"
#include "crypto/aead.h"
#include "support/code_of.h"
#include "support/in_memory_kek_store.h"
#include "support/in_memory_share_store.h"
#include "vault/envelope.h"
#include "vault/keyring.h"

namespace postern::vault {
namespace {

using test::code_of;

constexpr sys_seconds kNow{std::chrono::seconds(1'800'000'000)};
constexpr auto kHour = std::chrono::hours(1);

/// One stored row, with all that says where it is.
struct Row {
  TenantId tenant;
  CredentialKey key;
  SealedVersion sealed;

  auto parts() const {
    return std::tie(tenant, key, sealed.version, sealed.kek_version, sealed.wrapped_dek,
                    sealed.sealed, sealed.field_names, sealed.created_at, sealed.expires_at,
                    sealed.share);
  }
  bool operator==(const Row& other) const { return parts() == other.parts(); }
};

/// Part of a box, by crypto/aead.h: 0x01 || commitment || nonce || ciphertext || tag.
struct BoxPart {
  std::size_t at;
  std::size_t size;
};
constexpr BoxPart kCommitment{1, 32};
constexpr BoxPart kNonce{33, 24};
constexpr BoxPart kCiphertext{57, 16};  ///< of which there are as many bytes at least
constexpr std::size_t kTagBytes = 16;

void put(Bytes& to, const Bytes& from, const BoxPart& part) {
  const auto at = static_cast<std::ptrdiff_t>(part.at);
  std::copy_n(from.begin() + at, part.size, to.begin() + at);
}

/// All of it, however long, and not the tag.
void put_ciphertext(Bytes& to, const Bytes& from) {
  put(to, from, {kCiphertext.at, to.size() - kTagBytes - kCiphertext.at});
}

void put_tag(Bytes& to, const Bytes& from) { put(to, from, {to.size() - kTagBytes, kTagBytes}); }

using Move = std::function<void(Row& to, const Row& from)>;

/// Every part of a row that can be put into another alone.
const std::map<std::string, Move>& moves() {
  static const std::map<std::string, Move> all{
      {"tenant", [](Row& to, const Row& from) { to.tenant = from.tenant; }},
      {"owner", [](Row& to, const Row& from) { to.key.owner = from.key.owner; }},
      {"name", [](Row& to, const Row& from) { to.key.name = from.key.name; }},
      {"version", [](Row& to, const Row& from) { to.sealed.version = from.sealed.version; }},
      {"KEK version",
       [](Row& to, const Row& from) { to.sealed.kek_version = from.sealed.kek_version; }},
      {"share", [](Row& to, const Row& from) { to.sealed.share = from.sealed.share; }},
      {"creation", [](Row& to, const Row& from) { to.sealed.created_at = from.sealed.created_at; }},
      {"expiry", [](Row& to, const Row& from) { to.sealed.expires_at = from.sealed.expires_at; }},
      {"field names",
       [](Row& to, const Row& from) { to.sealed.field_names = from.sealed.field_names; }},
      {"wrapped key",
       [](Row& to, const Row& from) { to.sealed.wrapped_dek = from.sealed.wrapped_dek; }},
      {"nonce of the wrapped key",
       [](Row& to, const Row& from) {
         put(to.sealed.wrapped_dek, from.sealed.wrapped_dek, kNonce);
       }},
      {"ciphertext of the wrapped key",
       [](Row& to, const Row& from) {
         put_ciphertext(to.sealed.wrapped_dek, from.sealed.wrapped_dek);
       }},
      {"tag of the wrapped key",
       [](Row& to, const Row& from) { put_tag(to.sealed.wrapped_dek, from.sealed.wrapped_dek); }},
      {"commitment of the wrapped key",
       [](Row& to, const Row& from) {
         put(to.sealed.wrapped_dek, from.sealed.wrapped_dek, kCommitment);
       }},
      {"box", [](Row& to, const Row& from) { to.sealed.sealed = from.sealed.sealed; }},
      {"nonce",
       [](Row& to, const Row& from) { put(to.sealed.sealed, from.sealed.sealed, kNonce); }},
      {"ciphertext",
       [](Row& to, const Row& from) { put_ciphertext(to.sealed.sealed, from.sealed.sealed); }},
      {"tag", [](Row& to, const Row& from) { put_tag(to.sealed.sealed, from.sealed.sealed); }},
      {"commitment",
       [](Row& to, const Row& from) { put(to.sealed.sealed, from.sealed.sealed, kCommitment); }},
  };
  return all;
}

struct EnvelopeSwapTest : ::testing::Test {
  /// Of both tenants, rows of the tenant's own, of principals with a share each and of one
  /// from before there were shares, under each of the two KEKs. All seal one value.
  EnvelopeSwapTest() {
    add_keks(KekVersion{1}, Shares::None);
    add_rows();
    add_keks(KekVersion{2}, Shares::OfTheTenant);
    add_rows();
  }

  enum class Shares { None, OfTheTenant };
  void add_keks(KekVersion version, Shares with) {
    for (const auto& tenant : tenants) {
      std::optional<ShareId> share;
      if (with == Shares::OfTheTenant) share = keyring.make_share(tenant).value();
      store.add(tenant, keyring.create(tenant, version, std::nullopt, share));
      if (share) known_shares[tenant].insert(*share);
      keyring.forget(tenant);
    }
  }

  void add_rows() {
    const auto of = [](const char* issuer, const char* subject) {
      return Owner::principal({issuer, subject});
    };
    const auto before_shares = of("https://idp.example", "old");
    for (const auto& tenant : tenants) {
      for (const auto& owner : {Owner::tenant(), of("https://idp.example", "alice"),
                                of("https://idp.exampl", "ealice"), before_shares}) {
        for (const char* name : {"github", "gitlab"}) {
          for (const std::uint32_t version : {1u, 2u}) {
            add_row(tenant, {owner, CredentialName(name)}, version, owner == before_shares);
          }
        }
      }
    }
  }

  void add_row(const TenantId& tenant, const CredentialKey& key, std::uint32_t version,
               bool before_shares) {
    Fields fields;
    // As long as each other, so that every part of a box fits into any other.
    fields.emplace(rows.size() % 3 == 0 ? "token" : "value", SecureBuffer::copy_of("the same"));
    const auto expires_at =
        rows.size() % 4 < 2 ? std::optional<sys_seconds>() : std::optional(kNow + kHour);
    auto sealed = envelope
                      .seal(tenant, key, version, fields,
                            kNow + std::chrono::seconds(rows.size() % 5), expires_at)
                      .value();
    if (before_shares) {
      auto bare =
          envelope
              .rewrap(tenant, key, version, {sealed.kek_version, sealed.share, sealed.wrapped_dek},
                      sealed.kek_version)
              .value();
      sealed.share.reset();
      sealed.wrapped_dek = std::move(bare.wrapped);
    }
    if (sealed.share) known_shares[tenant].insert(*sealed.share);
    rows.push_back({tenant, key, std::move(sealed)});
  }

  /// Whether it differs from every row that was sealed, and takes no share but those that
  /// its tenant's share store has.
  bool is_altered(const Row& row) const {
    const auto& share = row.sealed.share;
    if (share && !known_shares.at(row.tenant).contains(*share)) return false;
    return std::find(rows.begin(), rows.end(), row) == rows.end();
  }

  /// Opens an altered row; its refusal reads as every other did.
  ::testing::AssertionResult is_refused(const Row& row) {
    const auto opened = envelope.open(row.tenant, row.key, row.sealed);
    if (opened.ok()) return ::testing::AssertionFailure() << "it opened";
    const auto& error = opened.error();
    refusals.insert({error.code, error.detail, error.diagnostic, error.pointer});
    if (refusals.size() > 1) {
      return ::testing::AssertionFailure()
             << "refused in another way: " << error.detail << " / " << error.diagnostic;
    }
    return ::testing::AssertionSuccess();
  }

  const std::vector<TenantId> tenants{TenantId("acme"), TenantId("other")};
  test::InMemoryKekStore store;
  test::InMemoryShareStore shares;
  Keyring keyring{RootKeys::generate(), store, &shares};
  Envelope envelope{keyring};
  std::vector<Row> rows;
  std::map<TenantId, std::set<ShareId>> known_shares;
  std::set<std::tuple<ErrorCode, std::string, std::string, std::string>> refusals;
};

TEST_F(EnvelopeSwapTest, EveryRowOpensAsItWasSealed) {
  std::size_t with_share = 0, of_tenants = 0;
  for (const auto& row : rows) {
    EXPECT_EQ(code_of(envelope.open(row.tenant, row.key, row.sealed)), std::nullopt);
    EXPECT_FALSE(is_altered(row));
    with_share += row.sealed.share.has_value();
    of_tenants += row.key.owner.is_tenant();
  }
  EXPECT_EQ(rows.size(), 64u);
  EXPECT_EQ(with_share, 32u);
  EXPECT_EQ(of_tenants, 16u);
}

TEST_F(EnvelopeSwapTest, NoPartAloneOpensInAnotherRow) {
  std::uint64_t tried = 0;
  for (const auto& [part, move] : moves()) {
    std::uint64_t of_part = 0;
    for (const auto& to : rows) {
      for (const auto& from : rows) {
        auto row = to;
        move(row, from);
        if (!is_altered(row)) continue;
        ++of_part;
        ASSERT_TRUE(is_refused(row)) << part;
      }
    }
    EXPECT_GT(of_part, 800u) << part;
    tried += of_part;
  }
  EXPECT_GE(tried, 10'000u);
  EXPECT_EQ(refusals.size(), 1u);
  RecordProperty("swaps", std::to_string(tried));
}

TEST_F(EnvelopeSwapTest, NoSwapBetweenRowsOpens) {
  constexpr unsigned kSeed = 20261121;
  std::mt19937 random(kSeed);
  std::map<std::string, std::uint64_t> tried_of;
  constexpr std::uint64_t kSwaps = 10'000;
  for (std::uint64_t tried = 0; tried < kSwaps;) {
    // Any of the parts of one row, put into another.
    auto row = rows[random() % rows.size()];
    const auto& from = rows[random() % rows.size()];
    std::vector<std::string> moved;
    for (const auto& [part, move] : moves()) {
      if (random() % 3 != 0) continue;
      move(row, from);
      moved.push_back(part);
    }
    if (!is_altered(row)) continue;
    ++tried;
    for (const auto& part : moved) ++tried_of[part];
    ASSERT_TRUE(is_refused(row)) << "seed " << kSeed << ", swap " << tried;
  }
  for (const auto& [part, move] : moves()) EXPECT_GE(tried_of[part], kSwaps / 5) << part;
  EXPECT_EQ(refusals.size(), 1u);
}

TEST_F(EnvelopeSwapTest, NoFlippedBitOpens) {
  const auto flip = [](auto number, unsigned bit) {
    return static_cast<decltype(number)>(static_cast<std::uint64_t>(number) ^
                                         (std::uint64_t{1} << bit));
  };
  const auto flip_time = [&](sys_seconds time, unsigned bit) {
    return sys_seconds(std::chrono::seconds(flip(time.time_since_epoch().count(), bit)));
  };
  std::uint64_t flipped = 0;
  const auto try_row = [&](const Row& row) {
    ++flipped;
    return is_refused(row);
  };
  for (const auto& good : rows) {
    for (auto part : {&SealedVersion::wrapped_dek, &SealedVersion::sealed}) {
      for (std::size_t bit = 0; bit < (good.sealed.*part).size() * 8; ++bit) {
        auto row = good;
        (row.sealed.*part)[bit / 8] ^= std::byte(1 << (bit % 8));
        ASSERT_TRUE(try_row(row)) << bit;
      }
    }
    for (unsigned bit = 0; bit < 64; ++bit) {
      auto row = good;
      row.sealed.created_at = flip_time(good.sealed.created_at, bit);
      ASSERT_TRUE(try_row(row)) << "creation, bit " << bit;
      if (good.sealed.expires_at) {
        row = good;
        row.sealed.expires_at = flip_time(*good.sealed.expires_at, bit);
        ASSERT_TRUE(try_row(row)) << "expiry, bit " << bit;
      }
      if (bit >= 32) continue;
      row = good;
      row.sealed.version = flip(good.sealed.version, bit);
      ASSERT_TRUE(try_row(row)) << "version, bit " << bit;
      row = good;
      row.sealed.kek_version = flip(good.sealed.kek_version, bit);
      ASSERT_TRUE(try_row(row)) << "KEK version, bit " << bit;
    }
    for (std::size_t bit = 0; bit < good.sealed.field_names.front().size() * 8; ++bit) {
      auto row = good;
      row.sealed.field_names.front()[bit / 8] ^= static_cast<char>(1 << (bit % 8));
      ASSERT_TRUE(try_row(row)) << "field name, bit " << bit;
    }
  }
  EXPECT_GE(flipped, 100'000u);
  EXPECT_EQ(refusals.size(), 1u);
  RecordProperty("bits", std::to_string(flipped));
}

}  // namespace
}  // namespace postern::vault
