#include "crypto/key_pair.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>

#include "crypto/private_key.h"

namespace postern::crypto {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr std::array kAll{KeyPairKind::Ed25519, KeyPairKind::P256, KeyPairKind::P384,
                          KeyPairKind::Rsa3072, KeyPairKind::Rsa4096};

std::string text(const KeyPair& pair) { return std::string(as_text(pair.private_text.readable())); }

TEST(KeyPair, IsWrittenSoThatOthersReadIt) {
  for (const auto kind : kAll) {
    const auto pair = make_pem_key_pair(kind);
    const auto form = private_key_form(text(pair));
    ASSERT_TRUE(form.has_value()) << to_string(kind);
    EXPECT_FALSE(form->openssh);
    EXPECT_FALSE(form->encrypted);
    EXPECT_THAT(pair.public_text, StartsWith("-----BEGIN PUBLIC KEY-----\n"));
    EXPECT_EQ(public_half(text(pair)), pair.public_text) << to_string(kind);
  }
}

TEST(KeyPair, OfSshIsInOpensshsForm) {
  for (const auto kind : {KeyPairKind::Ed25519, KeyPairKind::Rsa3072, KeyPairKind::Rsa4096}) {
    const auto pair = make_ssh_key_pair(kind, "postern-github");
    const auto form = private_key_form(text(pair));
    ASSERT_TRUE(form.has_value()) << to_string(kind);
    EXPECT_TRUE(form->openssh);
    EXPECT_THAT(pair.public_text,
                StartsWith(kind == KeyPairKind::Ed25519 ? "ssh-ed25519 AAAA" : "ssh-rsa AAAA"));
    EXPECT_THAT(pair.public_text, testing::EndsWith(" postern-github"));
    EXPECT_EQ(public_half(text(pair)).value_or("") + " postern-github", pair.public_text);
  }
  EXPECT_THROW(make_ssh_key_pair(KeyPairKind::P256, "x"), std::logic_error);
}

// Made by ssh-keygen of OpenSSH 9.2: ssh-keygen -t ed25519 -N '' -C vector.
constexpr const char* kSshKeygen =
    "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n"
    "QyNTUxOQAAACCEfO+jPs5j7vD8vMALGzDO26Df8LECqlmJ5Pe92tAatAAAAJBWkrcxVpK3\n"
    "MQAAAAtzc2gtZWQyNTUxOQAAACCEfO+jPs5j7vD8vMALGzDO26Df8LECqlmJ5Pe92tAatA\n"
    "AAAECpq8aXn3XWFpoRGDwI8+v1xPI0IsLXuKUCC7WVKvgZwYR876M+zmPu8Py8wAsbMM7b\n"
    "oN/wsQKqWYnk973a0Bq0AAAABnZlY3RvcgECAwQFBgc=\n"
    "-----END OPENSSH PRIVATE KEY-----\n";
constexpr const char* kSshKeygenPublic =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIR876M+zmPu8Py8wAsbMM7boN/wsQKqWYnk973a0Bq0";

TEST(KeyPair, ReadsWhatSshKeygenWrote) { EXPECT_EQ(public_half(kSshKeygen), kSshKeygenPublic); }

TEST(KeyPair, IsAnotherOneEachTime) {
  EXPECT_NE(make_pem_key_pair(KeyPairKind::Ed25519).public_text,
            make_pem_key_pair(KeyPairKind::Ed25519).public_text);
  EXPECT_NE(make_ssh_key_pair(KeyPairKind::Ed25519, "x").public_text,
            make_ssh_key_pair(KeyPairKind::Ed25519, "x").public_text);
}

TEST(KeyPair, HalvesOfTwoPairsAreNone) {
  // The public half within the private key is that of another.
  const auto one = text(make_ssh_key_pair(KeyPairKind::Ed25519, "x"));
  EXPECT_TRUE(public_half(one).has_value());
  std::string body(kSshKeygen);
  for (std::size_t at = 60; at < body.size() - 60; at += 7) {
    auto flipped = body;
    if (flipped[at] == '\n') continue;
    flipped[at] = flipped[at] == 'A' ? 'B' : 'A';
    if (flipped == body) continue;
    const auto found = public_half(flipped);
    // Comment, check bytes and padding are not looked at; then it is the same pair.
    EXPECT_TRUE(!found || *found == kSshKeygenPublic) << at;
  }
  EXPECT_FALSE(public_half("").has_value());
  EXPECT_FALSE(public_half("-----BEGIN OPENSSH PRIVATE KEY-----\n").has_value());
  EXPECT_FALSE(public_half("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE "
                           "KEY-----\n")
                   .has_value());
}

TEST(KeyPair, KindsAreSpelledOneWay) {
  for (const auto kind : kAll) EXPECT_EQ(parse_key_pair_kind(to_string(kind)), kind);
  for (const char* text : {"", "rsa", "RSA-3072", "rsa-1024", "p256"}) {
    EXPECT_FALSE(parse_key_pair_kind(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace postern::crypto
