#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "core/clock.h"
#include "core/result.h"
#include "crypto/hash.h"
#include "grants/issuer_keys.h"
#include "grants/subject.h"
#include "policy/scope.h"
#include "policy/snapshot.h"

namespace postern::outbound {
class Fetcher;
}

namespace postern::grants {

/// What a decision point outside is told: verified facts and names of the
/// tenant's configuration, never a token or a text that only the request says.
struct DecisionFacts {
  const policy::Client* client = nullptr;
  const policy::Backend* backend = nullptr;
  const VerifiedToken* subject = nullptr;  ///< null: the client asks for itself
  const VerifiedToken* actor = nullptr;    ///< who acts for the subject, where a token proves it
};

/// What a decision point said.
struct Decision {
  enum class Answer { Allowed, Refused, Undefined };  ///< undefined refuses as well
  Answer answer = Answer::Undefined;
  std::optional<policy::ScopeSet> scopes;  ///< one more ceiling, when it named one
};

/// A policy engine beside ours (Open Policy Agent), asked over its REST data API
/// for tenants whose guardrails name one. It can only take away.
///
///   POST {url}  {"input": {tenant, client, backend, audience, permitted, subject, actor}}
///   200         {"result": true | false | {"allow": bool, "scopes": [text]}}
///
/// `scopes`, when it is there, is one more ceiling. A JSON object whose `result`
/// is missing or of any other form is no decision, and so a refusal. Whatever
/// else comes, or nothing in time, fails the request: closed, never open.
///
/// Decisions are remembered under the SHA-256 of tenant, configuration and the
/// input's canonical text, for the time the guardrail says. A decision point that
/// did not answer is left alone for a second and then tried by one request at a
/// time until it answers, and calls under way are limited, so that a dead one
/// never takes the threads that other calls need. Thread-safe.
class DecisionPoint {
 public:
  /// @param max_calls  under way at once.
  DecisionPoint(outbound::Fetcher& fetcher, const Clock& clock, std::size_t max_calls = 12)
      : fetcher_(fetcher), clock_(clock), max_calls_(max_calls) {}

  /// Asks, or remembers. The tenant must have a decision point.
  /// Errors: NeedsOutbound when it must be asked and `wait` does not allow that;
  /// Unavailable when it does not answer.
  Result<Decision> decide(const policy::TenantSnapshot& snapshot, const DecisionFacts& facts,
                          const policy::ScopeSet& permitted, Wait wait);

  /// The request's body, as canonical JSON text.
  static std::string input_of(const policy::TenantSnapshot& snapshot, const DecisionFacts& facts,
                              const policy::ScopeSet& permitted);

 private:
  struct Remembered {
    Decision decision;
    sys_seconds until{};
  };
  struct Unwell {
    sys_seconds until{};
    bool tried = false;  ///< by somebody, now
  };
  struct HashOfHash {
    std::size_t operator()(const crypto::Hash256& hash) const noexcept;
  };

  Result<Decision> ask(const policy::DecisionPointRule& rule, const std::string& input,
                       bool& unwell) const;

  outbound::Fetcher& fetcher_;
  const Clock& clock_;
  const std::size_t max_calls_;
  std::mutex mutex_;
  std::unordered_map<crypto::Hash256, Remembered, HashOfHash> answers_;
  std::map<std::string, Unwell> unwell_;  // by URL: those that did not answer last
  std::size_t calls_ = 0;                 // under way
};

/// What is left of `permitted` after the decision. Errors: TargetRefused.
Result<policy::ScopeSet> apply(const Decision& decision, policy::ScopeSet permitted);

}  // namespace postern::grants
