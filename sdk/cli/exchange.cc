#include <chrono>

#include "cli/commands.h"
#include "cli/output.h"
#include "core/time_format.h"
#include "postern/json.h"
#include "postern/jwt.h"
#include "postern/secret_file.h"

namespace postern::cli {
namespace {

/// " # 2026-11-21T05:45:00Z" behind the members that are instants.
std::string with_times(const std::string& claims) {
  std::string out;
  for (std::size_t at = 0; at < claims.size();) {
    const auto end = std::min(claims.find('\n', at), claims.size());
    auto line = claims.substr(at, end - at);
    for (const std::string name : {"\"exp\": ", "\"iat\": ", "\"nbf\": ", "\"auth_time\": "}) {
      if (line.substr(0, 2 + name.size()) != "  " + name) continue;
      const auto digits = line.substr(2 + name.size(), line.find_last_of("0123456789") - 1);
      const long long seconds = std::strtoll(digits.c_str(), nullptr, 10);
      if (seconds > 0 && seconds < 253'402'300'800) {  // up to the year 9999
        line += "   # " + format_time(sys_seconds(std::chrono::seconds(seconds)));
      }
    }
    out += line + "\n";
    at = end + 1;
  }
  return out;
}

/// The parts of a token for a person: no signature, so that what is shown is no token.
sdk::Result<std::string> decoded(std::string_view token) {
  POSTERN_TRY(const auto jwt, sdk::decode_unverified(token));
  std::string out;
  const auto add = [&](const char* title, const std::string& json) {
    out += std::string(title) + "\n";
    for (std::size_t at = 0; at < json.size();) {
      const auto end = std::min(json.find('\n', at), json.size());
      out += printable(std::string_view(json).substr(at, end - at)) + "\n";
      at = end + 1;
    }
  };
  add("header", jwt.header);
  add("claims", with_times(jwt.claims));
  return out;
}

sdk::Status print_line(std::string_view text) {
  sdk::SecretBytes line;
  sdk::append(line, text);
  line.push_back('\n');
  return print(sdk::view(line));
}

}  // namespace

int run_exchange(const Settings& settings, const ExchangeOptions& options) {
  constexpr const char* kDoing = "exchange the token";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = oauth_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);

  const auto issue = [&]() -> sdk::Result<sdk::IssuedToken> {
    if (options.as_client) {
      if (!options.audience.empty()) {
        return sdk::fail(sdk::ErrorKind::Usage,
                         "--as-client goes with --resource, not with --audience");
      }
      return client.value().client_credentials(tenant.value(), options.resource, options.scope);
    }
    POSTERN_TRY(const auto subject, subject_token(settings));
    std::optional<ActorToken> actor;
    if (!options.actor_token_file.empty()) {
      POSTERN_TRY(auto token, sdk::read_token_file(options.actor_token_file, "actor token"));
      actor = ActorToken(std::move(token));
    }
    sdk::ExchangeRequest request{subject};
    request.subject_token_type = token_type_urn(settings.subject_token_type);
    request.audience = options.audience;
    request.resource = options.resource;
    request.scope = options.scope;
    if (!options.requested_token_type.empty()) {
      request.requested_token_type = token_type_urn(options.requested_token_type);
    }
    if (actor) {
      request.actor_token = &*actor;
      request.actor_token_type = token_type_urn(options.actor_token_type);
    }
    return client.value().exchange(tenant.value(), request);
  };
  const auto issued = issue();
  if (!issued.ok()) return report(issued.error(), kDoing);

  const auto status = [&]() -> sdk::Status {
    if (settings.json) return print_line(sdk::view(issued.value().json));
    return issued.value().access_token.expose([&](ByteView token) -> sdk::Status {
      if (!options.decode) return print_line(as_text(token));
      POSTERN_TRY(const auto text, decoded(as_text(token)));
      return print(text);
    });
  }();
  return status.ok() ? exit_code::kOk : report(status.error(), "show the token");
}

int run_decode(const std::string& path) {
  const auto token = sdk::read_token_file(path.empty() ? "-" : path, "token");
  if (!token.ok()) return report(token.error(), "decode");
  const auto text = decoded(as_text(token.value().readable()));
  if (!text.ok()) return report(text.error(), "decode");
  const auto status = print(text.value());
  if (!status.ok()) return report(status.error(), "");
  say_error("nothing of this was verified: not the signature, not the issuer, not the times");
  return exit_code::kOk;
}

}  // namespace postern::cli
