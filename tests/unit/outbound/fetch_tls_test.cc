// TLS against a real peer: the `openssl` program as server, with a certificate
// made for the run.
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "outbound/fetch.h"

extern char** environ;

namespace postern::outbound {
namespace {

/// Starts a program; its standard output can be read from `output`.
struct Process {
  pid_t pid = -1;
  int output = -1;

  explicit Process(std::vector<std::string> arguments) {
    std::array<int, 2> ends{};
    if (pipe(ends.data()) != 0) throw std::runtime_error("pipe");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", 1 /* O_WRONLY */, 0);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const int error = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    output = ends[0];
    if (error != 0) throw std::runtime_error("cannot start " + arguments[0]);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (pid > 0) {
      kill(pid, SIGTERM);
      waitpid(pid, nullptr, 0);
    }
    close(output);
  }
  int wait() {
    int status = -1;
    waitpid(pid, &status, 0);
    pid = -1;
    return status;
  }
  /// What the program wrote up to and including `until`.
  std::string read_until(const std::string& until) const {
    std::string text;
    char c = 0;
    while (!text.ends_with(until) && read(output, &c, 1) == 1) text += c;
    return text;
  }
};

class TlsFetch : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "postern-tls-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    ASSERT_EQ(Process({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                       "ec_paramgen_curve:P-256", "-nodes", "-keyout", file("key.pem"), "-out",
                       file("cert.pem"), "-days", "2", "-subj", "/CN=idp.example", "-addext",
                       "subjectAltName=DNS:idp.example,IP:127.0.0.1"})
                  .wait(),
              0);
    std::ofstream(folder_ / "reply") << "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                        "Cache-Control: max-age=60\r\n\r\n{\"keys\":[]}";
    policy_.allow_private = {Network::parse("127.0.0.0/8").value()};
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  std::string file(const char* name) const { return (folder_ / name).string(); }

  /// Fetches /reply of that host, which always resolves to the server.
  Result<FetchReply> get(const std::string& host, std::vector<std::string> server_options = {}) {
    // s_server -HTTP serves files of its working directory as they are.
    std::vector<std::string> arguments = {"env",      "-C",       folder_.string(), "openssl",
                                          "s_server", "-HTTP",    "-accept",        "127.0.0.1:0",
                                          "-cert",    "cert.pem", "-key",           "key.pem"};
    arguments.insert(arguments.end(), server_options.begin(), server_options.end());
    const Process server(arguments);
    server.read_until("ACCEPT ");
    const auto address = server.read_until("\n");  // 127.0.0.1:12345
    const auto port = address.substr(address.rfind(':') + 1, 5);
    CurlFetcher fetcher(policy_, [](const std::string&, std::chrono::milliseconds) {
      return std::vector{*IpAddress::parse("127.0.0.1")};
    });
    FetchRequest request;
    request.url = "https://" + host + ":" + std::to_string(std::stoi(port)) + "/reply";
    return fetcher.get(request);
  }

  FetchPolicy policy_;

 private:
  std::filesystem::path folder_;
};

TEST_F(TlsFetch, TrustsTheConfiguredAuthority) {
  policy_.ca_file = file("cert.pem");
  const auto reply = get("idp.example");
  ASSERT_TRUE(reply.ok()) << reply.error().diagnostic;
  EXPECT_EQ(reply.value().body, "{\"keys\":[]}");
  EXPECT_EQ(reply.value().cache_max_age, std::chrono::seconds(60));
}

TEST_F(TlsFetch, VerifiesAnAddressLiteralToo) {
  policy_.ca_file = file("cert.pem");
  const auto reply = get("127.0.0.1");
  ASSERT_TRUE(reply.ok()) << reply.error().diagnostic;
}

TEST_F(TlsFetch, RefusesAnUnknownAuthority) {
  const auto reply = get("idp.example");
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.error().diagnostic, "fetch: curl code 60");
}

TEST_F(TlsFetch, RefusesACertificateForAnotherName) {
  policy_.ca_file = file("cert.pem");
  const auto reply = get("other.example");
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.error().diagnostic, "fetch: curl code 60");
}

TEST_F(TlsFetch, RefusesOldVersionsOfTls) {
  policy_.ca_file = file("cert.pem");
  EXPECT_FALSE(get("idp.example", {"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"}).ok());
  EXPECT_TRUE(get("idp.example", {"-tls1_2"}).ok());
}

TEST_F(TlsFetch, RefusesWhenTheAuthorityFileIsMissing) {
  policy_.ca_file = file("absent.pem");
  const auto reply = get("idp.example");
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.error().diagnostic, "fetch: curl code 77");
}

}  // namespace
}  // namespace postern::outbound
