// Authorization details only shrink (design invariant 2; RFC 9396 §5), over
// random roles, subject tokens and requests, along two exchanges: what a token
// is good for is worked out point by point (tool, action, argument), by rules
// written here from the documentation, and lies within everything it came from.
//
//   POSTERN_PROPERTY_RUNS   random tenants (default 5000; here a tenth of it)
//   POSTERN_PROPERTY_SEED   to repeat a run (printed on failure)

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "support/from_environment.h"
#include "support/grants_fixture.h"

namespace postern::grants {
namespace {

using test::from_environment;
using test::GrantsFixture;
using token::Json;
using Point = std::tuple<std::string, std::string, std::string>;  // tool, action, path
using Points = std::set<Point>;

const std::vector<std::string> kTools{"read_a", "read_b", "write_a", "stat"};
const std::vector<std::string> kPatterns{"*", "read_*", "*_a", "read_a", "stat", "*a*"};
const std::vector<std::string> kActions{"call", "list"};
const std::vector<std::string> kPaths{"/a", "/b", "/c"};
const std::vector<std::string> kBackends{"files", "search"};

/// Here `*` is the only special character, and stands for any text.
bool matches(const std::string& pattern, const std::string& text, std::size_t p = 0,
             std::size_t t = 0) {
  if (p == pattern.size()) return t == text.size();
  if (pattern[p] == '*') {
    return matches(pattern, text, p + 1, t) ||
           (t < text.size() && matches(pattern, text, p, t + 1));
  }
  return t < text.size() && pattern[p] == text[t] && matches(pattern, text, p + 1, t + 1);
}

std::string audience(const std::string& backend) {
  return "https://" + backend + ".example.com/mcp";
}

Points points_where(const std::function<bool(const Point&)>& good) {
  Points points;
  for (const auto& tool : kTools) {
    for (const auto& action : kActions) {
      for (const auto& path : kPaths) {
        if (good({tool, action, path})) points.insert({tool, action, path});
      }
    }
  }
  return points;
}
Points everything() {
  return points_where([](const Point&) { return true; });
}

/// What these details open at a backend. Without any, everything is open.
Points opened(const Json& details, const std::string& backend) {
  if (details.is_null()) return everything();
  const auto has = [](const Json& list, const std::string& item) {
    return std::find(list.begin(), list.end(), Json(item)) != list.end();
  };
  return points_where([&](const Point& point) {
    const auto& [tool, action, path] = point;
    return std::any_of(details.begin(), details.end(), [&](const Json& detail) {
      return matches(detail.at("identifier"), tool) &&
             (has(detail.at("actions"), "*") || has(detail.at("actions"), action)) &&
             (!detail.contains("locations") || has(detail.at("locations"), backend) ||
              has(detail.at("locations"), audience(backend))) &&
             (!detail.contains("constraints") || has(detail.at("constraints").at("path"), path));
    });
  });
}

struct Role {
  std::array<std::string, 3> permission;  // backend, tool, action
  bool bound;
};

Points of_roles(const std::vector<Role>& roles, const std::string& backend) {
  Points points;
  bool speak = false;
  for (const auto& [permission, bound] : roles) {
    if (!bound || (permission[0] != "*" && permission[0] != backend)) continue;
    speak = true;
    points.merge(points_where([&, &rule = permission](const Point& point) {
      return matches(rule[1], std::get<0>(point)) &&
             (rule[2] == "*" || rule[2] == std::get<1>(point));
    }));
  }
  return speak ? points : everything();
}

bool within(const Points& inner, const Points& outer) {
  return std::includes(outer.begin(), outer.end(), inner.begin(), inner.end());
}

class Generator {
 public:
  explicit Generator(std::uint64_t seed) : random_(seed) {}
  bool chance(unsigned of_ten) { return random_() % 10 < of_ten; }
  template <class T>
  const T& one(const std::vector<T>& from) {
    return from[random_() % from.size()];
  }

  std::vector<Role> roles() {
    std::vector<Role> roles;
    while (chance(6) && roles.size() < 5) {
      roles.push_back(
          {{chance(3) ? "*" : one(kBackends), one(kPatterns), chance(4) ? "*" : one(kActions)},
           chance(7)});
    }
    return roles;
  }
  Json details() {
    if (chance(3)) return nullptr;
    Json details = Json::array();
    do {
      Json detail{{"type", "mcp_tool"},
                  {"identifier", one(kPatterns)},
                  {"actions", chance(4)   ? Json::array({"*"})
                              : chance(5) ? Json(kActions)
                                          : Json::array({one(kActions)})}};
      if (chance(3)) {
        const auto& backend = one(kBackends);
        detail["locations"] = {chance(5) ? backend : audience(backend)};
      }
      if (chance(3)) {
        detail["constraints"]["path"] = {one(kPaths)};
        if (chance(5)) detail["constraints"]["path"] = {"/a", "/b"};
      }
      details.push_back(std::move(detail));
    } while (chance(5) && details.size() < 4);
    return details;
  }

 private:
  std::mt19937_64 random_;
};

struct World : GrantsFixture {
  void enter(const std::vector<Role>& roles) {
    manifest = plain_;
    for (std::size_t i = 0; i < roles.size(); ++i) {
      const auto name = "tools-" + std::to_string(i);
      const auto& [permission, bound] = roles[i];
      manifest["roles"].push_back(
          {{"name", name},
           {"allow", Json::array()},
           {"tools", {permission[0] + ":" + permission[1] + ":" + permission[2]}}});
      manifest["bindings"].push_back(
          {{"role", name}, {"groups", {bound ? "engineering" : "others"}}});
    }
    load();
  }
  /// The details of the token that was issued, null for none; nothing when refused.
  std::optional<Json> step(const std::string& subject_token, const std::string& backend,
                           const Json& wanted, std::string& issued_token) {
    auto asked = request(subject_token);
    asked.audiences = {backend};
    if (!wanted.is_null()) asked.tools = test::must(policy::read_tool_details(wanted));
    const auto issued = exchange(asked);
    if (!issued.ok()) {
      EXPECT_EQ(issued.error().code, ErrorCode::InvalidAuthorizationDetails)
          << issued.error().detail;
      return std::nullopt;
    }
    issued_token = issued.value().access_token.expose(
        [](ByteView bytes) { return std::string(as_text(bytes)); });
    return open(issued_token).value("authorization_details", Json());
  }
  Json plain_ = manifest;
};

TEST(ToolDetails, OnlyShrinkForRandomRolesTokensAndRequests) {
  const auto seed = from_environment("POSTERN_PROPERTY_SEED", std::random_device{}());
  const auto runs = from_environment("POSTERN_PROPERTY_RUNS", 5'000) / 10 + 1;
  World world;
  std::uint64_t issued = 0, limited = 0, onward = 0;
  for (std::uint64_t run = 0; run < runs; ++run) {
    SCOPED_TRACE("POSTERN_PROPERTY_SEED=" + std::to_string(seed) + " run " + std::to_string(run));
    Generator random(seed + run);
    const auto roles = random.roles();
    world.enter(roles);
    for (int request = 0; request < 10; ++request) {
      const auto own = random.details(), wanted = random.details(), again = random.details();
      const auto& backend = random.one(kBackends);
      auto claims = world.claims();
      if (!own.is_null()) claims["authorization_details"] = own;

      std::string first, second;
      const auto granted = world.step(world.idp.sign(claims), backend, wanted, first);
      if (!granted) continue;
      ++issued;
      limited += !granted->is_null();
      const auto good_for = opened(*granted, backend);
      EXPECT_TRUE(within(good_for, of_roles(roles, backend))) << *granted;
      EXPECT_TRUE(within(good_for, opened(own, backend))) << own << " became " << *granted;
      EXPECT_TRUE(within(good_for, opened(wanted, backend))) << wanted << " became " << *granted;

      const auto& next = random.one(kBackends);
      const auto further = world.step(first, next, again, second);
      if (!further) continue;
      ++onward;
      const auto still_good_for = opened(*further, next);
      EXPECT_TRUE(within(still_good_for, of_roles(roles, next))) << *further;
      EXPECT_TRUE(within(still_good_for, opened(*granted, next)))
          << *granted << " became " << *further;
      EXPECT_TRUE(within(still_good_for, opened(again, next))) << again << " became " << *further;
    }
    if (testing::Test::HasFailure()) return;
  }
  // The generator must not drift into refusing everything.
  EXPECT_GT(issued, runs) << issued << " issued, " << limited << " limited, " << onward
                          << " onward";
  EXPECT_GT(limited, runs / 2);
  EXPECT_GT(onward, runs / 4);
}

}  // namespace
}  // namespace postern::grants
