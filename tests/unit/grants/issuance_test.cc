#include "grants/issuance.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "support/code_of.h"
#include "support/grants_fixture.h"

// The last word on every token. The grants refuse most of this before; that
// nothing gets past here is shown without them.
namespace postern::grants {
namespace {

using namespace std::chrono_literals;
using test::code_of;
using test::GrantsFixture;
using token::Json;

struct Issuing : GrantsFixture {
  /// For gw-01 itself at `files`; change what the test is about.
  Issuance issuance() {
    const auto* files = snapshot->find_backend("files");
    return {&who,         {files, files->audience},
            "gw-01",      files->scopes,
            std::nullopt, std::nullopt,
            Json(),       Json::object()};
  }
  Result<IssuedToken> issue_it(const Issuance& what) {
    last_record = record();
    return issue(*snapshot, what, clock, last_record);
  }
  Caller who{caller()};
};

TEST(Issuance, SignsWhatItIsGiven) {
  Issuing f;
  const auto issued = f.issue_it(f.issuance());
  ASSERT_TRUE(issued.ok());
  EXPECT_EQ(f.open(issued.value().access_token).at("scope"), "files:read files:write");
}

TEST(Issuance, NothingOutlivesWhatItRestsOn) {
  Issuing f;
  auto what = f.issuance();
  what.not_beyond = f.clock.now() + 7s;
  EXPECT_EQ(f.issue_it(what).value().expires_in, 7s);
  for (const auto gone : {0s, 1s, 3600s}) {
    what.not_beyond = f.clock.now() - gone;
    EXPECT_EQ(code_of(f.issue_it(what)), ErrorCode::InvalidToken);
  }
}

TEST(Issuance, BoundStaysBound) {
  Issuing f;
  auto what = f.issuance();
  what.inherited.jkt = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
  EXPECT_EQ(code_of(f.issue_it(what)), ErrorCode::InvalidToken);
  f.who.proven.jkt = what.inherited.jkt;
  EXPECT_EQ(f.open(f.issue_it(what).value().access_token).at("cnf"),
            Json({{"jkt", what.inherited.jkt}}));
}

TEST(Issuance, NoScopeBeyondWhatIsPermitted) {
  Issuing f;
  auto what = f.issuance();
  what.permitted = policy::ScopeSet({"files:read"});
  for (const char* more : {"files:write", "files:read files:write", "*", "files:read\tx"}) {
    what.requested_scope = more;
    EXPECT_EQ(code_of(f.issue_it(what)), ErrorCode::ScopeRefused) << more;
  }
}

}  // namespace
}  // namespace postern::grants
