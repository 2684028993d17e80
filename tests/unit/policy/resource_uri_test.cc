#include "policy/resource_uri.h"

#include <gtest/gtest.h>

#include <string>

#include "support/code_of.h"

namespace postern::policy {
namespace {

struct Row {
  const char* given;
  const char* form;  ///< null: refused
};

class ComparableResource : public testing::TestWithParam<Row> {};

TEST_P(ComparableResource, IsTheFormUrisAreComparedIn) {
  const auto form = comparable_resource(GetParam().given);
  if (GetParam().form == nullptr) {
    EXPECT_EQ(test::code_of(form), ErrorCode::TargetRefused) << GetParam().given;
  } else {
    ASSERT_TRUE(form.ok()) << GetParam().given;
    EXPECT_EQ(form.value(), GetParam().form);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Same, ComparableResource,
    testing::Values(Row{"https://files.example.com/mcp", "https://files.example.com/mcp"},
                    Row{"https://files.example.com/mcp/", "https://files.example.com/mcp"},
                    Row{"HTTPS://Files.Example.COM/mcp", "https://files.example.com/mcp"},
                    Row{"https://files.example.com:443/mcp", "https://files.example.com/mcp"},
                    Row{"https://files.example.com:/mcp", "https://files.example.com/mcp"},
                    Row{"http://files.example.com:80", "http://files.example.com"},
                    Row{"https://files.example.com", "https://files.example.com"},
                    Row{"https://files.example.com/", "https://files.example.com"},
                    Row{"https://[::1]:443/", "https://[::1]"},
                    Row{"https://[2001:DB8::1]", "https://[2001:db8::1]"},
                    Row{"urn:example:Files", "urn:example:Files"},
                    Row{"URN:example:files", "urn:example:files"}));

// What must stay apart: one of these in a registry is not the other in a request.
INSTANTIATE_TEST_SUITE_P(
    Different, ComparableResource,
    testing::Values(Row{"https://files.example.com/MCP", "https://files.example.com/MCP"},
                    Row{"https://files.example.com/mcp//", "https://files.example.com/mcp/"},
                    Row{"https://files.example.com//mcp", "https://files.example.com//mcp"},
                    Row{"https://files.example.com/./mcp", "https://files.example.com/./mcp"},
                    Row{"https://files.example.com/a/../mcp", "https://files.example.com/a/../mcp"},
                    Row{"https://files.example.com/%6dcp", "https://files.example.com/%6dcp"},
                    Row{"https://files.example.com./mcp", "https://files.example.com./mcp"},
                    Row{"https://files.example.com:80/mcp", "https://files.example.com:80/mcp"},
                    Row{"http://files.example.com:443/mcp", "http://files.example.com:443/mcp"},
                    Row{"https://files.example.com:0443/mcp", "https://files.example.com:0443/mcp"},
                    Row{"https://files.example.com/mcp?a=b", "https://files.example.com/mcp?a=b"},
                    Row{"https://files.example.com/mcp?a=b/", "https://files.example.com/mcp?a=b/"},
                    Row{"https://files.example.com/mcp/?", "https://files.example.com/mcp/?"},
                    Row{"https://files.example.com?x", "https://files.example.com?x"},
                    Row{"https://a/@b", "https://a/@b"}));

INSTANTIATE_TEST_SUITE_P(
    Refused, ComparableResource,
    testing::Values(
        Row{"", nullptr}, Row{"files", nullptr}, Row{"//files.example.com", nullptr},
        Row{"https://", nullptr}, Row{"https:///mcp", nullptr}, Row{"https://:443/mcp", nullptr},
        Row{"https:files", nullptr}, Row{"ftp://files.example.com", nullptr},
        Row{"javascript:alert(1)", nullptr}, Row{"file:///etc/passwd", nullptr},
        Row{"urn:", nullptr}, Row{"https://files.example.com/#", nullptr},
        Row{"https://files.example.com/mcp#frag", nullptr},
        Row{"https://user@files.example.com/", nullptr},
        Row{"https://files.example.com:443@evil.example/", nullptr},
        Row{"https://files.example.com:44a/", nullptr},
        Row{"https://files.example.com:123456/", nullptr},
        Row{"https://files.example.com:-1/", nullptr},
        Row{"https://files.example.com:443:443/", nullptr},
        Row{"https://files.example.com:443:/", nullptr}, Row{"https://::1/", nullptr},
        Row{"https://[::1/", nullptr}, Row{"https://::1]/", nullptr}, Row{"https://[]/", nullptr},
        Row{"https://[::1]x/", nullptr}, Row{"https://a[::1]/", nullptr},
        Row{"https://[::1][::2]/", nullptr}, Row{"https://[::1]:44x/", nullptr},
        Row{"https://files.example.com /mcp", nullptr}, Row{" https://files.example.com", nullptr},
        Row{"https://files.example.com\\mcp", nullptr},
        Row{"https://files.example.com/\xc3\xa4", nullptr},
        Row{"https://files.example.com/\t", nullptr},
        Row{"https://files.example.com/\r\nX: y", nullptr},
        Row{"https://files.example.com/\x7f", nullptr},
        Row{"https://files.example.com/{x}", nullptr}, Row{"https://files.example.com/\"", nullptr},
        Row{"https://files.example.com/<a>", nullptr}));

TEST(ComparableResourceBounds, RefusesMoreThan2000BytesAndNul) {
  const std::string prefix = "https://files.example.com/";
  EXPECT_TRUE(comparable_resource(prefix + std::string(2000 - prefix.size(), 'a')).ok());
  EXPECT_FALSE(comparable_resource(prefix + std::string(2001 - prefix.size(), 'a')).ok());
  EXPECT_FALSE(comparable_resource(std::string_view("https://a/\0b", 12)).ok());
}

TEST(ComparableResourceBounds, DropsOneSlashOnlyOnce) {
  // Not idempotent where two slashes stand: `a//` compares as `a/`, and `a/` as
  // `a`. Both ends of a comparison are taken one step, never two.
  EXPECT_EQ(comparable_resource("https://a/b//").value(), "https://a/b/");
  EXPECT_EQ(comparable_resource("https://a/b/").value(), "https://a/b");
}

TEST(LooksLikeUri, NeedsAKnownSchemeAndSomethingBehindIt) {
  for (const char* text : {"https://a", "HTTP://a", "urn:a", "Urn:a"})
    EXPECT_TRUE(looks_like_uri(text));
  for (const char* text : {"", "https://", "http:/a", "urn:", "files", "ftp://a", "https"}) {
    EXPECT_FALSE(looks_like_uri(text)) << text;
  }
}

}  // namespace
}  // namespace postern::policy
