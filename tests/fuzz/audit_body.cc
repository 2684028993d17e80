// Bodies of audit records as an emergency reads them back: what somebody is said to have
// touched is named in a record that says so, each record once.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "audit/log.h"
#include "core/time_format.h"
#include "grants/touched_credentials.h"
#include "token/json.h"

using namespace postern;

namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

constexpr sys_seconds kNow{std::chrono::seconds(1'790'000'000)};
constexpr auto kSince = kNow - std::chrono::hours(24);
const grants::Suspect kClient{{}, "gw-01", {}};
const grants::Suspect kAlice{Principal{"https://idp.example", "alice"}, {}, {}};
const grants::Suspect kAll{Principal{"https://idp.example", "alice"}, "gw-01", "github"};

/// So many records, all with this body.
class OneBody final : public audit::AuditLog {
 public:
  OneBody(std::string_view body, std::uint64_t records) : records_(records) { record_.body = body; }
  Status append(std::span<const audit::Event>) override { return {}; }
  Result<std::vector<audit::Record>> read(const TenantId&, const audit::Query&) override {
    return std::vector(records_, record_);
  }
  Result<audit::Verification> verify(const TenantId&) override { return audit::Verification{}; }

 private:
  audit::Record record_;
  std::uint64_t records_;
};

grants::Touched touched(std::string_view body, const grants::Suspect& suspect,
                        std::uint64_t records = 1) {
  OneBody log(body, records);
  auto out = grants::touched_by(log, TenantId("acme"), suspect, kSince, kNow);
  require(out.ok() && out.value().complete);
  return std::move(out).value();
}

bool is(const token::Json& json, const char* name, std::string_view text) {
  const auto it = json.find(name);
  return it != json.end() && it->is_string() && it->get_ref<const std::string&>() == text;
}

void check(std::string_view body, const grants::Touched& found) {
  require(found.credentials.size() <= 1 && found.tokens.size() <= 1);
  if (found.credentials.empty() && found.tokens.empty()) return;
  const auto event = token::parse_json(body).value();
  const auto& fields = event.at("fields");
  require(is(event, "outcome", "allowed") && !is(event, "action", "credential.emergency"));
  require(!is(fields, "caller", "posternd"));
  for (const auto& [key, use] : found.credentials) {
    require(use.uses == 1 && use.last_at >= kSince);
    require(parse_time(event.at("at").get<std::string>()) == use.last_at);
    require(is(fields, "credential", key.name.str()));
    require(is(fields, "credential_owner", key.owner.is_tenant() ? "tenant" : "principal"));
    if (key.owner.is_tenant()) continue;
    require(is(fields, "subject_issuer", key.owner.principal().issuer));
    require(is(fields, "subject", key.owner.principal().subject));
  }
  for (const auto& token : found.tokens) {
    require(token.expires_at > kNow);
    require(is(fields, "jti", token.id) || is(fields, "session", token.id));
  }
}

bool is_of(const token::Json& fields, const char* issuer, const char* subject) {
  return is(fields, issuer, kAlice.principal->issuer) &&
         is(fields, subject, kAlice.principal->subject);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto of_client = touched(body, kClient), of_alice = touched(body, kAlice);
  const auto of_all = touched(body, kAll);
  for (const auto* found : {&of_client, &of_alice, &of_all}) check(body, *found);
  const auto any = [](const grants::Touched& found) {
    return !found.credentials.empty() || !found.tokens.empty();
  };
  if (any(of_all)) require(any(of_client) && any(of_alice));
  if (any(of_client) || any(of_alice)) {
    const auto event = token::parse_json(body).value();
    const auto& fields = event.at("fields");
    require(!any(of_client) || is(fields, "client", kClient.client));
    require(!any(of_alice) || is_of(fields, "subject_issuer", "subject") ||
            is_of(fields, "actor_issuer", "actor"));
  }
  const auto twice = touched(body, kClient, 2);
  require(twice.credentials.size() == of_client.credentials.size());
  for (const auto& [key, use] : twice.credentials) require(use.uses == 2);
  return 0;
}
