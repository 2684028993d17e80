#include "grants/touched_credentials.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "core/time_format.h"
#include "token/json.h"
#include "vault/wrapping.h"

namespace postern::grants {
namespace {

using token::Json;

constexpr std::uint32_t kPage = 1000;
constexpr std::chrono::seconds kLongestToken(3600);  ///< that a tenant can configure
/// Records are in the order of their commits, and so nearly, but not wholly, in time; one
/// from a replica whose clock is wrong says nothing about the others.
constexpr std::chrono::minutes kOutOfOrder(5);

std::string text_of(const Json& json, const char* name) {
  const auto it = json.find(name);
  return it != json.end() && it->is_string() ? it->get<std::string>() : std::string();
}

std::optional<vault::CredentialKey> credential_in(const Json& fields) {
  const auto name = CredentialName::parse(text_of(fields, "credential"));
  const auto owner = text_of(fields, "credential_owner");
  if (!name.ok()) return std::nullopt;
  if (owner == "tenant") return vault::CredentialKey{Owner::tenant(), name.value()};
  auto issuer = text_of(fields, "subject_issuer");
  auto subject = text_of(fields, "subject");
  if (owner != "principal" || issuer.empty() || subject.empty()) return std::nullopt;
  return vault::CredentialKey{Owner::principal({std::move(issuer), std::move(subject)}),
                              name.value()};
}

bool takes(const policy::Backend& backend, const vault::CredentialKey& key) {
  using policy::CredentialOwnerRule;
  const auto never =
      key.owner.is_tenant() ? CredentialOwnerRule::Principal : CredentialOwnerRule::Tenant;
  return backend.credential == key.name && backend.credential_owner != never;
}

bool is_of_backend(const Json& fields, const Suspect& suspect) {
  if (text_of(fields, "backend") == suspect.backend) return true;
  const auto key = suspect.configured != nullptr ? credential_in(fields) : std::nullopt;
  return key && takes(*suspect.configured, *key);
}

bool is_of(const Json& fields, const Suspect& suspect) {
  if (!suspect.client.empty() && text_of(fields, "client") != suspect.client) return false;
  if (!suspect.backend.empty() && !is_of_backend(fields, suspect)) return false;
  const auto is_it = [&](const char* issuer, const char* subject) {
    return text_of(fields, issuer) == suspect.principal->issuer &&
           text_of(fields, subject) == suspect.principal->subject;
  };
  return !suspect.principal || is_it("subject_issuer", "subject") || is_it("actor_issuer", "actor");
}

/// A token that was issued, or a session of Vault's API that began: both are revoked by
/// one list.
std::optional<TouchedToken> token_in(const Json& fields) {
  auto id = text_of(fields, "jti");
  std::string maker;
  if (id.empty()) {
    id = text_of(fields, "created");
    maker = text_of(fields, "session");
  }
  if (id.empty()) id = std::exchange(maker, {});
  const auto expires = text_of(fields, "expires_at");
  std::int64_t number = 0;
  const auto* end = expires.data() + expires.size();
  const auto [at, error] = std::from_chars(expires.data(), end, number);
  if (id.empty() || error != std::errc() || at != end) return std::nullopt;
  return TouchedToken{std::move(id), sys_seconds(std::chrono::seconds(number)), std::move(maker)};
}

/// Our own steps, and what a schedule begins, are nobody's touch.
bool counts(const Json& event, const Json& fields) {
  return text_of(event, "outcome") == "allowed" && text_of(fields, "caller") != "posternd" &&
         text_of(event, "action") != "credential.emergency";
}

/// When a suspect was given what waited as this one, if one was: it is followed no further.
std::optional<sys_seconds> taken(Leads& leads, const std::string& id) {
  const auto found = leads.given_at.extract(id);
  return found ? std::optional(found.mapped()) : std::nullopt;
}

/// Follows back an answer that waited wrapped and was given away, or passed on.
/// @param since  of what a suspect does; earlier is none of theirs.
/// @return when a suspect was given what this record reads, if one was.
std::optional<sys_seconds> follow(Leads& leads, const Json& event, const Json& fields,
                                  sys_seconds at, bool is_suspects, sys_seconds since) {
  const auto wrapped = text_of(fields, "wrapped");
  const auto action = text_of(event, "action");
  if (wrapped.empty() || action == "vault.wrapping_lookup") return std::nullopt;
  const bool is_rewrap = action == "vault.rewrap";
  auto given = is_rewrap ? taken(leads, text_of(fields, "rewrapped")) : std::nullopt;
  if (!is_rewrap && action != "vault.unwrap") return taken(leads, wrapped);
  // Who passes one on has the token of what comes in its place.
  if (is_suspects && at >= since) given = std::max(at, given.value_or(at));
  if (!given) return std::nullopt;
  leads.given_at.insert_or_assign(wrapped, *given);
  leads.read_after = std::min(leads.read_after, at - vault::Wrapping::kLongest);
  return std::nullopt;
}

using Sessions = std::set<std::string, std::less<>>;

/// Newest first, so a session is in `used` before its login comes, which may say nothing
/// of what it was used for, and alone has when it ends.
/// @param begun  whose beginning was here
void take(const Json& event, sys_seconds at, const Suspect& suspect, sys_seconds since,
          sys_seconds now, Leads& leads, Sessions& begun, Touched& out) {
  const auto fields = event.find("fields");
  if (fields == event.end() || !counts(event, *fields)) return;
  const auto session = text_of(*fields, "session");
  const bool is_suspects = is_of(*fields, suspect);
  const auto given = follow(leads, event, *fields, at, is_suspects, since);
  auto& used = leads.sessions;
  const bool made_one = used.contains(text_of(*fields, "created"));
  const bool is_theirs = is_suspects || made_one || used.contains(session);
  if (!is_theirs && !given) return;
  if (auto token = is_theirs ? token_in(*fields) : std::nullopt) {
    begun.insert(token->id);
    if (token->expires_at > now) out.tokens.push_back(std::move(*token));
  }
  // Who makes a session can make another one.
  if ((is_suspects || made_one) && !session.empty()) used.insert(session);
  const auto when = given || !is_suspects || at < since ? given : std::optional(at);
  if (const auto key = when ? credential_in(*fields) : std::nullopt) {
    auto& touched = out.credentials[*key];
    ++touched.uses;
    touched.last_at = std::max(touched.last_at, *when);
  }
}

void leave_out_children(Touched& out) {
  Sessions known;
  for (const auto& token : out.tokens) known.insert(token.id);
  std::erase_if(out.tokens, [&](const auto& token) { return known.contains(token.maker); });
}

template <class All>
bool shorten(All& all) {
  if (all.size() <= Leads::kMost) return false;
  all.erase(std::next(all.begin(), Leads::kMost), all.end());
  return true;
}

/// What began where the next part looks: sessions end now, as late as they can.
void leave(Leads leads, const Sessions& begun, const Suspect& suspect, sys_seconds now,
           Touched& out) {
  for (const auto& id : begun) leads.sessions.erase(id);
  const auto latest_end = out.reached + kOutOfOrder + kLongestToken;
  if (latest_end <= now) leads.sessions.clear();
  bool left_out = shorten(leads.sessions);
  for (const auto& session : leads.sessions) out.tokens.push_back({session, latest_end});
  if (suspect.backend.empty()) {
    leads.sessions.clear();
    left_out = false;
  }
  left_out |= shorten(leads.given_at);
  // By the clock of whoever recorded it, which may be ahead.
  for (auto& [id, at] : leads.given_at) at = std::min(at, now);
  leads.read_after = std::min(leads.read_after, now);
  leads.some_left_out |= left_out;
  out.leads = std::move(leads);
}

}  // namespace

Result<Touched> touched_by(audit::AuditLog& log, const TenantId& tenant, const Suspect& suspect,
                           sys_seconds since, sys_seconds now, const SearchPart& part) {
  Touched out;
  auto leads = part.leads;
  Sessions begun;
  audit::Query query;
  query.newest_first = true;
  query.after = part.before;
  // What was issued before may be in the same hands.
  const auto oldest = std::min(since, now - kLongestToken);
  for (std::uint64_t seen = 0; seen < part.most_records; seen += query.limit) {
    query.limit =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(kPage, part.most_records - seen));
    POSTERN_TRY(const auto records, log.read(tenant, query));
    bool older = true;
    for (const auto& record : records) {
      const auto event = token::parse_json(record.body);
      const auto at = event.ok() ? parse_time(text_of(event.value(), "at")) : std::nullopt;
      if (!at) continue;
      out.reached = *at;
      const auto begin = leads.given_at.empty() ? oldest : std::min(oldest, leads.read_after);
      older = older && *at + kOutOfOrder < begin;
      if (*at >= begin) take(event.value(), *at, suspect, since, now, leads, begun, out);
    }
    // A few that are old may be of a replica whose clock is wrong.
    if ((older && query.limit == kPage) || records.size() < query.limit) {
      out.complete = !leads.some_left_out;
      leave_out_children(out);
      return out;
    }
    query.after = records.back().sequence;
  }
  out.complete = false;
  out.ended_at = query.after;
  leave(std::move(leads), begun, suspect, now, out);
  leave_out_children(out);
  return out;
}

}  // namespace postern::grants
