#include "grants/release.h"

#include <algorithm>

#include "grants/entitlement.h"
#include "grants/token_exchange.h"
#include "grants/tool_details.h"

namespace postern::grants {
namespace {

using policy::Template;

// A template may name a field many times over; what comes out is bounded here.
constexpr std::size_t kMaxRenderedBytes = 256 * 1024;
constexpr std::size_t kMaxItemBytes = 1024 * 1024;

/// Renders into locked memory; the parts are never joined in ordinary strings.
/// Errors: InteractionRequired when the credential lacks a field.
Result<FieldValue> render(const Template& source, const vault::Fields& fields) {
  std::size_t size = 0;
  for (const auto& part : source.parts()) {
    if (!part.is_field) {
      size += part.text.size();
      continue;
    }
    const auto field = fields.find(part.text);
    if (field == fields.end()) return lacks_field();
    size += field->second.size();
  }
  if (size > kMaxRenderedBytes) {
    return fail(ErrorCode::TooLarge, "a value of this backend's delivery is larger than 256 KiB");
  }
  SecureBuffer out(size);
  auto rest = out.writable();
  const auto append = [&](ByteView bytes) {
    std::copy(bytes.begin(), bytes.end(), rest.begin());
    rest = rest.subspan(bytes.size());
  };
  for (const auto& part : source.parts()) {
    if (part.is_field) {
      fields.at(part.text).expose(append);
    } else {
      append(as_bytes(part.text));
    }
  }
  return FieldValue(std::move(out));
}

bool has_any(const FieldValue& value, std::string_view unwanted) {
  return value.expose([&](ByteView bytes) {
    return as_text(bytes).find_first_of(unwanted) != std::string_view::npos;
  });
}

Status render_all(const policy::Delivery& delivery, const vault::Fields& fields,
                  ReleasedItem& item) {
  constexpr std::string_view kNul("\0", 1);
  constexpr std::string_view kLineBreaks("\0\r\n", 3);
  for (const auto& [name, source] : delivery.env) {
    POSTERN_TRY(auto value, render(source, fields));
    if (has_any(value, kNul)) {
      return fail(ErrorCode::InteractionRequired,
                  "the stored credential cannot be an environment variable: it has a NUL");
    }
    item.env.emplace(name, std::move(value));
  }
  for (const auto& [name, source] : delivery.headers) {
    POSTERN_TRY(auto value, render(source, fields));
    if (has_any(value, kLineBreaks)) {
      return fail(ErrorCode::InteractionRequired,
                  "the stored credential cannot be a header: it has a line break");
    }
    item.headers.emplace(name, std::move(value));
  }
  for (const auto& file : delivery.files) {
    POSTERN_TRY(auto content, render(file.content, fields));
    item.files.push_back({file.name, file.env, std::move(content)});
  }
  if (item.bytes() > kMaxItemBytes) {
    return fail(ErrorCode::TooLarge, "this backend's delivery is larger than 1 MiB");
  }
  return {};
}

}  // namespace

Error lacks_field() {
  return fail(ErrorCode::InteractionRequired,
              "the stored credential lacks a field that this backend needs");
}

std::size_t ReleasedItem::bytes() const noexcept {
  std::size_t sum = 0;
  for (const auto& [name, value] : env) sum += value.size();
  for (const auto& [name, value] : headers) sum += value.size();
  for (const auto& file : files) sum += file.content.size();
  return sum;
}

std::string connect_url(const policy::TenantSnapshot& snapshot, std::string_view backend) {
  std::string url = snapshot.settings().connect_url;
  if (const auto at = url.find("{backend}"); at != std::string::npos) url.replace(at, 9, backend);
  return url;
}

std::vector<vault::CredentialKey> credentials_for(const policy::Backend& backend,
                                                  const Principal& user) {
  using policy::CredentialOwnerRule;
  std::vector<vault::CredentialKey> candidates;
  if (backend.credential_owner != CredentialOwnerRule::Tenant) {
    candidates.push_back({Owner::principal(user), *backend.credential});
  }
  if (backend.credential_owner != CredentialOwnerRule::Principal) {
    candidates.push_back({Owner::tenant(), *backend.credential});
  }
  return candidates;
}

Status check_opens_vault(const VerifiedToken& subject) {
  if (!subject.own) return {};
  return fail(ErrorCode::InvalidToken,
              "a token issued here opens no vault; send the user's own token");
}

Error no_credential(const policy::Backend& backend) {
  return fail(ErrorCode::InteractionRequired,
              backend.credential_owner == policy::CredentialOwnerRule::Tenant
                  ? "the tenant has not stored the credential that this backend needs"
                  : "no credential of this user is stored for this backend");
}

Status check_not_ended(const std::optional<sys_seconds>& expires_at, sys_seconds now) {
  if (!expires_at || *expires_at > now) return {};
  return fail(ErrorCode::InteractionRequired,
              "the stored credential for this backend has expired; store a new one");
}

Result<VerifiedTokenPtr> Release::verify_subject(const policy::TenantSnapshot& snapshot,
                                                 const Caller& caller,
                                                 std::string_view subject_token,
                                                 std::string_view subject_token_type,
                                                 Wait wait) const {
  const auto& client = *caller.client;
  if (client.grants.count(policy::GrantType::TokenExchange) == 0) {
    return fail(ErrorCode::UnauthorizedClient, "this client may not act for users");
  }
  POSTERN_TRY(const auto type, parse_token_type(subject_token_type));
  POSTERN_TRY(auto subject, verifier_.verify(snapshot, caller, subject_token, type, wait));
  POSTERN_CHECK(check_may_act(*subject, nullptr, snapshot, client));
  return subject;
}

Result<VerifiedTokenPtr> Release::verify_undeclared(const policy::TenantSnapshot& snapshot,
                                                    const Caller& caller,
                                                    std::string_view subject_token,
                                                    Wait wait) const {
  constexpr std::string_view kTypes = "urn:ietf:params:oauth:token-type:";
  auto first =
      verify_subject(snapshot, caller, subject_token, std::string(kTypes) + "access_token", wait);
  // What is opaque is an access token, and its issuer is not asked again.
  if (first.ok() || first.error().code != ErrorCode::InvalidToken || may_be_opaque(subject_token)) {
    return first;
  }
  for (const auto* type : {"id_token", "jwt"}) {
    auto other = verify_subject(snapshot, caller, subject_token, std::string(kTypes) + type, wait);
    if (other.ok() || other.error().code != ErrorCode::InvalidToken) return other;
  }
  return first;
}

Result<Release::Entitled> Release::entitle(const policy::TenantSnapshot& snapshot,
                                           const Caller& caller, const VerifiedToken& subject,
                                           const ReleaseItemRequest& item, audit::Event& record,
                                           Wait wait) const {
  const auto& client = *caller.client;
  std::vector<std::string_view> audiences;
  std::vector<std::string_view> resources;
  (item.is_resource ? resources : audiences).push_back(item.asked);
  POSTERN_TRY(auto target, policy::resolve_target(snapshot, client, audiences, resources));
  record.with("backend", target.backend->name.str());
  const std::optional<std::string_view> scope =
      item.scope ? std::optional<std::string_view>(*item.scope) : std::nullopt;
  POSTERN_TRY(auto permitted, entitled_scope(snapshot, client, *target.backend, subject, scope,
                                             clock_.now(), {point_, wait}));
  return Entitled{std::move(target), std::move(permitted)};
}

Result<ReleasedItem> Release::release(const policy::TenantSnapshot& snapshot, const Caller& caller,
                                      const VerifiedToken& subject, const ReleaseItemRequest& item,
                                      audit::Event& record, Wait wait) const {
  const auto& client = *caller.client;
  record_subject(record, subject);
  POSTERN_TRY(auto entitled, entitle(snapshot, caller, subject, item, record, wait));
  auto& [target, permitted] = entitled;
  const auto& backend = *target.backend;
  const std::optional<std::string_view> scope =
      item.scope ? std::optional<std::string_view>(*item.scope) : std::nullopt;

  if (backend.answer == policy::AnswerKind::Vaulted) {
    POSTERN_CHECK(check_all_tools(snapshot, backend, subject, std::nullopt));
    POSTERN_TRY(const auto opened, open_credential(snapshot, backend, subject, permitted, scope,
                                                   Wait::Database, record));
    ReleasedItem released{backend.name, {}, {}, {}, opened.expires_at, opened.used, {}};
    POSTERN_CHECK(render_all(backend.delivery, opened.fields, released));
    return released;
  }

  record.with("audience", target.audience);
  POSTERN_TRY(auto tools, granted_tools(snapshot, target, subject, std::nullopt));
  POSTERN_TRY(auto act, actor_chain(subject, nullptr, client));
  POSTERN_TRY(auto issued,
              issue(snapshot,
                    {&caller, std::move(target), subject.issued_subject, std::move(permitted),
                     scope, subject.expires_at, std::move(act), subject.auth_context,
                     subject.bound_to, &subject, nullptr, std::move(tools)},
                    clock_, record));
  ReleasedItem released{backend.name, {}, {}, {}, issued.expires_at, {}, std::move(issued.scope)};
  vault::Fields fields;
  fields.emplace("access_token", issued.access_token.expose([](ByteView bytes) {
    return FieldValue(SecureBuffer::copy_of(bytes));
  }));
  POSTERN_CHECK(render_all(backend.delivery, fields, released));
  return released;
}

Result<OpenedCredential> Release::release_fields(const policy::TenantSnapshot& snapshot,
                                                 const Caller& caller, const VerifiedToken& subject,
                                                 const std::string& backend, audit::Event& record,
                                                 Wait wait) const {
  const auto* named = snapshot.find_backend(backend);
  if (named == nullptr) return fail(ErrorCode::TargetRefused, "there is no backend of this name");
  POSTERN_TRY(const auto entitled,
              entitle(snapshot, caller, subject, {backend, false, {}}, record, wait));
  if (named->answer != policy::AnswerKind::Vaulted) {
    return fail(ErrorCode::TargetRefused, "this backend takes no stored credential");
  }
  POSTERN_CHECK(check_all_tools(snapshot, *named, subject, std::nullopt));
  return open_credential(snapshot, *named, subject, entitled.permitted, std::nullopt,
                         Wait::Database, record);
}

Result<OpenedCredential> Release::open_credential(const policy::TenantSnapshot& snapshot,
                                                  const policy::Backend& backend,
                                                  const VerifiedToken& subject,
                                                  const policy::ScopeSet& permitted,
                                                  const std::optional<std::string_view>& scope,
                                                  Wait wait, audit::Event& record) const {
  POSTERN_CHECK(check_opens_vault(subject));
  POSTERN_CHECK(policy::narrow_scope(permitted, scope));
  POSTERN_CHECK(policy::check_whole_backend(backend, permitted));
  if (wait == Wait::No) return fail(ErrorCode::NeedsDatabase, "");

  record.with("credential", backend.credential->str());
  for (const auto& key : credentials_for(backend, subject.principal)) {
    const auto sealed = credentials_.latest(snapshot.tenant(), key);
    if (!sealed.ok() && sealed.error().code == ErrorCode::NotFound) continue;
    POSTERN_CHECK(sealed);
    const auto& version = sealed.value();
    record.with("credential_owner", key.owner.is_tenant() ? "tenant" : "principal")
        .with("credential_version", std::to_string(version.version));
    POSTERN_CHECK(check_not_ended(version.expires_at, clock_.now()));
    POSTERN_TRY(auto fields, envelope_.open(snapshot.tenant(), key, version));
    if (uses_ != nullptr) uses_->note(snapshot.tenant(), key, clock_.now());
    return OpenedCredential{std::move(fields),
                            {key.name, key.owner.is_tenant(), version.version},
                            version.expires_at,
                            version.created_at};
  }
  return no_credential(backend);
}

}  // namespace postern::grants
