// The rotator as it runs in production: a server with a certificate, whose name and issuer
// are checked before anything is sent to it.

#include "storage/postgres_rotator.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <pqxx/pqxx>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "storage/child_process.h"
#include "storage/embedded_postgres.h"
#include "support/certificates.h"
#include "support/code_of.h"
#include "support/postgres_fixture.h"
#include "support/postgres_tools.h"

namespace postern::storage {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  const bool bound = ::bind(fd, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  ::close(fd);
  if (!bound) throw std::runtime_error("no port");
  return ntohs(address.sin_port);
}

/// A PostgreSQL server at a port of loopback, with a certificate for `localhost`, an admin
/// and the two roles that take turns.
class TlsServer {
 public:
  explicit TlsServer(const test::Certificate& authority) {
    make_cluster();
    test::CertificateDetails details;
    details.alternative_names = "DNS:localhost";
    const auto certificate = test::make_certificate("a server", &authority, details);
    write("server.crt", certificate.certificate_pem());
    write("server.key", certificate.key_pem());
    // The port may be somebody else's by the time that it is opened.
    for (int i = 0; i < 5 && !start(); ++i) {
    }
    if (pid_ <= 0) throw std::runtime_error("no server");
  }
  ~TlsServer() {
    ::kill(pid_, SIGINT);
    if (!wait_for(pid_, 20s)) {
      ::kill(pid_, SIGKILL);
      wait_for(pid_, 5s);
    }
  }
  TlsServer(const TlsServer&) = delete;
  TlsServer& operator=(const TlsServer&) = delete;

  std::uint16_t port() const { return port_; }
  /// What is stored for the role, a verifier; empty: it has no password.
  std::string verifier_of(const std::string& role) const {
    pqxx::connection connection(superuser_ + " port=" + std::to_string(port_));
    pqxx::nontransaction tx(connection);
    const auto rows =
        tx.exec("SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = '" + role + "'");
    return rows[0][0].c_str();
  }

 private:
  void make_cluster() {
    EmbeddedPostgres::Options options;
    options.directory = directory_;
    options.durability = EmbeddedPostgres::Options::Durability::None;
    auto server = EmbeddedPostgres::start(options);
    if (!server.ok()) throw std::runtime_error(server.error().detail);
    superuser_ = server.value().superuser_conninfo();
    pqxx::connection connection(superuser_);
    pqxx::nontransaction tx(connection);
    tx.exec("CREATE ROLE rot_admin LOGIN SUPERUSER PASSWORD 'the-admins-password'");
    tx.exec("CREATE ROLE app_a LOGIN PASSWORD 'first-password'");
    tx.exec("CREATE ROLE app_b LOGIN");
  }
  void write(const std::string& name, const std::string& content) const {
    const auto path = directory_ / name;
    std::ofstream(path) << content;
    fs::permissions(path, fs::perms::owner_read);
    if (run_as_ && ::chown(path.c_str(), run_as_->uid, run_as_->gid) != 0) {
      throw std::runtime_error("chown");
    }
  }
  bool start() {
    port_ = free_port();
    const auto begin = superuser_.find("host='") + 6;
    const auto sockets = superuser_.substr(begin, superuser_.find('\'', begin) - begin);
    ChildOptions child;
    child.command = {test::postgres_tool("postgres"), "-D", (directory_ / "pgdata").string()};
    for (const auto& setting :
         {std::string("listen_addresses=127.0.0.1"), "port=" + std::to_string(port_),
          "unix_socket_directories=" + sockets, std::string("ssl=on"),
          "ssl_cert_file=" + (directory_ / "server.crt").string(),
          "ssl_key_file=" + (directory_ / "server.key").string(), std::string("fsync=off")}) {
      child.command.insert(child.command.end(), {"-c", setting});
    }
    child.run_as = run_as_;
    child.directory = directory_;
    child.death_signal = SIGINT;
    pid_ = spawn(child);
    for (int i = 0; pid_ > 0 && i < 600; ++i) {
      if (wait_for(pid_, 100ms)) {
        pid_ = 0;
        break;
      }
      try {
        if (!verifier_of("app_a").empty()) return true;
      } catch (const pqxx::broken_connection&) {
      }
    }
    if (pid_ > 0 && ::kill(pid_, SIGKILL) == 0) wait_for(pid_, 5s);
    pid_ = 0;
    return false;
  }
  static std::optional<RunAs> unprivileged() {
    if (::geteuid() != 0) return std::nullopt;
    const auto* user = ::getpwnam("postgres");
    if (user == nullptr) throw std::runtime_error("no user postgres");
    return RunAs{user->pw_uid, user->pw_gid};
  }

  const test::TempDirectory temp_;
  const fs::path directory_ = temp_.path() / "postgres";
  const std::optional<RunAs> run_as_ = unprivileged();
  std::string superuser_;
  std::uint16_t port_ = 0;
  pid_t pid_ = 0;
};

vault::Fields log_in(const char* user, const char* password) {
  vault::Fields fields;
  fields.emplace("username", FieldValue(SecureBuffer::copy_of(std::string_view(user))));
  fields.emplace("password", FieldValue(SecureBuffer::copy_of(std::string_view(password))));
  return fields;
}

TEST(PostgresRotator, ChecksWhoTheServerIsBeforeItTellsItAnything) {
  const auto authority = test::make_certificate("an authority");
  const TlsServer server(authority);
  const test::TempDirectory files;
  const auto ca_file = [&](const char* name, const test::Certificate& issuer) {
    const auto path = files.path() / name;
    std::ofstream(path) << issuer.certificate_pem();
    return path.string();
  };
  const auto trusted = ca_file("trusted", authority);
  const auto other = ca_file("other", test::make_certificate("an authority"));

  const auto made = log_in("app_b", "new-password"), current = log_in("app_a", "first-password");
  const auto admin = log_in("rot_admin", "the-admins-password");
  vault::RunningRotation running;
  running.settings.kind = vault::RotationKind::Postgres;
  running.settings.port = server.port();
  running.settings.database = "postgres";
  running.settings.field = "password";
  running.settings.roles = {"app_a", "app_b"};
  running.old_role = "app_a";
  running.new_role = "app_b";
  const TenantId tenant("acme");
  const vault::CredentialKey key{Owner::tenant(), CredentialName("db")};
  int told = 0;
  const auto step_at = [&](const char* host) {
    running.settings.host = host;
    return vault::Rotator::Step{tenant, key, running, &made, &current, &admin, [&]() -> Status {
                                  ++told;
                                  return {};
                                }};
  };
  const auto rotator_with = [&](const std::string& authorities) {
    const auto port = ":" + std::to_string(server.port());
    return PostgresRotator({{"localhost" + port, "127.0.0.1" + port}, authorities, false});
  };

  const auto before = server.verifier_of("app_a");
  struct Case {
    const char* what;
    const char* host;
    std::string authorities;
  };
  for (const auto& [what, host, authorities] :
       {Case{"issued by another one", "localhost", other},
        Case{"issued for another name", "127.0.0.1", trusted},
        Case{"issued by none that the system knows", "localhost", ""}}) {
    auto rotator = rotator_with(authorities);
    const auto step = step_at(host);
    auto promoted = step_at(host);
    promoted.current = &made;
    ASSERT_TRUE(rotator.check(running.settings).ok()) << what;
    for (const auto& done :
         {rotator.set(step), rotator.test(step), rotator.retire(promoted), rotator.undo(step)}) {
      EXPECT_EQ(test::code_of(done), ErrorCode::Unavailable) << what;
    }
    EXPECT_EQ(told, 0) << what;
    EXPECT_EQ(server.verifier_of("app_a"), before) << what;
    EXPECT_EQ(server.verifier_of("app_b"), "") << what;
  }

  auto rotator = rotator_with(trusted);
  const auto step = step_at("localhost");
  const auto set = rotator.set(step);
  ASSERT_TRUE(set.ok()) << set.error().detail << " " << set.error().diagnostic;
  EXPECT_EQ(told, 1);
  EXPECT_EQ(server.verifier_of("app_b").substr(0, 14), "SCRAM-SHA-256$");
  EXPECT_TRUE(rotator.test(step).ok());
  EXPECT_EQ(server.verifier_of("app_a"), before) << "the one before is still valid";
  const auto wrong = log_in("app_b", "another-password");
  auto mistaken = step_at("localhost");
  mistaken.made = &wrong;
  EXPECT_EQ(test::code_of(rotator.test(mistaken)), ErrorCode::Conflict);
  auto promoted = step_at("localhost");
  promoted.current = &made;
  EXPECT_TRUE(rotator.retire(promoted).ok());
  EXPECT_EQ(server.verifier_of("app_a"), "");
  EXPECT_TRUE(rotator.undo(step).ok());
  EXPECT_EQ(server.verifier_of("app_b"), "");
}

}  // namespace
}  // namespace postern::storage
