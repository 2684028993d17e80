// RequestParser: a stream read in one piece and in small ones gives the same
// requests and the same verdict, and what is accepted is within the rules.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "http/request_parser.h"

namespace {

using postern::http::ParserLimits;
using postern::http::Request;
using postern::http::RequestParser;

void check(const Request& request, const ParserLimits& limits) {
  const bool target = request.path.starts_with('/') || request.path == "*";
  const auto printable = [](char c) { return c > 0x20 && c < 0x7f; };
  if (request.method.empty() || !target || request.headers.size() > limits.max_headers ||
      request.body.size() > limits.max_body_bytes || request.count("Host") > 1 ||
      request.count("Content-Length") + request.count("Transfer-Encoding") > 1 ||
      !std::all_of(request.path.begin(), request.path.end(), printable) ||
      !std::all_of(request.query.begin(), request.query.end(), printable)) {
    std::abort();
  }
  for (const auto& [name, value] : request.headers) {
    if (name.empty() || name.find_first_of(std::string_view("\0\r\n: \t", 6)) != name.npos ||
        value.find_first_of(std::string_view("\0\r\n", 3)) != value.npos) {
      std::abort();
    }
  }
}

/// Everything the parser saw, as text to compare.
std::string read(std::string_view data, std::size_t piece) {
  ParserLimits limits;
  limits.max_header_bytes = 2048;
  limits.max_headers = 20;
  limits.max_body_bytes = 4096;
  limits.max_target_bytes = 256;
  RequestParser parser(limits);
  std::string seen;
  while (!data.empty()) {
    auto part = data.substr(0, piece);
    data.remove_prefix(part.size());
    while (!part.empty()) {
      const auto used = parser.feed(part);
      if (used == 0 || used > part.size()) std::abort();
      part.remove_prefix(used);
      if (parser.state() == RequestParser::State::Failed) {
        return seen + "failed " + std::to_string(parser.error_status());
      }
      if (parser.state() != RequestParser::State::Complete) continue;
      const bool keep_alive = parser.keep_alive();
      const auto request = parser.take();
      check(*request, limits);
      seen += request->method + ' ' + request->path + '?' + request->query + '\n';
      for (const auto& [name, value] : request->headers) seen += name + ": " + value + '\n';
      request->body.expose([&](postern::ByteView body) { seen += postern::as_text(body); });
      seen += keep_alive ? "\n--\n" : "\n==\n";
    }
  }
  return seen + (parser.started() ? "partial" : "");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto whole = read(text, text.size());
  const auto verdict = [](const std::string& seen) { return seen.substr(0, seen.rfind("failed")); };
  for (const std::size_t piece : {1u, 7u}) {
    // A bad stream may be refused for another reason when it is seen to be bad
    // earlier; what was accepted before that must be the same.
    if (verdict(read(text, piece)) != verdict(whole)) std::abort();
  }
  return 0;
}
