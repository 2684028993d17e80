#include "vault/root_key_command.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "support/code_of.h"
#include "support/temporary_directory.h"

namespace postern::vault {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using test::code_of;

struct Command : ::testing::Test {
  Command() {
    EXPECT_TRUE(RootKeys::create(directory.path() / "root.key").ok());
    std::ifstream in(directory.path() / "root.key");
    line.assign(std::istreambuf_iterator<char>(in), {});
  }
  std::string script(const std::string& body, mode_t mode = 0700) {
    const auto file = directory.path() / ("command" + std::to_string(++made));
    std::ofstream(file) << "#!/bin/sh\n" << body << "\n";
    ::chmod(file.c_str(), mode);
    return file.string();
  }
  Result<RootKeys> run(const std::string& body,
                       RootKeyCommand::Options options = {20s, 64 * 1024, 30s}) {
    return RootKeyCommand({script(body)}, options).load();
  }
  void expect_refused(const Result<RootKeys>& keys, const std::string& why) {
    ASSERT_EQ(code_of(keys), ErrorCode::Unavailable);
    EXPECT_NE(keys.error().detail.find(why), std::string::npos) << keys.error().detail;
    EXPECT_EQ(keys.error().detail.find(line.substr(37, 16)), std::string::npos);
  }

  const test::TemporaryDirectory directory;
  std::string line;
  int made = 0;
};

TEST_F(Command, AnswersRootKeys) {
  const auto keys = run("printf '" + line.substr(0, line.size() - 1) + "\\n'");
  ASSERT_TRUE(keys.ok()) << keys.error().detail;
  EXPECT_EQ(keys.value().active_id(), line.substr(20, 16));
}

TEST_F(Command, GetsItsArgumentsAsTheyAreAndNoShell) {
  const auto file = script("[ \"$1\" = 'a b; exit 3' ] && [ $# = 1 ] && cat " +
                           (directory.path() / "root.key").string());
  EXPECT_TRUE(RootKeyCommand({file, "a b; exit 3"}, {}).load().ok());
}

TEST_F(Command, GetsNothingOfOurs) {
  ::setenv("POSTERN_CANARY", "x", 1);
  // Only what a shell sets for itself; the standard three; no input; the root directory.
  const auto keys = run(
      "[ -z \"$POSTERN_CANARY\" ] || exit 10\n"
      "[ -z \"$HOME\" ] || exit 11\n"
      "read word && exit 12\n"
      "[ \"$(pwd)\" = / ] || exit 13\n"
      "[ \"$(ls /proc/self/fd | tr '\\n' ' ')\" = '0 1 2 3 ' ] || exit 14\n"  // 3: what ls reads
      "cat " +
      (directory.path() / "root.key").string());
  ::unsetenv("POSTERN_CANARY");
  EXPECT_TRUE(keys.ok()) << keys.error().detail;
}

TEST_F(Command, MustBeAProgramThatNobodyElseCanChange) {
  const auto load = [](std::vector<std::string> command) {
    return RootKeyCommand(std::move(command), {}).load();
  };
  expect_refused(load({}), "absolute path");
  expect_refused(load({"cat"}), "absolute path");
  expect_refused(load({"./cat"}), "absolute path");
  expect_refused(load({(directory.path() / "absent").string()}), "no program");
  expect_refused(load({directory.path().string()}), "no program");
  expect_refused(load({script("true", 0600)}), "no program");
  expect_refused(load({script("true", 0720)}), "changed by others");
  expect_refused(load({script("true", 0702)}), "changed by others");
}

TEST_F(Command, WhatFailsGivesNoKeys) {
  const auto cat = "cat " + (directory.path() / "root.key").string();
  expect_refused(run(cat + "; exit 7"), "failed with 7");
  expect_refused(run(cat + "; kill -9 $$"), "ended by a signal");
  expect_refused(run("true"), "no root keys");
  expect_refused(run("echo x; " + cat), "line 1");
  expect_refused(run(cat + " >&2"), "no root keys");
}

TEST_F(Command, WhatTakesTooLongOrSaysTooMuchIsEndedWithAllItStarted) {
  const auto pid_file = (directory.path() / "pid").string();
  const auto gone = [&] {
    std::ifstream in(pid_file);
    pid_t pid = 0;
    in >> pid;
    const auto until = std::chrono::steady_clock::now() + 20s;
    while (::kill(pid, 0) == 0 && std::chrono::steady_clock::now() < until) {
      // A zombie of whoever inherited it counts as gone.
      std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
      const std::string text(std::istreambuf_iterator<char>(stat), {});
      if (text.find(") Z ") != text.npos) return true;
      std::this_thread::yield();
    }
    return pid > 0 && ::kill(pid, 0) != 0;
  };
  expect_refused(run("sleep 1000 & echo $! >" + pid_file + "; wait", {2s, 1000, 30s}), "in time");
  EXPECT_TRUE(gone());
  std::filesystem::remove(pid_file);
  expect_refused(run("exec >&-; sleep 1000 & echo $! >" + pid_file + "; wait", {2s, 1000, 30s}),
                 "in time");
  EXPECT_TRUE(gone());
  expect_refused(run("cat /dev/zero", {20s, 1000, 30s}), "too much");
}

TEST_F(Command, IsAskedAgainAfterAFailureAndNotWithout) {
  const auto flag = directory.path() / "flag";
  const auto file = script("cat " + flag.string());
  RootKeyCommand command({file}, {20s, 64 * 1024, 0s});
  EXPECT_TRUE(command.changed());
  EXPECT_FALSE(command.load().ok());
  EXPECT_TRUE(command.changed());
  std::ofstream(flag) << line;
  EXPECT_TRUE(command.load().ok());
  EXPECT_FALSE(command.changed());

  RootKeyCommand patient({script("false")}, {20s, 64 * 1024, 1000s});
  EXPECT_FALSE(patient.load().ok());
  EXPECT_FALSE(patient.changed());
}

}  // namespace
}  // namespace postern::vault
