#include "http/router.h"

#include <algorithm>
#include <map>
#include <optional>
#include <stdexcept>
#include <utility>

#include "http/ascii.h"

namespace postern::http {
namespace {

constexpr std::string_view kAnySegment = "{}";
constexpr std::string_view kAllThatIsLeft = "{...}";

/// Takes one segment off the front of a path that begins with `/`.
std::string_view next_segment(std::string_view& path) {
  path.remove_prefix(1);
  const auto segment = path.substr(0, path.find('/'));
  path.remove_prefix(segment.size());
  return segment;
}

/// The value of a `{}` segment; nothing when no well-behaved client sends it.
std::optional<std::string> decode_segment(std::string_view segment) {
  std::string decoded;
  decoded.reserve(segment.size());
  for (std::size_t i = 0; i < segment.size(); ++i) {
    char c = segment[i];
    if (c == '%') {
      if (segment.size() - i < 3) return std::nullopt;
      const int high = hex_value(segment[i + 1]);
      const int low = hex_value(segment[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
      if (c == '/') return std::nullopt;
    }
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) return std::nullopt;
    decoded += c;
  }
  if (decoded.empty() || decoded == "." || decoded == ".." || !is_utf8(decoded)) {
    return std::nullopt;
  }
  return decoded;
}

/// The value of `{...}`: each segment decoded by itself, so that no encoded slash
/// or dot segment becomes a real one. Only the last segment may be empty.
std::optional<std::string> decode_segments(std::string_view rest) {
  std::string decoded;
  for (;;) {
    const auto segment = next_segment(rest);
    if (segment.empty() && rest.empty()) return decoded;
    const auto value = decode_segment(segment);
    if (!value) return std::nullopt;
    decoded += *value;
    if (rest.empty()) return decoded;
    decoded += '/';
  }
}

}  // namespace

struct Router::Node {
  struct Endpoint {
    std::string method;
    Pool pool;
    Handler handler;
  };

  std::map<std::string, std::unique_ptr<Node>, std::less<>> literals;
  std::unique_ptr<Node> any;
  std::unique_ptr<Node> all_that_is_left;
  std::vector<Endpoint> endpoints;

  const Endpoint* find(std::string_view method) const {
    for (const auto& endpoint : endpoints) {
      if (endpoint.method == method) return &endpoint;
    }
    return method == "HEAD" ? find("GET") : nullptr;
  }

  std::string allow() const {
    std::vector<std::string_view> methods;
    for (const auto& endpoint : endpoints) methods.push_back(endpoint.method);
    if (find("GET") != nullptr) methods.push_back("HEAD");
    std::sort(methods.begin(), methods.end());
    methods.erase(std::unique(methods.begin(), methods.end()), methods.end());
    std::string joined;
    for (const auto method : methods) {
      if (!joined.empty()) joined += ", ";
      joined += method;
    }
    return joined;
  }

  /// Fills the match with the endpoint found, or with the methods of the best
  /// path that has other ones.
  bool match(std::string_view method, std::string_view rest, Match& found) const {
    if (rest.empty()) {
      if (const auto* endpoint = find(method)) {
        found.handler = &endpoint->handler;
        found.pool = endpoint->pool;
        return true;
      }
      if (found.allow.empty()) found.allow = allow();
      return false;
    }
    const auto whole = rest;
    const auto segment = next_segment(rest);
    if (const auto next = literals.find(segment); next != literals.end()) {
      if (next->second->match(method, rest, found)) return true;
    }
    if (any) {
      if (auto value = decode_segment(segment)) {
        found.parameters.push_back(std::move(*value));
        if (any->match(method, rest, found)) return true;
        found.parameters.pop_back();
      }
    }
    if (all_that_is_left) {
      if (auto value = decode_segments(whole)) {
        found.parameters.push_back(std::move(*value));
        if (all_that_is_left->match(method, {}, found)) return true;
        found.parameters.pop_back();
      }
    }
    return false;
  }
};

Router::Router() : root_(std::make_unique<Node>()) {}
Router::~Router() = default;

void Router::add(std::string_view method, std::string_view pattern, Pool pool, Handler handler) {
  if (!is_token(method) || !pattern.starts_with('/')) throw std::logic_error("malformed route");
  auto* node = root_.get();
  for (auto rest = pattern; !rest.empty();) {
    const auto segment = next_segment(rest);
    const bool last = segment == kAllThatIsLeft;
    if (last && !rest.empty()) throw std::logic_error("malformed route");
    auto& next = last                     ? node->all_that_is_left
                 : segment == kAnySegment ? node->any
                                          : node->literals[std::string(segment)];
    if (!next) next = std::make_unique<Node>();
    node = next.get();
  }
  for (const auto& endpoint : node->endpoints) {
    if (endpoint.method == method) throw std::logic_error("route added twice");
  }
  node->endpoints.push_back({std::string(method), pool, std::move(handler)});
}

Router::Match Router::match(std::string_view method, std::string_view path) const {
  Match found;
  if (!path.starts_with('/')) return found;
  if (root_->match(method, path, found)) found.allow.clear();
  return found;
}

}  // namespace postern::http
