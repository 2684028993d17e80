#pragma once

// What a request is about, by the routes that the service adds: so that a test that must
// know all of them fails for one that it does not.

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>

namespace postern::test {

struct Route {
  std::string method, pattern;  ///< as http::Router has it

  std::string name() const { return method + ' ' + pattern; }
  bool operator<(const Route& other) const {
    return std::tie(pattern, method) < std::tie(other.pattern, other.method);
  }
};

/// As the sources of the handlers add them; contract_test.py holds the document to the same.
/// Of the Vault subset, which names its tenant in the path or in a header and takes PUT for
/// POST, there is one of each.
inline std::set<Route> routes_of_service() {
  static const std::regex comment("//[^\n]*"),
      constant(R"re(\b(k\w+)(?:\[\])? = "([/{a-z][^"]*)")re"),
      added(R"re("(GET|HEAD|PUT|POST|PATCH|DELETE|LIST)",\s*(?:"([^"]*)"|(\w+)))re");
  using Found = std::sregex_iterator;
  std::set<Route> routes;
  const auto folder = std::filesystem::path(POSTERN_SOURCE_DIR) / "service/http/handlers";
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() != ".cc") continue;
    std::ostringstream content;
    content << std::ifstream(file.path()).rdbuf();
    const auto text = std::regex_replace(content.str(), comment, "");
    std::map<std::string, std::string> constants;
    for (auto at = Found(text.begin(), text.end(), constant); at != Found(); ++at) {
      constants.emplace((*at)[1], (*at)[2]);
    }
    for (auto at = Found(text.begin(), text.end(), added); at != Found(); ++at) {
      Route route{(*at)[1], (*at)[2]};
      if (route.pattern.empty()) {
        const auto named = constants.find((*at)[3]);
        if (named == constants.end()) {
          throw std::runtime_error("a route that cannot be read: " + at->str());
        }
        route.pattern = named->second;
      }
      if (route.pattern.front() != '/') {
        route.pattern.insert(0, "/t/{}/v1/");
        if (route.method == "PUT") route.method = "POST";
      }
      routes.insert(std::move(route));
    }
  }
  if (routes.size() < 100) throw std::runtime_error("routes are added in another way");
  return routes;
}

/// Whether this request goes there, as far as the path tells.
inline bool goes_to(const Route& route, std::string_view method, std::string_view target) {
  if (method != route.method) return false;
  static const std::regex left(R"(\{\.\.\.\})"), one(R"(\{\})");
  const auto any = std::regex_replace(std::regex_replace(route.pattern, left, ".*"), one, "[^/]+");
  return std::regex_match(std::string(target.substr(0, target.find('?'))), std::regex(any));
}

}  // namespace postern::test
