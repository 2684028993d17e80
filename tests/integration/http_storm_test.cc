// Storms: mutated requests and connections torn down at every moment, against
// one server, with an honest client looking on. POSTERN_STORM scales it (the
// number of mutated requests; a tenth as many resets); the default suits CI.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "support/certificates.h"
#include "support/edge_server.h"
#include "support/raw_client.h"
#include "support/temporary_directory.h"

namespace postern::http {
namespace {

using namespace std::chrono_literals;
using test::edge_options;
using test::EdgeServer;
using test::RawClient;
using test::TlsClient;

std::size_t storm_size() {
  const char* text = std::getenv("POSTERN_STORM");
  return text != nullptr ? std::strtoul(text, nullptr, 10) : 20'000;
}

std::uint64_t seed() {
  const char* text = std::getenv("POSTERN_STORM_SEED");
  const auto chosen = text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(chosen));
  return chosen;
}

ServerOptions storm_options() {
  auto options = edge_options();
  // Short, so that half-sent requests make room again, and the time-outs race
  // with everything else.
  options.header_timeout = 50ms;
  options.body_timeout = 50ms;
  options.idle_timeout = 100ms;
  options.write_timeout = 200ms;
  options.tls_handshake_timeout = 200ms;
  return options;
}

class Mutator {
 public:
  explicit Mutator(std::uint64_t from) : random_(from) {}

  std::size_t below(std::size_t bound) { return random_() % bound; }

  std::string request() {
    static const std::array<std::string, 9> kRequests = {
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /compute/a?b=c HTTP/1.1\r\nHost: x:80\r\nX-Request-Id: abc\r\nAccept: */*\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world",
        "POST /compute-echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n",
        "HEAD /large HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET /large HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        "OPTIONS * HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: close\r\n\r\n",
        "GET http://x/nowhere HTTP/1.1\r\nHost: x\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
        "Cookie: a=b; c=d\r\nAuthorization: Basic YTpi\r\n\r\n"};
    static constexpr std::array<unsigned char, 20> kBytes = {0,   1,   9,   10,   13,   32,  '"',
                                                             '%', '+', ',', '-',  '.',  '0', ':',
                                                             ';', '=', '/', 0x7f, 0x80, 0xff};
    std::string text = kRequests[below(kRequests.size())];
    for (auto rounds = below(5); rounds > 0; --rounds) {
      const auto at = below(text.size());
      switch (below(6)) {
        case 0: text[at] = static_cast<char>(text[at] ^ (1 << below(8))); break;
        case 1: text.insert(at, 1, static_cast<char>(kBytes[below(kBytes.size())])); break;
        case 2: text[at] = static_cast<char>(kBytes[below(kBytes.size())]); break;
        case 3: text.erase(at, below(8) + 1); break;
        case 4: text.insert(at, text.substr(below(text.size()), below(32) + 1)); break;
        case 5: text.resize(at + 1); break;
      }
      if (text.empty()) text = "G";
    }
    return text;
  }

 private:
  std::mt19937_64 random_;
};

/// Asks for what it knows the answer of, all the time.
class Witness {
 public:
  explicit Witness(std::uint16_t port)
      : thread_([this, port] {
          while (!stop_) {
            try {
              RawClient client(port);
              for (int i = 0; i < 20 && !stop_; ++i) {
                const auto path = "/inline/" + std::to_string(i);
                // The server may close it between two requests, never answer wrongly.
                const auto reply = client.get(path);
                if (reply.status == 0) break;
                ++answers;
                if (reply.status != 200 || reply.body != path + "?") ++wrong;
              }
            } catch (const std::exception&) {
              ++wrong;  // not answered in time
            }
          }
        }) {}
  ~Witness() { finish(); }
  void finish() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

  std::atomic<std::size_t> answers{0};
  std::atomic<std::size_t> wrong{0};

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

/// Runs `round(mutator, index)` so often, on four threads.
template <class Round>
void storm(std::size_t rounds, std::uint64_t from, Round round) {
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([=] {
      Mutator mutator(from + t);
      for (std::size_t i = 0; i < rounds / 4; ++i) round(mutator, i);
    });
  }
  for (auto& thread : threads) thread.join();
}

void expect_calm(EdgeServer& server, Witness& witness) {
  witness.finish();
  EXPECT_GT(witness.answers, 0u);
  EXPECT_EQ(witness.wrong, 0u);
  EXPECT_TRUE(
      server.eventually([](const ServerStats& stats) { return stats.connections_open == 0; }));
  EXPECT_EQ(RawClient(server.port()).get("/").status, 200);
  const auto stats = server->stats();
  EXPECT_EQ(stats.handler_faults, 0u);
  std::printf("accepted %llu refused %llu requests %llu parse errors %llu time-outs %llu\n",
              static_cast<unsigned long long>(stats.connections_accepted),
              static_cast<unsigned long long>(stats.connections_refused),
              static_cast<unsigned long long>(stats.requests),
              static_cast<unsigned long long>(stats.parse_errors),
              static_cast<unsigned long long>(stats.timeouts));
}

TEST(Storm, MutatedRequests) {
  EdgeServer server(storm_options());
  Witness witness(server.port());
  storm(storm_size(), seed(), [&](Mutator& mutator, std::size_t) {
    RawClient client(server.port());
    // Some come after a good request, some in two pieces.
    if (mutator.below(4) == 0) client.send("GET /compute/a HTTP/1.1\r\nHost: x\r\n\r\n");
    const auto request = mutator.request();
    const auto cut = mutator.below(3) == 0 ? mutator.below(request.size()) : request.size();
    client.send(std::string_view(request).substr(0, cut));
    client.send(std::string_view(request).substr(cut));
    switch (mutator.below(16)) {
      case 0:
        client.finish_sending();
        client.rest();
        break;
      case 1: client.readable_within(5); break;
      case 2: break;
      default: client.reset(); break;  // leaves no TIME_WAIT, of which there are only so many
    }
  });
  expect_calm(server, witness);
}

TEST(Storm, ConnectionsResetAtEveryMoment) {
  EdgeServer server(storm_options());
  Witness witness(server.port());
  storm(storm_size() / 10, seed(), [&](Mutator& mutator, std::size_t) {
    RawClient client(server.port(), mutator.below(2) == 0 ? 2048 : 0);
    switch (mutator.below(6)) {
      case 0: break;  // at once
      case 1: client.send("GET / HT"); break;
      case 2: client.send("GET /compute-large HTTP/1.1\r\nHost: x\r\n\r\n"); break;
      case 3:
        for (int i = 0; i < 20; ++i) client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
        break;
      case 4:
        client.send("GET /compute/a HTTP/1.1\r\nHost: x\r\n\r\n");
        client.readable_within(10);
        break;
      case 5:
        client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\nabc");
        break;
    }
    // Some at the moment the idle, header or body time-out strikes.
    if (mutator.below(50) == 0) client.readable_within(45 + static_cast<int>(mutator.below(70)));
    if (mutator.below(3) == 0) {
      client.close();
    } else {
      client.reset();
    }
  });
  expect_calm(server, witness);
}

TEST(Storm, TlsTornDownAtEveryMoment) {
  const test::TemporaryDirectory directory;
  const auto made = test::make_certificate("storm");
  auto options = storm_options();
  options.tls = TlsOptions{directory.write("c.pem", made.certificate_pem()),
                           directory.write("c.key", made.key_pem()), std::nullopt, false};
  EdgeServer server(options);
  storm(storm_size() / 40, seed(), [&](Mutator& mutator, std::size_t i) {
    if (i % 4 == 0) {
      RawClient client(server.port());
      client.send(mutator.request());
      client.reset();
      return;
    }
    TlsClient client(server.port());
    if (!client.secure()) return;
    client.send(mutator.request());
    if (mutator.below(2) == 0) client.send(mutator.request());
    if (mutator.below(2) == 0) client.readable_within(5);
    if (mutator.below(4) == 0) {
      // Bytes that are no record of this session.
      const std::string noise(mutator.below(100) + 1, static_cast<char>(mutator.below(256)));
      [[maybe_unused]] const auto sent =
          ::send(client.fd(), noise.data(), noise.size(), MSG_NOSIGNAL);
    }
    if (mutator.below(2) == 0) client.reset();
  });
  EXPECT_TRUE(
      server.eventually([](const ServerStats& stats) { return stats.connections_open == 0; }));
  EXPECT_EQ(TlsClient(server.port()).get("/").status, 200);
  EXPECT_EQ(server->stats().handler_faults, 0u);
}

TEST(Storm, StartingAndStoppingUnderLoadEndsCleanly) {
  for (int round = 0; round < 20; ++round) {
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    {
      EdgeServer server(storm_options());
      const auto port = server.port();
      for (int t = 0; t < 3; ++t) {
        threads.emplace_back([port, &stop] {
          while (!stop) {
            RawClient client(port);
            client.send("GET /compute/a HTTP/1.1\r\nHost: x\r\n\r\n");
            client.readable_within(1);
          }
        });
      }
      server.eventually([](const ServerStats& stats) { return stats.requests > 50; });
      if (round % 2 == 0) server->drain();
    }
    stop = true;
    for (auto& thread : threads) thread.join();
  }
}

long resident_kilobytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stol(line.substr(6));
  }
  return 0;
}

/// A client may pipeline as much as it likes: it costs it more than us.
TEST(Storm, PipeliningFloodLeavesNoMemoryBehind) {
  EdgeServer server;
  std::string requests;
  for (int i = 0; i < 1000; ++i) requests += "GET /compute/a HTTP/1.1\r\nHost: x\r\n\r\n";
  const auto flood = [&] {
    RawClient client(server.port());
    std::thread reader([&] {
      char bytes[16 * 1024];
      while (::recv(client.fd(), bytes, sizeof bytes, 0) > 0) {
      }
    });
    for (std::size_t i = 0; i < std::max<std::size_t>(storm_size() / 1000, 4); ++i) {
      if (!client.send(requests)) break;
    }
    client.finish_sending();
    reader.join();
  };
  flood();
  const auto before = resident_kilobytes();
  flood();
  flood();
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  // The sanitizers keep freed memory, so only the survival counts here.
  std::printf("resident %ld kB, then %ld kB\n", before, resident_kilobytes());
#else
  EXPECT_LT(resident_kilobytes(), before * 12 / 10 + 2048);
#endif
  EXPECT_EQ(RawClient(server.port()).get("/").status, 200);
}

}  // namespace
}  // namespace postern::http
