// `postern import` with the service behind it: a host's file goes in, and what it
// starts afterwards has its secrets from there.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utmp.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "support/service_fixture.h"
#include "unit/sdk/fake_server.h"
#include "unit/sdk/run_program.h"
#include "unit/sdk/temp_folder.h"

namespace postern::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kToken = "ghp_canary0123456789abcdefghijklmnop";
constexpr const char* kPassword = "canary-pass-word";

/// A machine with a host on it, whose user is alice.
class Import : public ::testing::Test {
 protected:
  explicit Import(const std::string& name = "import-" + unique()) : tenant_(name) {
    folder_.write("operator", tenant_.operator_token());
    folder_.write("secret", tenant_.secret);
    folder_.write("alice", tenant_.user_token("alice"));
    fs::create_directory(folder_.path("host"));
    // What it was given shows in what the server prints.
    write(R"({
  "globalShortcut": "Ctrl+Space",
  "mcpServers": {
    "Issues": {
      "command": "/bin/sh",
      "args": ["-c", "echo $ISSUES_TOKEN,$DB_PASSWORD,$MODE,$POSTERN_TENANT."],
      "env": {
        "ISSUES_TOKEN": "ghp_canary0123456789abcdefghijklmnop",
        "MODE": "fast",
        "DB_PASSWORD": "canary-pass-word"
      }
    },
    "clock": {"command": "date", "args": []}
  }
}
)",
          0640);
  }

  static std::string unique() {
    static int made = 0;
    return std::to_string(++made);
  }

  void write(const std::string& text, ::mode_t mode) const {
    folder_.write("host/claude_desktop_config.json", text, mode);
  }
  std::string file() const { return folder_.path("host/claude_desktop_config.json"); }
  std::string text() const { return folder_.read("host/claude_desktop_config.json"); }

  std::vector<std::string> environment() const {
    return {"PATH=" + fs::path(program("postern")).parent_path().string() + ":/usr/bin:/bin",
            "HOME=" + folder_.path(),
            "POSTERN_URL=http://127.0.0.1:" + std::to_string(shared_service().port()),
            "POSTERN_TENANT=" + tenant_.name,
            "POSTERN_TOKEN_FILE=" + folder_.path("operator"),
            "POSTERN_CLIENT_ID=gw-01",
            "POSTERN_CLIENT_SECRET_FILE=" + folder_.path("secret"),
            "POSTERN_SUBJECT_TOKEN_FILE=" + folder_.path("alice")};
  }

  Finished import(std::vector<std::string> more) const {
    more.insert(more.begin(), file());
    auto done = import_of(more);
    // Nothing is left beside the file.
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path("host")), {}), 1);
    return done;
  }

  Finished import_of(std::vector<std::string> arguments,
                     const std::vector<std::string>& variables = {}) const {
    arguments.insert(arguments.begin(), {program("postern"), "import"});
    auto with = environment();
    with.insert(with.end(), variables.begin(), variables.end());
    auto done = run_program(arguments, with);
    for (const char* canary : {kToken, kPassword}) {
      EXPECT_THAT(done.out + done.err, Not(HasSubstr(canary)));
    }
    return done;
  }

  /// Starts a server as its host would: with PATH, HOME and what the file says.
  Finished start(const std::string& server) const {
    const auto entry = Json::parse(text()).at("mcpServers").at(server);
    auto program_path = entry.at("command").get<std::string>();
    if (program_path == "postern") program_path = program("postern");
    std::vector<std::string> command{program_path};
    for (const auto& argument : entry.at("args")) command.push_back(argument);
    std::vector<std::string> variables{environment()[0], environment()[1]};
    for (const auto& [name, value] : entry.at("env").items()) {
      variables.push_back(name + "=" + value.get<std::string>());
    }
    return run_program(command, variables);
  }

  /// The variables that alice's servers of this backend are given.
  Json delivered(const std::string& backend) const {
    return item_of(tenant_.release(tenant_.user_token("alice"), {{{"backend", backend}}}))
        .at("env");
  }

  TempFolder folder_;
  TestTenant tenant_;
};

TEST_F(Import, TheRewrittenServerHasItsVariables) {
  const auto before = text();
  const auto as_it_was = start("Issues").out;
  const auto planned = import({});
  EXPECT_EQ(planned.code, 0) << planned.err;
  EXPECT_THAT(planned.out, AllOf(HasSubstr("ISSUES_TOKEN"), HasSubstr("DB_PASSWORD"),
                                 HasSubstr(": new"), Not(HasSubstr("MODE"))));
  EXPECT_EQ(text(), before);

  const auto done = import({"--yes", "--apply"});
  ASSERT_EQ(done.code, 0) << done.out << done.err;
  EXPECT_THAT(text(), AllOf(Not(HasSubstr(kToken)), Not(HasSubstr(kPassword))));
  struct stat status {};
  ASSERT_EQ(::stat(file().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);

  const auto started = start("Issues");
  EXPECT_EQ(started.code, 0) << started.err;
  EXPECT_EQ(started.out, std::string(kToken) + "," + kPassword + ",fast,.\n");
  EXPECT_EQ(started.out, as_it_was);

  const auto again = import({"--yes"});
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.out, HasSubstr("nothing to import"));

  const auto back = import({"--restore"});
  EXPECT_THAT(back.out, HasSubstr("would be put back"));
  EXPECT_NE(text(), before);
  EXPECT_EQ(import({"--restore", "--yes"}).code, 0);
  EXPECT_EQ(text(), before);
  EXPECT_THAT(import({"--restore", "--yes"}).out, HasSubstr("as it was"));
}

TEST_F(Import, AFileOfNothingButSecrets) {
  const auto before = std::string("GITHUB_TOKEN=") + kToken + "\n";
  folder_.write(".env", before, 0600);
  const auto done = import_of({folder_.path(".env"), "--backend", "onlyenv", "--yes", "--apply"});
  ASSERT_EQ(done.code, 0) << done.out << done.err;
  EXPECT_EQ(folder_.read(".env"), "\n");
  const auto back = import_of({folder_.path(".env"), "--restore", "--yes"});
  EXPECT_EQ(back.code, 0) << back.err;
  EXPECT_EQ(folder_.read(".env"), before);
}

/// VS Code's, whose values are asked for when a server starts.
class ImportOfInputs : public Import {
 protected:
  ImportOfInputs() : Import("import-inputs-" + unique()) {
    fs::create_directory(folder_.path(".vscode"));
    folder_.write(kHost, R"({
  // asked once
  "inputs": [{"type": "promptString", "id": "gh-token", "description": "GitHub", "password": true}],
  "servers": {"hub": {"command": "x", "env": {"GITHUB_TOKEN": "${input:gh-token}", "MODE": "fast"}}}
})");
  }
  static constexpr const char* kHost = ".vscode/mcp.json";
};

TEST_F(ImportOfInputs, TheirValuesComeFromOutside) {
  const auto before = folder_.read(kHost);
  const auto unknown = import_of({folder_.path(kHost), "--yes", "--apply"});
  EXPECT_EQ(unknown.code, 0) << unknown.err;
  EXPECT_THAT(unknown.err, HasSubstr("give it with --from-env or --from-file"));
  EXPECT_EQ(folder_.read(kHost), before);

  const auto done =
      import_of({folder_.path(kHost), "--from-env", "gh-token=MY_TOKEN", "--yes", "--apply"},
                {std::string("MY_TOKEN=") + kToken});
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(folder_.read(kHost),
              AllOf(HasSubstr("// asked once"), HasSubstr(R"("MODE": "fast"}})"),
                    Not(HasSubstr("${input:gh-token}"))));
  EXPECT_EQ(delivered("hub"), (Json{{"GITHUB_TOKEN", kToken}}));
}

TEST_F(ImportOfInputs, OrFromFilesAndThisEnvironment) {
  folder_.write(kHost, R"({"servers": {"hub": {"command": "x", "env": {
    "GITHUB_TOKEN": "${input:gh-token}", "DB_PASSWORD": "${env:HUB_PASSWORD}"}}}})");
  folder_.write("value", std::string(kToken) + "\n");
  const auto done = import_of({folder_.path(kHost), "--from-file",
                               "GITHUB_TOKEN=" + folder_.path("value"), "--yes", "--apply"},
                              {std::string("HUB_PASSWORD=") + kPassword});
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(delivered("hub"), (Json{{"DB_PASSWORD", kPassword}, {"GITHUB_TOKEN", kToken}}));
}

TEST_F(ImportOfInputs, OrAreTypedAtATerminal) {
  const auto command = program("postern");
  const auto host = folder_.path(kHost);
  const auto with = environment();
  std::vector<char*> variables;
  for (const auto& entry : with) variables.push_back(const_cast<char*>(entry.c_str()));
  variables.push_back(nullptr);
  int terminal = -1;
  int slave = -1;
  ASSERT_EQ(::openpty(&terminal, &slave, nullptr, nullptr, nullptr), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::close(terminal);
    ::login_tty(slave);
    ::execle(command.c_str(), command.c_str(), "import", host.c_str(), "--yes", "--apply", nullptr,
             variables.data());
    ::_exit(125);
  }
  ::close(slave);
  std::string shown;
  bool typed = false;
  for (char byte = 0; ::read(terminal, &byte, 1) == 1;) {
    shown += byte;
    if (typed || shown.find("Value of gh-token (not shown): ") == shown.npos) continue;
    const auto line = std::string(kToken) + "\n";
    EXPECT_EQ(::write(terminal, line.data(), line.size()), static_cast<ssize_t>(line.size()));
    typed = true;
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ::close(terminal);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << shown;
  EXPECT_THAT(shown, Not(HasSubstr(kToken)));
  EXPECT_EQ(delivered("hub"), (Json{{"GITHUB_TOKEN", kToken}}));
}

TEST_F(Import, ACatalogueSaysWhatItsServersNeed) {
  const auto catalogue = folder_.write("catalog.yaml", R"(registry:
  pair: {secrets: [{env: PAIR_TOKEN}, {env: PAIR_KEY}]}
  other: {secrets: [{env: OTHER_TOKEN}]}
)");
  const auto none = import_of({catalogue, "--yes", "--apply"});
  EXPECT_EQ(none.code, 0) << none.err;
  EXPECT_THAT(none.err, AllOf(HasSubstr("pair: nothing of it is imported: PAIR_KEY, PAIR_TOKEN are "
                                        "needed and not known"),
                              HasSubstr("OTHER_TOKEN is needed and not known")));
  EXPECT_THAT(none.out, AllOf(HasSubstr("said above"), Not(HasSubstr("as it is"))));

  const std::vector<std::string> known{std::string("ONE=") + kToken, "TWO=canary-two"};
  const auto half =
      import_of({catalogue, "--from-env", "PAIR_TOKEN=ONE", "--yes", "--apply"}, known);
  EXPECT_EQ(half.code, 0) << half.err;
  EXPECT_THAT(half.err, AllOf(HasSubstr("PAIR_KEY is needed and not known"),
                              HasSubstr("--from-env"), Not(HasSubstr("OTHER_TOKEN"))));
  const auto owner = "?issuer=" + percent_encoded(tenant_.idp.issuer()) + "&subject=alice";
  EXPECT_THAT(tenant_.api("GET", "/credentials/pair" + owner, tenant_.admin), HasStatus(404));

  const auto both = import_of(
      {catalogue, "--from-env", "PAIR_TOKEN=ONE", "--from-env", "PAIR_KEY=TWO", "--yes", "--apply"},
      known);
  EXPECT_EQ(both.code, 0) << both.err;
  EXPECT_EQ(delivered("pair"), (Json{{"PAIR_KEY", "canary-two"}, {"PAIR_TOKEN", kToken}}));
}

TEST_F(Import, AFileThatWasMovedComesBackFromTheBackupThatIsNamed) {
  const auto before = text();
  const auto done = import({"--yes", "--apply"});
  ASSERT_EQ(done.code, 0) << done.err;
  const auto at = done.out.find("becomes credential import-");
  ASSERT_NE(at, std::string::npos);
  const auto backup = done.out.substr(at + 19, 23);
  fs::create_directory(folder_.path("moved"));
  fs::rename(file(), folder_.path("moved/mcp.json"));

  const auto moved = folder_.path("moved/mcp.json");
  const auto lost = import_of({moved, "--restore", "--yes"});
  EXPECT_EQ(lost.code, 1);
  EXPECT_THAT(lost.err, AllOf(HasSubstr("asked for was import-"), HasSubstr("--backup")));
  EXPECT_EQ(import_of({moved, "--restore", "--yes", "--backup", "issues"}).code, 2);
  EXPECT_EQ(import_of({moved, "--backup", backup}).code, 2) << "--restore is missing";
  EXPECT_THAT(folder_.read("moved/mcp.json"), Not(HasSubstr(kToken)));

  const auto back = import_of({moved, "--restore", "--yes", "--backup", backup});
  EXPECT_EQ(back.code, 0) << back.err;
  EXPECT_EQ(folder_.read("moved/mcp.json"), before);
}

TEST_F(Import, WhereHostsWouldNotFindPosternIsSaid) {
  bool found = false;
  for (const char* usual : {"/usr/local/bin/postern", "/usr/bin/postern", "/bin/postern"}) {
    found = found || ::access(usual, X_OK) == 0;
  }
  EXPECT_EQ(
      import({"--yes", "--apply"}).err.find("see that it is in the PATH") == std::string::npos,
      found);
}

/// VS Code's, with a file of variables beside it.
class ImportOfTwoFiles : public Import {
 protected:
  ImportOfTwoFiles() : Import("import-two-" + unique()) {
    fs::create_directory(folder_.path(".vscode"));
    write_host(kVariables);
    folder_.write(kVariables, variables_);
  }

  void write_host(const std::string& variables) const {
    folder_.write(kHost, R"({"servers": {"fetch": {"command": "/bin/sh", "args": ["-c", "exit"],
      "env": {"DB_PASSWORD": "canary-pass-word"},
      "envFile": "${workspaceFolder}/)" +
                             variables + R"("}}})");
  }

  static constexpr const char* kHost = ".vscode/mcp.json";
  static constexpr const char* kVariables = "my.env";
  const std::string variables_ = std::string("FETCH_TOKEN=") + kToken + "\nMODE=fast\n";
};

TEST_F(ImportOfTwoFiles, NothingIsChangedWhenOneCannotBeWritten) {
  // A file beside one of the longest name cannot be made, by nobody.
  const auto longest = std::string(250, 'a') + ".env";
  write_host(longest);
  folder_.write(longest, variables_);
  const auto before = folder_.read(kHost);
  const auto refused = import_of({folder_.path(kHost), "--yes", "--apply"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, AllOf(HasSubstr(longest), HasSubstr("Nothing was changed")));
  EXPECT_EQ(folder_.read(kHost), before);
  EXPECT_EQ(folder_.read(longest), variables_);
  EXPECT_THAT(tenant_.api("GET",
                          "/credentials/fetch?issuer=" + percent_encoded(tenant_.idp.issuer()) +
                              "&subject=alice",
                          tenant_.admin),
              HasStatus(404));
}

TEST_F(ImportOfTwoFiles, WhatCannotBeGoneOnWithEndsWithAnError) {
  auto host = Json::parse(folder_.read(kHost));
  host["servers"]["unknown"] = {{"command", "postern"},
                                {"args", {"exec", "--pass", "MODE", "unknown", "--", "x"}},
                                {"envFile", folder_.path("other.env")}};
  folder_.write(kHost, host.dump());
  folder_.write("other.env", variables_);
  for (int run = 0; run < 2; ++run) {
    const auto done = import_of({folder_.path(kHost), "--yes", "--apply"});
    EXPECT_EQ(done.code, 2);
    EXPECT_THAT(done.err, HasSubstr("unknown: it runs postern already, and its envFile has"));
    EXPECT_EQ(folder_.read(kVariables), "MODE=fast\n");
    EXPECT_EQ(folder_.read("other.env"), variables_);
  }
}

TEST_F(ImportOfTwoFiles, WhatEndedBetweenThemIsGoneOnWith) {
  ASSERT_EQ(import_of({folder_.path(kHost), "--yes", "--apply"}).code, 0);
  EXPECT_EQ(folder_.read(kVariables), "MODE=fast\n");
  const auto rewritten = folder_.read(kHost);

  folder_.write(kVariables, variables_);
  const auto again = import_of({folder_.path(kHost), "--yes"});
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(again.out, AllOf(HasSubstr("stored already"), HasSubstr("my.env rewritten")));
  EXPECT_EQ(folder_.read(kVariables), "MODE=fast\n");
  EXPECT_EQ(folder_.read(kHost), rewritten);
  const auto back = import_of({folder_.path(kHost), "--restore", "--yes"});
  EXPECT_THAT(back.err, HasSubstr("my.env, which has a --restore of its own"));
  folder_.write(kHost, rewritten);

  // One that the vault does not have stays, and what it has is not replaced.
  for (const char* other : {"FETCH_TOKEN=canary-another\n", "OTHER_TOKEN=canary-another\n"}) {
    folder_.write(kVariables, other);
    const auto refused = import_of({folder_.path(kHost), "--yes", "--apply", "--overwrite"});
    EXPECT_EQ(refused.code, 2);
    EXPECT_THAT(refused.err, HasSubstr("runs postern already"));
    EXPECT_EQ(folder_.read(kVariables), other);
  }
  folder_.write(kVariables, "FETCH_TOKEN=canary-another\n");
  EXPECT_EQ(import_of({folder_.path(kHost), "--yes", "--keep-stored"}).code, 0);
  EXPECT_EQ(folder_.read(kVariables), "\n");
}

TEST_F(Import, WhatStaysIsSaidEachTime) {
  auto config = Json::parse(text());
  config["mcpServers"]["remote"] = {{"url", "https://mcp.example/?api_key=canary-key"}};
  write(config.dump(), 0640);
  ASSERT_EQ(import({"--yes", "--apply"}).code, 0);
  const auto again = import({"--yes"});
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.err, AllOf(HasSubstr("remote: its url"), Not(HasSubstr("canary-key"))));
  EXPECT_THAT(again.out, AllOf(HasSubstr("nothing to import; what stays is said above"),
                               Not(HasSubstr("as it is"))));
}

TEST_F(Import, AsJsonStandardOutputIsOneDocument) {
  for (const char* stored : {"new", ""}) {
    const auto done = import({"--json", "--yes", "--apply"});
    EXPECT_EQ(done.code, 0) << done.err;
    const auto plan = Json::parse(done.out, nullptr, false);
    ASSERT_TRUE(plan.is_object()) << done.out;
    EXPECT_EQ(plan["servers"].size(), *stored == '\0' ? 0u : 1u);
    EXPECT_EQ(done.err.find("rewritten;") != std::string::npos, *stored != '\0') << done.err;
  }
}

TEST_F(Import, WithoutABackendNothingIsChanged) {
  const auto before = text();
  const auto refused = import({"--yes"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("--manifest"));
  EXPECT_EQ(text(), before);
  const auto shared = import({"--yes", "--tenant-owned"});
  EXPECT_EQ(shared.code, 2);
  EXPECT_THAT(shared.err, HasSubstr("no backend issues yet"));
  EXPECT_EQ(text(), before);
}

TEST_F(Import, TheManifestThatItShowsIsWhatItNeeds) {
  const auto shown = import({"--manifest"});
  ASSERT_EQ(shown.code, 0) << shown.err;
  folder_.write("manifest.json", shown.out);
  const auto applied = run_program(
      {program("postern"), "apply", "-f", folder_.path("manifest.json")}, environment());
  ASSERT_EQ(applied.code, 0) << applied.err;
  const auto done = import({"--yes"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(start("Issues").code, 0);
}

TEST_F(Import, WhatIsStoredIsNotOverwrittenByChance) {
  const auto before = text();
  ASSERT_EQ(import({"--yes", "--apply"}).code, 0);
  // The same again, as after a crash before the file was rewritten.
  write(before, 0640);
  const auto same = import({"--yes"});
  EXPECT_EQ(same.code, 0) << same.err;
  EXPECT_THAT(same.out,
              AllOf(HasSubstr("stored already"), Not(HasSubstr("credential issues: version"))));
  EXPECT_THAT(text(), Not(HasSubstr(kToken)));

  // A newer one in the vault.
  tenant_.store("alice", "issues", {{"ISSUES_TOKEN", "newer"}, {"DB_PASSWORD", kPassword}});
  write(before, 0640);
  const auto differs = import({"--yes"});
  EXPECT_EQ(differs.code, 2);
  EXPECT_THAT(differs.err, AllOf(HasSubstr("--overwrite"), HasSubstr("--keep-stored")));
  EXPECT_EQ(text(), before);
  ASSERT_EQ(import({"--yes", "--keep-stored"}).code, 0);
  EXPECT_THAT(start("Issues").out, HasSubstr("newer,"));

  write(before, 0640);
  ASSERT_EQ(import({"--yes", "--overwrite"}).code, 0);
  EXPECT_THAT(start("Issues").out, HasSubstr(kToken));
}

TEST_F(Import, AnotherBackendOfThatNameIsLeftAlone) {
  tenant_.manifest["backends"].push_back(
      {{"name", "issues"},
       {"audience", "https://issues.example"},
       {"answer", "vaulted"},
       {"credential", {{"name", "issues"}, {"owner", "principal"}}},
       {"delivery", {{"env", {{"ISSUES_TOKEN", "{token}"}}}}}});
  ASSERT_THAT(tenant_.apply(), HasStatus(200));
  const auto before = text();
  const auto refused = import({"--yes", "--apply"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("--backend"));
  EXPECT_EQ(text(), before);
  EXPECT_EQ(import({"--yes", "--apply", "--backend", "Issues=desktop-issues"}).code, 0);
  EXPECT_EQ(start("Issues").code, 0);
}

TEST_F(Import, ARewriteThatWouldNotWorkDoesNotHappen) {
  ASSERT_EQ(import({"--manifest"}).code, 0);
  // Nobody may use what is imported.
  auto manifest = Json::parse(import({"--manifest"}).out);
  manifest.erase("bindings");
  ASSERT_THAT(tenant_.api("PUT", "/manifest", tenant_.operator_token(), manifest), HasStatus(200));
  const auto before = text();
  const auto refused = import({"--yes"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("no file was changed"));
  EXPECT_EQ(text(), before);
}

TEST_F(Import, ALinkIsFollowedAndAChangedFileIsNotUndone) {
  const auto link = folder_.path("link.json");
  fs::create_symlink(file(), link);
  auto done = run_program(
      {program("postern"), "import", link, "--format", "claude-desktop", "--yes", "--apply"},
      environment());
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_THAT(text(), Not(HasSubstr(kToken)));

  const auto changed = text() + "\n";
  write(changed, 0640);
  EXPECT_EQ(import({"--restore", "--yes"}).code, 2);
  EXPECT_EQ(text(), changed);
  EXPECT_EQ(import({"--restore", "--yes", "--overwrite"}).code, 0);
  EXPECT_THAT(text(), HasSubstr(kToken));
}

TEST_F(Import, WhatWasBeforeSeveralImportsComesBack) {
  const auto first = text();
  ASSERT_EQ(import({"--yes", "--apply"}).code, 0);
  auto config = Json::parse(text());
  config["mcpServers"]["more"] = {{"command", "date"}, {"env", {{"MORE_TOKEN", "canary-more"}}}};
  const auto second = config.dump(2) + "\n";
  write(second, 0640);
  ASSERT_EQ(import({"--yes", "--apply"}).code, 0);
  EXPECT_THAT(text(), Not(HasSubstr("canary-more")));
  const auto third = text();

  // As though the second one had ended before the file was rewritten.
  write(second, 0640);
  const auto refused = import({"--restore", "--yes"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.out, Not(HasSubstr("as it was")));
  EXPECT_THAT(refused.err, HasSubstr("--overwrite"));
  EXPECT_EQ(text(), second);
  EXPECT_EQ(import({"--yes"}).code, 0);
  EXPECT_EQ(text(), third);

  // One after the other.
  const auto back = import({"--restore", "--yes"});
  EXPECT_EQ(back.code, 0);
  EXPECT_THAT(back.err, HasSubstr("before that too"));
  EXPECT_EQ(text(), second);
  EXPECT_EQ(import({"--restore", "--yes", "--overwrite"}).code, 0);
  EXPECT_EQ(text(), first);
  EXPECT_THAT(import({"--restore", "--yes"}).out, HasSubstr("as it was"));

  // From there it begins anew.
  ASSERT_EQ(import({"--yes", "--overwrite"}).code, 0);
  const auto only = import({"--restore", "--yes"});
  EXPECT_EQ(only.code, 0);
  EXPECT_THAT(only.err, Not(HasSubstr("before that too")));
  EXPECT_EQ(text(), first);
}

TEST_F(Import, WhatNoLongerFitsIsSaid) {
  for (const char* mark : {"a", "b", "c"}) {
    Json config = Json::parse(text());
    config["mcpServers"][mark] = {{"command", "date"},
                                  {"env", {{"MORE_TOKEN", std::string("canary-") + mark}}}};
    config["filler"] = std::string(25'000, mark[0]);
    write(config.dump(), 0640);
    const auto done = import({"--yes", "--apply"});
    ASSERT_EQ(done.code, 0) << done.err;
    EXPECT_EQ(done.err.find("no room") != std::string::npos, *mark == 'c') << done.err;
  }
  EXPECT_EQ(import({"--restore", "--yes"}).code, 0);
  EXPECT_THAT(text(), HasSubstr("canary-c"));
  EXPECT_EQ(import({"--restore", "--yes", "--overwrite"}).code, 0);
  EXPECT_THAT(text(), HasSubstr("canary-b"));
}

/// A Vault with one secret.
class ImportOfVault : public Import {
 protected:
  ImportOfVault() : Import("import-vault-" + unique()) { folder_.write("vault", "hvs.canary\n"); }

  Finished import_vault(std::vector<std::string> more) const {
    more.insert(more.begin(), {"--vault", vault_.url(), "--vault-token-file", folder_.path("vault"),
                               "--prefix", "team/github"});
    const auto done = import_of(more);
    EXPECT_THAT(done.out + done.err, Not(HasSubstr("canary")));
    return done;
  }

  FakeServer vault_{[](const SeenRequest& request) {
    return request.target == "/v1/secret/data/team/github"
               ? json_reply(200, R"({"data":{"data":{"api_key":"canary-a","API_KEY":"canary-b",
                                                     "ld_preload":"canary-c"}}})")
               : json_reply(404, R"({"errors":[]})");
  }};
};

TEST_F(ImportOfVault, WhatIsNotDeliveredIsSaid) {
  const auto done = import_vault({"--yes", "--apply"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.err, AllOf(HasSubstr("api_key is stored, and not delivered"),
                              HasSubstr("ld_preload is stored, and not delivered")));
  const auto item =
      item_of(tenant_.release(tenant_.user_token("alice"), {{{"backend", "team-github"}}}));
  EXPECT_EQ(item.at("env"), (Json{{"API_KEY", "canary-b"}}));
  // Two of its values cannot be compared.
  EXPECT_EQ(import_vault({"--yes"}).code, 2);
}

TEST_F(ImportOfVault, TheReleaseIsTried) {
  auto manifest = Json::parse(import_vault({"--manifest"}).out);
  manifest.erase("bindings");
  ASSERT_THAT(tenant_.api("PUT", "/manifest", tenant_.operator_token(), manifest), HasStatus(200));
  const auto refused = import_vault({"--yes"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("its credential is stored"));
}

/// Another tenant of this service, by its own subset of Vault's API.
TEST_F(Import, WhatThisServiceHasInVaultsPlace) {
  TestTenant source(tenant_.name + "-source");
  source.manifest["settings"]["vault_api"] = Json::object();
  source.manifest["settings"]["reveal"] = true;
  ASSERT_THAT(source.apply(), HasStatus(200));
  folder_.write("vault", source.admin);
  const auto ask = [&](const char* method, const std::string& path, const Json& data = nullptr) {
    return source.ask(method, "/t/" + source.name + "/v1/secret/data/team/" + path,
                      {{"X-Vault-Token", source.admin}, {"X-Vault-Request", "true"}},
                      data.is_null() ? "" : Json{{"data", data}}.dump());
  };
  const std::map<std::string, Json> stored{{"github", {{"api_key", "canary-older"}}},
                                           {"db/main", {{"login", "app"}, {"password", kPassword}}},
                                           {"gone", {{"api_key", "canary-gone"}}}};
  for (const auto& [path, data] : stored) ASSERT_THAT(ask("PUT", path, data), HasStatus(200));
  ASSERT_THAT(ask("PUT", "github", {{"api_key", kToken}}), HasStatus(200));
  ASSERT_THAT(ask("DELETE", "gone"), HasStatus(204));

  const std::vector<std::string> arguments{
      "--vault",
      "http://127.0.0.1:" + std::to_string(shared_service().port()),
      "--vault-token-file",
      folder_.path("vault"),
      "--yes",
      "--apply"};
  const auto import_with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), arguments.begin(), arguments.end());
    auto done = import_of(more);
    EXPECT_THAT(done.out + done.err, Not(HasSubstr("canary")));
    return done;
  };
  const auto done = import_with({"--vault-namespace", source.name, "--prefix", "team"});
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.out, AllOf(HasSubstr("credential team..db..main"), Not(HasSubstr("gone"))));
  EXPECT_EQ(delivered("team-github"), (Json{{"API_KEY", kToken}}));
  EXPECT_EQ(delivered("team-db-main"), (Json{{"LOGIN", "app"}, {"PASSWORD", kPassword}}));

  for (const auto& [mount, prefix] :
       {std::pair("secret", "teem"), std::pair("kv", "team"), std::pair("kv", "")}) {
    const auto wrong =
        import_with({"--vault-namespace", source.name, "--mount", mount, "--prefix", prefix});
    EXPECT_EQ(wrong.code, 2) << wrong.out;
    EXPECT_THAT(wrong.err, HasSubstr(std::string("nothing to read at ") + mount + "/" + prefix));
  }
}

TEST_F(Import, TheTenantsOwn) {
  const auto done = import({"--yes", "--apply", "--tenant-owned"});
  // The role that was made is bound to nobody yet, so the file has to stay.
  EXPECT_EQ(done.code, 1) << done.err;
  EXPECT_THAT(text(), HasSubstr(kToken));
  const auto stored = tenant_.api("GET", "/credentials/issues", tenant_.admin);
  EXPECT_EQ(json_of(stored).at("owner").at("type"), "tenant");
  EXPECT_EQ(json_of(stored).at("fields"), Json::array({"DB_PASSWORD", "ISSUES_TOKEN"}));

  const auto before = text();
  auto manifest = Json::parse(import({"--tenant-owned", "--manifest"}).out);
  for (const auto& role : manifest.at("roles")) {
    manifest["bindings"].push_back(
        {{"name", role.at("name")},
         {"role", role.at("name")},
         {"subjects", {{{"issuer", tenant_.idp.issuer()}, {"subject", "alice"}}}}});
  }
  ASSERT_THAT(tenant_.api("PUT", "/manifest", tenant_.operator_token(), manifest), HasStatus(200));
  const auto again = import({"--yes", "--tenant-owned", "--keep-stored"});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(text(), AllOf(Not(HasSubstr(kToken)), Not(HasSubstr(kPassword))));
  EXPECT_EQ(start("Issues").out, std::string(kToken) + "," + kPassword + ",fast,.\n");
  const auto back = import({"--tenant-owned", "--restore", "--yes"});
  EXPECT_EQ(back.code, 0) << back.err;
  EXPECT_EQ(text(), before);
}

TEST_F(Import, TheAuditTrailHasNoValue) {
  ASSERT_EQ(import({"--yes", "--apply"}).code, 0);
  std::string records;
  for (const auto& record : tenant_.audit()) records += record.dump() + "\n";
  EXPECT_THAT(records, AllOf(HasSubstr("credential.put"), Not(HasSubstr(kToken)),
                             Not(HasSubstr(kPassword))));
}

}  // namespace
}  // namespace postern::test
