#include "storage/embedded_postgres.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "core/descriptor.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "storage/child_process.h"
#include "storage/migrator.h"

namespace postern::storage {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr std::size_t kLongestSocketPath = 107;  // sun_path, less its NUL
constexpr const char* kSocketName = "/.s.PGSQL.5432";
constexpr const char* kSuperuser = "postgres";
constexpr std::array kRoles{kSuperuser, "postern_owner", "postern_service", "postern_auditor"};

Error problem(std::string detail, std::string diagnostic = {}) {
  return fail(ErrorCode::Unavailable, std::move(detail), std::move(diagnostic));
}

int number_in(const fs::path& name) {
  return std::atoi(name.string().c_str());  // 0 for what is not a number
}

/// Directory of the server's programs: the newest, or of the major version the data needs.
fs::path find_binaries(int major) {
  std::map<int, fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/usr/lib/postgresql", ignored)) {
    const auto version = number_in(entry.path().filename());
    if (version > 0 && fs::exists(entry.path() / "bin/postgres", ignored)) {
      found[version] = entry.path() / "bin";
    }
  }
  if (major != 0 && found.contains(major)) return found[major];
  if (major == 0 && !found.empty()) return found.rbegin()->second;
  // Other systems: what pg_config says. A version mismatch is reported by the server.
  if (auto* pipe = ::popen("pg_config --bindir 2>/dev/null", "r")) {
    std::array<char, 1024> line{};
    const bool got = std::fgets(line.data(), line.size(), pipe) != nullptr;
    ::pclose(pipe);
    std::string text(got ? line.data() : "");
    while (!text.empty() && text.back() == '\n') text.pop_back();
    if (!text.empty() && found.empty() && fs::exists(fs::path(text) / "postgres", ignored)) {
      return text;
    }
  }
  return {};
}

int major_version_of(const fs::path& data) {
  std::ifstream file(data / "PG_VERSION");
  int version = 0;
  file >> version;
  return version;
}

Status make_directory(const fs::path& path, const std::optional<RunAs>& owner) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return problem("a directory for PostgreSQL cannot be made", "mkdir " + path.string());
  }
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return problem("what should be a directory for PostgreSQL is none", path.string());
  }
  if (owner) {
    if (::lchown(path.c_str(), owner->uid, owner->gid) != 0) {
      return problem("a directory cannot be given to the user postgres", path.string());
    }
  } else if (info.st_uid != ::geteuid()) {
    // Someone else's, as could be left for us in /tmp.
    return problem("a directory for PostgreSQL belongs to another user", path.string());
  }
  if (::chmod(path.c_str(), 0700) != 0) {
    return problem("a directory for PostgreSQL cannot be made private", path.string());
  }
  return {};
}

Status write_private(const fs::path& path, const std::string& content,
                     const std::optional<RunAs>& owner) {
  const auto temporary = path.string() + ".new";
  ::unlink(temporary.c_str());
  const Descriptor file(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  const bool written =
      file.get() >= 0 && (!owner || ::fchown(file.get(), owner->uid, owner->gid) == 0) &&
      ::write(file.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()) &&
      ::fsync(file.get()) == 0 && ::rename(temporary.c_str(), path.c_str()) == 0;
  if (!written) return problem("a file for PostgreSQL cannot be written", path.string());
  return {};
}

std::string in_quotes(const std::string& value) {
  std::string out = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

/// Servers that work in the cluster's directory, as every process of one does
/// (a shell may be there too): found even when postmaster.pid is gone or names a reused number.
std::vector<pid_t> servers_in(const fs::path& data) {
  std::vector<pid_t> out;
  std::error_code error;
  const auto wanted = fs::canonical(data, error);
  if (error) return out;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const auto pid = number_in(entry.path().filename());
    if (pid <= 0) continue;
    std::error_code unreadable;
    const auto at = fs::read_symlink(entry.path() / "cwd", unreadable);
    const auto program = fs::read_symlink(entry.path() / "exe", unreadable).filename().string();
    // After an upgrade it is called `postgres (deleted)`.
    if (!unreadable && at == wanted && program.starts_with("postgres")) out.push_back(pid);
  }
  return out;
}

/// Stops what an earlier process of ours left behind.
Status stop_left_over(const fs::path& data) {
  const auto deadline = steady_clock::now() + seconds(20);
  for (int round = 0;; ++round) {
    const auto left = servers_in(data);
    if (left.empty()) return {};
    if (steady_clock::now() > deadline) {
      return problem("a PostgreSQL server left over in the directory does not stop");
    }
    // Fast shutdown first; from the fifth second on, immediate: recovery repairs that.
    for (const auto pid : left) ::kill(pid, round < 100 ? SIGINT : SIGQUIT);
    std::this_thread::sleep_for(milliseconds(50));
  }
}

}  // namespace

struct EmbeddedPostgres::Impl {
  Options options;
  std::optional<RunAs> run_as;
  fs::path binaries, data, sockets, log;
  std::map<std::string, std::string> passwords;
  Descriptor lock;
  pid_t postmaster = 0;
  bool wanted = false;  // started, and not stopped since
  seconds pause{1};
  steady_clock::time_point not_before{};

  Status prepare();
  Status read_passwords();
  Status choose_socket_directory();
  Status make_cluster();
  Status launch();
  void stop() noexcept;
  void keep_running();
  Status make_database(const std::string& database) const;
  Status restore(const fs::path& archive, const std::string& database) const;
  std::string conninfo(const std::string& role, const std::string& database) const {
    return "host=" + in_quotes(sockets.string()) + " port=5432 user=" + role +
           " dbname=" + in_quotes(database) + " password=" + in_quotes(passwords.at(role));
  }
};

Status EmbeddedPostgres::Impl::prepare() {
  std::error_code error;
  options.directory = fs::absolute(options.directory, error).lexically_normal();
  fs::create_directories(options.directory.parent_path(), error);
  if (::geteuid() == 0) {
    const auto* user = ::getpwnam("postgres");
    if (user == nullptr || user->pw_uid == 0) {
      return problem("PostgreSQL does not run as root, and there is no user postgres to run it as");
    }
    run_as = RunAs{user->pw_uid, user->pw_gid};
  }
  POSTERN_CHECK(make_directory(options.directory, run_as));
  if (run_as && !can_enter(*run_as, options.directory)) {
    return problem(
        "the user postgres cannot reach the data directory: choose one whose parent directories "
        "others may enter",
        options.directory.string());
  }
  data = options.directory / "pgdata";
  log = options.directory / "postgres.log";

  lock = Descriptor(::open((options.directory / "lock").c_str(),
                           O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (lock.get() < 0) return problem("the lock file cannot be opened");
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return problem("the data directory is in use by another process");
  }

  const auto major = major_version_of(data);
  binaries = options.binaries.empty() ? find_binaries(major) : options.binaries;
  if (binaries.empty()) {
    return major == 0 ? problem("no PostgreSQL server found: install the package postgresql")
                      : problem("the data directory needs PostgreSQL " + std::to_string(major) +
                                ", which is not installed");
  }
  return {};
}

Status EmbeddedPostgres::Impl::read_passwords() {
  const auto path = options.directory / "passwords";
  std::ifstream file(path);
  std::string role, password;
  while (file >> role >> password) passwords[role] = password;
  if (std::all_of(kRoles.begin(), kRoles.end(),
                  [&](const char* name) { return passwords.contains(name); })) {
    return {};
  }
  if (fs::exists(data)) return problem("the file of database passwords is missing or cut short");
  std::string content;
  for (const auto* name : kRoles) {
    passwords[name] = crypto::random_token();
    content += std::string(name) + " " + passwords[name] + "\n";
  }
  return write_private(path, content, std::nullopt);
}

Status EmbeddedPostgres::Impl::choose_socket_directory() {
  sockets = options.directory / "run";
  if (sockets.string().size() + std::string_view(kSocketName).size() > kLongestSocketPath) {
    // A short path that is the same at every start.
    const auto hash = crypto::sha256(as_bytes(options.directory.string()));
    std::ostringstream name;
    name << "postern-" << ::geteuid() << "-" << std::hex;
    for (std::size_t i = 0; i < 8; ++i) name << static_cast<unsigned>(hash[i]);
    const auto* base = ::access("/run", W_OK) == 0 ? "/run" : "/tmp";
    sockets = fs::path(base) / name.str();
  }
  return make_directory(sockets, run_as);
}

Status EmbeddedPostgres::Impl::make_cluster() {
  if (fs::exists(data)) return {};
  // Made beside and then renamed, so that an interrupted initdb leaves no half cluster.
  std::error_code error;
  const auto fresh = options.directory / "pgdata.new";
  fs::remove_all(fresh, error);
  const auto password_file = options.directory / "initial-password";
  POSTERN_CHECK(write_private(password_file, passwords.at(kSuperuser) + "\n", run_as));

  const Descriptor output(
      ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  ChildOptions child;
  child.command = {(binaries / "initdb").string(), "--pgdata=" + fresh.string(),
                   std::string("--username=") + kSuperuser, "--pwfile=" + password_file.string(),
                   "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--data-checksums",
                   "--no-instructions",
                   // Flushed below, by one call rather than one for each file.
                   "--no-sync"};
  child.run_as = run_as;
  child.directory = options.directory;
  child.output = output.get();
  child.death_signal = SIGKILL;
  const auto pid = spawn(child);
  const auto status = pid > 0 ? wait_for(pid, options.patience) : std::optional<int>();
  if (pid > 0 && !status) {
    ::kill(pid, SIGKILL);
    wait_for(pid, seconds(5));
  }
  fs::remove(password_file, error);
  if (!status || *status != 0) {
    fs::remove_all(fresh, error);
    return problem("initdb failed: see postgres.log in the data directory", log.string());
  }
  if (options.durability == Options::Durability::Full) {
    const Descriptor directory(::open(fresh.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory.get() < 0 || ::syncfs(directory.get()) != 0) {
      return problem("the new cluster cannot be flushed to disk");
    }
  }
  fs::rename(fresh, data, error);
  if (error) return problem("the new cluster cannot be moved into place");
  return {};
}

Status EmbeddedPostgres::Impl::launch() {
  POSTERN_CHECK(stop_left_over(data));
  // Nothing works in this cluster, and the lock is ours: what is left of an
  // earlier run is stale. The server itself would be misled by a reused number.
  std::error_code error;
  for (const auto& path : {data / "postmaster.pid", fs::path(sockets.string() + kSocketName),
                           fs::path(sockets.string() + kSocketName + ".lock")}) {
    fs::remove(path, error);
  }

  const Descriptor output(
      ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (output.get() < 0) return problem("postgres.log cannot be opened", log.string());
  ChildOptions child;
  child.command = {(binaries / "postgres").string(), "-D", data.string()};
  const auto set = [&](const std::string& setting) {
    child.command.emplace_back("-c");
    child.command.push_back(setting);
  };
  set("listen_addresses=");
  set("port=5432");
  set("unix_socket_directories=" + sockets.string());
  set("unix_socket_permissions=0700");
  set("max_connections=" + std::to_string(options.max_connections));
  set("password_encryption=scram-sha-256");
  set("timezone=UTC");
  set("log_timezone=UTC");
  set("logging_collector=off");
  set("log_destination=stderr");
  // Nothing that holds a value of ours: no statements, no parameters, and terse
  // leaves out DETAIL, which quotes rows.
  set("log_statement=none");
  set("log_min_duration_statement=-1");
  set("log_parameter_max_length=0");
  set("log_parameter_max_length_on_error=0");
  set("log_min_error_statement=panic");
  set("log_error_verbosity=terse");
  if (options.durability == Options::Durability::None) {
    set("fsync=off");
    set("synchronous_commit=off");
    set("full_page_writes=off");
  } else {
    set("fsync=on");
    set("synchronous_commit=on");
    // After a crash: one syncfs() rather than an fsync() of every file.
    if (major_version_of(data) >= 14) set("recovery_init_sync_method=syncfs");
  }
  child.run_as = run_as;
  child.directory = options.directory;
  child.output = output.get();
  child.death_signal = SIGINT;  // fast shutdown
  const auto pid = spawn(child);
  if (pid <= 0) return problem("the PostgreSQL server cannot be started");
  postmaster = pid;

  // The server says in the eighth line of its pid file when it is ready.
  const auto deadline = steady_clock::now() + options.patience;
  while (steady_clock::now() < deadline) {
    if (wait_for(pid, milliseconds(0))) {
      postmaster = 0;
      return problem("the PostgreSQL server ended at once: see postgres.log in the data directory",
                     log.string());
    }
    std::ifstream file(data / "postmaster.pid");
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    if (lines.size() >= 8 && std::atoi(lines[0].c_str()) == pid &&
        lines[7].rfind("ready", 0) == 0) {
      return {};
    }
    std::this_thread::sleep_for(milliseconds(5));
  }
  stop();
  return problem("the PostgreSQL server did not become ready: see postgres.log", log.string());
}

void EmbeddedPostgres::Impl::keep_running() {
  if (!wanted) return;
  if (postmaster > 0) {
    if (!wait_for(postmaster, milliseconds(0))) return;
    postmaster = 0;
    postern::log::error("postgres.ended", {{"log", log.string()}});
  }
  if (steady_clock::now() < not_before) return;
  const auto started = launch();
  wanted = true;  // a launch that takes too long is stopped
  if (!started.ok()) {
    postern::log::error("postgres.not_restarted", {{"reason", started.error().detail}});
    not_before = steady_clock::now() + pause;
    pause = std::min(pause * 2, seconds(30));
    return;
  }
  pause = seconds(1);
  postern::log::info("postgres.restarted");
}

void EmbeddedPostgres::Impl::stop() noexcept {
  wanted = false;
  if (postmaster <= 0) return;
  const auto pid = std::exchange(postmaster, 0);
  try {
    for (const int signal : {SIGINT, SIGQUIT, SIGKILL}) {  // fast, immediate, none
      ::kill(pid, signal);
      if (wait_for(pid, seconds(10))) return;
    }
  } catch (...) {  // NOLINT: nothing more can be done, and a destructor calls this
  }
}

EmbeddedPostgres::EmbeddedPostgres(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EmbeddedPostgres::EmbeddedPostgres(EmbeddedPostgres&&) noexcept = default;
EmbeddedPostgres& EmbeddedPostgres::operator=(EmbeddedPostgres&& other) noexcept {
  if (this != &other) {
    stop();
    impl_ = std::move(other.impl_);
  }
  return *this;
}
EmbeddedPostgres::~EmbeddedPostgres() { stop(); }

Result<EmbeddedPostgres> EmbeddedPostgres::start(Options options) {
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  POSTERN_CHECK(impl->prepare());
  POSTERN_CHECK(impl->read_passwords());
  POSTERN_CHECK(impl->choose_socket_directory());
  POSTERN_CHECK(impl->make_cluster());
  POSTERN_CHECK(impl->launch());
  impl->wanted = true;
  return EmbeddedPostgres(std::move(impl));
}

Status EmbeddedPostgres::Impl::make_database(const std::string& database) const {
  BootstrapOptions settings;
  settings.superuser_conninfo = conninfo(kSuperuser, "postgres");
  settings.database = database;
  settings.owner_password = passwords.at("postern_owner");
  settings.service_password = passwords.at("postern_service");
  settings.auditor_password = passwords.at("postern_auditor");
  return bootstrap(settings);
}

Status EmbeddedPostgres::Impl::restore(const fs::path& archive, const std::string& database) const {
  POSTERN_CHECK(make_database(database));
  // Not in arguments, which every process on the machine may read.
  const auto password_file = options.directory / "owner-password";
  POSTERN_CHECK(write_private(
      password_file, "*:*:*:postern_owner:" + passwords.at("postern_owner") + "\n", std::nullopt));
  const auto said = options.directory / "restore.log";
  const Descriptor output(
      ::open(said.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (output.get() < 0) return problem("a file for PostgreSQL cannot be written", said.string());
  ChildOptions child;
  child.command = {(binaries / "pg_restore").string(), "--exit-on-error", "--no-owner",
                   "--dbname=host=" + in_quotes(sockets.string()) +
                       " port=5432 user=postern_owner dbname=" + in_quotes(database) +
                       " passfile=" + in_quotes(password_file.string()),
                   fs::absolute(archive).string()};
  child.directory = options.directory;
  child.output = output.get();
  child.death_signal = SIGKILL;
  const auto pid = spawn(child);
  const auto status = pid > 0 ? wait_for(pid, std::chrono::hours(24 * 7)) : std::optional<int>();
  std::error_code error;
  fs::remove(password_file, error);
  if (status && *status == 0) return {};
  // The first line, for those that follow quote rows.
  std::ifstream file(said);
  std::string line;
  std::getline(file, line);
  return problem("pg_restore failed: " + line.substr(0, 300));
}

Status EmbeddedPostgres::provision(const std::string& database) {
  POSTERN_CHECK(impl_->make_database(database));
  return migrate(owner_conninfo(database));
}
Status EmbeddedPostgres::provision_shares(const std::string& database) {
  POSTERN_CHECK(impl_->make_database(database));
  return migrate(owner_conninfo(database), Schema::Shares);
}
Status EmbeddedPostgres::restore(const std::filesystem::path& archive,
                                 const std::string& database) {
  return impl_->restore(archive, database);
}

std::string EmbeddedPostgres::superuser_conninfo(const std::string& database) const {
  return impl_->conninfo(kSuperuser, database);
}
std::string EmbeddedPostgres::owner_conninfo(const std::string& database) const {
  return impl_->conninfo("postern_owner", database);
}
std::string EmbeddedPostgres::service_conninfo(const std::string& database) const {
  return impl_->conninfo("postern_service", database);
}
std::string EmbeddedPostgres::auditor_conninfo(const std::string& database) const {
  return impl_->conninfo("postern_auditor", database);
}
void EmbeddedPostgres::keep_running() noexcept {
  try {
    if (impl_) impl_->keep_running();
  } catch (...) {  // NOLINT: out of memory, perhaps; the next call tries again
  }
}
pid_t EmbeddedPostgres::pid() const noexcept { return impl_ ? impl_->postmaster : 0; }
const std::filesystem::path& EmbeddedPostgres::log_file() const noexcept { return impl_->log; }
void EmbeddedPostgres::stop() noexcept {
  if (impl_) impl_->stop();
}

}  // namespace postern::storage
