#include "grants/decision_point.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "outbound/fetch.h"
#include "token/json.h"

namespace postern::grants {

using namespace std::chrono_literals;
using policy::ScopeSet;
using token::Json;

namespace {

constexpr std::size_t kMaxAnswers = 20'000;
constexpr std::size_t kMaxUnwell = 1'000;
constexpr std::size_t kMaxScopes = 1'000;
constexpr auto kPause = 2s;  // on a clock of whole seconds: between one and two
constexpr token::JsonLimits kAnswerLimits{
    .max_bytes = 64 * 1024, .max_depth = 8, .max_values = 2000};

Error not_answered(std::string why) {
  Error error = fail(ErrorCode::Unavailable, "the operator's decision point gave no answer",
                     "decision point: " + std::move(why));
  error.retry_after = kPause;
  return error;
}

Json principal_json(const VerifiedToken& token) {
  return {{"issuer", token.principal.issuer}, {"subject", token.principal.subject}};
}

/// Only a text array is a ceiling; anything else makes the whole no decision.
std::optional<ScopeSet> scopes_of(const Json& value) {
  if (!value.is_array() || value.size() > kMaxScopes) return std::nullopt;
  std::vector<std::string> scopes;
  for (const auto& scope : value) {
    if (!scope.is_string()) return std::nullopt;
    scopes.push_back(scope.get<std::string>());
  }
  return ScopeSet(std::move(scopes));
}

/// The answer's `result`; whatever is not exactly of a documented form is undefined.
Decision decision_of(const Json& answer) {
  using Answer = Decision::Answer;
  const auto result = answer.find("result");
  if (result == answer.end()) return {};
  const Json* allow = &*result;
  std::optional<ScopeSet> scopes;
  if (result->is_object()) {
    const auto member = result->find("allow");
    if (member == result->end()) return {};
    allow = &*member;
    if (const auto limit = result->find("scopes"); limit != result->end()) {
      scopes = scopes_of(*limit);
      if (!scopes) return {};
    }
  }
  if (!allow->is_boolean()) return {};
  return {allow->get<bool>() ? Answer::Allowed : Answer::Refused, std::move(scopes)};
}

}  // namespace

std::size_t DecisionPoint::HashOfHash::operator()(const crypto::Hash256& hash) const noexcept {
  std::size_t out = 0;
  static_assert(sizeof out <= sizeof hash);
  std::memcpy(&out, hash.data(), sizeof out);
  return out;
}

std::string DecisionPoint::input_of(const policy::TenantSnapshot& snapshot,
                                    const DecisionFacts& facts, const ScopeSet& permitted) {
  Json input{{"tenant", snapshot.tenant().str()},
             {"client", facts.client->id.str()},
             {"backend", facts.backend->name.str()},
             {"audience", facts.backend->audience},
             {"permitted", std::vector<std::string>(permitted.begin(), permitted.end())},
             {"subject", nullptr},
             {"actor", nullptr}};
  if (const auto* subject = facts.subject) {
    auto told = principal_json(*subject);
    // The order in which an issuer lists groups means nothing.
    auto groups = subject->groups;
    std::sort(groups.begin(), groups.end());
    told["groups"] = std::move(groups);
    told["claims"] = Json::object();
    for (const auto& [name, values] : subject->attributes) told["claims"][name] = values;
    for (const char* name : {"acr", "amr", "auth_time"}) {
      const auto it = subject->auth_context.find(name);
      if (it != subject->auth_context.end()) told[name] = *it;
    }
    if (!subject->act.is_null()) told["act"] = subject->act;
    input["subject"] = std::move(told);
  }
  if (facts.actor != nullptr) input["actor"] = principal_json(*facts.actor);
  return token::dump_json(Json{{"input", std::move(input)}});
}

Result<Decision> DecisionPoint::ask(const policy::DecisionPointRule& rule, const std::string& input,
                                    bool& unwell) const {
  outbound::PostRequest request{rule.url, outbound::FormBody(SecureBuffer::copy_of(input))};
  request.content_type = "application/json";
  request.timeout = rule.timeout;
  const auto reply = fetcher_.post(request);
  if (!reply.ok()) return not_answered(reply.error().diagnostic);
  const int status = reply.value().status;
  // 500 is what OPA says of an input that its policy cannot decide: one user's
  // request must not keep all others from asking.
  unwell = status == 429 || (status > 500 && status < 600);
  if (status != 200) return not_answered("status " + std::to_string(status));
  const auto answer = token::parse_json(reply.value().body, kAnswerLimits);
  if (!answer.ok() || !answer.value().is_object()) return not_answered("not a JSON object");
  return decision_of(answer.value());
}

Result<Decision> DecisionPoint::decide(const policy::TenantSnapshot& snapshot,
                                       const DecisionFacts& facts, const ScopeSet& permitted,
                                       Wait wait) {
  const auto& rule = *snapshot.settings().guardrails.decision_point;
  const auto input = input_of(snapshot, facts, permitted);
  const auto epoch = std::to_string(snapshot.epoch());
  const auto key =
      crypto::sha256_parts({as_bytes("postern-decision-v1"), as_bytes(snapshot.tenant().str()),
                            as_bytes(epoch), as_bytes(rule.url), as_bytes(input)});
  {
    const std::lock_guard lock(mutex_);
    const auto now = clock_.now();
    if (const auto it = answers_.find(key); it != answers_.end() && now < it->second.until) {
      return it->second.decision;
    }
    const auto sick = unwell_.find(rule.url);
    if (sick != unwell_.end() && (now < sick->second.until || sick->second.tried)) {
      return not_answered("waiting before the next attempt");
    }
    if (wait != Wait::Yes) return fail(ErrorCode::NeedsOutbound, "");
    if (calls_ >= max_calls_) return not_answered("too many calls under way");
    ++calls_;
    if (sick != unwell_.end()) sick->second.tried = true;
  }
  bool unwell = true;
  const std::shared_ptr<void> leave(nullptr, [&](void*) {
    const std::lock_guard lock(mutex_);
    --calls_;
    if (!unwell) {
      unwell_.erase(rule.url);
      return;
    }
    if (unwell_.size() >= kMaxUnwell) unwell_.clear();
    unwell_[rule.url] = {clock_.now() + kPause, false};
  });
  POSTERN_TRY(auto decision, ask(rule, input, unwell));
  if (rule.cache_for > 0s) {
    const std::lock_guard lock(mutex_);
    if (answers_.size() >= kMaxAnswers) answers_.clear();
    answers_.insert_or_assign(key, Remembered{decision, clock_.now() + rule.cache_for});
  }
  return decision;
}

Result<ScopeSet> apply(const Decision& decision, ScopeSet permitted) {
  const auto refused = [] {
    return fail(ErrorCode::TargetRefused, "the operator's decision point does not allow this");
  };
  if (decision.answer != Decision::Answer::Allowed) return refused();
  if (!decision.scopes) return permitted;
  auto left = permitted.intersect(*decision.scopes);
  if (left.empty() && !permitted.empty()) return refused();
  return left;
}

}  // namespace postern::grants
