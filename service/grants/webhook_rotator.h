#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "outbound/fetch.h"
#include "vault/credential_rotation.h"

namespace postern::grants {

/// Tells a URL what to set, test, retire and undo, with a signature as Standard Webhooks
/// has it. Only hosts that the operator names; docs/rotation.md has the messages.
///
/// A new password is in `set` alone, a new key pair with its public half alone. The value
/// that was there before is in none. Thread-safe.
class WebhookRotator final : public vault::Rotator {
 public:
  struct Options {
    std::vector<std::string> hosts{};  ///< exact names, in lower case; others are refused
    outbound::FetchPolicy policy{};
  };
  WebhookRotator(Options options, outbound::Fetcher& fetcher, const Clock& clock)
      : options_(std::move(options)), fetcher_(fetcher), clock_(clock) {}

  Status check(const vault::RotationSettings& settings) const override;
  Result<std::string> next_role(const vault::RotationSettings&,
                                const vault::Fields&) const override {
    return std::string();
  }
  Status set(const Step& step) override { return send(step, "set"); }
  Status test(const Step& step) override { return send(step, "test"); }
  Status retire(const Step& step) override { return send(step, "retire"); }
  Status undo(const Step& step) override { return send(step, "undo"); }

 private:
  Status send(const Step& step, std::string_view what);

  const Options options_;
  outbound::Fetcher& fetcher_;
  const Clock& clock_;
};

/// Whether a credential can sign: its field `secret` is as Standard Webhooks has it.
/// Errors: Conflict.
Status check_webhook_secret(const vault::Fields& fields);

/// `v1,` and the base64 of HMAC-SHA256 over id, time and body.
/// @param secret  `whsec_` and the base64 of 24 to 64 bytes. Errors: Conflict.
Result<std::string> webhook_signature(std::string_view secret, std::string_view id,
                                      std::string_view timestamp, std::string_view body);

}  // namespace postern::grants
