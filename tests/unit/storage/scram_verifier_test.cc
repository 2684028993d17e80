#include "storage/scram_verifier.h"

#include <gtest/gtest.h>

#include <string>

#include "support/code_of.h"

namespace postern::storage {
namespace {

TEST(ScramVerifier, IsThatOfAKnownPassword) {
  // Password and salt of RFC 7677 section 3, verifier as PostgreSQL computes it:
  // the example exchange there verifies against these two keys.
  const std::string salt = "[m\x99h\x9d\x12\x35\x8e\xec\xa0K\x14\x12\x36\xfa\x81";
  ASSERT_EQ(salt.size(), 16U);
  EXPECT_EQ(scram_verifier("pencil", salt, 4096),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
            "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
            "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=");
}

TEST(ScramVerifier, HasAFreshSaltEachTime) {
  EXPECT_NE(scram_verifier("secret").value(), scram_verifier("secret").value());
}

TEST(ScramVerifier, RefusesWhatWouldNeedPreparation) {
  for (const std::string& password :
       {std::string(), std::string("two words"), std::string("caf\xC3\xA9"), std::string("a\0b", 3),
        std::string("tab\t"), std::string(201, 'x')}) {
    EXPECT_EQ(test::code_of(scram_verifier(password)), ErrorCode::MalformedRequest);
  }
  EXPECT_TRUE(scram_verifier(std::string(200, 'x')).ok());
}

}  // namespace
}  // namespace postern::storage
