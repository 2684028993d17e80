#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "cli/commands.h"
#include "cli/items.h"
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

struct Tokens {
  SubjectToken subject;
  std::optional<ActorToken> actor;

  /// Borrows the tokens.
  sdk::ExchangeRequest request(const Settings& settings, const ExchangeOptions& options) const {
    sdk::ExchangeRequest request{subject};
    request.subject_token_type = token_type_urn(settings.subject_token_type);
    if (!options.requested_token_type.empty()) {
      request.requested_token_type = token_type_urn(options.requested_token_type);
    }
    if (actor) {
      request.actor_token = &*actor;
      request.actor_token_type = token_type_urn(options.actor_token_type);
    }
    return request;
  }
};

sdk::Result<Tokens> read_tokens(const Settings& settings, const ExchangeOptions& options) {
  POSTERN_TRY(auto subject, subject_token(settings));
  Tokens tokens{std::move(subject), std::nullopt};
  if (!options.actor_token_file.empty()) {
    POSTERN_TRY(auto token, sdk::read_token_file(options.actor_token_file, "actor token"));
    tokens.actor = ActorToken(std::move(token));
  }
  return tokens;
}

/// The token alone, or behind its backend's name and a tab, or its parts.
sdk::Status show_token(const sdk::IssuedToken& issued, const ExchangeOptions& options,
                       const std::string& backend) {
  return issued.access_token.expose([&](ByteView token) -> sdk::Status {
    if (options.decode) {
      POSTERN_TRY(const auto text, decoded(as_text(token)));
      return print((backend.empty() ? "" : "backend " + printable(backend) + "\n") + text);
    }
    sdk::SecretBytes line;
    if (!backend.empty()) sdk::append(line, printable(backend) + "\t");
    sdk::append(line, as_text(token));
    return print_line(sdk::view(line));
  });
}

/// One call for all. What is refused is said; the others are shown all the same.
int exchange_each(const Settings& settings, const ExchangeOptions& options, const TenantId& tenant,
                  sdk::Client& client) {
  constexpr const char* kDoing = "exchange the token";
  const auto ask = [&]() -> sdk::Result<sdk::ExchangedItems> {
    if (options.as_client || !options.audience.empty() || !options.resource.empty()) {
      return sdk::fail(sdk::ErrorKind::Usage,
                       "backends go without --audience, --resource and --as-client");
    }
    POSTERN_TRY(const auto items, wanted_items(options.backends, options.scopes));
    POSTERN_TRY(const auto tokens, read_tokens(settings, options));
    return client.exchange(tenant, tokens.request(settings, options), items);
  };
  const auto answer = ask();
  if (!answer.ok()) return report(answer.error(), kDoing);

  bool refused = false;
  const bool several = answer.value().items.size() > 1;
  const auto show = [&]() -> sdk::Status {
    if (settings.json) POSTERN_CHECK(print_line(sdk::view(answer.value().json)));
    for (const auto& item : answer.value().items) {
      if (!item.issued) {
        refused = true;
        show_refusal(item.backend, item.error, item.detail, item.connect_url);
      } else if (!settings.json) {
        POSTERN_CHECK(show_token(*item.issued, options, several ? item.backend : ""));
      }
    }
    return {};
  };
  if (const auto status = show(); !status.ok()) return report(status.error(), "show the tokens");
  return refused ? exit_code::kRefused : exit_code::kOk;
}

}  // namespace

int run_exchange(const Settings& settings, const ExchangeOptions& options) {
  constexpr const char* kDoing = "exchange the token";
  const auto tenant = tenant_of(settings);
  if (!tenant.ok()) return report(tenant.error(), kDoing);
  auto client = oauth_client(settings);
  if (!client.ok()) return report(client.error(), kDoing);

  if (!options.backends.empty())
    return exchange_each(settings, options, tenant.value(), client.value());
  const auto issue = [&]() -> sdk::Result<sdk::IssuedToken> {
    if (options.scopes.size() > 1) {
      return sdk::fail(sdk::ErrorKind::Usage, "one target takes one --scope, with spaces in it");
    }
    const auto scope = options.scopes.empty() ? std::string() : options.scopes.front();
    if (options.as_client) {
      if (!options.audience.empty()) {
        return sdk::fail(sdk::ErrorKind::Usage,
                         "--as-client goes with --resource, not with --audience");
      }
      return client.value().client_credentials(tenant.value(), options.resource, scope);
    }
    POSTERN_TRY(const auto tokens, read_tokens(settings, options));
    auto request = tokens.request(settings, options);
    request.audience = options.audience;
    request.resource = options.resource;
    request.scope = scope;
    return client.value().exchange(tenant.value(), request);
  };
  const auto issued = issue();
  if (!issued.ok()) return report(issued.error(), kDoing);
  const auto status = settings.json ? print_line(sdk::view(issued.value().json))
                                    : show_token(issued.value(), options, "");
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
