#include "storage/postgres_rotator.h"

#include <algorithm>
#include <chrono>
#include <string_view>
#include <utility>

#include "core/wiping_memory.h"
#include "storage/scram_verifier.h"
#include "storage/session.h"

namespace postern::storage {
namespace {

using vault::Fields;
using vault::LogIn;
using vault::RotationSettings;

constexpr Statement kRole{"rotator.role", R"sql(
    SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = $1)sql"};
constexpr Statement kWho{"rotator.who", "SELECT current_user = $1"};

constexpr const char* kAwayText =
    "the PostgreSQL server could not be reached, or refused the log-in of the admin credential";

std::string quoted_parameter(std::string_view value) {
  std::string out = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

bool is_loopback(std::string_view host) {
  return host == "localhost" || host == "127.0.0.1" || host == "::1";
}

/// From a URL, where there is one.
Result<LogIn> admin_of(const Fields* secret) {
  if (secret == nullptr) return fail(ErrorCode::Conflict, "there is no admin credential");
  return vault::log_in_of(*secret, secret->count("url") != 0 ? "url" : "password");
}

Result<std::string> verifier_of(const LogIn& log_in) {
  return scram_verifier(as_text(log_in.password.readable()));
}

/// Runs `body(session)` on a connection of its own, of which nothing is left in memory: libpq
/// keeps the password while it is open.
template <class Body>
Status connected(const DatabaseOptions& options, std::string_view name, Body&& body) {
  const WipingScope wiping;
  Database database(options);
  return named(name, database.pool(), std::forward<Body>(body));
}

/// Its words are for whoever configured the rotation.
Error in_words(const Error& error) {
  if (error.code == ErrorCode::Unavailable) {
    return fail(ErrorCode::Unavailable, kAwayText, error.diagnostic);
  }
  if (error.code == ErrorCode::Conflict) return error;
  return fail(ErrorCode::Conflict,
              "the PostgreSQL server refused the change: may the admin credential alter the role?",
              error.diagnostic);
}

}  // namespace

Status PostgresRotator::check(const RotationSettings& settings) const {
  const auto server = settings.host + ":" + std::to_string(settings.port);
  if (std::find(options_.hosts.begin(), options_.hosts.end(), server) != options_.hosts.end()) {
    return {};
  }
  return fail(ErrorCode::Forbidden,
              "the operator of this service lets no rotator go to that server");
}

Result<std::string> PostgresRotator::next_role(const RotationSettings& settings,
                                               const Fields& current) const {
  POSTERN_TRY(const auto log_in, vault::log_in_of(current, settings.field));
  const auto& roles = settings.roles;
  if (std::find(roles.begin(), roles.end(), log_in.user) == roles.end()) {
    return fail(ErrorCode::Conflict, "the credential is of none of these roles");
  }
  return roles.size() == 2 && roles.front() == log_in.user ? roles.back() : roles.front();
}

DatabaseOptions PostgresRotator::server(const RotationSettings& settings,
                                        const LogIn& log_in) const {
  const bool plain = options_.allow_insecure_loopback && is_loopback(settings.host);
  const auto ca_file = options_.ca_file.empty() ? std::string("/etc/ssl/certs/ca-certificates.crt")
                                                : options_.ca_file;
  DatabaseOptions out;
  // The database is somebody's, who may have functions and operators of any name there.
  out.search_path = "pg_catalog, pg_temp";
  out.conninfo =
      "host=" + quoted_parameter(settings.host) + " port=" + std::to_string(settings.port) +
      " dbname=" + quoted_parameter(settings.database) + " user=" + quoted_parameter(log_in.user) +
      " password=" + quoted_parameter(as_text(log_in.password.readable())) +
      // Named here, so that no text in a value can stand for them (complete_conninfo()).
      " application_name=postern-rotation target_session_attrs=read-write connect_timeout=5"
      " keepalives_idle=15 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=15000"
      " gssencmode=disable" +
      // With channel binding there is SCRAM with this very server, or nothing: none of them
      // is sent a password, and none can take just any.
      (plain ? " sslmode=prefer"
             : " sslmode=verify-full channel_binding=require sslrootcert=" +
                   quoted_parameter(ca_file));
  out.application_name = "postern-rotation";
  out.max_connections = 1;
  out.connect_timeout = std::chrono::seconds(5);
  return out;
}

Status PostgresRotator::set_password(const Step& step, const std::string& role,
                                     const std::string& verifier,
                                     const std::function<Status()>& before_change) const {
  POSTERN_TRY(const auto admin, admin_of(step.secret));
  if (admin.user == role) {
    return fail(ErrorCode::Conflict, "the admin credential is of the role that is rotated");
  }
  const auto options = server(step.running.settings, admin);
  const auto done = connected(options, "rotator.set", [&](Session& session) -> Status {
    pqxx::nontransaction tx(session.link());
    if (number<int>(session.run(tx, kRole, role)[0][0]) == 0) {
      return fail(ErrorCode::Conflict, "the PostgreSQL server has no such role");
    }
    // It takes no parameters. A verifier is no password.
    const auto statement = "ALTER ROLE " + tx.quote_name(role) + " PASSWORD " +
                           (verifier.empty() ? std::string("NULL") : tx.quote(verifier));
    if (before_change) POSTERN_CHECK(before_change());
    session.begin_call();
    tx.exec(statement);
    return {};
  });
  if (!done.ok()) return in_words(done.error());
  return {};
}

Status PostgresRotator::set(const Step& step) {
  const auto& settings = step.running.settings;
  POSTERN_TRY(const auto made, vault::log_in_of(*step.made, settings.field));
  POSTERN_TRY(const auto verifier, verifier_of(made));
  POSTERN_TRY(const auto current, vault::log_in_of(*step.current, settings.field));
  // Before anything is changed that could not be changed back.
  if (current.user == step.running.new_role && !verifier_of(current).ok()) {
    return fail(ErrorCode::Conflict,
                "the present password has other characters than printable ASCII, so that it could "
                "not be set again");
  }
  return set_password(step, step.running.new_role, verifier, step.before_change);
}

Status PostgresRotator::test(const Step& step) {
  const auto& settings = step.running.settings;
  const auto log_in_works = [&](const LogIn& log_in) {
    return connected(server(settings, log_in), "rotator.test", [&](Session& session) -> Status {
      pqxx::nontransaction tx(session.link());
      if (!number<bool>(session.run(tx, kWho, log_in.user)[0][0])) {
        return fail(ErrorCode::Conflict, "the log-in is another user's");
      }
      return {};
    });
  };
  POSTERN_TRY(const auto made, vault::log_in_of(*step.made, settings.field));
  const auto tried = log_in_works(made);
  if (tried.ok()) return {};
  POSTERN_TRY(const auto admin, admin_of(step.secret));
  if (const auto there = log_in_works(admin); !there.ok()) return in_words(there.error());
  return fail(ErrorCode::Conflict, "the PostgreSQL server does not take the new password",
              tried.error().diagnostic);
}

bool PostgresRotator::retires(const vault::RunningRotation& running) const {
  return running.settings.roles.size() >= 2 && !running.old_role.empty() &&
         running.old_role != running.new_role;
}

Status PostgresRotator::retire(const Step& step) {
  const auto& [settings, old_role] = std::tie(step.running.settings, step.running.old_role);
  if (!retires(step.running)) return {};
  // Somebody may have gone back to it by hand.
  if (step.current != nullptr) {
    const auto current = vault::log_in_of(*step.current, settings.field);
    if (current.ok() && current.value().user == old_role) return {};
  }
  return set_password(step, old_role, "");
}

Status PostgresRotator::undo(const Step& step) {
  const auto& settings = step.running.settings;
  const auto& role = step.running.new_role;
  if (step.current != nullptr) {
    const auto current = vault::log_in_of(*step.current, settings.field);
    if (current.ok() && current.value().user == role) {
      const auto verifier = verifier_of(current.value());
      if (!verifier.ok()) {
        return fail(ErrorCode::PreconditionFailed,
                    "the present password has other characters than printable ASCII: set it there "
                    "by hand");
      }
      return set_password(step, role, verifier.value());
    }
  }
  return set_password(step, role, "");  // nobody has what it was set to
}

}  // namespace postern::storage
