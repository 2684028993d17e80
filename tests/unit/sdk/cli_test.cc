// Runs the real `postern` against a server that answers what each test wants.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

#include <sstream>
#include <vector>

#include "core/clock.h"
#include "core/time_format.h"
#include "fake_server.h"
#include "run_program.h"
#include "temp_folder.h"

namespace postern {
namespace {

using nlohmann::json;
using test::FakeServer;
using test::Finished;
using test::json_reply;
using test::problem_reply;
using test::SeenRequest;
using test::TempFolder;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kOperatorToken = "postern_op_canary-operator";
constexpr const char* kClientSecret = "canary-client-secret-0123456789abcdef";
constexpr const char* kUserToken = "eyJhbGciOiJub25lIn0.canary-user.c2ln";

/// A server, the files that its users have, and the program.
class Cli {
 public:
  explicit Cli(FakeServer::Handler handler) : server(std::move(handler)) {
    folder.write("token", std::string(kOperatorToken) + "\n");
    folder.write("secret", std::string(kClientSecret) + "\n");
    folder.write("user", std::string(kUserToken) + "\n");
  }
  Cli() : Cli([](const SeenRequest&) { return problem_reply(404, R"({"title":"Not found"})"); }) {}

  Finished run(std::vector<std::string> arguments, const std::string& input = {}) const {
    arguments.insert(arguments.begin(), POSTERN_PROGRAM);
    auto finished = test::run_program(arguments, environment(), input);
    // Whatever happens, our secrets are on neither stream.
    for (const char* canary : {kOperatorToken, kClientSecret, kUserToken}) {
      EXPECT_THAT(finished.out, Not(HasSubstr(canary)));
      EXPECT_THAT(finished.err, Not(HasSubstr(canary)));
    }
    return finished;
  }

  std::vector<std::string> environment() const {
    std::vector<std::string> out = {"PATH=/usr/bin:/bin",
                                    "HOME=" + folder.path(),
                                    "LC_TEST=C",
                                    "GATEWAY_SECRET=canary-gateway",
                                    "LD_DEBUG_OUTPUT=/nowhere",
                                    "POSTERN_URL=" + server.url(),
                                    "POSTERN_TENANT=acme",
                                    "POSTERN_TOKEN_FILE=" + folder.path("token"),
                                    "POSTERN_CLIENT_ID=gw-01",
                                    "POSTERN_CLIENT_SECRET_FILE=" + folder.path("secret"),
                                    "POSTERN_SUBJECT_TOKEN_FILE=" + folder.path("user")};
    out.insert(out.end(), extra.begin(), extra.end());
    return out;
  }

  TempFolder folder;
  FakeServer server;
  std::vector<std::string> extra;
};

TEST(Cli, ExplainsItself) {
  const Cli cli;
  EXPECT_EQ(cli.run({"--help"}).code, 0);
  EXPECT_THAT(cli.run({"--help"}).out, HasSubstr("exec"));
  EXPECT_THAT(cli.run({"exec", "--help"}).out, HasSubstr("postern exec github -- npx"));
  EXPECT_THAT(cli.run({"--version"}).out, StartsWith("postern "));
}

TEST(Cli, EndsWith2WhenItIsUsedWrongly) {
  const Cli cli;
  const std::vector<std::vector<std::string>> table = {
      {},
      {"nonsense"},
      {"apply"},
      {"apply", "-f", "/nonexistent.yaml"},
      {"apply", "-f", "/nonexistent.yaml", "--admin-token"},
      {"tenant"},
      {"tenant", "show", "Not A Tenant"},
      {"tenant", "delete", "acme"},
      {"tenant", "delete", "acme", "--confirm", "acm"},
      {"credential", "set", "github"},
      {"credential", "set", "github", "--tenant-owned"},
      {"credential", "set", "a/b", "--tenant-owned", "--field", "t"},
      {"credential", "get", "github", "--tenant-owned", "--as-user"},
      {"credential", "get", "github", "--issuer", "x"},
      {"audit", "tail", "-n", "-1"},
      {"audit", "tail", "--after", "x"},
      {"client", "secret", "add", "a b"},
      {"exchange", "--bogus"},
      {"import"},
      {"import", "/nonexistent.json"},
      {"import", "/dev/null", "--format", "mcp"},
      {"import", "/etc/passwd"},
      {"import", "x.json", "--yes", "--dry-run"},
      {"import", "x.json", "--apply"},
      {"import", "x.json", "--vault", "https://vault.example"},
      {"import", "--vault", "https://vault.example"},
      {"import", "--vault", "http://vault.example", "--vault-token-file", "/nonexistent"},
      {"--url", "http://postern.example", "status"},
      {"--token-file", "/nonexistent", "status"},
      {"credential", "set", "x", "--tenant-owned", "--from-env", "t=HOME", "--expires", "tomorrow"},
  };
  for (const auto& arguments : table) {
    const auto finished = cli.run(arguments);
    EXPECT_EQ(finished.code, 2) << ::testing::PrintToString(arguments);
    EXPECT_EQ(finished.out, "");
    EXPECT_THAT(finished.err, StartsWith("postern: "));
  }
  EXPECT_TRUE(cli.server.requests().empty());
}

TEST(Cli, EndsWith3WhenNobodyAnswers) {
  const Cli cli([](const SeenRequest&) { return ""; });
  const auto finished = cli.run({"status"});
  EXPECT_EQ(finished.code, 3);
  EXPECT_THAT(finished.err,
              AllOf(HasSubstr("cannot reach"), HasSubstr("next: check that posternd")));
  const Cli html([](const SeenRequest&) { return test::http_reply(200, "text/html", "<p>"); });
  EXPECT_EQ(html.run({"status"}).code, 3);
  const Cli busy([](const SeenRequest&) { return json_reply(503, "{}", "Retry-After: 7\r\n"); });
  const auto later = busy.run({"status"});
  EXPECT_EQ(later.code, 3);
  EXPECT_THAT(later.err, HasSubstr("next: try again in 7 seconds"));
}

TEST(Cli, SaysWhatWasRefusedWhyAndWhatNext) {
  const Cli cli([](const SeenRequest&) {
    return problem_reply(
        401, R"({"type":"urn:postern:problem:unauthenticated","title":"Authentication required",)"
             R"("detail":"no such token","request_id":"r-17"})");
  });
  const auto finished = cli.run({"tenant", "list"});
  EXPECT_EQ(finished.code, 1);
  EXPECT_EQ(finished.err,
            "postern: cannot list tenants: no such token (unauthenticated, HTTP 401)\n"
            "  next: check the token in --token-file, and that it belongs to this server\n"
            "  request: r-17\n");
}

TEST(Cli, DoesNotUseSecretFilesThatOthersCanRead) {
  const Cli cli;
  for (const ::mode_t mode : {0644U, 0640U, 0604U, 0620U, 0602U}) {
    ::chmod(cli.folder.path("token").c_str(), mode);
    const auto finished = cli.run({"status"});
    EXPECT_EQ(finished.code, 2) << std::oct << mode;
    EXPECT_THAT(finished.err, HasSubstr("chmod 600 " + cli.folder.path("token")));
  }
  EXPECT_TRUE(cli.server.requests().empty());
}

TEST(Cli, KeepsATerminalSafeFromTheServer) {
  const Cli cli([](const SeenRequest&) {
    return problem_reply(
        400, "{\"detail\":\"\\u001b]0;evil\\u0007 \\u202egnp\\u009b31m \\ud83d\\ude00\"}");
  });
  const auto finished = cli.run({"status"});
  EXPECT_EQ(finished.err,
            "postern: cannot ask for the status: "
            "\\x1b]0;evil\\x07 \\xe2\\x80\\xaegnp\\xc2\\x9b31m \xF0\x9F\x98\x80 (HTTP 400)\n");
}

// ---- apply and diff ----

std::string apply_reply(const std::string& tenant, bool dry_run, std::vector<json> changes,
                        std::vector<json> secrets = {}) {
  const json body = {{"tenant", tenant},
                     {"epoch", 4},
                     {"created", false},
                     {"dry_run", dry_run},
                     {"changes", std::move(changes)},
                     {"client_secrets", std::move(secrets)},
                     {"warnings", {"a warning"}},
                     {"missing_credentials", {"shared-db"}}};
  return json_reply(200, body.dump());
}

bool is_dry(const SeenRequest& request) {
  return request.target.find("dry_run=true") != std::string::npos;
}

TEST(CliApply, SendsTheManifestAndKeepsNewSecrets) {
  const Cli cli([](const SeenRequest& request) {
    if (request.method == "POST") {
      return json_reply(201, R"({"token_id":"t1","token":"postern_ta_acme_made"})");
    }
    return apply_reply(
        "acme", false,
        {{{"kind", "client"}, {"name", "gw-01"}, {"action", "create"}, {"fields", json::array()}},
         {{"kind", "role"}, {"name", "r"}, {"action", "unchanged"}, {"fields", json::array()}},
         {{"kind", "backend"}, {"name", "b"}, {"action", "update"}, {"fields", {"/audience"}}},
         {{"kind", "issuer"}, {"name", "i"}, {"action", "delete"}, {"fields", json::array()}}},
        {{{"client", "gw-01"}, {"client_secret", "made-now"}}});
  });
  cli.folder.write("t.yaml", "tenant: acme\nclients:\n  - id: gw-01\n    secret_file: secret\n");

  const auto finished = cli.run({"apply", "-f", cli.folder.path("t.yaml"), "--prune",
                                 "--secrets-dir", cli.folder.path("new"), "--admin-token"});

  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_EQ(finished.out,
            "tenant acme: 1 created, 1 updated, 1 deleted\n"
            "+ client gw-01\n~ backend b: audience\n- issuer i\n");
  EXPECT_THAT(finished.err, AllOf(HasSubstr("a warning"), HasSubstr("postern credential set"),
                                  Not(HasSubstr("made-now"))));
  EXPECT_EQ(cli.folder.read("new/acme.gw-01.secret"), "made-now");
  EXPECT_EQ(cli.folder.read("new/acme.admin.token"), "postern_ta_acme_made");
  struct stat file {};
  ::stat(cli.folder.path("new/acme.gw-01.secret").c_str(), &file);
  EXPECT_EQ(file.st_mode & 0777, 0600u);
  ::stat(cli.folder.path("new").c_str(), &file);
  EXPECT_EQ(file.st_mode & 0777, 0700u);

  const auto requests = cli.server.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].target, "/api/v1/tenants/acme/manifest?dry_run=false&prune=true");
  EXPECT_EQ(requests[0].header("authorization"), std::string("Bearer ") + kOperatorToken);
  EXPECT_EQ(json::parse(requests[0].body).at("clients")[0].at("secret"), kClientSecret);

  // Again: the admin token is there, so no second one is made.
  cli.run({"apply", "-f", cli.folder.path("t.yaml"), "--secrets-dir", cli.folder.path("new"),
           "--admin-token"});
  EXPECT_EQ(cli.server.requests().size(), 3u);
}

TEST(CliApply, PrintsNewSecretsOnceWhenThereIsNoFolder) {
  const Cli cli([](const SeenRequest&) {
    return apply_reply("acme", false, {}, {{{"client", "gw-01"}, {"client_secret", "made-now"}}});
  });
  const auto finished = cli.run({"apply", "-f", "-"}, "tenant: acme\n");
  EXPECT_EQ(finished.code, 0);
  EXPECT_THAT(finished.out, HasSubstr("secret of client gw-01 of tenant acme: made-now\n"));
  EXPECT_THAT(finished.err, AllOf(HasSubstr("never shown again"), Not(HasSubstr("made-now"))));
}

TEST(CliApply, DoesNotLetAServerChooseWhereASecretIsWritten) {
  const Cli cli([](const SeenRequest&) {
    return apply_reply("acme", false, {},
                       {{{"client", "/../../escaped"}, {"client_secret", "made-now"}}});
  });
  cli.folder.write("t.yaml", "tenant: acme\n");
  const auto finished =
      cli.run({"apply", "-f", cli.folder.path("t.yaml"), "--secrets-dir", cli.folder.path("new")});
  EXPECT_TRUE(std::filesystem::is_empty(cli.folder.path("new")));
  EXPECT_FALSE(std::filesystem::exists(cli.folder.path("escaped.secret")));
  EXPECT_EQ(finished.code, 4);
  EXPECT_THAT(finished.out, Not(HasSubstr("made-now")));  // output is often kept in a log
}

TEST(CliApply, KeepsTheOtherSecretsWhenOneFileCannotBeWritten) {
  const Cli cli([](const SeenRequest&) {
    return apply_reply("acme", false, {},
                       {{{"client", "gw-01"}, {"client_secret", "made-first"}},
                        {{"client", "gw-02"}, {"client_secret", "made-second"}}});
  });
  cli.folder.write("t.yaml", "tenant: acme\n");
  std::filesystem::create_directories(cli.folder.path("new/acme.gw-01.secret"));
  const auto finished =
      cli.run({"apply", "-f", cli.folder.path("t.yaml"), "--secrets-dir", cli.folder.path("new")});
  EXPECT_EQ(finished.code, 4);
  EXPECT_THAT(finished.out, Not(AnyOf(HasSubstr("made-first"), HasSubstr("made-second"))));
  EXPECT_THAT(finished.err,
              AllOf(HasSubstr("cannot keep the secret of client gw-01 of tenant acme"),
                    HasSubstr("it was made all the same"),
                    HasSubstr("next: postern client secret list gw-01")));
  EXPECT_EQ(cli.folder.read("new/acme.gw-02.secret"), "made-second");
}

TEST(CliApply, KeepsSecretsWhenNobodyReadsItsOutput) {
  const Cli cli([](const SeenRequest&) {
    return apply_reply(
        "acme", false,
        {{{"kind", "client"}, {"name", "gw-01"}, {"action", "create"}, {"fields", json::array()}}},
        {{{"client", "gw-01"}, {"client_secret", "made-now"}}});
  });
  cli.folder.write("t.yaml", "tenant: acme\n");
  int nobody[2];
  ASSERT_EQ(::pipe(nobody), 0);
  ::close(nobody[0]);
  const auto command = "exec \"$0\" apply -f " + cli.folder.path("t.yaml") + " --secrets-dir " +
                       cli.folder.path("new") + " >&" + std::to_string(nobody[1]);
  const auto finished =
      test::run_program({"/bin/bash", "-c", command, POSTERN_PROGRAM}, cli.environment());
  ::close(nobody[1]);
  EXPECT_EQ(finished.code, 4);  // and not 128 + SIGPIPE
  EXPECT_EQ(cli.folder.read("new/acme.gw-01.secret"), "made-now");
}

TEST(Cli, AsksForNoSecretThatWouldBeLost) {
  const Cli cli([](const SeenRequest&) {
    return json_reply(201, R"({"secret_id":"s1","client_secret":"made-now"})");
  });
  cli.folder.write("t.yaml", "tenant: acme\n");
  const auto file = cli.folder.path("t.yaml");
  // Closed; full; a pipe that nobody reads: its reader is gone before the command begins.
  for (const char* output : {">&-", ">/dev/full", "3> >(exit); wait $!; exec \"$0\" $1 >&3"}) {
    for (const std::string& command :
         {"apply -f " + file, std::string("client secret add gw-01 --tenant acme"),
          std::string("tenant admin-token create acme --description x")}) {
      const auto script =
          *output == '>' ? std::string("exec \"$0\" $1 ") + output : std::string("exec ") + output;
      const auto finished = test::run_program({"/bin/bash", "-c", script, POSTERN_PROGRAM, command},
                                              cli.environment());
      EXPECT_EQ(finished.code, 2) << command << output;
      EXPECT_THAT(finished.err, HasSubstr("nothing was sent")) << command << output;
    }
  }
  for (const char* out : {"/nonexistent/x", "/proc/x"}) {
    const auto finished =
        cli.run({"client", "secret", "add", "gw-01", "--tenant", "acme", "--out", out});
    EXPECT_EQ(finished.code, 2) << out;
    EXPECT_THAT(finished.err, HasSubstr("cannot create the secret file")) << out;
  }
  EXPECT_TRUE(cli.server.requests().empty());
}

TEST(Cli, SaysThatASecretWasMadeAndLost) {
  std::string folder;
  const Cli cli([&](const SeenRequest&) {
    std::filesystem::remove_all(folder);  // between the check and the answer
    return json_reply(201, R"({"secret_id":"s1","client_secret":"made-now"})");
  });
  folder = cli.folder.path("gone");
  std::filesystem::create_directory(folder);
  const auto finished =
      cli.run({"client", "secret", "add", "gw-01", "--tenant", "acme", "--out", folder + "/x"});
  EXPECT_EQ(finished.code, 4);
  EXPECT_EQ(finished.out, "");
  EXPECT_THAT(finished.err,
              AllOf(HasSubstr("it was made all the same"), Not(HasSubstr("made-now")),
                    HasSubstr("next: postern client secret remove gw-01 s1 --tenant acme")));
}

TEST(CliApply, ChecksThatSecretsCanBeKeptBeforeAnythingChanges) {
  const Cli cli;
  cli.folder.write("t.yaml", "tenant: acme\n");
  const auto finished =
      cli.run({"apply", "-f", cli.folder.path("t.yaml"), "--secrets-dir", "/proc/nowhere"});
  EXPECT_EQ(finished.code, 2);
  EXPECT_TRUE(cli.server.requests().empty());
}

TEST(CliApply, PlacesTheServersRefusalInTheFile) {
  const Cli cli([](const SeenRequest&) {
    return problem_reply(
        400, R"({"detail":"must be an absolute https URI","pointer":"/backends/0/audience"})");
  });
  cli.folder.write("t.yaml", "tenant: acme\nbackends:\n  - name: github\n    audience: nope\n");
  const auto finished = cli.run({"apply", "-f", cli.folder.path("t.yaml")});
  EXPECT_EQ(finished.code, 1);
  EXPECT_EQ(finished.err, "postern: " + cli.folder.path("t.yaml") +
                              ":4:5: backends[0].audience: must be an absolute https URI\n");
}

TEST(CliApply, SendsNothingWhenAFileIsBroken) {
  const Cli cli;
  cli.folder.write("good.yaml", "tenant: acme\n");
  cli.folder.write("bad.yaml", "tenant: beta\ntenant: beta\n");
  cli.folder.write("twice.yaml", "tenant: acme\n");
  auto finished =
      cli.run({"apply", "-f", cli.folder.path("good.yaml"), "-f", cli.folder.path("bad.yaml")});
  EXPECT_EQ(finished.code, 2);
  EXPECT_EQ(finished.err,
            "postern: " + cli.folder.path("bad.yaml") +
                ":2:1: tenant: this key is here twice\n  nothing was sent or changed\n");
  finished =
      cli.run({"apply", "-f", cli.folder.path("good.yaml"), "-f", cli.folder.path("twice.yaml")});
  EXPECT_EQ(finished.code, 2);
  EXPECT_THAT(finished.err, HasSubstr("tenant acme has a manifest already"));
  EXPECT_TRUE(cli.server.requests().empty());
}

TEST(CliApply, ChangesNothingWhenOneOfSeveralIsRefused) {
  const Cli cli([](const SeenRequest& request) {
    if (request.target.find("/beta/") != std::string::npos) {
      return problem_reply(400, R"({"detail":"is required","pointer":"/backends/0/audience"})");
    }
    return apply_reply("acme", is_dry(request), {});
  });
  cli.folder.write("both.yaml", "tenant: acme\n---\ntenant: beta\nbackends:\n  - name: x\n");
  const auto finished = cli.run({"apply", "-f", cli.folder.path("both.yaml")});
  EXPECT_EQ(finished.code, 1);
  EXPECT_EQ(finished.out, "");
  EXPECT_THAT(finished.err, AllOf(HasSubstr("both.yaml:5:5: backends[0].audience: is required"),
                                  HasSubstr("nothing was changed")));
  for (const auto& request : cli.server.requests()) EXPECT_TRUE(is_dry(request)) << request.target;
}

TEST(CliApply, AppliesSeveralOneByOne) {
  const Cli cli([](const SeenRequest& request) {
    const auto tenant = request.target.find("/beta/") == std::string::npos ? "acme" : "beta";
    return apply_reply(tenant, is_dry(request), {});
  });
  const auto finished = cli.run({"apply", "-f", "-"}, "tenant: acme\n---\ntenant: beta\n");
  EXPECT_EQ(finished.code, 0);
  EXPECT_EQ(finished.out, "tenant acme: unchanged\ntenant beta: unchanged\n");
  EXPECT_EQ(cli.server.requests().size(), 4u);
}

TEST(CliApply, SaysWhatIsDoneWhenTheServerGoesAwayInBetween) {
  const Cli cli([](const SeenRequest& request) {
    const bool beta = request.target.find("/beta/") != std::string::npos;
    if (beta && !is_dry(request)) return std::string();
    return apply_reply(beta ? "beta" : "acme", is_dry(request), {});
  });
  const auto finished = cli.run({"apply", "-f", "-"}, "tenant: acme\n---\ntenant: beta\n");
  EXPECT_EQ(finished.code, 3);
  EXPECT_THAT(finished.err, AllOf(HasSubstr("applied before that: acme"),
                                  HasSubstr("tenant beta may or may not be changed")));
}

TEST(CliDiff, ShowsOldAndNewValuesAndEndsWith1) {
  const Cli cli([](const SeenRequest& request) {
    if (request.method == "GET") {
      return json_reply(200,
                        R"({"tenant":"acme","backends":[{"name":"b","audience":"https://old"}],)"
                        R"("clients":[{"id":"gw-01"}]})");
    }
    return apply_reply(
        "acme", true,
        {{{"kind", "backend"},
          {"name", "b"},
          {"action", "update"},
          {"fields", {"/audience", "/enabled"}}},
         {{"kind", "client"}, {"name", "gw-01"}, {"action", "update"}, {"fields", {"/secret"}}},
         {{"kind", "role"}, {"name", "dev"}, {"action", "create"}, {"fields", json::array()}}});
  });
  const auto finished = cli.run(
      {"diff", "-f", "-"}, "tenant: acme\nbackends:\n  - {name: b, audience: 'https://new'}\n");
  EXPECT_EQ(finished.code, 1);
  EXPECT_EQ(finished.out,
            "tenant acme\n~ backend b\n    audience: \"https://old\" -> \"https://new\"\n"
            "    enabled: (default) -> (default)\n~ client gw-01\n"
            "    secret: (not shown) -> (not shown)\n+ role dev\n");
  EXPECT_TRUE(is_dry(cli.server.requests()[0]));
}

TEST(CliDiff, EndsWith0WithoutDifferencesAnd2WithoutAnAnswer) {
  const Cli same([](const SeenRequest&) {
    return apply_reply(
        "acme", true,
        {{{"kind", "role"}, {"name", "r"}, {"action", "unchanged"}, {"fields", json::array()}}});
  });
  const auto finished = same.run({"diff", "-f", "-"}, "tenant: acme\n");
  EXPECT_EQ(finished.code, 0);
  EXPECT_EQ(finished.out, "");
  const Cli refused;
  EXPECT_EQ(refused.run({"diff", "-f", "-"}, "tenant: acme\n").code, 2);
}

// ---- exec ----

json allowed(const std::string& backend, json env, std::vector<json> files = {}) {
  return {{"backend", backend},
          {"status", "allowed"},
          {"env", std::move(env)},
          {"headers", json::object()},
          {"files", std::move(files)}};
}

// Lists are vectors here: json({x}) is a copy of x for one compiler, a list for another.
FakeServer::Handler releases(std::vector<json> items) {
  return [items = std::move(items)](const SeenRequest&) {
    return json_reply(200, json{{"items", items}}.dump());
  };
}

std::vector<std::string> sorted_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  std::sort(lines.begin(), lines.end());
  return lines;
}

TEST(CliExec, GivesTheCommandItsEnvironmentAndNothingElse) {
  Cli cli(releases({allowed("github", {{"GITHUB_TOKEN", "released"}})}));
  cli.extra = {"KEEP=me", "DROP=me"};
  const auto finished = cli.run({"exec", "github", "--pass", "KEEP", "--", "env"});
  EXPECT_EQ(finished.code, 0);
  EXPECT_EQ(finished.err, "");
  EXPECT_THAT(sorted_lines(finished.out),
              ElementsAre("GITHUB_TOKEN=released", "HOME=" + cli.folder.path(), "KEEP=me",
                          "LC_TEST=C", "PATH=/usr/bin:/bin"));
  const auto request = cli.server.requests()[0];
  EXPECT_EQ(request.target, "/api/v1/tenants/acme/release");
  EXPECT_THAT(request.header("authorization"), StartsWith("Basic "));
  EXPECT_EQ(json::parse(request.body),
            json({{"subject_token", kUserToken},
                  {"subject_token_type", "urn:ietf:params:oauth:token-type:access_token"},
                  {"items", {{{"backend", "github"}}}}}));
}

TEST(CliExec, HandsFilesOverInMemory) {
  const Cli cli(releases({allowed("files", json::object(),
                                  {{{"name", "a.json"}, {"env", "A_FILE"}, {"content", "first"}},
                                   {{"name", "b.json"}, {"env", "B_FILE"}, {"content", ""}}})}));
  // Twice, because each reader gets the file from its beginning; and from a grandchild.
  const auto finished = cli.run({"exec", "files", "sh", "-c",
                                 "cat $A_FILE $A_FILE $B_FILE; sh -c 'cat $A_FILE'; "
                                 "echo x 2>/dev/null >$A_FILE; echo; cat $A_FILE"});
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_EQ(finished.out, "firstfirstfirst\nfirst");
}

TEST(CliExec, ClosesEveryOtherDescriptor) {
  const Cli cli(releases(
      {allowed("files", json::object(), {{{"name", "a"}, {"env", "A"}, {"content", "x"}}})}));
  const auto finished = test::run_program(
      {"/bin/sh", "-c",
       "exec 7</etc/passwd 8</dev/null; exec \"$0\" exec files -- ls -1 /proc/self/fd",
       POSTERN_PROGRAM},
      cli.environment());
  EXPECT_EQ(finished.code, 0) << finished.err;
  // 0, 1, 2, the folder that ls reads (3), and the file.
  EXPECT_THAT(sorted_lines(finished.out), ElementsAre("0", "1", "100", "2", "3"));
}

TEST(CliExec, LetsTheCommandOwnItsStreamsAndItsExitCode) {
  const Cli cli(releases({allowed("b", json::object())}));
  const auto finished =
      cli.run({"exec", "b", "sh", "-c", "cat; echo err >&2; exit 41"}, "through\n");
  EXPECT_EQ(finished.code, 41);
  EXPECT_EQ(finished.out, "through\n");
  EXPECT_EQ(finished.err, "err\n");
}

TEST(CliExec, LeavesSigpipeToTheCommandAsUsual) {
  const Cli cli(releases({allowed("b", json::object())}));
  const auto finished =
      cli.run({"exec", "b", "--", "/bin/sh", "-c", "kill -PIPE $$; echo survived"});
  EXPECT_EQ(finished.code, 128 + SIGPIPE);
  EXPECT_EQ(finished.out, "");
}

TEST(CliExec, AsksForSeveralBackendsInOneCall) {
  const Cli cli(releases({allowed("a", {{"A", "1"}}), allowed("b", {{"B", "2"}})}));
  const auto finished =
      cli.run({"exec", "a,b", "--scope", "a=x y", "--scope", "b=z", "sh", "-c", "echo $A$B"});
  EXPECT_EQ(finished.out, "12\n");
  EXPECT_EQ(json::parse(cli.server.requests()[0].body).at("items"),
            json({{{"backend", "a"}, {"scope", "x y"}}, {{"backend", "b"}, {"scope", "z"}}}));
  EXPECT_EQ(cli.run({"exec", "a,b", "--scope", "x", "true"}).code, 78);
  EXPECT_EQ(cli.run({"exec", "a,a", "true"}).code, 78);
  EXPECT_EQ(cli.run({"exec", "a,", "true"}).code, 78);
}

TEST(CliExec, StartsNothingWhenOneBackendIsRefused) {
  const Cli cli(releases({allowed("a", {{"A", "canary-released"}}),
                          {{"backend", "b"},
                           {"status", "refused"},
                           {"error", "interaction_required"},
                           {"detail", "you have no github credential yet"},
                           {"connect_url", "https://portal.acme.example/connect?backend=b"}}}));
  const auto finished = cli.run({"exec", "a,b", "--", "touch", cli.folder.path("started")});
  EXPECT_EQ(finished.code, 77);
  EXPECT_EQ(finished.out, "");
  EXPECT_EQ(finished.err,
            "postern: backend b is refused: you have no github credential yet "
            "(interaction_required)\n"
            "  next: open https://portal.acme.example/connect?backend=b\n");
  EXPECT_FALSE(std::filesystem::exists(cli.folder.path("started")));
}

TEST(CliExec, RefusesReleasesThatWouldTakeOverTheCommand) {
  for (const char* name :
       {"LD_PRELOAD", "PATH", "NODE_OPTIONS", "BASH_ENV", "POSTERN_URL", "A=B", "HTTPS_PROXY"}) {
    const Cli cli(releases({allowed("evil", {{name, "canary-released"}})}));
    const auto finished = cli.run({"exec", "evil", "--", "touch", cli.folder.path("started")});
    EXPECT_EQ(finished.code, 77) << name;
    EXPECT_THAT(finished.err, AllOf(HasSubstr(name), Not(HasSubstr("canary-released"))));
    EXPECT_FALSE(std::filesystem::exists(cli.folder.path("started")));
  }
  const Cli file(releases({allowed("evil", json::object(),
                                   {{{"name", "x"}, {"env", "BASH_ENV"}, {"content", "evil"}}})}));
  EXPECT_EQ(file.run({"exec", "evil", "true"}).code, 77);
  const Cli clash(releases({allowed("a", {{"T", "1"}}), allowed("b", {{"T", "2"}})}));
  EXPECT_EQ(clash.run({"exec", "a,b", "true"}).code, 77);
}

TEST(CliExec, SaysWhyNothingWasStarted) {
  const Cli refused([](const SeenRequest&) {
    return problem_reply(
        401,
        R"({"type":"urn:postern:problem:invalid-client","detail":"client authentication failed"})");
  });
  auto finished = refused.run({"exec", "b", "true"});
  EXPECT_EQ(finished.code, 77);
  EXPECT_THAT(finished.err,
              AllOf(HasSubstr("client authentication failed"), HasSubstr("--client-secret-file")));

  const Cli silent([](const SeenRequest&) { return ""; });
  EXPECT_EQ(silent.run({"exec", "b", "true"}).code, 69);

  const Cli never(releases({allowed("b", json::object())}));
  EXPECT_EQ(never.run({"exec", "b"}).code, 78);
  EXPECT_EQ(never.run({"exec"}).code, 78);
  EXPECT_EQ(never.run({"exec", "b", "--bogus", "true"}).code, 78);
  EXPECT_EQ(never.run({"exec", "b", "--pass", "POSTERN_URL", "true"}).code, 78);
  EXPECT_EQ(never.run({"--client-secret-file", "/nonexistent", "exec", "b", "true"}).code, 78);
  // Found out before anything is released.
  EXPECT_EQ(never.run({"exec", "b", "no-such-command-here"}).code, 127);
  EXPECT_EQ(never.run({"exec", "b", "/nonexistent/x"}).code, 127);
  EXPECT_EQ(never.run({"exec", "b", never.folder.path("user")}).code, 126);
  EXPECT_EQ(never.run({"exec", "b", "/etc"}).code, 126);
  EXPECT_TRUE(never.server.requests().empty());
}

// ---- credentials ----

constexpr const char* kStored =
    R"({"name":"github","owner":{"type":"principal","issuer":"https://idp","subject":"alice"},)"
    R"("version":2,"fields":["json","token"],"created_at":"2026-11-21T05:40:00Z"})";

TEST(CliCredential, TakesValuesFromFilesVariablesAndInput) {
  Cli cli([](const SeenRequest&) { return json_reply(200, kStored); });
  cli.folder.write("one-line", "from file\n");
  cli.folder.write("pem", "line 1\nline 2\n");
  cli.extra = {"MY_VALUE=from env"};
  const auto finished =
      cli.run({"credential", "set", "github", "--issuer", "https://idp", "--subject", "alice",
               "--from-file", "a=" + cli.folder.path("one-line"), "--from-file",
               "b=" + cli.folder.path("pem"), "--from-env", "c=MY_VALUE", "--field", "d",
               "--version-metadata", "ticket=OPS=7"},
              "from input\n");
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_EQ(finished.out, "credential github of alice (https://idp): version 2 stored\n");
  EXPECT_EQ(json::parse(cli.server.requests()[0].body),
            json({{"fields",
                   {{"a", "from file"},
                    {"b", "line 1\nline 2\n"},
                    {"c", "from env"},
                    {"d", "from input"}}},
                  {"version_metadata", {{"ticket", "OPS=7"}}}}));
  EXPECT_EQ(cli.run({"credential", "set", "x", "--tenant-owned", "--from-env", "c=MY_VALUE",
                     "--version-metadata", "ticket"})
                .code,
            2);
}

TEST(CliCredential, GivesTheTerminalItsEchoBackWhenItIsInterrupted) {
  const Cli cli;
  int terminal = -1;
  int slave = -1;
  ASSERT_EQ(::openpty(&terminal, &slave, nullptr, nullptr, nullptr), 0);
  const auto environment = cli.environment();
  std::vector<char*> variables;
  for (const auto& entry : environment) variables.push_back(const_cast<char*>(entry.c_str()));
  variables.push_back(nullptr);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::close(terminal);
    ::login_tty(slave);
    ::execle(POSTERN_PROGRAM, POSTERN_PROGRAM, "credential", "set", "x", "--tenant-owned",
             "--field", "token", nullptr, variables.data());
    ::_exit(125);
  }
  const auto echoes = [&] {
    termios now{};
    EXPECT_EQ(::tcgetattr(slave, &now), 0);
    return (now.c_lflag & ECHO) != 0;
  };
  std::string shown;
  char byte = 0;
  while (shown.find("(not shown): ") == shown.npos && ::read(terminal, &byte, 1) == 1) {
    shown += byte;
  }
  EXPECT_FALSE(echoes());
  EXPECT_EQ(::write(terminal, "half\x03", 5), 5);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT) << status;
  EXPECT_TRUE(echoes());
  ::close(slave);
  ::close(terminal);
  EXPECT_TRUE(cli.server.requests().empty());
}

TEST(CliCredential, NeverTakesOrRepeatsAValueFromTheCommandLine) {
  const Cli cli;
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"--field", "token=canary-value"},
                                             {"--from-file", "canary-value"},
                                             {"--from-file", "=canary-value"},
                                             {"--from-env", "canary-value"},
                                             {"--from-env", "token=canary-value"}}) {
    std::vector<std::string> all = {"credential", "set", "github", "--tenant-owned"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const auto finished = cli.run(all);
    EXPECT_EQ(finished.code, 2);
    EXPECT_THAT(finished.err, Not(HasSubstr("canary-value")));
  }
  EXPECT_TRUE(cli.server.requests().empty());
}

TEST(CliCredential, RefusesDoubtfulFields) {
  const Cli cli;
  cli.folder.write("open", "x", 0644);
  cli.folder.write("empty", "\n");
  cli.folder.write("ok", "x");
  const auto file = [&](const char* name) { return "t=" + cli.folder.path(name); };
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"--from-file", file("open")},
                                             {"--from-file", file("empty")},
                                             {"--from-file", file("missing")},
                                             {"--from-file", file("ok"), "--from-env", "t=HOME"},
                                             {"--field", "a", "--field", "b"}}) {
    std::vector<std::string> all = {"credential", "set", "github", "--tenant-owned"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    EXPECT_EQ(cli.run(all, "value\n").code, 2) << ::testing::PrintToString(arguments);
  }
  EXPECT_TRUE(cli.server.requests().empty());
}

TEST(CliCredential, ActsAsTheUserWhenAsked) {
  const Cli cli([](const SeenRequest& request) {
    return request.method == "DELETE" ? std::string("HTTP/1.1 204 X\r\n\r\n")
                                      : json_reply(200, kStored);
  });
  EXPECT_EQ(cli.run({"credential", "get", "github", "--as-user"}).code, 0);
  EXPECT_EQ(cli.run({"credential", "delete", "github", "--as-user"}).code, 0);
  EXPECT_EQ(cli.run({"credential", "get", "github", "--tenant-owned"}).code, 0);
  const auto requests = cli.server.requests();
  EXPECT_EQ(requests[0].header("authorization"), std::string("Bearer ") + kUserToken);
  EXPECT_EQ(requests[0].target, "/api/v1/tenants/acme/credentials/github");
  EXPECT_EQ(requests[1].method, "DELETE");
  EXPECT_EQ(requests[2].header("authorization"), std::string("Bearer ") + kOperatorToken);
}

TEST(CliCredential, ChangesAndListsVersions) {
  const Cli cli([](const SeenRequest& request) {
    if (request.target.find("/versions?") != std::string::npos) {
      return json_reply(
          200,
          R"({"items":[{"version":1,"state":"destroyed","fields":["token"],)"
          R"("created_at":"2026-11-21T05:40:00Z","destroyed_at":"2026-11-22T05:40:00Z",)"
          R"("metadata":{"ticket":"OPS-7","by":"\u001bme"}},)"
          R"({"version":2,"state":"live","fields":["token"],"created_at":"2026-11-21T05:40:00Z"},)"
          R"({"version":3,"state":"deleted","fields":["token"],)"
          R"("created_at":"2026-11-21T05:40:00Z","deleted_at":"2026-11-22T05:40:00Z",)"
          R"("withdrawn":true}]})");
    }
    return json_reply(200, kStored);
  });
  const auto run = [&](std::vector<std::string> words) {
    words.insert(words.begin(), "credential");
    for (const char* word : {"--issuer", "https://idp", "--subject", "alice"}) {
      words.emplace_back(word);
    }
    return cli.run(words);
  };
  const auto listed = run({"versions", "github"});
  EXPECT_EQ(listed.code, 0) << listed.err;
  EXPECT_THAT(listed.out, AllOf(HasSubstr("destroyed"), HasSubstr("live"), HasSubstr("withdrawn")));
  EXPECT_THAT(listed.out, AllOf(HasSubstr("ticket=OPS-7"), Not(HasSubstr("\x1b"))));
  EXPECT_EQ(run({"delete", "github", "--version", "2"}).out,
            "version 2 of credential github of alice (https://idp) deleted\n");
  EXPECT_EQ(run({"undelete", "github", "--version", "2"}).code, 0);
  EXPECT_EQ(run({"destroy", "github", "--version", "1"}).code, 0);
  EXPECT_EQ(run({"destroy", "github"}).code, 2);
  EXPECT_EQ(run({"undelete", "github", "--version", "x"}).code, 2);
  const auto requests = cli.server.requests();
  ASSERT_EQ(requests.size(), 4u);
  const std::string base = "/api/v1/tenants/acme/credentials/github/versions";
  const std::string owner = "?issuer=https%3A%2F%2Fidp&subject=alice";
  EXPECT_EQ(requests[0].method + requests[0].target, "GET" + base + owner);
  EXPECT_EQ(requests[1].method + requests[1].target, "DELETE" + base + "/2" + owner);
  EXPECT_EQ(requests[2].method + requests[2].target, "POST" + base + "/2/undelete" + owner);
  EXPECT_EQ(requests[3].method + requests[3].target, "POST" + base + "/1/destroy" + owner);

  const auto lines = run({"versions", "github", "--json"}).out;
  const auto first = json::parse(lines.substr(0, lines.find('\n')));
  EXPECT_EQ(first.at("metadata"), json({{"ticket", "OPS-7"}, {"by", "\x1bme"}}));
}

TEST(CliCredential, DescribesAndFilters) {
  const Cli cli([](const SeenRequest& request) {
    return json_reply(200, request.method == "GET" ? R"({"items":[]})" : kStored);
  });
  EXPECT_EQ(cli.run({"credential",
                     "describe",
                     "db",
                     "--tenant-owned",
                     "--label",
                     "team=web",
                     "--label",
                     "a=b=c",
                     "--remove-label",
                     "old",
                     "--metadata",
                     "id=7",
                     "--rotation-due",
                     "never",
                     "--max-versions",
                     "3",
                     "--cas-required",
                     "true",
                     "--description",
                     "x"})
                .code,
            0);
  EXPECT_EQ(cli.run({"credential", "list", "--label", "team=web", "--label", "env=prod", "--type",
                     "basic", "--overdue"})
                .code,
            0);
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"--label", "team"},
                                                {"--label", "=x"},
                                                {"--max-versions", "0"},
                                                {"--max-versions", "101"},
                                                {"--cas-required", "maybe"},
                                                {"--rotation-due", "soon"}}) {
    std::vector<std::string> words{"credential", "describe", "db", "--tenant-owned"};
    words.insert(words.end(), wrong.begin(), wrong.end());
    EXPECT_EQ(cli.run(words).code, 2) << wrong[0] << wrong[1];
  }
  const auto requests = cli.server.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].method, "PATCH");
  EXPECT_EQ(json::parse(requests[0].body),
            json({{"labels", {{"team", "web"}, {"a", "b=c"}, {"old", nullptr}}},
                  {"metadata", {{"id", "7"}}},
                  {"rotation_due_at", nullptr},
                  {"max_versions", 3},
                  {"cas_required", true},
                  {"description", "x"}}));
  EXPECT_EQ(requests[1].target,
            "/api/v1/tenants/acme/credentials?labels=team%3Dweb%2Cenv%3Dprod&type=basic&"
            "overdue=true&limit=100");
}

TEST(CliCredential, RevealsWithAReasonOnly) {
  const Cli cli([](const SeenRequest&) {
    return json_reply(200, R"({"version":2,"fields":{"user":"u","key":"line 1\nline 2"}})");
  });
  const auto one = cli.run({"credential", "reveal", "db", "--tenant-owned", "--reason", "OPS-7",
                            "--field", "key", "--version", "2"});
  EXPECT_EQ(one.code, 0) << one.err;
  EXPECT_EQ(one.out, "line 1\nline 2");
  const auto all = cli.run({"credential", "reveal", "db", "--tenant-owned", "--reason", "OPS-7"});
  EXPECT_EQ(json::parse(all.out), json({{"user", "u"}, {"key", "line 1\nline 2"}}));
  EXPECT_EQ(cli.run({"credential", "reveal", "db", "--tenant-owned"}).code, 2);
  EXPECT_EQ(
      cli.run({"credential", "reveal", "db", "--tenant-owned", "--reason", "x", "--field", "none"})
          .code,
      2);
  const auto requests = cli.server.requests();
  EXPECT_EQ(requests[0].target, "/api/v1/tenants/acme/credentials/db/reveal");
  EXPECT_EQ(json::parse(requests[0].body), json({{"reason", "OPS-7"}, {"version", 2}}));
}

TEST(CliCredential, ListsEveryPage) {
  const Cli cli([](const SeenRequest& request) {
    const bool second = request.target.find("cursor=next") != std::string::npos;
    return json_reply(200, std::string(R"({"items":[)") + kStored + "]" +
                               (second ? "}" : R"(,"next_cursor":"next"})"));
  });
  const auto finished = cli.run({"credential", "list"});
  EXPECT_EQ(finished.code, 0);
  EXPECT_EQ(sorted_lines(finished.out).size(), 3u);
  EXPECT_EQ(cli.server.requests().size(), 2u);
  // A cursor that never ends does.
  const Cli endless(
      [](const SeenRequest&) { return json_reply(200, R"({"items":[],"next_cursor":"same"})"); });
  EXPECT_EQ(endless.run({"credential", "list"}).code, 0);
}

// ---- the rest ----

// {"alg":"ES256","typ":"at+jwt"} . {"sub":"alice\u001b[31m","exp":1795239600}
constexpr const char* kJwt =
    "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9."
    "eyJzdWIiOiJhbGljZVx1MDAxYlszMW0iLCJleHAiOjE3OTUyMzk2MDB9.c2ln";

TEST(CliExchange, PrintsTheTokenAlone) {
  const Cli cli([](const SeenRequest&) {
    return json_reply(200, std::string(R"({"access_token":")") + kJwt +
                               R"(","token_type":"Bearer","expires_in":300,"scope":"a"})");
  });
  const std::vector<std::string> exchange = {"exchange", "--resource", "https://files.example",
                                             "--scope", "a"};
  auto finished = cli.run(exchange);
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_EQ(finished.out, std::string(kJwt) + "\n");
  EXPECT_EQ(finished.err, "");

  auto decode = exchange;
  decode.push_back("--decode");
  finished = cli.run(decode);
  EXPECT_THAT(finished.out, AllOf(HasSubstr("\"alg\": \"ES256\""), HasSubstr("\\u001b[31m"),
                                  HasSubstr("\"exp\": 1795239600"), HasSubstr("# 2026-11-21T"),
                                  Not(HasSubstr("c2ln"))));
  auto as_json = exchange;
  as_json.push_back("--json");
  EXPECT_EQ(json::parse(cli.run(as_json).out).at("scope"), "a");
}

TEST(CliExchange, GetsATokenForEachBackendWithOneCall) {
  const Cli cli([](const SeenRequest&) {
    return json_reply(200, std::string(R"({"items":[{"backend":"a","status":"allowed",)") +
                               R"("access_token":"t-a","token_type":"Bearer","expires_in":300},)" +
                               R"({"backend":"b","status":"allowed","access_token":"t-b",)" +
                               R"("token_type":"Bearer","expires_in":300,"scope":"z"}]})");
  });
  const auto finished = cli.run({"exchange", "a,b", "--scope", "b=y z"});
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_EQ(finished.out, "a\tt-a\nb\tt-b\n");
  ASSERT_EQ(cli.server.requests().size(), 1u);
  EXPECT_EQ(cli.server.requests()[0].target, "/api/v1/tenants/acme/exchange");
  const auto body = json::parse(cli.server.requests()[0].body);
  EXPECT_EQ(body.at("items"), json({{{"backend", "a"}}, {{"backend", "b"}, {"scope", "y z"}}}));
  EXPECT_TRUE(body.contains("subject_token"));
  EXPECT_EQ(json::parse(cli.run({"exchange", "a,b", "--json"}).out).at("items").size(), 2u);
}

TEST(CliExchange, SaysWhichBackendIsRefusedAndShowsTheOthers) {
  const Cli cli([](const SeenRequest&) {
    return json_reply(
        200, std::string(R"({"items":[{"backend":"a","status":"refused",)") +
                 R"("error":"interaction_required","detail":"no credential of yours",)" +
                 R"("connect_url":"https://portal.example/connect"},{"backend":"b\u001b[31m",)" +
                 R"("status":"allowed","access_token":"t-b","token_type":"Bearer"}]})");
  });
  const auto finished = cli.run({"exchange", "a,b"});
  EXPECT_EQ(finished.code, 1);
  EXPECT_EQ(finished.out, "b\\x1b[31m\tt-b\n");
  EXPECT_EQ(finished.err,
            "postern: backend a is refused: no credential of yours (interaction_required)\n"
            "  next: open https://portal.example/connect\n");
}

TEST(CliExchange, RefusesOptionsThatDoNotGoTogether) {
  const Cli cli([](const SeenRequest&) { return json_reply(200, R"({"items":[]})"); });
  for (const std::vector<std::string>& wrong : std::vector<std::vector<std::string>>{
           {"exchange", "a,b", "--audience", "c"},
           {"exchange", "a", "--resource", "https://c.example"},
           {"exchange", "a", "--as-client"},
           {"exchange", "a,a"},
           {"exchange", "a,"},
           {"exchange", "a b"},
           {"exchange", "a,b", "--scope", "x"},
           {"exchange", "a", "--scope", "a="},
           {"exchange", "a,b", "--scope", "a= "},
           {"exchange", "a", "--scope", ""},
           {"exchange", "a", "--scope", "x", "--scope", "y"},
           {"exchange", "a,b", "--scope", "a=x", "--scope", "a=y"},
           {"explain", "--client", "gw-01", "--authorization-details", "{bad"},
           {"exchange", "--audience", "a", "--scope", "x", "--scope", "y"}}) {
    EXPECT_EQ(cli.run(wrong).code, 2) << wrong.back();
  }
  EXPECT_TRUE(cli.server.requests().empty());
  // An answer that does not fit the question is none.
  EXPECT_NE(cli.run({"exchange", "a"}).code, 0);
}

TEST(CliDecode, ShowsPartsAndSaysThatNothingIsVerified) {
  const Cli cli;
  const auto finished = cli.run({"decode"}, kJwt);
  EXPECT_EQ(finished.code, 0);
  EXPECT_THAT(finished.out, HasSubstr("\"typ\": \"at+jwt\""));
  EXPECT_THAT(finished.err, HasSubstr("nothing of this was verified"));
  for (const char* bad : {"", "a.b", "a.b.c.d", "!.!.!", "e30.bm9qc29u.c2ln", "e30.e30", "a b.c.d",
                          "e30.W10.c2ln", "e30.e3=.c2ln"}) {
    EXPECT_EQ(cli.run({"decode"}, bad).code, 2) << bad;
  }
}

std::string audit_item(int sequence, const std::string& fields) {
  return R"({"sequence":)" + std::to_string(sequence) +
         R"(,"hash":"h","event":{"action":"token.exchange","at":"2026-11-21T05:40:00Z",)"
         R"("outcome":"refused","request_id":"r","fields":)" +
         fields + "}}";
}

TEST(CliAudit, ShowsTheNewestLastAndNothingThatMovesTheTerminal) {
  const Cli cli([](const SeenRequest&) {
    return json_reply(
        200,
        R"({"items":[)" +
            audit_item(
                2,
                R"({"client":"gw-01","subject":"bob\u001b[2J","backend":"files","reason":"unknown resource"})") +
            "," + audit_item(1, R"({"client":"gw-01","credential":"db","backend":"db"})") + "]}");
  });
  const auto finished = cli.run({"audit", "tail", "-n", "2"});
  EXPECT_EQ(finished.code, 0);
  EXPECT_EQ(finished.out,
            "TIME                  ACTION          OUTCOME  CLIENT  SUBJECT     TARGET  REASON\n"
            "2026-11-21T05:40:00Z  token.exchange  refused  gw-01   -           db/db\n"
            "2026-11-21T05:40:00Z  token.exchange  refused  gw-01   bob\\x1b[2J  files   unknown "
            "resource\n");
  EXPECT_EQ(cli.server.requests()[0].target, "/api/v1/tenants/acme/audit?limit=2&order=desc");
  const auto lines = sorted_lines(cli.run({"audit", "tail", "--json"}).out);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(json::parse(lines[0]).at("sequence"), 1);
}

TEST(CliAudit, FollowsUntilItIsToldToStop) {
  int calls = 0;
  const Cli cli([&](const SeenRequest&) {
    switch (++calls) {
      case 1: return json_reply(200, R"({"items":[)" + audit_item(7, "{}") + "]}");
      case 2: return json_reply(200, R"({"items":[)" + audit_item(8, "{}") + "]}");
      case 3: return std::string();  // gone for a moment
      case 4: return json_reply(200, R"({"items":[)" + audit_item(9, "{}") + "]}");
      default: return problem_reply(403, R"({"detail":"the token is revoked"})");
    }
  });
  const auto finished = cli.run({"audit", "tail", "-f", "--json", "--interval", "0.05"});
  EXPECT_EQ(finished.code, 1);
  const auto lines = sorted_lines(finished.out);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(json::parse(lines[2]).at("sequence"), 9);
  EXPECT_THAT(finished.err,
              AllOf(HasSubstr("the server answers again"), HasSubstr("the token is revoked")));
  const auto requests = cli.server.requests();
  EXPECT_THAT(requests[1].target, HasSubstr("after=7"));
  EXPECT_THAT(requests[3].target, HasSubstr("after=8"));
}

TEST(CliAudit, VerifiesAndEndsWith1WhenTheChainIsBroken) {
  const Cli good([](const SeenRequest&) {
    return json_reply(200, R"({"intact":true,"records":3,"head":{"sequence":3,"hash":"abc"}})");
  });
  auto finished = good.run({"audit", "verify"});
  EXPECT_EQ(finished.code, 0);
  EXPECT_EQ(finished.out, "intact: 3 records, head 3 abc\n");
  const Cli bad([](const SeenRequest&) {
    return json_reply(200, R"({"intact":false,"records":3,"head":{"sequence":3,"hash":"abc"},)"
                           R"("first_bad":2,"problem":"hash differs"})");
  });
  finished = bad.run({"audit", "verify"});
  EXPECT_EQ(finished.code, 1);
  EXPECT_EQ(finished.out, "");
  EXPECT_THAT(finished.err, HasSubstr("NOT intact from record 2: hash differs"));
}

TEST(CliTenant, HandsOutNewSecretsIntoPrivateFiles) {
  const Cli cli([](const SeenRequest& request) {
    return request.target.find("admin-tokens") != std::string::npos
               ? json_reply(201, R"({"token_id":"t1","token":"made-token"})")
               : json_reply(201, R"({"secret_id":"s1","client_secret":"made-secret"})");
  });
  auto finished = cli.run({"tenant", "admin-token", "create", "acme", "--description", "ci",
                           "--expires", "90d", "--out", cli.folder.path("admin")});
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_EQ(cli.folder.read("admin"), "made-token\n");
  EXPECT_EQ(finished.out + finished.err,
            "postern: admin token t1 is in " + cli.folder.path("admin") + "\n");
  finished = cli.run({"client", "secret", "add", "gw-01", "--out", cli.folder.path("gw")});
  EXPECT_EQ(cli.folder.read("gw"), "made-secret\n");
  finished = cli.run({"client", "secret", "add", "gw-01"});
  EXPECT_EQ(finished.out, "made-secret\n");
  EXPECT_THAT(finished.err, HasSubstr("never shown again"));
  EXPECT_THAT(json::parse(cli.server.requests()[0].body).at("expires_at").get<std::string>(),
              StartsWith("20"));
}

TEST(CliTenant, HandsOutInitialAccessTokens) {
  const Cli cli([](const SeenRequest& request) -> std::string {
    if (request.method == "DELETE") return "HTTP/1.1 204 X\r\n\r\n";
    return request.method == "POST"
               ? json_reply(201, R"({"token_id":"t1","token":"made-token","max_uses":5,)"
                                 R"("expires_at":"2027-01-01T00:00:00Z"})")
               : json_reply(200, R"({"items":[{"token_id":"t1","description":"support",)"
                                 R"("created_at":"2026-01-01T00:00:00Z","max_uses":5,"uses":2,)"
                                 R"("expires_at":"2027-01-01T00:00:00Z"}]})");
  });
  const std::vector<std::string> command{"tenant", "initial-access-token"};
  const auto run = [&](std::vector<std::string> more) {
    more.insert(more.begin(), command.begin(), command.end());
    return cli.run(more);
  };
  auto finished = run({"create", "acme", "--description", "support", "--max-uses", "5", "--expires",
                       "7d", "--out", cli.folder.path("initial")});
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_EQ(cli.folder.read("initial"), "made-token\n");
  EXPECT_EQ(finished.out, "");
  const auto sent = json::parse(cli.server.requests().at(0).body);
  EXPECT_EQ(sent.at("max_uses"), 5);
  EXPECT_THAT(sent.at("expires_at").get<std::string>(), StartsWith("20"));
  EXPECT_THAT(run({"list", "acme"}).out, HasSubstr("2 of 5"));
  EXPECT_EQ(run({"delete", "t1", "--tenant", "acme"}).code, 0);
  EXPECT_THAT(cli.server.requests().back().target, HasSubstr("/initial-access-tokens/t1"));
  for (const char* uses : {"0", "1001", "-1", "many"}) {
    EXPECT_EQ(run({"create", "acme", "--description", "x", "--max-uses", uses}).code, 2) << uses;
  }
}

TEST(CliTenant, ReplacesNothingButRegularFiles) {
  const Cli cli([](const SeenRequest&) {
    return json_reply(201, R"({"secret_id":"s1","client_secret":"made-secret"})");
  });
  const auto target = cli.folder.write("target", "untouched");
  const auto link = cli.folder.path("link");
  std::filesystem::create_symlink(target, link);
  const auto dangling = cli.folder.path("dangling");
  std::filesystem::create_symlink(cli.folder.path("missing"), dangling);
  const auto fifo = cli.folder.path("fifo");
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);

  for (const auto& [path, why] :
       std::vector<std::pair<std::string, std::string>>{{link, "is a symbolic link"},
                                                        {dangling, "is a symbolic link"},
                                                        {fifo, "is no regular file"},
                                                        {cli.folder.path(), "is no regular file"},
                                                        {target + "/below", "Not a directory"}}) {
    for (const auto& command : {std::vector<std::string>{"client", "secret", "add", "gw-01"},
                                {"tenant", "admin-token", "create", "--description", "ci"}}) {
      auto arguments = command;
      arguments.insert(arguments.end(), {"--out", path});
      const auto finished = cli.run(arguments);
      EXPECT_EQ(finished.code, 2) << path;
      EXPECT_THAT(finished.err, HasSubstr(why));
    }
  }
  EXPECT_TRUE(cli.server.requests().empty());  // no secret is made that has no place
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_TRUE(std::filesystem::is_fifo(fifo));
  EXPECT_EQ(cli.folder.read("target"), "untouched");

  EXPECT_EQ(cli.run({"client", "secret", "add", "gw-01", "--out", target}).code, 0);
  EXPECT_EQ(cli.folder.read("target"), "made-secret\n");
}

TEST(CliTenant, DeletesOnlyWhatIsNamedTwice) {
  const Cli cli([](const SeenRequest&) { return "HTTP/1.1 204 X\r\n\r\n"; });
  EXPECT_EQ(cli.run({"tenant", "delete", "beta", "--confirm", "acme"}).code, 2);
  EXPECT_EQ(cli.run({"tenant", "delete", "beta"}, "beta\n").code, 2);  // no terminal, no question
  EXPECT_TRUE(cli.server.requests().empty());
  EXPECT_EQ(cli.run({"tenant", "delete", "beta", "--confirm", "beta"}).code, 0);
  EXPECT_EQ(cli.server.requests()[0].target, "/api/v1/tenants/beta?confirm=beta");
}

TEST(CliPrincipal, IsErasedOnlyWhenSomebodySaysYes) {
  const Cli cli([](const SeenRequest&) {
    return json_reply(
        200,
        json{{"erasure_id", "e1"}, {"state", "open"}, {"asked_at", "2026-01-01T00:00:00Z"}}.dump());
  });
  EXPECT_EQ(cli.run({"principal", "erase"}).code, 2);
  EXPECT_EQ(cli.run({"principal", "erase"}, "yes\n").code, 2);  // no terminal, no question
  EXPECT_EQ(cli.run({"principal", "erase", "--issuer", "https://i", "--subject", "s"}).code, 2);
  EXPECT_TRUE(cli.server.requests().empty());
  EXPECT_EQ(cli.run({"principal", "erase", "--yes"}).code, 0);
  ASSERT_EQ(cli.server.requests().size(), 1u);
  EXPECT_EQ(cli.server.requests()[0].target, "/api/v1/tenants/acme/principals/erase");
}

TEST(CliKeys, RotateSaysWhatIsAskedForAndShowsTheNewKeys) {
  const Cli cli([](const SeenRequest&) {
    return json_reply(200, R"({"items":[{"kid":"k1","algorithm":"ES256","state":"pending",
        "created_at":"2026-11-21T10:00:00Z","active_from":"2026-11-21T10:15:00Z"}]})");
  });
  auto finished = cli.run({"keys", "rotate", "--signing", "--algorithm", "ES256"});
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("2026-11-21T10:15:00Z"));
  EXPECT_EQ(cli.run({"keys", "rotate", "--signing", "--now"}).code, 0);
  EXPECT_EQ(cli.run({"keys", "list"}).code, 0);
  EXPECT_EQ(cli.run({"keys", "withdraw", "k1"}).code, 0);
  const auto requests = cli.server.requests();
  ASSERT_EQ(requests.size(), 4u);
  EXPECT_EQ(requests[0].target, "/api/v1/tenants/acme/signing-keys/rotation");
  EXPECT_EQ(json::parse(requests[0].body), json({{"algorithm", "ES256"}}));
  EXPECT_EQ(json::parse(requests[1].body), json({{"publish_for", 0}}));
  EXPECT_EQ(requests[2].method + requests[2].target, "GET/api/v1/tenants/acme/signing-keys");
  EXPECT_EQ(requests[3].method + requests[3].target, "DELETE/api/v1/tenants/acme/signing-keys/k1");

  // Which keys is never guessed, nor is it an emergency and no hurry at once.
  EXPECT_EQ(cli.run({"keys", "rotate"}).code, 2);
  EXPECT_EQ(cli.run({"keys", "rotate", "--signing", "--algorithm", "HS256"}).code, 2);
  EXPECT_EQ(cli.run({"keys", "rotate", "--signing", "--now", "--publish-for", "60"}).code, 2);
  EXPECT_EQ(cli.server.requests().size(), 4u);
}

TEST(CliToken, IsSentInTheBodyByTheClient) {
  const Cli cli(
      [](const SeenRequest&) { return json_reply(200, R"({"active":true,"sub":"alice"})"); });
  auto finished = cli.run({"token", "introspect"});
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("\"sub\""));
  EXPECT_EQ(cli.run({"token", "revoke"}).code, 0);
  const auto requests = cli.server.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].target, "/t/acme/introspect");
  EXPECT_EQ(requests[1].target, "/t/acme/revoke");
  for (const auto& request : requests) {
    EXPECT_EQ(request.body, std::string("token=") + kUserToken);
    EXPECT_THAT(request.header("authorization"), HasSubstr("Basic "));
  }
}

TEST(CliToken, AnAnswerWithoutActiveIsNone) {
  const Cli cli([](const SeenRequest&) { return json_reply(200, R"({"sub":"alice"})"); });
  EXPECT_NE(cli.run({"token", "introspect"}).code, 0);
}

TEST(CliStatus, ShowsTheServer) {
  const Cli cli([](const SeenRequest&) {
    return json_reply(200, R"({"version":"0.1.0","schema_version":3,"database":"ok","tenants":2,)"
                           R"("uptime_seconds":60,"root_key_id":"k1"})");
  });
  const auto finished = cli.run({"status"});
  EXPECT_EQ(finished.code, 0);
  EXPECT_THAT(finished.out, AllOf(HasSubstr("version   0.1.0"), HasSubstr("tenants   2")));
  EXPECT_EQ(json::parse(cli.run({"status", "--json"}).out).at("root_key_id"), "k1");
}

std::string key_status(int keks, int rows) {
  return R"({"root_keys":[{"id":"9c1c0e7a55d0f3b2","state":"active","keks":3,"tenants":2}],)"
         R"("keks_to_rotate":)" +
         std::to_string(keks) + R"(,"rows_to_rewrap":{"tenants":1,"credential_versions":)" +
         std::to_string(rows) +
         R"(,"signing_keys":0},"rows_rewrapped":5,"advice":["do this\u001b[31m"]})";
}

TEST(CliKeyStatus, ShowsRootKeysAndWhatIsLeft) {
  const Cli cli([](const SeenRequest& request) {
    EXPECT_EQ(request.target, "/api/v1/keys");
    return json_reply(200, key_status(1, 2));
  });
  const auto finished = cli.run({"keys", "status"});
  EXPECT_EQ(finished.code, 0);
  EXPECT_THAT(finished.out,
              AllOf(HasSubstr("9c1c0e7a55d0f3b2"), HasSubstr("1 KEKs to wrap, 2 rows to move"),
                    HasSubstr("do this"), Not(HasSubstr("\x1b"))));
  const auto shown = json::parse(cli.run({"keys", "status", "--json"}).out);
  EXPECT_EQ(shown.at("rows_to_rewrap").at("credential_versions"), 2);
  EXPECT_EQ(shown.at("root_keys").at(0).at("state"), "active");
}

TEST(CliKeyStatus, WatchesUntilNothingIsLeft) {
  std::atomic<int> asked = 0;
  const Cli cli([&](const SeenRequest&) {
    const int looks = ++asked;
    return json_reply(200, looks == 1 ? key_status(2, 9) : key_status(0, looks == 2 ? 4 : 0));
  });
  const auto finished = cli.run({"keys", "status", "--watch", "--interval", "0.1"});
  EXPECT_EQ(finished.code, 0);
  EXPECT_EQ(asked, 3);
  EXPECT_THAT(finished.out, AllOf(HasSubstr("0 KEKs to wrap, 4 rows to move (7 done)"),
                                  HasSubstr("0 KEKs to wrap, 0 rows to move (4 done)")));
}

TEST(CliKeyStatus, IsForOperatorsAndSaysSo) {
  const Cli cli([](const SeenRequest&) {
    return json_reply(403, R"({"type":"urn:postern:problem:forbidden","title":"Forbidden",)"
                           R"("status":403,"detail":"this needs an operator token"})");
  });
  const auto finished = cli.run({"keys", "status", "--watch"});
  EXPECT_NE(finished.code, 0);
  EXPECT_THAT(finished.err, HasSubstr("operator token"));
  EXPECT_EQ(cli.run({"keys", "status", "--interval", "1"}).code, 2);
}

TEST(Cli, NamesACommandThatDoesNotExist) {
  const Cli cli;
  const std::vector<std::pair<std::vector<std::string>, const char*>> table = {
      {{"bogus"}, "there is no command \"bogus\" in `postern`"},
      {{"--url", "http://127.0.0.1:1", "bogus"}, "there is no command \"bogus\" in `postern`"},
      {{"tenant", "bogus"}, "there is no command \"bogus\" in `postern tenant`"},
      {{"client", "secret"}, "which command of `postern client secret`?"},
      {{"--json"}, "which command of `postern`?"}};
  for (const auto& [arguments, words] : table) {
    const auto finished = cli.run(arguments);
    EXPECT_EQ(finished.code, 2);
    EXPECT_THAT(finished.err, HasSubstr(words));
  }
}

TEST(Cli, SaysWhyAFileCannotBeRead) {
  const Cli cli;
  EXPECT_THAT(cli.run({"apply", "-f", cli.folder.path("nope.yaml")}).err,
              HasSubstr("nope.yaml: cannot read this file: No such file or directory"));
  EXPECT_THAT(cli.run({"apply", "-f", cli.folder.path("")}).err, HasSubstr("is a directory"));
}

TEST(CliCredential, WarnsWhenTheFieldsAreNotEnough) {
  const Cli cli([](const SeenRequest&) {
    return json_reply(201, R"({"name":"github","owner":{"type":"tenant"},"version":1,)"
                           R"("fields":["tokne"],"created_at":"2026-11-21T05:40:00Z",)"
                           R"("warnings":["backend github cannot be used: it needs token"]})");
  });
  const auto finished = cli.run(
      {"credential", "set", "github", "--tenant", "acme", "--tenant-owned", "--field", "tokne"},
      "x\n");
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("warning: backend github cannot be used: it needs token"));
}

TEST(Cli, NoticesWhenItsOutputIsLost) {
  const Cli cli([](const SeenRequest&) {
    return json_reply(200,
                      std::string(R"({"access_token":")") + kJwt + R"(","token_type":"Bearer"})");
  });
  const auto finished = test::run_program(
      {"/bin/sh", "-c", "\"$0\" exchange --audience x >/dev/full", POSTERN_PROGRAM},
      cli.environment());
  EXPECT_EQ(finished.code, 2);
  EXPECT_THAT(finished.err, HasSubstr("cannot write to standard output"));
}

// ---- rotation ----

constexpr const char* kRotation =
    R"({"version":4,"settings":{"kind":"password","field":"token"},)"
    R"("rotated_at":"2026-11-21T05:40:00Z","rotation_due_at":"2027-02-21T05:40:00Z",)"
    R"("rotation":{"phase":"previous","version":4,"retire_at":"2026-11-21T06:40:00Z","attempts":0}})";

TEST(CliRotation, ShowsSetsAndSteersThatOfOneCredential) {
  const Cli cli([](const SeenRequest&) { return json_reply(200, kRotation); });
  cli.folder.write("settings.json", R"({"kind":"manual"})");
  const auto run = [&](std::vector<std::string> words) {
    words.insert(words.begin(), "rotation");
    words.emplace_back("--tenant-owned");
    return cli.run(words);
  };
  const auto shown = run({"show", "db"});
  EXPECT_EQ(shown.code, 0) << shown.err;
  EXPECT_THAT(shown.out, AllOf(HasSubstr("phase        previous"), HasSubstr("version      4"),
                               HasSubstr("2026-11-21T06:40:00Z")));
  EXPECT_EQ(run({"set", "db", "--settings", R"({"kind":"password","field":"token"})"}).code, 0);
  EXPECT_EQ(run({"set", "db", "--settings", "@" + cli.folder.path("settings.json")}).code, 0);
  EXPECT_EQ(run({"set", "db", "--settings", "@" + cli.folder.path("nope")}).code, 2);
  EXPECT_EQ(run({"set", "db", "--settings", "{"}).code, 2);
  EXPECT_EQ(run({"forget", "db"}).code, 0);
  EXPECT_EQ(run({"retire", "db"}).code, 0);
  EXPECT_EQ(run({"retire", "db", "--abandon"}).code, 0);
  EXPECT_EQ(run({"cancel", "db"}).code, 0);
  EXPECT_EQ(run({"cancel", "db", "--abandon"}).code, 0);
  const std::string base = "/api/v1/tenants/acme/credentials/db/rotation";
  std::vector<std::string> asked;
  for (const auto& request : cli.server.requests()) {
    ASSERT_THAT(request.target, StartsWith(base));
    asked.push_back(request.method + " " + request.target.substr(base.size()) + " " + request.body);
  }
  EXPECT_THAT(asked, ElementsAre("GET  ", R"(PUT  {"field":"token","kind":"password"})",
                                 R"(PUT  {"kind":"manual"})", "DELETE  ", "POST /retire ",
                                 R"(POST /retire {"abandon":true})", "POST /cancel ",
                                 R"(POST /cancel {"abandon":true})"));
}

TEST(CliRotation, RotatesByHandOrByGeneratorAndWaits) {
  std::atomic<int> looks{0};
  const Cli cli([&](const SeenRequest& request) {
    if (request.method == "POST")
      return json_reply(200, R"({"version":3,"rotation":{"phase":"set"}})");
    return ++looks < 2 ? json_reply(200, R"({"version":3,"rotation":{"phase":"tested"}})")
                       : json_reply(200, R"({"version":3,"problem":"the server refused it"})");
  });
  const auto rotate = [&](std::vector<std::string> words, const std::string& input = {}) {
    words.insert(words.begin(), {"credential", "rotate", "db", "--tenant-owned"});
    return cli.run(words, input);
  };
  const auto by_hand =
      rotate({"--field", "token", "--grace", "90m", "--expires", "2030-01-01T00:00:00Z"},
             "canary-by-hand");
  EXPECT_EQ(by_hand.code, 0) << by_hand.err;
  EXPECT_THAT(by_hand.out + by_hand.err, Not(HasSubstr("canary-by-hand")));
  EXPECT_EQ(rotate({"--generate", "password", "--only-version", "7"}).code, 0);
  EXPECT_EQ(rotate({"--only-version", "x"}).code, 2);
  for (const char* grace : {"x", "-1h", "1w", "h", "99999999999999999999d"}) {
    EXPECT_EQ(rotate({"--grace", grace}).code, 2) << grace;
  }
  // It was given up while we waited.
  const auto waited = rotate({"--wait"});
  EXPECT_NE(waited.code, 0);
  EXPECT_THAT(waited.err, HasSubstr("it was rolled back: the server refused it\n"));
  EXPECT_EQ(looks, 2);
  const auto requests = cli.server.requests();
  ASSERT_GE(requests.size(), 3u);
  EXPECT_EQ(requests[0].target, "/api/v1/tenants/acme/credentials/db/rotate");
  EXPECT_EQ(json::parse(requests[0].body), (json{{"fields", {{"token", "canary-by-hand"}}},
                                                 {"grace_seconds", 5400},
                                                 {"expires_at", "2030-01-01T00:00:00Z"}}));
  EXPECT_EQ(json::parse(requests[1].body),
            (json{{"generate", {{"kind", "password"}}}, {"cas", 7}}));
  EXPECT_EQ(json::parse(requests[2].body), json::object());
}

TEST(CliRotation, AnAnnouncedKeyIsShownAndHandedOutByPromote) {
  const Cli cli([](const SeenRequest& request) {
    return request.target.ends_with("/promote")
               ? json_reply(200, R"({"version":2,"rotation":{"phase":"previous","version":2}})")
               : json_reply(202, R"({"version":1,"rotation":{"phase":"tested","version":2,)"
                                 R"("public_key":"ssh-ed25519 AAAA","attempts":0,)"
                                 R"("promote_at":"2026-11-21T06:40:00Z"}})");
  });
  // Nobody waits for as long as it is announced.
  const auto begun = cli.run({"credential", "rotate", "db", "--tenant-owned", "--wait"});
  EXPECT_EQ(begun.code, 0) << begun.err;
  EXPECT_THAT(begun.out, AllOf(HasSubstr("new key      ssh-ed25519 AAAA\n"),
                               HasSubstr("from         2026-11-21T06:40:00Z\n")));
  const auto promoted = cli.run({"rotation", "promote", "db", "--tenant-owned"});
  EXPECT_EQ(promoted.code, 0) << promoted.err;
  EXPECT_THAT(promoted.out, Not(HasSubstr("new key")));
  const auto requests = cli.server.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[1].method, "POST");
  EXPECT_EQ(requests[1].target, "/api/v1/tenants/acme/credentials/db/rotation/promote");
  EXPECT_EQ(requests[1].body, "");
}

TEST(CliRotation, ARefusalSaysWhichMemberItIsAbout) {
  const Cli cli([](const SeenRequest&) {
    return problem_reply(400, R"({"detail":"is required","pointer":"/url"})");
  });
  const auto refused =
      cli.run({"rotation", "set", "w1", "--tenant-owned", "--settings", R"({"kind":"webhook"})"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err,
              StartsWith("postern: cannot say how w1 is rotated: /url: is required (HTTP 400)\n"));
}

TEST(CliRotation, ListsAndRotatesManyPageByPage) {
  const Cli cli([](const SeenRequest& request) {
    const bool second = request.target.find("cursor=") != std::string::npos ||
                        request.body.find("\"cursor\"") != std::string::npos;
    return json_reply(200, second ? R"({"items":[{"name":"second","owner":{"type":"tenant"},)"
                                    R"("status":"refused","detail":"it has no settings"}]})"
                                  : R"({"items":[{"name":"first","owner":{"type":"principal",)"
                                    R"("issuer":"https://idp","subject":"alice"},)"
                                    R"("age_seconds":77,"overdue":true,"status":"rotated"}],)"
                                    R"("next_cursor":"c1"})");
  });
  const auto listed = cli.run({"rotation", "list", "--label", "team=web", "--overdue"});
  EXPECT_EQ(listed.code, 1) << "one is refused";
  EXPECT_THAT(listed.out, AllOf(HasSubstr("alice (https://idp)"), HasSubstr(" 77s "),
                                HasSubstr("true"), HasSubstr("second")));
  const auto dry = cli.run({"rotation", "bulk", "--label", "team=web", "--type", "generic"});
  EXPECT_THAT(dry.out, HasSubstr("it has no settings"));
  EXPECT_EQ(cli.run({"rotation", "bulk", "--label", "team=web", "--yes"}).code, 1);
  EXPECT_EQ(cli.run({"rotation", "bulk", "--label", "web"}).code, 2);
  const auto requests = cli.server.requests();
  ASSERT_EQ(requests.size(), 6u);
  EXPECT_THAT(requests[0].target, AllOf(StartsWith("/api/v1/tenants/acme/rotations?"),
                                        HasSubstr("overdue"), HasSubstr("team")));
  EXPECT_EQ(json::parse(requests[2].body),
            (json{{"dry_run", true}, {"labels", {{"team", "web"}}}, {"type", "generic"}}));
  EXPECT_EQ(json::parse(requests[3].body).at("cursor"), "c1");
  EXPECT_EQ(json::parse(requests[4].body),
            (json{{"dry_run", false}, {"labels", {{"team", "web"}}}}));
}

TEST(CliRotation, AnEmergencySaysWhenItWasNotComplete) {
  std::string answer;
  const Cli cli([&](const SeenRequest&) { return json_reply(200, answer); });
  const auto run = [&](std::vector<std::string> more) {
    std::vector<std::string> words{"rotation", "emergency", "--since",  "2026-11-01T00:00:00Z",
                                   "--action", "disable",   "--reason", "INC-7"};
    words.insert(words.end(), more.begin(), more.end());
    return cli.run(words);
  };
  answer = R"({"items":[],"complete":true,"tokens":3,"tokens_revoked":0})";
  const auto dry = run({"--client", "gw-01"});
  EXPECT_EQ(dry.code, 0) << dry.err;
  EXPECT_THAT(dry.err, HasSubstr("to revoke: 3"));
  EXPECT_NE(run({"--client", "gw-01", "--yes"}).code, 0) << "three tokens are not revoked";
  answer = R"({"items":[],"complete":true,"tokens":3,"tokens_revoked":3})";
  EXPECT_EQ(run({"--issuer", "https://idp", "--subject", "alice", "--yes"}).code, 0);
  answer = R"({"items":[],"complete":false,"tokens":0,"tokens_revoked":0})";
  const auto partly = run({"--backend", "github", "--yes"});
  EXPECT_NE(partly.code, 0);
  EXPECT_THAT(partly.err, HasSubstr("not all was looked at"));
  EXPECT_EQ(cli.run({"rotation", "emergency", "--client", "gw-01"}).code, 2);
  const auto requests = cli.server.requests();
  ASSERT_EQ(requests.size(), 4u);
  EXPECT_EQ(json::parse(requests[0].body), (json{{"dry_run", true},
                                                 {"since", "2026-11-01T00:00:00Z"},
                                                 {"action", "disable"},
                                                 {"reason", "INC-7"},
                                                 {"client", "gw-01"}}));
  EXPECT_EQ(json::parse(requests[2].body).at("principal"),
            (json{{"issuer", "https://idp"}, {"subject", "alice"}}));
  EXPECT_EQ(json::parse(requests[3].body).at("backend"), "github");
}

TEST(CliRotation, AnEmergencyGoesOnUntilAllWasLookedAt) {
  const auto item = [](const char* name, int uses, const char* status, const char* last) {
    return json{{"name", name},
                {"owner", {{"type", "tenant"}}},
                {"uses", uses},
                {"last_used_at", last},
                {"status", status}};
  };
  std::vector<json> answers{
      {{"items", {item("a", 2, "begun", "2026-11-22T21:50:00Z")}}, {"next_cursor", "c1"}},
      {{"items", {item("b", 1, "rotated", "2026-11-22T21:40:00Z")}}, {"next_cursor", "c2"}},
      {{"items", json::array()}, {"next_cursor", "c3"}},
      {{"items", {item("a", 3, "rotated", "2026-11-20T10:00:00Z")}}}};
  for (std::size_t i = 0; i < answers.size(); ++i) {
    answers[i]["complete"] = i == 3;
    answers[i]["tokens"] = answers[i]["tokens_revoked"] = i == 0 ? 4 : 0;
    if (i < 3) {
      answers[i]["searched_back_to"] = i < 2 ? "2026-11-22T21:30:00Z" : "2026-11-21T00:00:00Z";
    }
  }
  std::size_t next = 0, fails_at = 100;
  const Cli cli([&](const SeenRequest&) {
    if (next == fails_at) return problem_reply(503, R"({"title":"unavailable"})");
    return json_reply(200, answers.at(next++ % 4).dump());
  });
  const auto run = [&](std::vector<std::string> more) {
    std::vector<std::string> words{
        "rotation", "emergency", "--client", "gw-01", "--since", "2026-11-01T00:00:00Z",
        "--action", "rotate",    "--reason", "INC-7", "--yes"};
    words.insert(words.end(), more.begin(), more.end());
    return cli.run(words);
  };
  const auto done = run({});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.err, AllOf(HasSubstr("searched back to 2026-11-22T21:30:00Z, going on"),
                              HasSubstr("searched back to 2026-11-21T00:00:00Z, going on"),
                              HasSubstr("revoked: 4"), Not(HasSubstr("not all was looked at"))));
  const auto requests = cli.server.requests();
  ASSERT_EQ(requests.size(), 4u);
  const auto sent = [&](std::size_t i, const char* name) {
    return json::parse(requests[i].body).value(name, json());
  };
  EXPECT_EQ(sent(0, "cursor"), json());
  for (std::size_t i = 1; i < 4; ++i) EXPECT_EQ(sent(i, "cursor"), "c" + std::to_string(i));
  EXPECT_THAT(done.err, Not(HasSubstr("--cursor")));
  // Each once, as it is now, with all of its uses.
  const auto lines = run({"--json"});
  EXPECT_EQ(lines.out, item("a", 5, "rotated", "2026-11-22T21:50:00Z").dump() + "\n" +
                           item("b", 1, "rotated", "2026-11-22T21:40:00Z").dump() + "\n");

  // What broke off shows what was done, and goes on where it was.
  fails_at = 10;
  const auto broken = run({});
  EXPECT_NE(broken.code, 0);
  EXPECT_THAT(broken.out, HasSubstr("rotated"));
  EXPECT_THAT(broken.err, HasSubstr("next: the same with --cursor c2\n"));
  fails_at = 100;
  EXPECT_EQ(run({"--cursor", "c2"}).code, 0);
  EXPECT_EQ(json::parse(cli.server.requests()[11].body).at("cursor"), "c2");

  // One that does not come further has an end too, and is no all-clear.
  answers[3] = answers[2];
  next = 0;
  const auto stuck = run({});
  EXPECT_NE(stuck.code, 0);
  EXPECT_THAT(stuck.err, HasSubstr("not all was looked at: there are more audit records"));
  EXPECT_EQ(cli.server.requests().size(), 17u);
  answers[3] = {
      {"items", json::array()}, {"complete", false}, {"tokens", 0}, {"tokens_revoked", 0}};
  next = 0;
  const auto partly = run({});
  EXPECT_NE(partly.code, 0);
  EXPECT_THAT(partly.err, HasSubstr("not all was looked at: some of what was found"));
}

TEST(CliRotation, AnEmergencySaysWhatItWasAskedAndWhatItFound) {
  std::string answer = R"({"items":[],"complete":true,"tokens":0,"tokens_revoked":0})";
  int status = 200;
  const Cli cli([&](const SeenRequest&) {
    return status == 200 ? json_reply(200, answer) : problem_reply(status, answer);
  });
  const auto since = [&](const std::string& text) {
    return cli.run({"rotation", "emergency", "--client", "gw-01", "--since", text, "--action",
                    "rotate", "--reason", "INC-7"});
  };
  const auto none = since("1d");
  EXPECT_EQ(none.code, 0) << none.err;
  EXPECT_THAT(none.err, HasSubstr("no credential was touched since then"));
  const auto sent =
      parse_time(json::parse(cli.server.requests().at(0).body).at("since").get<std::string>());
  ASSERT_TRUE(sent.has_value());
  const auto age = SystemClock().now() - *sent;
  EXPECT_GE(age, std::chrono::hours(24));
  EXPECT_LT(age, std::chrono::hours(25));
  const auto unclear = since("yesterday");
  EXPECT_EQ(unclear.code, 2);
  EXPECT_THAT(unclear.err, HasSubstr("a duration such as 90d"));
  status = 400;
  answer = R"({"detail":"must be a time that has passed","pointer":"/since"})";
  const auto refused = since("2126-11-01T00:00:00Z");
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("/since: must be a time that has passed"),
                                 Not(HasSubstr("tokens and sessions"))));
  status = 200;
  answer = R"({"items":[]})";
  EXPECT_THAT(cli.run({"rotation", "bulk", "--label", "team=none"}).err,
              HasSubstr("no credential has these labels"));
}

TEST(CliRotation, WhatIsRotatedHereAloneIsNoAllClear) {
  const Cli cli([&](const SeenRequest&) {
    return json_reply(200, R"({"items":[{"name":"key","owner":{"type":"tenant"},"uses":1,)"
                           R"("status":"rotated_here","detail":"nobody outside was told"}],)"
                           R"("complete":true,"tokens":0,"tokens_revoked":0})");
  });
  const auto done =
      cli.run({"rotation", "emergency", "--client", "gw-01", "--since", "2026-11-01T00:00:00Z",
               "--action", "rotate", "--reason", "INC-7", "--yes"});
  EXPECT_EQ(done.code, 1);
  EXPECT_THAT(done.out, HasSubstr("nobody outside was told"));
  EXPECT_THAT(done.err, AllOf(HasSubstr("rotated here alone: 1\n"),
                              HasSubstr("end the values before where they are checked")));
}

TEST(CliRotation, AnAgeIsInAUnitThatCanBeRead) {
  std::string seconds;
  const Cli cli([&](const SeenRequest&) {
    return json_reply(200, R"({"items":[{"name":"db","owner":{"type":"tenant"},"age_seconds":)" +
                               seconds + "}]}");
  });
  for (const auto& [age, shown] : {std::pair("0", " 0s "),
                                   {"119", " 119s "},
                                   {"120", " 2m "},
                                   {"7200", " 2h "},
                                   {"172799", " 47h "},
                                   {"172800", " 2d "},
                                   {"31536000", " 365d "}}) {
    seconds = age;
    EXPECT_THAT(cli.run({"rotation", "list"}).out, HasSubstr(shown)) << age;
  }
}

TEST(CliRotation, WhatHasBegunIsNotDone) {
  std::string detail;
  const Cli cli([&](const SeenRequest&) {
    return json_reply(200, R"({"items":[{"name":"db","owner":{"type":"tenant"},"status":"begun"},)"
                           R"({"name":"key","owner":{"type":"principal","issuer":"https://idp",)"
                           R"("subject":"o'alice; x"},"status":"begun")" +
                               detail + R"(}],"complete":true,"tokens":0,"tokens_revoked":0})");
  });
  const auto run = [&] {
    return cli.run({"rotation", "emergency", "--client", "gw-01", "--since", "2026-11-01T00:00:00Z",
                    "--action", "rotate", "--reason", "INC-7", "--yes"});
  };
  const auto begun = run();
  EXPECT_EQ(begun.code, 0) << begun.err;
  EXPECT_THAT(begun.err,
              StartsWith("postern: begun, and not done yet: 2\n"
                         "  next: postern --tenant acme rotation show db --tenant-owned\n"
                         "  next: postern --tenant acme rotation show key --issuer https://idp "
                         "--subject 'o'\\''alice; x'\n"));
  detail = R"(,"detail":"the webhook could not be reached")";
  const auto stuck = run();
  EXPECT_EQ(stuck.code, 1) << "one does not go on";
  EXPECT_THAT(stuck.out, HasSubstr("the webhook could not be reached"));
}

}  // namespace
}  // namespace postern
