// Paths of the Vault subset as they stand in a request. What the router and the
// mapping let through names one credential, which no other path names, and has
// nothing in it that a path could be led astray by.

#include "http/vault_path.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "http/router.h"

using namespace postern;
using namespace postern::http;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto require = [](bool promise) {
    if (!promise) std::abort();
  };
  static const auto router = [] {
    auto made = std::make_unique<Router>();
    made->add("GET", "/v1/{}/data/{...}", Pool::Inline, [](std::shared_ptr<Request>, Responder) {});
    return made;
  }();

  const auto match = router->match("GET", "/v1/kv/data/" + std::string(text));
  if (match.handler != nullptr) {
    const auto& rest = match.parameters.at(1);
    const auto framed = '/' + rest + '/';
    require(rest.find('\0') == rest.npos && framed.find("/../") == framed.npos &&
            framed.find("/./") == framed.npos && rest.find("//") == rest.npos);
  }
  const auto check = [&](std::string_view path) {
    const auto name = credential_of_path(path);
    if (!name.ok()) return;
    require(name.value().str().find('/') == std::string::npos);
    require(path_of_credential(name.value()) == std::string(path));
    require(folder_of_path(path).value() == std::string(path) + '/');
  };
  check(text);
  if (match.handler != nullptr) check(match.parameters.at(1));
  if (const auto name = CredentialName::parse(text); name.ok()) {
    const auto path = path_of_credential(name.value());
    if (path) require(credential_of_path(*path).value() == name.value());
  }
  return 0;
}
