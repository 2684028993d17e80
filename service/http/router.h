#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "http/message.h"

namespace postern::http {

/// Maps method and path to a handler. Patterns are literal segments, `{}` for one
/// segment, `/t/{}/token`, and at the end `{...}` for all that is left, which may
/// have slashes, end in one, or be empty. Built once, then read by all threads.
///
/// Paths are matched byte for byte: no `//`, `.`/`..`, percent-encoded slash,
/// NUL or trailing-slash tolerance; whatever is not exactly a route is 404.
class Router {
 public:
  Router();
  ~Router();

  /// Routes registered for GET answer HEAD too (the server drops the body).
  /// Literal segments win over `{}`, and both over `{...}`.
  void add(std::string_view method, std::string_view pattern, Pool pool, Handler handler);

  struct Match {
    const Handler* handler = nullptr;  ///< null: no route for this method and path
    Pool pool = Pool::Inline;
    std::vector<std::string> parameters;  ///< percent-decoded
    std::string allow;                    ///< for 405: the path's methods; empty: 404
    /// 404/405 body style: OAuth JSON, problem+json or plain; decided by prefix.
  };
  Match match(std::string_view method, std::string_view path) const;

 private:
  struct Node;
  std::unique_ptr<Node> root_;
};

}  // namespace postern::http
