#include "vault/transit.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "crypto/base64url.h"
#include "support/code_of.h"
#include "support/in_memory_audit_log.h"
#include "support/in_memory_kek_store.h"
#include "support/in_memory_transit_store.h"
#include "support/transit_store_suite.h"

namespace postern::test {
namespace {

using crypto::HashFunction;
using vault::Marshaling;
using vault::TransitName;
using vault::TransitText;
using vault::TransitType;

class InMemoryTransit final : public TransitStoreHarness {
 public:
  vault::TransitStore& store() override { return store_; }
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
  InMemoryTransitStore store_{log_};
};

INSTANTIATE_TEST_SUITE_P(InMemory, TransitStoreSuite, ::testing::Values(TransitStoreFactory{[] {
                           return std::make_unique<InMemoryTransit>();
                         }}));

struct TransitTest : ::testing::Test {
  Status create(const std::string& name, TransitType type, bool derived = false) {
    vault::TransitKey key;
    key.name = TransitName(name);
    key.type = type;
    key.derived = derived;
    return transit.create(acme, std::move(key), record);
  }
  vault::OpenTransitKey open(const std::string& name) {
    return transit.open(acme, TransitName(name)).value();
  }
  static std::string text_of(const Result<Plaintext>& opened) {
    if (!opened.ok()) return std::string(to_string(opened.error().code));
    return opened.value().expose([](ByteView bytes) { return std::string(as_text(bytes)); });
  }
  void rotate(const std::string& name) {
    ASSERT_TRUE(transit.rotate(acme, TransitName(name), record).ok());
  }
  Status configure(const std::string& name, const vault::Transit::Settings& settings) {
    return transit.configure(acme, TransitName(name), settings, record);
  }

  const TenantId acme{"acme"};
  const audit::Event record{acme, {}, "transit", {}, "r", {}};
  TestKeyring keys{"acme"};
  SystemClock clock;
  InMemoryAuditLog log{keys.keyring};
  InMemoryTransitStore store{log};
  vault::Transit transit{keys.keyring, store, clock};
};

TEST(TransitText, IsReadInOneSpelling) {
  for (const std::string text : {"vault:v1:YQ==", "vault:v12:", "vault:v2147483647:YWJj"}) {
    const auto read = TransitText::parse(text);
    ASSERT_TRUE(read.ok()) << text;
    EXPECT_EQ(read.value().str(), text);
  }
  for (const std::string text : {"",
                                 "vault",
                                 "vault:v",
                                 "vault:v1",
                                 "vault:v0:YQ==",
                                 "vault:v01:YQ==",
                                 "vault:v-1:YQ==",
                                 "vault:v+1:YQ==",
                                 "vault:v 1:YQ==",
                                 "vault:v2147483648:YQ==",
                                 "vault:v99999999999:YQ==",
                                 "Vault:v1:YQ==",
                                 "vault:1:YQ==",
                                 "vault:v1:YQ",
                                 "vault:v1:YR==",
                                 "vault:v1:Y Q==",
                                 "vault:v1::YQ==",
                                 "vault:v1:YQ== ",
                                 "vault:v1:_-8=",
                                 "hvs:v1:YQ=="}) {
    EXPECT_EQ(code_of(TransitText::parse(text)), ErrorCode::MalformedRequest) << text;
  }
}

TEST(TransitText, OfJwsIsInBase64url) {
  const TransitText signature{3, {std::byte{0xfb}, std::byte{0xff}}};
  EXPECT_EQ(signature.str(Marshaling::Jws), "vault:v3:-_8");
  EXPECT_EQ(signature.str(), "vault:v3:+/8=");
  EXPECT_EQ(TransitText::parse("vault:v3:-_8", Marshaling::Jws).value().bytes, signature.bytes);
  EXPECT_FALSE(TransitText::parse("vault:v3:+/8=", Marshaling::Jws).ok());
  EXPECT_FALSE(TransitText::parse("vault:v3:-_8").ok());
}

TEST_F(TransitTest, WhatAKeyEncryptsItDecryptsUnderEachOfItsVersions) {
  for (const auto type : {TransitType::Aes256Gcm96, TransitType::ChaCha20Poly1305}) {
    const std::string name(to_string(type));
    ASSERT_TRUE(create(name, type).ok());
    const auto first = open(name).encrypt(as_bytes("text"), {}, as_bytes("aad")).value();
    EXPECT_EQ(first.version, 1u);
    rotate(name);
    auto key = open(name);
    const auto second = key.encrypt(as_bytes("text"), {}, as_bytes("aad")).value();
    EXPECT_EQ(second.version, 2u);
    EXPECT_NE(first.bytes, second.bytes);
    for (const auto& each : {first, second}) {
      EXPECT_EQ(text_of(key.decrypt(each, {}, as_bytes("aad"))), "text");
      EXPECT_EQ(text_of(key.decrypt(each, {}, {})), "MalformedRequest");
      EXPECT_EQ(text_of(key.decrypt(each, as_bytes("c"), as_bytes("aad"))), "MalformedRequest");
    }
    auto swapped = first;
    swapped.version = 2;
    EXPECT_EQ(text_of(key.decrypt(swapped, {}, as_bytes("aad"))), "MalformedRequest");
    swapped.version = 3;
    EXPECT_EQ(text_of(key.decrypt(swapped, {}, as_bytes("aad"))), "MalformedRequest");
  }
}

TEST_F(TransitTest, ADerivedKeyHasOneForEachContext) {
  ASSERT_TRUE(create("d", TransitType::Aes256Gcm96, true).ok());
  auto key = open("d");
  const auto box = key.encrypt(as_bytes("text"), as_bytes("alice"), {}).value();
  EXPECT_EQ(text_of(key.decrypt(box, as_bytes("alice"), {})), "text");
  EXPECT_EQ(text_of(key.decrypt(box, as_bytes("bob"), {})), "MalformedRequest");
  EXPECT_EQ(text_of(key.decrypt(box, {}, {})), "MalformedRequest");
  EXPECT_FALSE(key.encrypt(as_bytes("text"), {}, {}).ok());
  EXPECT_EQ(code_of(create("s", TransitType::Ed25519, true)), ErrorCode::MalformedRequest);
}

TEST_F(TransitTest, OldVersionsAreRefusedWhenTheSettingsSaySo) {
  ASSERT_TRUE(create("k", TransitType::Aes256Gcm96).ok());
  const auto first = open("k").encrypt(as_bytes("text"), {}, {}).value();
  EXPECT_EQ(code_of(configure("k", {2, {}, {}})), ErrorCode::MalformedRequest) << "not there";
  ASSERT_TRUE(configure("k", {0, {}, {}}).ok());
  EXPECT_EQ(open("k").key().min_decryption_version, 1U) << "0 is the first, as in Vault";
  rotate("k");
  rotate("k");
  EXPECT_EQ(open("k").encrypt(as_bytes("x"), {}, {}).value().version, 3u) << "unless asked for";
  EXPECT_EQ(open("k").encrypt(as_bytes("x"), {}, {}, 2).value().version, 2u);
  ASSERT_TRUE(configure("k", {{}, 2, {}}).ok());
  EXPECT_EQ(open("k").encrypt(as_bytes("x"), {}, {}, 2).value().version, 2u);
  EXPECT_FALSE(open("k").encrypt(as_bytes("x"), {}, {}, 1).ok());
  EXPECT_FALSE(open("k").encrypt(as_bytes("x"), {}, {}, 4).ok());
  EXPECT_EQ(code_of(configure("k", {3, {}, {}})), ErrorCode::MalformedRequest)
      << "what is encrypted must be decrypted";
  ASSERT_TRUE(configure("k", {2, {}, {}}).ok());
  EXPECT_EQ(text_of(open("k").decrypt(first, {}, {})), "MalformedRequest");
  ASSERT_TRUE(configure("k", {1, {}, {}}).ok());
  EXPECT_EQ(text_of(open("k").decrypt(first, {}, {})), "text") << "it was not destroyed";
}

TEST_F(TransitTest, SignaturesAreOfTheirKeyAndVersion) {
  for (const auto type : {TransitType::Ed25519, TransitType::EcdsaP256}) {
    const std::string name(to_string(type));
    ASSERT_TRUE(create(name, type).ok());
    for (const auto marshaling : {Marshaling::Asn1, Marshaling::Jws}) {
      auto key = open(name);
      const auto signature = key.sign(as_bytes("text"), marshaling).value();
      rotate(name);
      auto later = open(name);
      EXPECT_TRUE(later.verify(as_bytes("text"), signature, marshaling).value());
      EXPECT_FALSE(later.verify(as_bytes("other"), signature, marshaling).value());
      auto of_other = signature;
      ++of_other.version;
      EXPECT_FALSE(later.verify(as_bytes("text"), of_other, marshaling).value());
      auto flipped = signature;
      flipped.bytes.back() ^= std::byte{1};
      EXPECT_FALSE(later.verify(as_bytes("text"), flipped, marshaling).value());
    }
    auto key = open(name);
    EXPECT_FALSE(key.encrypt(as_bytes("x"), {}, {}).ok());
    EXPECT_FALSE(key.decrypt({1, Bytes(64)}, {}, {}).ok());
  }
  ASSERT_TRUE(create("cipher", TransitType::Aes256Gcm96).ok());
  auto cipher = open("cipher");
  EXPECT_FALSE(cipher.sign(as_bytes("x"), Marshaling::Jws).ok());
  EXPECT_FALSE(cipher.verify(as_bytes("x"), {1, Bytes(64)}, Marshaling::Jws).ok());
  EXPECT_EQ(cipher.public_key({}).value(), "") << "there is none to show";
}

TEST_F(TransitTest, EveryKeyAuthenticates) {
  for (const auto type : {TransitType::Aes256Gcm96, TransitType::EcdsaP256}) {
    const std::string name(to_string(type));
    ASSERT_TRUE(create(name, type).ok());
    auto key = open(name);
    const auto mac = key.hmac(as_bytes("text"), HashFunction::Sha512).value();
    EXPECT_EQ(mac.bytes.size(), 64u);
    EXPECT_TRUE(key.verify_hmac(as_bytes("text"), mac, HashFunction::Sha512).value());
    EXPECT_FALSE(key.verify_hmac(as_bytes("texts"), mac, HashFunction::Sha512).value());
    EXPECT_FALSE(key.verify_hmac(as_bytes("text"), mac, HashFunction::Sha256).value());
    EXPECT_FALSE(key.verify_hmac(as_bytes("text"), {1, {}}, HashFunction::Sha256).value());
    EXPECT_FALSE(key.verify_hmac(as_bytes("text"), {2, mac.bytes}, HashFunction::Sha512).ok());
  }
}

TEST_F(TransitTest, NoRowIsTakenForAnothers) {
  for (const char* name : {"one", "two"}) {
    ASSERT_TRUE(create(name, TransitType::Aes256Gcm96).ok());
    rotate(name);
  }
  auto& one = store.row(acme, "one");
  auto& two = store.row(acme, "two");
  const auto fails = [&] {
    return code_of(open("one").encrypt(as_bytes("x"), {}, {})) == ErrorCode::Internal;
  };
  const auto before = one;
  EXPECT_FALSE(fails());
  one.versions[1].wrapped = two.versions[1].wrapped;  // another key's
  EXPECT_TRUE(fails());
  one = before;
  one.versions[1].wrapped = one.versions[0].wrapped;  // another version's
  EXPECT_TRUE(fails());
  one = before;
  one.key.id = two.key.id;
  EXPECT_TRUE(fails());
  one = before;
  one.key.type = TransitType::ChaCha20Poly1305;
  EXPECT_TRUE(fails());
  one = before;
  one.versions[1].wrapped.wrapped.back() ^= std::byte{1};
  EXPECT_TRUE(fails());
  one = before;
  EXPECT_FALSE(fails());
}

TEST_F(TransitTest, IsRemovedWhenItsSettingsAllowThat) {
  ASSERT_TRUE(create("k", TransitType::Aes256Gcm96).ok());
  const auto first = open("k").encrypt(as_bytes("text"), {}, {}).value();
  EXPECT_EQ(code_of(transit.remove(acme, TransitName("k"), record)), ErrorCode::MalformedRequest);
  ASSERT_TRUE(configure("k", {{}, {}, true}).ok());
  ASSERT_TRUE(transit.remove(acme, TransitName("k"), record).ok());
  EXPECT_EQ(code_of(transit.open(acme, TransitName("k"))), ErrorCode::NotFound);
  ASSERT_TRUE(create("k", TransitType::Aes256Gcm96).ok());
  EXPECT_EQ(text_of(open("k").decrypt(first, {}, {})), "MalformedRequest") << "another key";
}

}  // namespace
}  // namespace postern::test
