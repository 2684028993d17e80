#include "grants/webhook_rotator.h"

#include <algorithm>
#include <cstddef>

#include "core/time_format.h"
#include "crypto/base64url.h"
#include "crypto/hmac.h"
#include "token/json.h"

namespace postern::grants {
namespace {

using token::Json;
using vault::RotationKind;

constexpr std::string_view kSecretPrefix = "whsec_";

/// Of a URL that check_url() took.
std::string host_of(std::string_view url) {
  const auto scheme = url.find("://");
  auto rest = url.substr(scheme == url.npos ? 0 : scheme + 3);
  rest = rest.substr(0, std::min(rest.find_first_of("/?"), rest.size()));
  if (const auto bracket = rest.find(']'); bracket != rest.npos) {
    rest = rest.substr(0, bracket + 1);
  } else {
    rest = rest.substr(0, std::min(rest.find(':'), rest.size()));
  }
  std::string host(rest);
  for (char& c : host) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return host;
}

Json message(const vault::Rotator::Step& step, std::string_view what, sys_seconds now) {
  const auto& running = step.running;
  Json data{{"tenant", step.tenant.str()},    {"credential", step.key.name.str()},
            {"rotation", running.id},         {"started_at", format_time(running.started_at)},
            {"version", running.new_version}, {"previous_version", running.old_version}};
  data["owner"] = step.key.owner.is_tenant()
                      ? Json{{"type", "tenant"}}
                      : Json{{"type", "principal"},
                             {"issuer", step.key.owner.principal().issuer},
                             {"subject", step.key.owner.principal().subject}};
  const bool password = running.settings.made_as() == RotationKind::Password;
  if (!password && !running.public_half.empty()) data["public_key"] = running.public_half;
  if (password && what == "set" && step.made != nullptr) {
    const auto& field = running.settings.field;
    if (const auto found = step.made->find(field); found != step.made->end()) {
      data["fields"][field] =
          found->second.expose([](ByteView bytes) { return std::string(as_text(bytes)); });
    }
  }
  return {{"type", "rotation." + std::string(what)},
          {"timestamp", format_time(now)},
          {"data", std::move(data)}};
}

}  // namespace

Result<std::string> webhook_signature(std::string_view secret, std::string_view id,
                                      std::string_view timestamp, std::string_view body) {
  const auto malformed = fail(ErrorCode::Conflict,
                              "the secret of the webhook must be whsec_ and the base64 of 24 to 64 "
                              "bytes");
  if (!secret.starts_with(kSecretPrefix)) return malformed;
  auto key = crypto::base64_decode(secret.substr(kSecretPrefix.size()));
  if (!key.ok() || key.value().size() < 24 || key.value().size() > 64) return malformed;
  SecureBuffer content(id.size() + timestamp.size() + body.size() + 2);
  auto out = content.writable().begin();
  for (const auto part : {id, std::string_view("."), timestamp, std::string_view("."), body}) {
    out = std::copy(as_bytes(part).begin(), as_bytes(part).end(), out);
  }
  const auto mac =
      crypto::hmac(crypto::HashFunction::Sha256,
                   DataKey(SecureBuffer::copy_of(ByteView(key.value()))), content.readable());
  wipe(key.value());
  return "v1," + crypto::base64(mac);
}

Status check_webhook_secret(const vault::Fields& fields) {
  const auto secret = fields.find("secret");
  if (secret == fields.end()) {
    return fail(ErrorCode::Conflict, "the credential that signs has no field secret");
  }
  return secret->second.expose([](ByteView bytes) -> Status {
    POSTERN_CHECK(webhook_signature(as_text(bytes), "", "", ""));
    return {};
  });
}

Status WebhookRotator::check(const vault::RotationSettings& settings) const {
  if (auto valid = outbound::check_url(options_.policy, settings.url); !valid.ok()) {
    Error error = std::move(valid).error();
    error.pointer = "/url";
    return error;
  }
  const auto& hosts = options_.hosts;
  if (std::find(hosts.begin(), hosts.end(), host_of(settings.url)) != hosts.end()) return {};
  return fail(ErrorCode::Forbidden, "the operator of this service lets no rotator go to that host");
}

Status WebhookRotator::send(const Step& step, std::string_view what) {
  POSTERN_CHECK(check(step.running.settings));
  if (step.secret == nullptr) return fail(ErrorCode::Conflict, "there is no credential that signs");
  POSTERN_CHECK(check_webhook_secret(*step.secret));
  const auto now = clock_.now();
  auto json = message(step, what, now);
  auto body = SecureBuffer::take(token::dump_json(json));
  token::wipe_texts(json);
  // The same each time that this step is tried: so it is done once by whoever answers.
  const auto id = "rot_" + step.running.id + "_" + std::string(what);
  const auto timestamp = std::to_string(now.time_since_epoch().count());
  POSTERN_TRY(const auto signature, step.secret->at("secret").expose([&](ByteView bytes) {
    return webhook_signature(as_text(bytes), id, timestamp, as_text(body.readable()));
  }));
  outbound::PostRequest request{step.running.settings.url, outbound::FormBody(std::move(body))};
  request.content_type = "application/json";
  request.headers = {
      {"webhook-id", id}, {"webhook-timestamp", timestamp}, {"webhook-signature", signature}};
  if (what == "set" && step.before_change) POSTERN_CHECK(step.before_change());
  const auto reply = fetcher_.post(request);
  if (!reply.ok()) {
    return fail(ErrorCode::Unavailable, "the webhook could not be reached",
                reply.error().diagnostic);
  }
  const auto status = reply.value().status;
  if (status >= 200 && status < 300) return {};
  // There is nothing of it.
  if (status == 410 && (what == "undo" || what == "retire")) return {};
  const auto diagnostic = "webhook " + std::string(what) + " " + std::to_string(status);
  if (status >= 400 && status < 500 && status != 408 && status != 425 && status != 429) {
    return fail(
        ErrorCode::Conflict,
        "the webhook refused to " + std::string(what) + ", with status " + std::to_string(status),
        diagnostic);
  }
  return fail(ErrorCode::Unavailable,
              "the webhook did not " + std::string(what) + ", and answered with status " +
                  std::to_string(status),
              diagnostic);
}

}  // namespace postern::grants
