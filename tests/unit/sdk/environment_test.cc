#include "cli/environment.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace postern::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

ChildEnvironment empty() {
  const char* const parent[] = {nullptr};
  return ChildEnvironment::inherit(parent, {}).value();
}

TEST(ChildEnvironment, InheritsOnlyTheAllowList) {
  const char* const parent[] = {"PATH=/bin",
                                "HOME=/home/a",
                                "LC_ALL=C.UTF-8",
                                "LC_TIME=de_DE",
                                "XDG_RUNTIME_DIR=/run/user/1",
                                "AWS_SECRET_ACCESS_KEY=canary",
                                "POSTERN_CLIENT_SECRET_FILE=/x",
                                "LD_PRELOAD=/evil.so",
                                "NODE_OPTIONS=--require /evil.js",
                                "XDG_CONFIG_HOME=/x",
                                "PATHX=1",
                                "LANGX=1",
                                "BASH_FUNC_ls%%=() { evil; }",
                                "no equals sign",
                                "=strange",
                                "PATH=/second",
                                nullptr};

  auto child = ChildEnvironment::inherit(parent, {});

  ASSERT_TRUE(child.ok());
  EXPECT_THAT(child.value().names(),
              UnorderedElementsAre("PATH", "HOME", "LC_ALL", "LC_TIME", "XDG_RUNTIME_DIR"));
  const auto pointers = child.value().pointers();
  EXPECT_STREQ(pointers[0], "PATH=/bin");
  EXPECT_EQ(pointers.back(), nullptr);
}

TEST(ChildEnvironment, PassesWhatWasAskedFor) {
  const char* const parent[] = {"PATH=/bin", "MY_PROXY=http://p", "OTHER=1", nullptr};
  const auto child = ChildEnvironment::inherit(parent, {"MY_PROXY", "NOT_SET"});
  ASSERT_TRUE(child.ok());
  EXPECT_THAT(child.value().names(), ElementsAre("PATH", "MY_PROXY"));
}

TEST(ChildEnvironment, NeverPassesOurOwnSettings) {
  const char* const parent[] = {"POSTERN_CLIENT_SECRET_FILE=/x", nullptr};
  for (const char* name : {"POSTERN_CLIENT_SECRET_FILE", "POSTERN_", "A=B", "", "1A", "A B"}) {
    const auto child = ChildEnvironment::inherit(parent, {name});
    ASSERT_FALSE(child.ok()) << name;
    EXPECT_EQ(child.error().kind, sdk::ErrorKind::Usage);
  }
}

TEST(ChildEnvironment, AddsReleasedVariables) {
  auto child = empty();
  ASSERT_TRUE(child.add("github", "GITHUB_TOKEN", "ghp_x=y").ok());
  ASSERT_TRUE(child.add("github", "EMPTY", "").ok());
  ASSERT_TRUE(child.add("github", "_lower1", "ü").ok());
  const auto pointers = child.pointers();
  EXPECT_STREQ(pointers[0], "GITHUB_TOKEN=ghp_x=y");
  EXPECT_STREQ(pointers[1], "EMPTY=");
  EXPECT_STREQ(pointers[2], "_lower1=ü");
}

TEST(ChildEnvironment, RefusesNamesThatWouldTakeOverTheChild) {
  const char* const names[] = {"LD_PRELOAD",
                               "LD_LIBRARY_PATH",
                               "LD_AUDIT",
                               "DYLD_INSERT_LIBRARIES",
                               "PATH",
                               "HOME",
                               "SHELL",
                               "IFS",
                               "ENV",
                               "BASH_ENV",
                               "BASH_FUNC_ls",
                               "PS4",
                               "NODE_OPTIONS",
                               "NODE_PATH",
                               "NODE_EXTRA_CA_CERTS",
                               "NODE_TLS_REJECT_UNAUTHORIZED",
                               "PYTHONPATH",
                               "PYTHONSTARTUP",
                               "PYTHONHOME",
                               "PERL5LIB",
                               "PERL5OPT",
                               "RUBYOPT",
                               "JAVA_TOOL_OPTIONS",
                               "_JAVA_OPTIONS",
                               "CLASSPATH",
                               "GCONV_PATH",
                               "GLIBC_TUNABLES",
                               "GIT_SSH_COMMAND",
                               "GIT_CONFIG_COUNT",
                               "npm_config_registry",
                               "NPM_CONFIG_SCRIPT_SHELL",
                               "PIP_INDEX_URL",
                               "UV_INDEX_URL",
                               "HTTPS_PROXY",
                               "https_proxy",
                               "ALL_PROXY",
                               "SSL_CERT_FILE",
                               "OPENSSL_CONF",
                               "SSLKEYLOGFILE",
                               "EDITOR",
                               "PAGER",
                               "TMPDIR",
                               "LC_ALL",
                               "XDG_CONFIG_HOME",
                               "POSTERN_URL",
                               "path",
                               "Ld_Preload",
                               "DOTNET_STARTUP_HOOKS",
                               "CORECLR_PROFILER",
                               "LUA_INIT",
                               "PHPRC",
                               "ZDOTDIR",
                               "NODE_REPL_EXTERNAL_MODULE",
                               "node_redirect_warnings",
                               "BASH_LOADABLES_PATH",
                               "PERL_MB_OPT",
                               "RUBYSHELL",
                               "GEM_HOME",
                               "BUNDLE_GEMFILE",
                               "BUN_INSTALL",
                               "DENO_DIR",
                               "DOTNET_ROOT",
                               "JAVA_HOME",
                               "TERMINFO_DIRS",
                               "YARN_RC_FILENAME",
                               "R_PROFILE_USER",
                               "R_ENVIRON_USER",
                               "GOROOT",
                               "GOFLAGS",
                               "CURL_HOME",
                               "grpc_proxy",
                               "npm_config_https_proxy",
                               "AWS_CA_BUNDLE",
                               "Aws_Ca_Bundle",
                               "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"};
  for (const char* name : names) {
    auto child = empty();
    const auto status = child.add("evil", name, "canary");
    ASSERT_FALSE(status.ok()) << name;
    EXPECT_EQ(status.error().kind, sdk::ErrorKind::Refused);
    EXPECT_THAT(status.error().detail, HasSubstr(name));
    EXPECT_THAT(status.error().detail, testing::Not(HasSubstr("canary")));
    EXPECT_TRUE(child.names().empty());
  }
}

TEST(ChildEnvironment, TakesNamesThatOnlyLookLikeIt) {
  for (const char* name : {"GITHUB_TOKEN", "JIRA_URL", "JIRA_API_TOKEN", "AWS_ACCESS_KEY_ID",
                           "GEMINI_API_KEY", "PROXY", "MY_PATH", "HOMEPAGE", "LDAP_PASSWORD",
                           "DATABASE_URL", "GOOGLE_APPLICATION_CREDENTIALS", "OPENAI_API_KEY",
                           "SHELLY_TOKEN", "AWS_SECRET_ACCESS_KEY"}) {
    auto child = empty();
    EXPECT_TRUE(child.add("b", name, "x").ok()) << name;
  }
}

TEST(ChildEnvironment, RefusesWhatNoEnvironmentCanHold) {
  auto child = empty();
  for (const char* name : {"", "A=B", "A B", "1A", "A-B", "Ä", "A\nB"}) {
    EXPECT_FALSE(child.add("b", name, "x").ok()) << name;
  }
  EXPECT_FALSE(child.add("b", std::string(201, 'A'), "x").ok());
  EXPECT_FALSE(child.add("b", "A", std::string("x\0y", 3)).ok());
  EXPECT_FALSE(child.add("b", "A", std::string(131'072, 'x')).ok());
  EXPECT_TRUE(child.add("b", "A", std::string(131'069, 'x')).ok());
}

TEST(ChildEnvironment, RefusesTwoSourcesForOneName) {
  const char* const parent[] = {"MINE=1", nullptr};
  auto child = ChildEnvironment::inherit(parent, {"MINE"}).value();
  EXPECT_FALSE(child.add("a", "MINE", "2").ok());
  ASSERT_TRUE(child.add("a", "TOKEN", "1").ok());
  EXPECT_FALSE(child.add("b", "TOKEN", "2").ok());
  EXPECT_TRUE(child.add("b", "TOKEN2", "2").ok());
  EXPECT_STREQ(child.pointers()[1], "TOKEN=1");
}

TEST(SealedFile, HoldsItsContentAndCannotBeChanged) {
  const auto made = make_sealed_file("secret");
  ASSERT_TRUE(made.ok());
  const int fd = made.value();
  EXPECT_GE(fd, 100);
  EXPECT_EQ(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  char buffer[16] = {};
  EXPECT_EQ(::read(fd, buffer, sizeof buffer), 6);
  EXPECT_STREQ(buffer, "secret");

  EXPECT_EQ(::pwrite(fd, "x", 1, 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::ftruncate(fd, 0), -1);
  EXPECT_EQ(::ftruncate(fd, 100), -1);
  EXPECT_EQ(::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
  EXPECT_EQ(::mmap(nullptr, 6, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
  ::close(fd);
}

TEST(SplitExec, FindsWhereTheCommandBegins) {
  struct Row {
    std::vector<std::string> given;
    std::vector<std::string> ours;
    std::vector<std::string> command;
  };
  const Row table[] = {
      {{"exec", "b", "cmd", "-x"}, {"exec", "b"}, {"cmd", "-x"}},
      {{"exec", "b", "--", "cmd", "--", "y"}, {"exec", "b"}, {"cmd", "--", "y"}},
      {{"--url", "u", "exec", "b", "cmd", "--url", "v"},
       {"--url", "u", "exec", "b"},
       {"cmd", "--url", "v"}},
      {{"exec", "--pass", "A", "b", "--pass=B", "-v", "cmd", "-v"},
       {"exec", "--pass", "A", "b", "--pass=B", "-v"},
       {"cmd", "-v"}},
      {{"exec", "b", "--scope", "x y", "--", "-odd"}, {"exec", "b", "--scope", "x y"}, {"-odd"}},
      {{"--tenant", "exec", "exec", "b", "c"}, {"--tenant", "exec", "exec", "b"}, {"c"}},
      {{"exec", "b"}, {"exec", "b"}, {}},
      {{"exec", "b", "--"}, {"exec", "b"}, {}},
      {{"exec"}, {"exec"}, {}},
      {{"exec", "--", "cmd"}, {"exec"}, {"cmd"}},
      {{"tenant", "show", "--", "exec"}, {"tenant", "show", "--", "exec"}, {}},
      {{"credential", "set", "exec", "x"}, {"credential", "set", "exec", "x"}, {}},
      {{}, {}, {}},
  };
  for (const auto& row : table) {
    const auto split = split_exec(row.given);
    EXPECT_EQ(split.ours, row.ours);
    EXPECT_EQ(split.command, row.command);
  }
}

}  // namespace
}  // namespace postern::cli
