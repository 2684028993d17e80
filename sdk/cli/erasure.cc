#include <unistd.h>

#include <iostream>
#include <string>

#include "cli/commands.h"
#include "cli/output.h"
#include "postern/json.h"

namespace postern::cli {
namespace {

using sdk::Json;

int show(const Settings& settings, const sdk::Erasure& erasure) {
  const Json line{{"erasure_id", erasure.erasure_id},
                  {"state", erasure.state},
                  {"statement", erasure.statement}};
  auto text = "erasure " + printable(erasure.erasure_id) + ": " + printable(erasure.state) + "\n";
  if (erasure.state == "done") {
    text += printable(erasure.statement) + "\n";
  } else {
    text += "it goes on by itself; ask again later\n";
  }
  const auto status =
      print(settings.json ? line.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n" : text);
  return status.ok() ? exit_code::kOk : report(status.error(), "");
}

/// Asks a person at a terminal; elsewhere only --yes confirms.
bool confirmed(const ErasureOptions& options) {
  if (options.confirm == "yes") return true;
  if (::isatty(STDIN_FILENO) == 0) return false;
  say_error("this destroys the key of all that " +
            (options.subject.empty() ? "you have" : printable(options.subject) + " has") +
            " stored: none of it can ever be read again, not even from a backup");
  std::cerr << "Type yes to go on: " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "yes";
}

}  // namespace

int run_principal_erase(const Settings& settings, const ErasureOptions& options) {
  constexpr const char* kDoing = "erase the principal";
  const auto tenant = options.tenant.empty() ? tenant_of(settings) : tenant_named(options.tenant);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  if (!confirmed(options)) {
    return report(
        sdk::fail(sdk::ErrorKind::Usage, "not confirmed; nothing was erased. It needs --yes"),
        kDoing);
  }
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  const auto erased =
      client.value().erase_principal(tenant.value(), options.issuer, options.subject);
  return erased.ok() ? show(settings, erased.value()) : report(erased.error(), kDoing);
}

int run_tenant_erase(const Settings& settings, const ErasureOptions& options) {
  constexpr const char* kDoing = "erase the tenant";
  // Never from POSTERN_TENANT: erasing needs the name said here.
  const auto tenant = tenant_named(options.tenant);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = admin_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);
  // What was said of one that is gone needs no confirmation.
  const auto before = client.value().tenant_erasure(tenant.value());
  if (before.ok() && before.value().state == "done") return show(settings, before.value());
  std::string confirmed = options.confirm;
  if (confirmed.empty() && ::isatty(STDIN_FILENO) != 0) {
    say_error("this destroys the keys of tenant " + options.tenant +
              ": nothing of it can ever be read again, not even from a backup");
    std::cerr << "Type the tenant's name to go on: " << std::flush;
    std::getline(std::cin, confirmed);
  }
  if (confirmed != options.tenant) {
    return report(
        sdk::fail(sdk::ErrorKind::Usage,
                  "not confirmed; nothing was erased. It needs --confirm " + options.tenant),
        kDoing);
  }
  const auto erased = client.value().erase_tenant(tenant.value());
  return erased.ok() ? show(settings, erased.value()) : report(erased.error(), kDoing);
}

}  // namespace postern::cli
